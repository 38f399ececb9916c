"""Philips IntelliVue Data Export: what carries its messages, on a serial line and in datagrams.

Implements "IntelliVue Data Export Interface Programming Guide" (4535 642 59271), transport protocol
of the MIB/RS232 port: framing, transparency and frame check. Owns no message (`philips_messages`).

    C0 | 11 01 length | user data | FCS | C1

C0, C1 and 7D between the ends are sent as 7D and the byte with bit 5 turned; 7D C1 aborts a frame.
The FCS is CRC-16/X-25 over header and user data before that, low byte first.
"""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING, Generic, TypeVar

from firmware_bridge.crc import crc_x25
from firmware_bridge.devices.big_endian import Malformed

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

BEGIN = 0xC0
END = 0xC1
ESCAPE = 0x7D
TURNED = {byte ^ 0x20: byte for byte in (BEGIN, END, ESCAPE)}
PROTOCOL = b"\x11\x01"
HEADER_BYTES = 4
FCS_BYTES = 2
MAX_MESSAGE_BYTES = 4096  # we negotiate 1,456
MAX_BODY_BYTES = 2 * (HEADER_BYTES + MAX_MESSAGE_BYTES + FCS_BYTES)  # every byte escaped

_ENDS = re.compile(b"[\xc0\xc1]")


def frame(message: bytes) -> bytes:
    """A message as it goes over the serial line."""
    body = PROTOCOL + len(message).to_bytes(2, "big") + message
    body += crc_x25(body).to_bytes(2, "little")
    for byte in (ESCAPE, BEGIN, END):  # the escape first, or it would be escaped again
        body = body.replace(bytes([byte]), bytes([ESCAPE, byte ^ 0x20]))
    return bytes([BEGIN]) + body + bytes([END])


def restored(body: bytes) -> bytes:
    """What lies between the ends, without escapes. Raises `Malformed`."""
    first, *rest = body.split(bytes([ESCAPE]))
    if rest and not rest[-1]:
        raise Malformed("aborted")
    if any(not part or part[0] not in TURNED for part in rest):
        raise Malformed("escape")
    return first + b"".join(bytes([TURNED[part[0]]]) + part[1:] for part in rest)


def checked(body: bytes) -> bytes:
    """Header and user data, the frame check being right. Raises `Malformed`."""
    if len(body) < HEADER_BYTES + FCS_BYTES:
        raise Malformed("length")
    if crc_x25(body[:-FCS_BYTES]) != int.from_bytes(body[-FCS_BYTES:], "little"):
        raise Malformed("crc")
    return body[:-FCS_BYTES]


def unwrapped(body: bytes) -> bytes:
    """The user data, the header being right. Raises `Malformed`."""
    if body[:2] != PROTOCOL:
        raise Malformed("header")
    if int.from_bytes(body[2:HEADER_BYTES], "big") != len(body) - HEADER_BYTES:
        raise Malformed("length")
    return body[HEADER_BYTES:]


class Deframer(Generic[T]):
    """Serial bytes in, what `read` makes of each message out; `read` may refuse by `Malformed`.

    Holds at most `MAX_BODY_BYTES`. `tally` counts bytes, frames and resyncs, `rejects` what was no
    frame or no message by what was wrong with it.
    """

    def __init__(self, read: Callable[[bytes], T]) -> None:
        self._read = read
        self.tally: Counter[str] = Counter()
        self.rejects: Counter[str] = Counter()
        self._pending = b""
        self._inside = False  # a beginning was seen
        self._since = 0  # bytes skipped after the last message

    def feed(self, data: bytes) -> list[T]:
        """What these bytes complete, however they were cut. Never raises."""
        self.tally["received_bytes"] += len(data)
        buffer = self._pending + data
        found: list[T] = []
        at = 0
        while at < len(buffer):
            if not self._inside:
                at = self._find_beginning(buffer, at)
                continue
            end = _ENDS.search(buffer, at, at + MAX_BODY_BYTES + 1)
            if end is None and len(buffer) - at <= MAX_BODY_BYTES:
                break
            body = buffer[at : end.start() if end else at + MAX_BODY_BYTES + 1]
            at += len(body) + (end is not None)
            self._inside = end is not None and end[0] == bytes([BEGIN])
            if end is None:
                self._reject("oversized", body)
            elif not self._inside:
                found += self._taken(body)
            elif body:
                self._reject("truncated", body)
        self._pending = buffer[at:]
        return found

    def _find_beginning(self, buffer: bytes, at: int) -> int:
        """Skip to after the next beginning, or all there is; where that is."""
        begin = buffer.find(BEGIN, at)
        self._inside = begin >= 0
        self._skip((begin if self._inside else len(buffer)) - at)
        return begin + 1 if self._inside else len(buffer)

    def _taken(self, body: bytes) -> list[T]:
        try:
            read = self._read(unwrapped(checked(restored(body))))
        except Malformed as why:
            self._reject(str(why), body)
            return []
        self.tally["frames"] += 1
        self.tally["resyncs"] += self._since > 0
        self._since = 0
        return [read]

    def _reject(self, reason: str, body: bytes) -> None:
        self.rejects[reason] += 1
        self._skip(len(body))

    def _skip(self, size: int) -> None:
        self.tally["skipped_bytes"] += size
        self._since += size


class Datagrams(Generic[T]):
    """Datagrams in, what `read` makes of each out; counts like `Deframer`."""

    def __init__(self, read: Callable[[bytes], T]) -> None:
        self._read = read
        self.tally: Counter[str] = Counter()
        self.rejects: Counter[str] = Counter()

    def feed(self, data: bytes) -> list[T]:
        """What one whole datagram says. Never raises."""
        self.tally["received_bytes"] += len(data)
        try:
            if len(data) > MAX_MESSAGE_BYTES:
                raise Malformed("oversized")
            read = self._read(data)
        except Malformed as why:
            self.rejects[str(why)] += 1
            self.tally["skipped_bytes"] += len(data)
            return []
        self.tally["frames"] += 1
        return [read]
