"""GE S/5 computer interface: bytes to Datex-Ohmeda records and their subrecords, and back.

Implements "S/5 Computer Interface Specification" (M1017617, chapter 2: flags, control characters,
checksum) and "Datex-Ohmeda Record Specification" (8005313, chapter 2: record header). Owns neither
what a subrecord means (`ge_s5_phdb`, `ge_s5`) nor when to ask for one.

    7E | record and checksum, with 7E sent as 7D 5E and 7D as 7D 5D | 7E

The checksum is the 8-bit sum of the record before that replacement. It is weak (one wrong record in
256 passes it), so a record must also be exactly as long as its header says, and its subrecords must
lie inside it, in order, the first at offset 0.
"""

from __future__ import annotations

import struct
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

from firmware_bridge.devices.big_endian import Malformed

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

T = TypeVar("T")

FLAG = b"\x7e"
CONTROL = b"\x7d"
REPLACED = {b"\x5e": b"\x7e", b"\x5d": b"\x7d"}

HEADER = struct.Struct("<HBBHIBBHh")
HEADER_BYTES = 40  # with the eight descriptors
DESCRIPTOR = struct.Struct("<HB")
MAX_PARTS = 8
END_OF_LIST = 0xFF
MAX_RECORD_BYTES = HEADER_BYTES + 1450
MAX_SEGMENT_BYTES = 2 * (MAX_RECORD_BYTES + 1)  # every byte replaced by two

PHDB = 0
WAVE = 1
ALARM = 4


@dataclass(frozen=True, slots=True)
class Record:
    """One record. `kind` is its main type; `parts` are its subrecords: (type, bytes)."""

    number: int
    level: int
    plug_id: int
    time_s: int
    kind: int
    parts: tuple[tuple[int, bytes], ...]


def frame(record: bytes) -> bytes:
    """A record as it goes over the wire."""
    body = record + bytes([sum(record) & 0xFF])
    body = body.replace(CONTROL, b"\x7d\x5d").replace(FLAG, b"\x7d\x5e")
    return FLAG + body + FLAG


def encode(
    kind: int,
    parts: Sequence[tuple[int, bytes]],
    *,
    number: int = 0,
    level: int = 0,
    plug_id: int = 0,
    time_s: int = 0,
) -> bytes:
    """A record, unframed; at most eight parts."""
    data = b"".join(part for _, part in parts)
    head = HEADER.pack(
        HEADER_BYTES + len(data), number & 0xFF, level, plug_id, time_s, 0, 0, 0, kind
    )
    at = 0
    for part_type, part in parts:
        head += DESCRIPTOR.pack(at, part_type)
        at += len(part)
    if len(parts) < MAX_PARTS:
        head += DESCRIPTOR.pack(0, END_OF_LIST)
    return head.ljust(HEADER_BYTES, b"\0") + data


def parse(record: bytes) -> Record:
    """The parts of an unframed record. Raises `Malformed`."""
    if not HEADER_BYTES <= len(record) <= MAX_RECORD_BYTES:
        raise Malformed("length")
    length, number, level, plug_id, time_s, _, _, _, kind = HEADER.unpack_from(record)
    if length != len(record):
        raise Malformed("length")
    return Record(number, level, plug_id, time_s, kind, _parts(record))


def _parts(record: bytes) -> tuple[tuple[int, bytes], ...]:
    listed: list[tuple[int, int]] = []
    for i in range(MAX_PARTS):
        offset, part_type = DESCRIPTOR.unpack_from(record, HEADER.size + i * DESCRIPTOR.size)
        if part_type == END_OF_LIST:
            break
        listed.append((offset, part_type))
    data = record[HEADER_BYTES:]
    ends = [offset for offset, _ in listed[1:]] + [len(data)]
    if listed and listed[0][0] != 0:
        raise Malformed("offset")
    if any(offset >= end for (offset, _), end in zip(listed, ends)):
        raise Malformed("offset")
    return tuple((kind, data[start:end]) for (start, kind), end in zip(listed, ends))


def restored(segment: bytes) -> bytes:
    """The record and checksum that lie between two flags. Raises `Malformed`."""
    first, *rest = segment.split(CONTROL)
    if any(part[:1] not in REPLACED for part in rest):
        raise Malformed("escape")
    return first + b"".join(REPLACED[part[:1]] + part[1:] for part in rest)


def checked(body: bytes) -> bytes:
    """The record, its checksum being right. Raises `Malformed`."""
    if not body or sum(body[:-1]) & 0xFF != body[-1]:
        raise Malformed("checksum")
    return body[:-1]


class Deframer(Generic[T]):
    """Bytes in, what `read` makes of each record out; `read` may refuse one by `Malformed`.

    Holds at most `MAX_SEGMENT_BYTES`; more without a flag is no record. `tally` counts bytes,
    frames and resyncs, `rejects` the segments that are no record by what was wrong with them.
    """

    def __init__(self, read: Callable[[Record], T]) -> None:
        self._read = read
        self.tally: Counter[str] = Counter()
        self.rejects: Counter[str] = Counter()
        self._pending = b""
        self._overrun = False  # the present segment is too long already
        self._since = 0  # bytes skipped after the last record

    def feed(self, data: bytes) -> list[T]:
        """What these bytes complete, however they were cut. Never raises."""
        self.tally["received_bytes"] += len(data)
        *segments, self._pending = (self._pending + data).split(FLAG)
        found = [read for segment in segments if (read := self._taken(segment)) is not None]
        if self._overrun or len(self._pending) > MAX_SEGMENT_BYTES:
            self._skip(len(self._pending))
            self._pending, self._overrun = b"", True
        return found

    def _taken(self, segment: bytes) -> T | None:
        if not segment and not self._overrun:
            return None
        try:
            if self._overrun or len(segment) > MAX_SEGMENT_BYTES:
                self._overrun = False
                raise Malformed("oversized")
            read = self._read(parse(checked(restored(segment))))
        except Malformed as why:
            self.rejects[str(why)] += 1
            self._skip(len(segment))
            return None
        self.tally["frames"] += 1
        self.tally["resyncs"] += self._since > 0
        self._since = 0
        return read

    def _skip(self, size: int) -> None:
        self.tally["skipped_bytes"] += size
        self._since += size
