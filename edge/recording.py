"""Recordings: the raw bytes of ports with their times, so that a replay covers the codec too.

A file is a magic, then frames `length u32 | crc32 u32 | msgpack`, little-endian: one header, then
records. Append-only; a torn end is left out and counted. What the records mean is
`edge.recorded_ports`'.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO

import msgspec

from edge.clock import WallAnchor
from edge.errors import BugError, StartError
from edge.log import log

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from types import TracebackType

MAGIC = b"medgerec"
SCHEMA = 1
FRAME = struct.Struct("<II")
MAX_FRAME_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Origin:
    """What was on one source's port."""

    source: str
    device: str
    rate_hz: float


@dataclass(frozen=True, slots=True)
class Header:
    """What a replay needs: a recording pins its bundle, backend and precision.

    `created` is UTC; `anchor` ties the records' `t_ns` to it. Digests are SHA-256, hexadecimal.
    """

    created: str
    bundle_digest: str
    backend: str
    precision: str
    anchor: WallAnchor
    schema: int = SCHEMA
    config_digest: str = ""
    origins: tuple[Origin, ...] = ()


@dataclass(frozen=True, slots=True)
class Record:
    """One event of one source's port at `t_ns`; `data` as it came from the port."""

    t_ns: int
    source: str
    kind: str
    data: bytes = b""


@dataclass(frozen=True, slots=True)
class _Version:
    schema: int


class RecordingWriter:
    """Appends records to a new file. A disk that fails ends the recording, not the diagnosing."""

    def __init__(self, path: str | Path, header: Header) -> None:
        self._path = path
        self._header = header
        self._file: BinaryIO | None = None
        self.written = 0
        self.left_out = 0
        self.failure: str | None = None

    def __enter__(self) -> RecordingWriter:
        try:
            self._file = open(self._path, "xb", buffering=0)
            self._append(MAGIC + _framed(msgspec.msgpack.encode(self._header)))
        except OSError as error:
            if self._file is not None:
                self._file.close()
            raise StartError(
                f"cannot create '{self._path}' ({error.strerror})", "name a new file"
            ) from None
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Raises `BugError` where records had to be left out and nothing else went wrong."""
        if self._file is not None:
            self._file.close()
        if self.failure is not None and error is None:
            raise BugError(
                f"'{self._path}' ends {self.left_out} records early ({self.failure})",
                "free the disk and record again",
            )

    def write(self, record: Record) -> None:
        """Append one record; after a failure it is only counted."""
        if self.failure is None:
            try:
                self._append(_framed(msgspec.msgpack.encode(record)))
                self.written += 1
                return
            except OSError as error:
                self.failure = str(error.strerror)
                log("recording_failed", cause=self.failure, count=self.written)
        self.left_out += 1

    def _append(self, data: bytes) -> None:
        """All of `data` or, on `OSError`, nothing that a reader would not pass over."""
        assert self._file is not None
        if self._file.write(data) != len(data):
            raise OSError(0, "the disk took only part of a record")


class Records:
    """The records of one file, read as they are iterated; may be iterated again.

    `torn_bytes`, known after an iteration, is what follows the last whole record: a few bytes where
    the writer was killed, more where the file is damaged in the middle.
    """

    def __init__(self, path: str | Path, start: int) -> None:
        self._path = path
        self._start = start
        self.torn_bytes = 0

    def __iter__(self) -> Iterator[Record]:
        with open(self._path, "rb") as file:
            at = file.seek(self._start)
            while (body := _next_frame(file)) is not None:
                yield _decoded(body, self._path)
                at = file.tell()
            self.torn_bytes = file.seek(0, 2) - at
        if self.torn_bytes:
            log("recording_torn", count=self.torn_bytes)


def read_recording(path: str | Path) -> tuple[Header, Records]:
    """Header and records. Raises `StartError` for another file or a newer one."""
    try:
        with open(path, "rb") as file:
            magic = file.read(len(MAGIC))
            body = _next_frame(file) if magic == MAGIC else None
            start = file.tell()
    except OSError as error:
        raise StartError(f"cannot read '{path}' ({error.strerror})", "name a recording") from None
    if body is None:
        raise StartError(f"'{path}' is not a recording", "make one with 'medge record'")
    return _header(body, path), Records(path, start)


def _header(body: bytes, path: str | Path) -> Header:
    try:
        schema = msgspec.msgpack.decode(body, type=_Version).schema
        if schema > SCHEMA:
            raise StartError(f"'{path}' has schema {schema}, newer than {SCHEMA}", "update medge")
        return msgspec.msgpack.decode(body, type=Header)
    except msgspec.DecodeError as error:
        raise StartError(f"'{path}' has no usable header ({error})", "record it again") from None


def _decoded(body: bytes, path: str | Path) -> Record:
    try:
        return msgspec.msgpack.decode(body, type=Record)
    except msgspec.DecodeError as error:
        raise StartError(f"'{path}' has an unknown record ({error})", "update medge") from None


def _framed(body: bytes) -> bytes:
    return FRAME.pack(len(body), zlib.crc32(body)) + body


def _next_frame(file: BinaryIO) -> bytes | None:
    """The next frame's content, None where there is no whole and sound one."""
    head = file.read(FRAME.size)
    if len(head) < FRAME.size:
        return None
    length, crc = FRAME.unpack(head)
    body = file.read(length) if length <= MAX_FRAME_BYTES else b""
    return body if len(body) == length and zlib.crc32(body) == crc else None
