"""MLLP: one HL7 v2 message between a start block and an end block on a byte stream.

Implements HL7 v2 Implementation Guide, Appendix C "Minimal Lower Layer Protocol":
`0B <message> 1C 0D`. Senders that leave the carriage return away are understood too. A second 0B
begins the message anew; what does not lie between the two is skipped and counted.
"""

from __future__ import annotations

import re
from collections import Counter

START, END, RETURN = 0x0B, 0x1C, 0x0D
MAX_MESSAGE_BYTES = 1 << 20
_ENDS = re.compile(rb"[\x0b\x1c]")


def framed(message: bytes) -> bytes:
    """`message` as it goes over the wire."""
    return b"%c%b%c%c" % (START, message, END, RETURN)


class Unframer:
    """Bytes in, messages out. `tally` counts what became of the bytes: `skipped_bytes`, and by
    `rejected` the messages that were torn (begun anew) or too long."""

    def __init__(self) -> None:
        self._message: bytearray | None = None  # None: outside
        self._after_end = False
        self.tally: Counter[str] = Counter()
        self.rejected: Counter[str] = Counter()

    def feed(self, data: bytes) -> list[bytes]:
        """Messages that `data` completes, without their framing."""
        out: list[bytes] = []
        at = 0
        while at < len(data):
            if self._after_end and data[at] == RETURN:
                at += 1
            self._after_end = False
            at = self._outside(data, at) if self._message is None else self._inside(data, at, out)
        return out

    def _outside(self, data: bytes, at: int) -> int:
        start = data.find(START, at)
        end = start if start >= 0 else len(data)
        self.tally["skipped_bytes"] += end - at
        if start >= 0:
            self._message = bytearray()
        return end + (start >= 0)

    def _inside(self, data: bytes, at: int, out: list[bytes]) -> int:
        assert self._message is not None
        found = _ENDS.search(data, at)
        end = found.start() if found else len(data)
        self._message += data[at:end]
        if len(self._message) > MAX_MESSAGE_BYTES:
            self._drop("too long")
            return end
        if found is None:
            return end
        if data[end] == START:
            self._drop("torn")
            return end
        out.append(bytes(self._message))
        self._message, self._after_end = None, True
        return end + 1

    def _drop(self, why: str) -> None:
        assert self._message is not None
        self.rejected[why] += 1
        self.tally["skipped_bytes"] += len(self._message) + 1
        self._message = None
