"""Reads the big-endian, length-counted fields of the IEEE 11073 family off a message.

Everything that has a length or a count must be exactly as long as it says, and lie inside what
holds it.
"""

from __future__ import annotations

from datetime import datetime, timezone
from typing import TYPE_CHECKING

from firmware_bridge.session import NS_PER_S

if TYPE_CHECKING:
    from collections.abc import Iterator


class Malformed(ValueError):
    """Why a frame or message is not one, in a word; stays inside the codec, which counts it."""


class Reader:
    """Bytes read from the front; what is not there is `Malformed`."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    @property
    def left(self) -> int:
        """How many bytes are still unread."""
        return len(self._data) - self._at

    def take(self, size: int) -> bytes:
        """The next `size` bytes."""
        if size > self.left:
            raise Malformed("length")
        self._at += size
        return self._data[self._at - size : self._at]

    def part(self, size: int) -> Reader:
        """A reader of the next `size` bytes."""
        return Reader(self.take(size))

    def rest(self) -> bytes:
        """All that is left."""
        return self.take(self.left)

    def u8(self) -> int:
        return self.take(1)[0]

    def u16(self) -> int:
        if self.left < 2:
            raise Malformed("length")
        self._at += 2
        return self._data[self._at - 2] << 8 | self._data[self._at - 1]

    def u32(self) -> int:
        return int.from_bytes(self.take(4), "big")

    def octets(self) -> bytes:
        """A string of bytes behind its length."""
        return self.take(self.u16())

    def inner(self) -> Reader:
        """A reader of what a length encloses."""
        return Reader(self.octets())

    def counted(self, most: int = 0xFFFF) -> Iterator[Reader]:
        """The reader of a list of at most `most` items, once for each of them; the caller takes
        what belongs to it, all of it."""
        count, items = self.u16(), self.inner()
        if count > most:
            raise Malformed("count")
        for _ in range(count):
            yield items
        items.end()

    def end(self) -> None:
        """Raises `Malformed` unless all is read."""
        if self.left:
            raise Malformed("length")


def absolute_ns(bcd: bytes) -> int | None:
    """Nanoseconds since 1970, as if UTC, of CC YY MM DD hh mm ss hh in binary coded decimals; None
    for a time that is none, such as that of a clock never set."""
    digits = bcd.hex()
    if len(digits) != 16 or not digits.isdecimal():
        return None
    try:
        month, day, hour, minute, second = (int(digits[i : i + 2]) for i in range(4, 14, 2))
        at = datetime(int(digits[:4]), month, day, hour, minute, second, tzinfo=timezone.utc)
    except ValueError:
        return None
    return int(at.timestamp()) * NS_PER_S + int(digits[14:]) * NS_PER_S // 100
