"""Keeps the microcontroller link on its port: opens it, moves the bytes, comes back after a loss.

Owns when to open and when to try again; what the bytes mean is `host`'s. Like `link`, it has no
clock, thread or sleep: the caller's loop waits for `fileno()` or `next_deadline_ns()`, and polls.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from firmware_bridge.address import Address
from firmware_bridge.errors import LinkError
from firmware_bridge.link import MAX_READS_PER_POLL, retry_delay_s
from firmware_bridge.ports import open_serial
from firmware_bridge.session import NS_PER_S
from firmware_bridge.types import Wire

if TYPE_CHECKING:
    from collections.abc import Callable

    from firmware_bridge.mcu.events import Event
    from firmware_bridge.mcu.host import Mcu
    from firmware_bridge.ports import Port

WIRE = Wire(115_200)


class Cable:
    """The port at `path` for an `Mcu`, for as long as it is wanted."""

    def __init__(
        self,
        path: str,
        mcu: Mcu,
        *,
        random01: Callable[[], float] | None = None,
    ) -> None:
        self._path = path
        self._mcu = mcu
        self._random01 = random01 or random.Random(path).random
        self._port: Port | None = None
        self._failures = 0
        self._retry_at_ns = 0

    def fileno(self) -> int | None:
        """The descriptor to wait on for input, or None while there is no port."""
        return None if self._port is None else self._port.fileno()

    def next_deadline_ns(self) -> int:
        """When `poll` wants to be called even if nothing comes in."""
        return self._retry_at_ns if self._port is None else self._mcu.next_deadline_ns()

    def poll(self, now_ns: int) -> list[Event]:
        """Open the port if that is due, read, act, write; return what happened, in order.

        Call it also after each call of the `Mcu` itself, so that what it has to say is said.
        """
        out: list[Event] = []
        try:
            if self._port is None:
                if now_ns < self._retry_at_ns:
                    return out
                self._port = open_serial(Address("serial", path=self._path), WIRE)
                out += self._mcu.open(now_ns)
            self._move(self._port, now_ns, out)
        except LinkError as error:
            self.close()
            self._failures += 1
            delay_s = retry_delay_s(self._failures, self._random01())
            self._retry_at_ns = now_ns + int(delay_s * NS_PER_S)
            out += self._mcu.lose(now_ns, str(error))
        return out

    def close(self) -> None:
        """Let go of the port: the device will miss our heartbeats, and its alarm come on."""
        if self._port is not None:
            self._port.close()
        self._port = None

    def _move(self, port: Port, now_ns: int, out: list[Event]) -> None:
        for _ in range(MAX_READS_PER_POLL):
            data = port.read()
            if not data:
                break
            self._failures = 0
            out += self._mcu.feed(data, now_ns)
        out += self._mcu.tick(now_ns)
        if data := self._mcu.to_send():
            port.write(data)
