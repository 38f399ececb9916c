"""BITalino, six analogue inputs at 1 kHz: frames with CRC-4 to volts, decoder and dialogue.

Implements the "BITalino (r)evolution API" frame of PLUX, as its own Python package `bitalino`
1.2.6 reads it, 115200 8N1 (a virtual port of Bluetooth or USB). Six inputs make a frame of 8 bytes,
one little-endian 64-bit word; from its highest bit down: sequence number (4), CRC-4 (4), digital
I1 I2 O1 O2 (4), A1..A4 (10 each), A5 and A6 (6 each). The CRC (x^4 + x + 1, most significant bit
first) covers all bytes with its own four bits taken as zero.

Four bits of CRC let every sixteenth damaged frame pass, so a frame needs its number as well:

1. expected: it starts where the last trusted frame ended, and carries the next number;
2. found again: it starts 2 to `MAX_SLOTS` + 1 whole frames after the last trusted one, its number
   has moved on by just as many, and so does the frame behind it;
3. confirmed: `CONFIRM` frames in a row have good CRCs and numbers that go up by one.

48 random bytes pass as confirmed once in 2e13 positions; what replaces a due frame passes once in
256. A gap is known modulo 16 frames (16 ms): where more is lost, the samples are right and their
count is not.

What an input measures is known only to whoever plugged the sensor in. Samples are the voltage at
the input in mV, at a supply of 3.3 V (counts / 2^bits * 3300, as the sensors' data sheets write
it). Not decoded: the digital lines, which carry no physiology.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from firmware_bridge.devices.framing import Stepping
from firmware_bridge.session import Beat, Dialogue, Event, State, Step, usual
from firmware_bridge.types import Device, Feed, SampleBlock, Text, Wire

if TYPE_CHECKING:
    from numpy.typing import NDArray

WIRE = Wire(115_200)
RATE_HZ = 1000.0
CHANNELS = 6
UNIT = "mV"
FINE, COARSE = "a1-a4", "a5-a6"

FRAME_BYTES = 8
MAX_SLOTS = 8
CONFIRM = 6
SUPPLY_MV = 3300.0
BITS = (10, 10, 10, 10, 6, 6)
SHIFTS = (42, 32, 22, 12, 6, 0)
FINE_MV_PER_LSB = SUPPLY_MV / 2**10
COARSE_MV_PER_LSB = SUPPLY_MV / 2**6

STOP = b"\x00"
VERSION = b"\x07"
RATE_1000_HZ = b"\xc3"  # rate << 6 | 3
START_ALL = b"\xfd"  # mask of inputs << 2 | 1
NAME = b"BITalino"
MAX_TEXT_BYTES = 32

_RUN_FRAMES = 1024


def _crc_of_byte(value: int) -> int:
    x = 0
    for bit in range(7, -1, -1):
        x = x << 1 ^ (value >> bit & 1)
        x = x ^ 0x13 if x & 0x10 else x
    return x


def _crc_table() -> NDArray[np.uint8]:
    """CRC of each byte value at each place of a frame: the CRC is linear, so they add up (XOR)."""
    after = np.arange(16)  # of each CRC, the CRC eight zero bits later
    for _ in range(8):
        after = after << 1 ^ np.where(after & 8, 0x13, 0)
    table = np.zeros((FRAME_BYTES, 256), np.uint8)
    table[-1] = [_crc_of_byte(value) for value in range(256)]
    for place in range(FRAME_BYTES - 2, -1, -1):
        table[place] = after[table[place + 1]]
    table[-1] = table[-1][np.arange(256) & 0xF0]  # without the CRC's own bits
    return table


_TABLE_OF_CRC = _crc_table()
_ROWS_OF_CRC = [bytes(row) for row in _TABLE_OF_CRC]
_PLACES = np.arange(FRAME_BYTES)


def crc4(frames: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The CRC-4 that frames uint8 `[n, 8]` should carry, uint8 `[n]`."""
    return np.asarray(np.bitwise_xor.reduce(_TABLE_OF_CRC[_PLACES, frames], axis=1), np.uint8)


def encode(
    counts: NDArray[np.integer], numbers: NDArray[np.integer], digital: int = 0
) -> list[bytes]:
    """Frames of converter counts `[n, k]` of k = 1..6 inputs and their numbers `[n]`.

    With fewer than five inputs the frame is shorter: ceil((12 + 10 k) / 8) bytes.
    """
    n, k = counts.shape
    word = (numbers.astype(np.uint64) & np.uint64(15)) << np.uint64(60)
    word |= np.uint64(digital << 52)
    for column, (bits, shift) in enumerate(zip(BITS[:k], SHIFTS)):
        limited = np.clip(counts[:, column], 0, 2**bits - 1).astype(np.uint64)
        word |= limited << np.uint64(shift)
    frames = word.astype("<u8").view(np.uint8).reshape(n, FRAME_BYTES)
    frames[:, -1] |= crc4(frames)
    size = -(-(12 + 10 * k) // 8) if k < 5 else FRAME_BYTES
    return [frame[FRAME_BYTES - size :].tobytes() for frame in frames]


def parse_counts(frames: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Converter counts `[n, 6]` of whole frames uint8 `[n, 8]`."""
    word = np.ascontiguousarray(frames).view("<u8")
    shifts, masks = np.array(SHIFTS, np.uint64), np.array([2**b - 1 for b in BITS], np.uint64)
    return (word >> shifts & masks).astype(np.int64)


class Decoder(Stepping):
    """Bytes in, `SampleBlock`s and `Text` out; see the module for what is trusted.

    Holds back at most 47 bytes.
    """

    def __init__(self) -> None:
        super().__init__()
        self._seq = 0
        self._last: bytes | None = None  # the last trusted frame
        self._run: list[NDArray[np.uint8]] = []
        self._run_lost = 0

    def _step(self, buffer: bytes, at: int) -> int:
        if buffer.startswith(NAME[: len(buffer) - at], at):
            return self._take_text(buffer, at)
        if len(buffer) - at < FRAME_BYTES:
            return 0
        slots, odd = divmod(self._since, FRAME_BYTES)
        n = min((len(buffer) - at) // FRAME_BYTES, _RUN_FRAMES)
        frames = np.frombuffer(buffer, np.uint8, n * FRAME_BYTES, at).reshape(n, FRAME_BYTES)
        if self._last is not None and not odd and slots <= MAX_SLOTS:
            good = _in_order(frames, (self._last[-1] >> 4) + 1 + slots)
            if good >= (2 if slots else 1):
                return self._accept(frames[:good], slots)
            if good == n:
                return 0
        if not _sound(buffer, at):
            return self._reject("crc")
        return self._confirm(frames[:CONFIRM])

    def _confirm(self, frames: NDArray[np.uint8]) -> int:
        """Rule 3, for up to `CONFIRM` frames, of which the first was not expected."""
        if self._last is not None and not self._since and frames[0].tobytes() == self._last:
            self._tally["duplicates"] += 1
            return FRAME_BYTES
        if _in_order(frames, int(frames[0, -1]) >> 4) < len(frames):
            return self._reject("counter")
        if len(frames) < CONFIRM:
            return 0
        if self._last is None:
            return self._accept(frames, 0)
        return self._accept(frames, ((int(frames[0, -1]) >> 4) - (self._last[-1] >> 4) - 1) % 16)

    def _accept(self, frames: NDArray[np.uint8], lost: int) -> int:
        if lost:
            self._end_run()
            self._run_lost = lost
        self._tally["resyncs"] += self._last is not None and self._since > 0
        self._tally["frames"] += len(frames)
        self._tally["lost"] += lost
        self._run.append(frames)
        self._last = frames[-1].tobytes()
        self._since = 0
        return frames.size

    def _end_run(self) -> None:
        """Turn the frames accepted since the last gap into one block of each feed."""
        if not self._run:
            return
        counts = parse_counts(np.concatenate(self._run))
        seq, lost = self._seq + self._run_lost, self._run_lost
        fine_mv = (counts[:, :4] * FINE_MV_PER_LSB).astype(np.float32)
        coarse_mv = (counts[:, 4:] * COARSE_MV_PER_LSB).astype(np.float32)
        self._out.append(SampleBlock(seq, lost, RATE_HZ, UNIT, fine_mv, FINE))
        self._out.append(SampleBlock(seq, lost, RATE_HZ, UNIT, coarse_mv, COARSE))
        self._seq = seq + len(counts)
        self._run, self._run_lost = [], 0

    def _reject(self, reason: str) -> int:
        """Count a due frame that is none, and look on from its next byte."""
        if self._last is not None and not self._since:
            self._rejects[reason] += 1
        return self._skip(1)

    def _take_text(self, buffer: bytes, at: int) -> int:
        """The answer to `VERSION`, a line that begins with the board's name."""
        end = buffer.find(b"\n", at, at + MAX_TEXT_BYTES)
        if end < 0:
            return 0 if len(buffer) - at < MAX_TEXT_BYTES else self._skip(1)
        self._end_run()
        self._tally["text_bytes"] += end + 1 - at
        self._out.append(Text(buffer[at:end].decode("ascii", "replace").strip()))
        return end + 1 - at


def _sound(buffer: bytes, at: int) -> bool:
    """Whether the CRC of the frame at `at` is good."""
    x = buffer[at + FRAME_BYTES - 1] & 15
    for place in range(FRAME_BYTES):
        x ^= _ROWS_OF_CRC[place][buffer[at + place]]
    return x == 0


def _in_order(frames: NDArray[np.uint8], first: int) -> int:
    """How many of the frames, from the start, have good CRCs and the numbers `first`, +1, ..."""
    due = np.bitwise_or((first + np.arange(len(frames)) & 15) << 4, crc4(frames))
    good = frames[:, -1] == due
    return len(frames) if good.all() else int(good.argmin())


# PLUX's API ("bitalino" 1.2.6): 00 ends a stream, 07 asks for the version, then rate and start as
# two commands with a pause between them. The first start is sent one beat after the rate.
_TABLE = {
    **usual(State.LISTENING, State.RESETTING, State.CONFIGURING, State.STARTING, State.STREAMING),
    (State.CLOSED, Event.OPENED): Step(State.RESETTING, STOP, forget=True),
    (State.CLOSED, Event.JOINED): Step(State.LISTENING),
    (State.LISTENING, Event.TIMEOUT): Step(State.RESETTING, STOP, forget=True),
    (State.RESETTING, Event.FRAMES): Step(State.RESETTING, rearm=False),  # the stream of before
    (State.RESETTING, Event.TIMEOUT): Step(State.CONFIGURING, VERSION, forget=True),
    (State.CONFIGURING, Event.FRAMES): Step(State.CONFIGURING, rearm=False),
    (State.CONFIGURING, Event.READY): Step(State.STARTING, RATE_1000_HZ, forget=True),
}

DEVICE = Device(
    name="bitalino",
    title="BITalino",
    spec='PLUX "BITalino API", as in the Python package bitalino 1.2.6',
    wire=WIRE,
    feeds=(
        Feed(FINE, ("",) * 4, RATE_HZ, UNIT, FINE_MV_PER_LSB, 0.0, 1023 * FINE_MV_PER_LSB),
        Feed(COARSE, ("",) * 2, RATE_HZ, UNIT, COARSE_MV_PER_LSB, 0.0, 63 * COARSE_MV_PER_LSB),
    ),
    dialogue=Dialogue(
        table=_TABLE,
        timeout_s={
            State.LISTENING: 0.25,
            State.RESETTING: 0.2,
            State.CONFIGURING: 1.0,
            State.STARTING: 2.0,
            State.STREAMING: 1.0,
        },
        stop=STOP,
        beats={State.STARTING: (Beat(0.3, START_ALL),)},
    ),
    decoder=Decoder,
    proved_by="the package bitalino 1.2.6 reads the emulator",
    unproved="a real board; the supply voltage",
)
