"""The jsonl sink: one JSON line per committed result, exactly once across restarts.

Each line carries its journal `row` and `session`; at start a torn end is cut off, and delivery goes
on after the last row that is there. The file is not synced: what a power cut takes is delivered
again from the journal. Do not rotate the file while medge runs; name a new one.
"""

from __future__ import annotations

import fcntl
import os
from typing import TYPE_CHECKING

import msgspec

from edge.errors import StartError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

HEAD = b'{"row":'
BLOCK_BYTES = 1 << 16


class JsonlOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`path`: the file to append to."""

    path: str


class Jsonl:
    """Appends to one file."""

    Options = JsonlOptions
    PATHS = ("path",)

    def __init__(self, options: JsonlOptions) -> None:
        self._path = options.path
        self._fd = -1
        self._end = 0  # of the last whole line
        self._last = 0

    def __enter__(self) -> Jsonl:
        try:
            self._fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o640)
        except OSError as error:
            raise StartError(
                f"cannot write '{self._path}' ({error.strerror})", "correct path"
            ) from None
        try:
            self._lock()
            self._recover()
        except BaseException:
            os.close(self._fd)
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        os.close(self._fd)

    def resume_after(self) -> int:
        """The last journal row that is in the file."""
        return self._last

    def deliver(self, rows: Sequence[tuple[int, bytes]]) -> None:
        """Append a line for each row, all or none. Raises `OSError`."""
        lines = b"".join(HEAD + b"%d," % rowid + body[1:] + b"\n" for rowid, body in rows)
        self._cut()
        if os.write(self._fd, lines) != len(lines):
            self._cut()
            raise OSError(f"'{self._path}' took only part of a line")
        self._end += len(lines)
        self._last = rows[-1][0]

    def _lock(self) -> None:
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise StartError(f"'{self._path}' is in use", "give each daemon its own file") from None

    def _cut(self) -> None:
        """Take off what a failed write left; a file that someone shortened is taken as it is."""
        size = os.fstat(self._fd).st_size
        if size > self._end:
            os.ftruncate(self._fd, self._end)
        self._end = min(size, self._end)

    def _recover(self) -> None:
        """Find the last whole line and cut what is after it."""
        size = os.fstat(self._fd).st_size
        if not HEAD.startswith(os.pread(self._fd, len(HEAD), 0)):
            raise StartError(f"'{self._path}' is not a medge jsonl file", "name another file")
        self._end, row = self._line_end(size), None
        while self._end and (row := self._row_before(self._end)) is None:
            self._end = self._line_end(self._end - 1)
        self._last = row or 0
        self._cut()

    def _row_before(self, end: int) -> int | None:
        """The row of the line that ends at `end`; None where a power cut left rubbish there."""
        start = self._line_end(end - 1)
        try:
            return int(msgspec.json.decode(os.pread(self._fd, end - start, start))["row"])
        except (msgspec.DecodeError, UnicodeDecodeError):
            return None
        except (KeyError, TypeError, ValueError):
            raise StartError(f"'{self._path}' is not a medge jsonl file", "move it away") from None

    def _line_end(self, before: int) -> int:
        """Where the last line that is whole within the first `before` bytes ends; 0 for none."""
        while before > 0:
            start = max(0, before - BLOCK_BYTES)
            found = os.pread(self._fd, before - start, start).rfind(b"\n")
            if found >= 0:
                return start + found + 1
            before = start
        return 0
