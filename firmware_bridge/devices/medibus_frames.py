"""MEDIBUS framing: the two channels of one line, commands and responses, realtime records.

Implements Draeger "RS 232 MEDIBUS Protocol Definition" 4.03 / 6.00 (90 28 258) as two public
readers of it do (`mdpnp`: Medibus.java, RTMedibus.java; `VSCaptureDrgVent`: Class1.cs); the text
itself was not at hand. What the values mean is `medibus_records`' and `medibus_codes`'.

Bytes below 80H are the slow channel, bytes from 80H the realtime channel; they alternate byte by
byte. XON and XOFF (11H, 13H) may stand anywhere and mean nothing here.

Slow: `ESC code [data] C1 C2 CR` is a command, `SOH code [data] C1 C2 CR` a response; C1 C2 are the
sum of all bytes before them modulo 256, two upper-case hexadecimal digits. A command may stand
inside a response: its bytes do not count in the response's sum.

Realtime: a sync byte `1101 dddd` names which of streams 1 to 4 follow, then come pairs: sync
commands `1100 cccc` `1100 aaaa` and data `10 llllll` `10 hhhhhh` (12 bits, low half first). It has
no checksum: a record is good when it consists of whole pairs, holds just as many data as its sync
byte names, and the sync byte of the next one stands behind it (which holds each record back until
then). Noise makes such records too, one in some thousand bytes, so after the start or a damaged one
only the `SURE`rd in a row is trusted. A damaged bit of a value cannot be seen.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

ESC, SOH, CR, ETX = 0x1B, 0x01, 0x0D, 0x03
XON, XOFF = 0x11, 0x13
MAX_FRAME_BYTES = 4096
MAX_RECORD_BYTES = 64
STREAMS = 4
SURE = 3

SYNC, SYNC_COMMAND, DATA = 0xD0, 0xC0, 0x80
CORRUPT_RECORD = 0xCF


@dataclass(frozen=True, slots=True)
class Frame:
    """A command or response whose checksum is right. `damaged`: it was a command, and is not."""

    is_command: bool
    code: int
    data: bytes
    damaged: bool = False


@dataclass(frozen=True, slots=True)
class Record:
    """The readings (12-bit numbers) of one moment by stream, 0 the first. `damaged`: there was one,
    but what it said is not to be trusted, or not yet."""

    readings: dict[int, int]
    damaged: bool = False


def frame(lead: int, code: int, data: bytes = b"") -> bytes:
    """A command (`ESC`) or response (`SOH`)."""
    body = bytes([lead, code]) + data
    return body + f"{sum(body) & 0xFF:02X}".encode() + bytes([CR])


def command(code: int, data: bytes = b"") -> bytes:
    """`ESC code [data] C1 C2 CR`."""
    return frame(ESC, code, data)


def response(code: int, data: bytes = b"") -> bytes:
    """`SOH code [data] C1 C2 CR`."""
    return frame(SOH, code, data)


def record(readings: dict[int, int]) -> bytes:
    """A sync byte and the readings of its streams."""
    out = bytearray([SYNC | sum(1 << stream for stream in readings)])
    for _, value in sorted(readings.items()):
        out += bytes([DATA | value & 0x3F, DATA | value >> 6 & 0x3F])
    return bytes(out)


class Splitter:
    """Bytes of one direction in, `Frame`s and `Record`s out, in the order of their last bytes.

    `tally` and `rejects` are the counters of the stream. Holds back at most three slow frames of
    `MAX_FRAME_BYTES` and one record.
    """

    def __init__(self) -> None:
        self.tally: Counter[str] = Counter()
        self.rejects: Counter[str] = Counter()
        self._open: list[bytearray] = []  # slow frames, the innermost last
        self._record = bytearray()
        self._run = 0  # good records that hold readings, since the last damaged one
        self._skipped = False  # bytes were skipped since the last good frame
        self._out: list[Frame | Record] = []

    def feed(self, data: bytes) -> list[Frame | Record]:
        """Take the next bytes as they came. Never raises."""
        self.tally["received_bytes"] += len(data)
        for byte in data:
            if byte >= 0x80:
                self._take_fast(byte)
            else:
                self._take_slow(byte)
        out, self._out = self._out, []
        return out

    def _take_slow(self, byte: int) -> None:
        if byte in (ESC, SOH):
            self._begin(byte)
        elif byte in (XON, XOFF):
            self.tally["skipped_bytes"] += 1
        elif not self._open:
            self._skip(1)
        elif byte == CR:
            self._end(bytes(self._open.pop()))
        elif (byte < 0x20 and byte != ETX) or len(self._open[-1]) >= MAX_FRAME_BYTES:
            self._drop("length" if byte >= 0x20 else "byte")
            self._skip(1)
        else:
            self._open[-1].append(byte)

    def _begin(self, lead: int) -> None:
        """Only a command may stand inside, and only in a response: the rest was torn."""
        while self._open and (lead == SOH or self._open[-1][0] == ESC):
            self._drop("torn")
        self._open.append(bytearray([lead]))

    def _end(self, body: bytes) -> None:
        good = len(body) >= 4 and body[-2:] == f"{sum(body[:-2]) & 0xFF:02X}".encode()
        if not good:
            self.rejects["checksum"] += 1
            self._skip(len(body) + 1)
            if body[0] == ESC:
                self._out.append(Frame(True, 0, b"", damaged=True))
            return
        self._accept()
        self._out.append(Frame(body[0] == ESC, body[1], body[2:-2]))

    def _drop(self, reason: str) -> None:
        self.rejects[reason] += 1
        self._skip(len(self._open.pop()))

    def _take_fast(self, byte: int) -> None:
        if byte & 0xF0 == SYNC:
            if self._record:
                self._end_record(bytes(self._record))
            self._record = bytearray([byte])
        elif not self._record:
            self._skip(1)
        elif len(self._record) >= MAX_RECORD_BYTES:
            self._doubt(len(self._record) + 1)
            self._record = bytearray()
        else:
            self._record.append(byte)

    def _end_record(self, body: bytes) -> None:
        readings = readings_of(body)
        if readings is None:
            self._doubt(len(body))
            return
        self._run += bool(readings)
        if self._run < SURE:
            self._skip(len(body))
            self._out.append(Record({}, damaged=True))
        else:
            self._accept()
            self._out.append(Record(readings))

    def _doubt(self, n: int) -> None:
        """A record of `n` bytes is damaged, and the line with it."""
        self._run = 0
        self.rejects["record"] += 1
        self._skip(n)
        self._out.append(Record({}, damaged=True))

    def _accept(self) -> None:
        self.tally["frames"] += 1
        self.tally["resyncs"] += self._skipped
        self._skipped = False

    def _skip(self, n: int) -> None:
        self._skipped = True
        self.tally["skipped_bytes"] += n


def readings_of(body: bytes) -> dict[int, int] | None:
    """Readings by stream of a record from its sync byte on; None if it is not to be trusted."""
    streams = [stream for stream in range(STREAMS) if body[0] >> stream & 1]
    values = []
    if len(body) % 2 == 0:
        return None
    for first, second in zip(body[1::2], body[2::2]):
        if first & 0xC0 == DATA and second & 0xC0 == DATA:
            values.append(first & 0x3F | (second & 0x3F) << 6)
            continue
        sync_command = first & 0xF0 == SYNC_COMMAND and second & 0xF0 == SYNC_COMMAND
        if not sync_command or first == CORRUPT_RECORD:
            return None
    return dict(zip(streams, values)) if len(values) == len(streams) else None
