"""Cuts a stream of text into lines, and counts what became of their bytes.

Owns the cap on a line's length; what a line says, and whether it is one, is the device's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from firmware_bridge.counting import Counting

if TYPE_CHECKING:
    from collections.abc import Iterator


class Lines(Counting):
    """Bytes in, lines out, however they were cut. A line ends with LF; a CR before it goes with it.

    A line longer than `max_bytes` is dropped to its end. The decoder has to settle each line by
    `accept`, `tell` or `refuse`.
    """

    def __init__(self, max_bytes: int) -> None:
        super().__init__()
        self._max_bytes = max_bytes
        self._pending = b""
        self._dropping = False
        self._begun = False
        self._skipped = False

    def feed(self, data: bytes) -> Iterator[bytes]:
        """The lines that `data` completes, each with its end; take them all, one by one."""
        self._tally["received_bytes"] += len(data)
        *whole, rest = (self._pending + data).split(b"\n")
        self._pending = rest
        for body in whole:
            line = body + b"\n"
            if self._dropping or len(line) > self._max_bytes:
                self._drop(line)
                self._dropping = False
            else:
                yield line
        if self._dropping or len(rest) >= self._max_bytes:
            self._drop(rest)
            self._pending = b""

    def _drop(self, piece: bytes) -> None:
        self._tally["skipped_bytes"] += len(piece)
        self._skipped = True
        if not self._dropping:
            self._rejects["length"] += 1
        self._dropping = True

    def accept(self, line: bytes) -> None:
        """The line is one of the device's."""
        self._tally["frames"] += 1
        self._tally["resyncs"] += self._skipped
        self._begun, self._skipped = True, False

    def tell(self, line: bytes) -> None:
        """The line is for people, or empty."""
        self._tally["text_bytes"] += len(line)

    def refuse(self, line: bytes, reason: str) -> None:
        """The line is nothing known; before the first good one it may just be the end of one."""
        self._tally["skipped_bytes"] += len(line)
        if self._begun:
            self._rejects[reason] += 1
            self._skipped = True
