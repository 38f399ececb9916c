"""What an emulated device says to a link, made in no time: a capture without a cable.

Link and emulator talk in memory, in time that is counted. Of a device that waits to be asked this
is its part of the conversation.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from firmware_bridge.link import Link
from firmware_bridge.session import NS_PER_S

if TYPE_CHECKING:
    from firmware_bridge.emulators.emulated import Emulated, Emulator
    from firmware_bridge.emulators.patient import Scene
    from firmware_bridge.types import LinkCounters, Wire

STEP_S = 0.005


class Said(NamedTuple):
    """A frame or datagram, when it was said, and after how many bytes of the host."""

    t_s: float
    asked_bytes: int
    data: bytes


def captured(emulator: Emulator, scene: Scene, seconds: float) -> tuple[list[Said], LinkCounters]:
    """All that the device says to a link in `seconds`, and what the link made of it."""
    port = _Port(emulator.make(scene))
    link = Link(emulator.device, "memory", open_port=port.opened)
    link.open(0)
    for step in range(round(seconds / STEP_S) + 1):
        now_ns = int(step * STEP_S * NS_PER_S)
        port.advance(step * STEP_S)
        link.poll(now_ns)
        while port.inbox:
            link.poll(now_ns)
    return port.said, link.counters


class _Port:
    """A port that is the device itself; each read is one frame."""

    def __init__(self, made: Emulated) -> None:
        self._device = made
        self._asked_bytes = 0
        self._t_s = 0.0
        self.inbox: list[bytes] = []
        self.said: list[Said] = []

    def opened(self, address: str, wire: Wire) -> _Port:
        return self

    def advance(self, t_s: float) -> None:
        while (due_s := self._device.next_s()) is not None and due_s <= t_s:
            self._take(self._device.say(due_s), due_s)
        self._t_s = t_s

    def fileno(self) -> int:
        return -1

    def read(self) -> bytes:
        return self.inbox.pop(0) if self.inbox else b""

    def write(self, data: bytes) -> None:
        self._asked_bytes += len(data)
        self._take(self._device.hear(data, self._t_s), self._t_s)

    def close(self) -> None:
        self.inbox.clear()

    def _take(self, frames: list[bytes], t_s: float) -> None:
        self.said += [Said(t_s, self._asked_bytes, frame) for frame in frames]
        self.inbox += frames
