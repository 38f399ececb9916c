"""A decoder with a mistake that random bytes do not find: the control of the fuzzer."""

from __future__ import annotations

from firmware_bridge.types import Counters, Message

SECRET = b"\x10\x02G"


class Decoder:
    """Raises when the bytes begin with `SECRET`; finding that takes guidance, byte by byte."""

    def __init__(self) -> None:
        self._received = 0

    @property
    def counters(self) -> Counters:
        return Counters(received_bytes=self._received)

    def feed(self, data: bytes) -> list[Message]:
        self._received += len(data)
        if len(data) < len(SECRET) or data[0] != SECRET[0]:
            return []
        if data[1] != SECRET[1]:
            return []
        if data[2] != SECRET[2]:
            return []
        raise IndexError("planted")
