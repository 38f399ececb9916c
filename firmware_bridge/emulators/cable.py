"""What the script does to an emulated device's cable, frame by frame. No port and no clock here.

Owns the faults of the cable and when the board hangs; those of patient, electrodes and clock are
the device's own (`patient.Scene`). Each frame has random numbers of its own, so the same frames,
script and seed give the same bytes.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, NamedTuple

from firmware_bridge.emulators.faults import Kind

if TYPE_CHECKING:
    from collections.abc import Iterable

    from firmware_bridge.emulators.faults import Fault

GARBAGE_RATE = 0.1  # of the frames
GARBAGE_MAX_BYTES = 40
FLIPPED_MAX_BITS = 3
PAUSE_MAX_S = 0.002  # after one byte of a frame that is split
KINDS = frozenset({
    Kind.DROP, Kind.STALL, Kind.GARBAGE, Kind.BITFLIP, Kind.WRONG_BAUD, Kind.SPLIT, Kind.UNPLUG,
})  # fmt: skip
"""What happens on it, whatever the device; a datagram cannot be split."""


class Piece(NamedTuple):
    """Bytes that travel together, and a pause of the line after them."""

    data: bytes
    pause_s: float = 0.0


class Cable:
    """The cable of one emulation; `t_s` is seconds of the script."""

    def __init__(self, faults: Iterable[Fault], seed: int = 0, datagrams: bool = False) -> None:
        self._faults = tuple(sorted(faults, key=lambda fault: fault.at_s))
        self._stalls = [f for f in self._faults if f.kind is Kind.STALL]
        self._seed = seed
        self._datagrams = datagrams
        self._frames = 0

    def during(self, kind: Kind, t_s: float) -> bool:
        """Whether a fault of `kind` is on."""
        return any(f.on(kind, t_s) for f in self._faults)

    def carry(self, frame: bytes, t_s: float) -> list[Piece]:
        """What of a frame said at `t_s` gets on the line, in order."""
        rng = random.Random(self._seed << 32 | self._frames)
        self._frames += 1
        if self.during(Kind.UNPLUG, t_s) or self.during(Kind.DROP, t_s):
            return []
        if self.during(Kind.WRONG_BAUD, t_s):
            frame = rng.randbytes(len(frame))
        if self.during(Kind.BITFLIP, t_s):
            frame = flipped(frame, rng)
        pieces = [Piece(frame)]
        if self.during(Kind.GARBAGE, t_s) and rng.random() < GARBAGE_RATE:
            pieces.insert(0, Piece(rng.randbytes(rng.randint(1, GARBAGE_MAX_BYTES))))
        if self.during(Kind.SPLIT, t_s) and not self._datagrams:
            pieces = [single for piece in pieces for single in _split(piece.data, rng)]
        return pieces

    def edge_after(self, t_s: float) -> float | None:
        """When the cable is next pulled or put back."""
        spans = [(f.at_s, f.end_s) for f in self._faults if f.kind is Kind.UNPLUG]
        return min((edge for span in spans for edge in span if edge > t_s), default=None)

    def device_s(self, t_s: float) -> float:
        """The device's own time: it stands still while the board hangs."""
        return t_s - sum(min(max(t_s - f.at_s, 0.0), f.duration_s) for f in self._stalls)

    def script_s(self, device_s: float) -> float:
        """When in the script the device's time is `device_s`; after a stall that begins just then.

        The inverse of `device_s`, for stalls that do not overlap.
        """
        t_s = device_s
        for stall in self._stalls:
            if t_s < stall.at_s:
                break
            t_s += stall.duration_s
        return t_s


def flipped(frame: bytes, rng: random.Random) -> bytes:
    """A frame with one to three of its bits flipped."""
    bits = int.from_bytes(frame, "big")
    count = min(rng.randint(1, FLIPPED_MAX_BITS), 8 * len(frame))
    for bit in rng.sample(range(8 * len(frame)), count):
        bits ^= 1 << bit
    return bits.to_bytes(len(frame), "big")


def _split(data: bytes, rng: random.Random) -> list[Piece]:
    slow = rng.randrange(len(data)) if data else 0
    pauses_s = [rng.uniform(0.0, PAUSE_MAX_S) if i == slow else 0.0 for i in range(len(data))]
    return [Piece(data[i : i + 1], pauses_s[i]) for i in range(len(data))]
