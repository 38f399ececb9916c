"""An emulated OpenBCI Cyton: answers its commands and plays a recording, with scripted faults.

`Board` is the device without a cable (commands in, replies and packets out, no clock); `run` puts
it on a pty in real time. Constants and packet layout are those of `devices.cyton`.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from firmware_bridge.devices import cyton
from firmware_bridge.emulators.faults import Fault, Kind
from firmware_bridge.emulators.pty import Pty, plugged_pty

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from numpy.typing import NDArray

NOISE_UV = 20.0
GARBAGE_RATE = 0.1  # of the packets
MIN_WAIT_S = 0.001
MAX_BATCH = 32  # packets per write: about 1 kB, a quarter of what a tty buffers

# Texts of board firmware 3.1, as third-party drivers expect them.
_REPLIES = {
    cyton.SOFT_RESET: b"OpenBCI V3 8-16 channel\r\nOn Board ADS1299 Device ID: 0x3E\r\n"
    b"LIS3DH Device ID: 0x33\r\nFirmware: v3.1.2\r\n$$$",
    cyton.DEFAULTS: b"updating channel settings to default$$$",
    cyton.REGISTERS: b"Board ADS Registers\r\nADS_ID, 00, 3E\r\nCONFIG1, 01, 96\r\n$$$",
}


@dataclass(frozen=True, slots=True)
class Played:
    """What a run did: samples of signal gone by, packets made, bytes that the cable took."""

    samples: int
    packets: int
    sent_bytes: int


class Board:
    """A Cyton without a cable. Same samples, faults and seed: same bytes, however they are asked.

    `samples_mv` is float64 `[n]` (channel 1) or `[n, k]`, k <= 8, at 250 Hz; other channels are 0.
    """

    def __init__(
        self,
        samples_mv: NDArray[np.float64],
        *,
        faults: Iterable[Fault] = (),
        loop: bool = False,
        seed: int = 0,
    ) -> None:
        given_mv = np.asarray(samples_mv, np.float64)
        given_mv = given_mv[:, None] if given_mv.ndim == 1 else given_mv
        self._uv = np.zeros((len(given_mv), cyton.CHANNELS))
        self._uv[:, : given_mv.shape[1]] = given_mv * 1000.0
        self._faults = tuple(faults)
        self._loop = loop
        self._seed = seed
        self._noise_uv = np.random.default_rng(seed).normal(0.0, NOISE_UV, 4096)
        self._counter = 0
        self.streaming = False

    def command(self, data: bytes) -> bytes:
        """Act on command bytes and return the answer; unknown ones are ignored."""
        reply = b""
        for command in (bytes([b]) for b in data):
            reply += _REPLIES.get(command, b"") if not self.streaming or command == b"v" else b""
            if command in (cyton.SOFT_RESET, cyton.STOP):
                self.streaming = False
            elif command == cyton.START and not self.streaming:
                self.streaming, self._counter = True, 0
        return reply

    def ended(self, sample: int) -> bool:
        """Whether the recording is over before sample number `sample`."""
        return not self._loop and sample >= len(self._uv)

    def unplugged(self, sample: int) -> bool:
        """Whether the script has the cable out at sample number `sample`."""
        return bool(self._mask(Kind.UNPLUG, np.array([sample]))[0])

    def batch_end(self, first: int, end: int) -> int:
        """The end of a batch from `first`: at most `end`, the recording, the next cable event."""
        edges = [e for f in self._faults if f.kind is Kind.UNPLUG for e in f.span(cyton.RATE_HZ)]
        edges += [] if self._loop else [len(self._uv)]
        return min([end, *(edge for edge in edges if edge > first)])

    def packets(self, first: int, end: int) -> tuple[int, bytes]:
        """How many packets, and the bytes, of samples `first..end`; none while not streaming.

        Spans have to follow each other: the packet counter goes on from the last one.
        """
        if not self.streaming or end <= first:
            return 0, b""
        at = np.arange(first, end)
        silent = self._mask(Kind.STALL, at)
        counters = self._counter + np.cumsum(~silent) - 1
        self._counter += int((~silent).sum())
        keep = ~silent & ~self._mask(Kind.DROP, at)
        data = cyton.encode(self._counts(at)[keep], counters[keep], _accel(at[keep]))
        return int(keep.sum()), self._corrupt(data, at[keep])

    def _counts(self, at: NDArray[np.int64]) -> NDArray[np.int32]:
        uv = self._uv[at % len(self._uv)]
        for fault in self._faults:
            hit, column = self._hit(fault, at), fault.channel - 1
            if fault.kind is Kind.ASYSTOLE:
                uv[hit, column] = self._noise_uv[at[hit] % len(self._noise_uv)]
            elif fault.kind is Kind.FLAT:
                before = max(0, fault.span(cyton.RATE_HZ)[0] - 1)
                uv[hit, column] = self._uv[before % len(self._uv), column]
            elif fault.kind is Kind.SATURATE:
                limit_uv = fault.clip_mv * 1000.0
                uv[hit, column] = np.clip(uv[hit, column], -limit_uv, limit_uv)
            elif fault.kind is Kind.LEAD_OFF:
                uv[hit, column] = cyton.RAIL_HIGH_UV
        return cyton.uv_to_counts(uv)

    def _corrupt(self, data: bytes, at: NDArray[np.int64]) -> bytes:
        """Apply the faults of the cable, packet by packet, each with its own random numbers."""
        kinds = (Kind.GARBAGE, Kind.BITFLIP, Kind.WRONG_BAUD)
        masks = {kind: self._mask(kind, at) for kind in kinds}
        if not any(mask.any() for mask in masks.values()):
            return data
        out = bytearray()
        for i, sample in enumerate(at):
            packet = data[i * cyton.PACKET_BYTES : (i + 1) * cyton.PACKET_BYTES]
            rng = np.random.default_rng((self._seed, int(sample)))
            if masks[Kind.WRONG_BAUD][i]:
                packet = rng.bytes(cyton.PACKET_BYTES)
            if masks[Kind.BITFLIP][i]:
                packet = _flip(packet, rng)
            if masks[Kind.GARBAGE][i] and rng.random() < GARBAGE_RATE:
                packet = rng.bytes(int(rng.integers(1, 40))) + packet
            out += packet
        return bytes(out)

    def _mask(self, kind: Kind, at: NDArray[np.int64]) -> NDArray[np.bool_]:
        hits = np.zeros(len(at), np.bool_)
        for fault in self._faults:
            if fault.kind is kind:
                hits |= self._hit(fault, at)
        return hits

    @staticmethod
    def _hit(fault: Fault, at: NDArray[np.int64]) -> NDArray[np.bool_]:
        first, end = fault.span(cyton.RATE_HZ)
        return (at >= first) & (at < end)


def run(
    samples_mv: NDArray[np.float64],
    link: str | Path,
    *,
    speed: float = 1.0,
    faults: Iterable[Fault] = (),
    loop: bool = False,
    seed: int = 0,
    stop: threading.Event | None = None,
    linger_s: float = 1.0,
) -> Played:
    """Be a Cyton at the symbolic link `link` until the recording ends or `stop` is set.

    Signal time starts at the first `b` and never waits: what passes while nobody streams is gone.
    `speed` is seconds of signal per second. After the last sample the port stays open, silent, for
    `linger_s`, so that a slow host can read it all. Raises `LinkError` if `link` is taken.
    """
    stop = stop or threading.Event()
    board = Board(samples_mv, faults=faults, loop=loop, seed=seed)
    with plugged_pty(link) as pty:
        played = _play(board, pty, speed, stop)
        stop.wait(linger_s)
    return played


def _play(board: Board, pty: Pty, speed: float, stop: threading.Event) -> Played:
    started_s: float | None = None
    sample = packets = sent_bytes = 0
    wait_s = 0.1
    while not stop.is_set() and not board.ended(sample):
        sent_bytes += pty.write(board.command(pty.wait(wait_s)))
        if started_s is None:
            if not board.streaming:
                continue
            started_s = time.monotonic()
        passed_s = time.monotonic() - started_s
        due = min(int(passed_s * speed * cyton.RATE_HZ), sample + MAX_BATCH)
        if due > sample:
            end = board.batch_end(sample, due)
            _plug_or_unplug(board, pty, sample)
            n, data = board.packets(sample, end)
            sent_bytes += pty.write(data)
            packets, sample = packets + n, end
        due_s = (sample + 1) / (speed * cyton.RATE_HZ)
        # Never less than this: a fast speed plays in batches, not in a spin.
        wait_s = max(MIN_WAIT_S, due_s - (time.monotonic() - started_s))
    return Played(sample, packets, sent_bytes)


def _plug_or_unplug(board: Board, pty: Pty, sample: int) -> None:
    out = board.unplugged(sample)
    if out and pty.plugged:
        pty.unplug()
        board.streaming = False
    elif not out and not pty.plugged:
        pty.plug()


def _accel(at: NDArray[np.int64]) -> NDArray[np.int16]:
    """A board lying nearly still: 1 g on the third axis, at 25 Hz with zeros in between.

    It is tilted a little, because host programs take a zero on the first axis for no update.
    """
    counts = np.zeros((len(at), 3), np.int16)
    counts[at % 10 == 0] = np.rint(np.array([0.125, 0.0, 1.0]) / cyton.G_PER_LSB)
    return counts


def _flip(packet: bytes, rng: np.random.Generator) -> bytes:
    flipped = bytearray(packet)
    for bit in rng.choice(8 * len(packet), int(rng.integers(1, 4)), replace=False):
        flipped[bit // 8] ^= 1 << (bit % 8)
    return bytes(flipped)
