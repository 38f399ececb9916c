"""Puts an emulated device on a pty, a TCP or a UDP port, in real time and at its line's rate.

Owns the loop, the clock and the pace of the line; what the device says is `Emulated`'s, what its
cable does to it is `cable`'s. The places where it can be found are `Pty` and those of `sockets`.
"""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from firmware_bridge.emulators.cable import Cable, Piece
from firmware_bridge.emulators.faults import Kind

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from firmware_bridge.emulators.emulated import Emulated
    from firmware_bridge.emulators.faults import Fault

WAKES_S = 2.0  # a device that only answers is on this long after it first heard something
IDLE_S = 0.1
MIN_WAIT_S = 0.001  # a fast speed plays in batches, not in a spin
HANDED_ON_S = 0.010  # a USB converter passes on what it has at least this often
BACKLOG_BYTES = 65_536  # more than this the device cannot hold for its line


class Place(Protocol):
    """Where the host finds the device: a pty's link, a TCP or UDP port."""

    @property
    def plugged(self) -> bool: ...

    def plug(self) -> None: ...

    def unplug(self) -> None: ...

    def wait(self, timeout_s: float) -> bytes:
        """Bytes from the host (of a UDP port one datagram), waiting at most so long for them."""
        ...

    def write(self, data: bytes) -> int:
        """Send without blocking for long; how many bytes went out."""
        ...


@dataclass(frozen=True, slots=True)
class Played:
    """What a run did: seconds of device time, frames said, bytes that the place took, and those
    that the device had to drop because its line is too slow for it."""

    seconds: float
    frames: int
    sent_bytes: int
    dropped_bytes: int


@contextmanager
def plugged(place: Place) -> Iterator[None]:
    """The place exists for the length of the block. Raises `LinkError` if it is taken."""
    place.plug()
    try:
        yield
    finally:
        place.unplug()


def play(
    emulated: Emulated,
    place: Place,
    *,
    bytes_per_s: float | None = None,
    datagrams: bool = False,
    speed: float = 1.0,
    faults: Iterable[Fault] = (),
    seed: int = 0,
    seconds: float | None = None,
    linger_s: float = 1.0,
    stop: threading.Event | None = None,
) -> Played:
    """Be the device at `place` for `seconds` of its time, or until `stop` is set.

    Its time begins with its first frame: a device that speaks unasked begins at once, another when
    the host has made it speak. `speed` is its seconds per second; `bytes_per_s` is its line's rate,
    None for a port without one. At the end the port stays open, silent, for `linger_s`.
    """
    stop = stop or threading.Event()
    player = Player(emulated, place, Cable(faults, seed, datagrams), bytes_per_s)
    with plugged(place):
        began_s = _first_frame(player, stop)
        wait_s = 0.0
        while not stop.is_set() and (seconds is None or player.now_s < seconds):
            heard = place.wait(wait_s)
            t_s = (time.monotonic() - began_s) * speed
            due_s = player.advance(t_s if seconds is None else min(t_s, seconds))
            if heard:
                player.hear(heard)
                due_s = t_s
            wait_s = min(IDLE_S, max(MIN_WAIT_S, (due_s - t_s) / speed))
        player.send(math.inf)
        stop.wait(linger_s)
    return player.played()


def _first_frame(player: Player, stop: threading.Event) -> float:
    """Answer the host until the device's time begins; when that was, in real time."""
    heard_s: float | None = None
    while not stop.is_set():
        now_s = time.monotonic()
        if player.speaks() or (heard_s is not None and now_s - heard_s >= WAKES_S):
            return now_s
        if heard := player.place.wait(IDLE_S):
            heard_s = heard_s or time.monotonic()
            player.hear(heard)
            player.send(math.inf)
    return time.monotonic()


class Player:
    """The device, its cable and what is still to be sent."""

    def __init__(
        self, emulated: Emulated, place: Place, cable: Cable, bytes_per_s: float | None
    ) -> None:
        self.place = place
        self.now_s = 0.0
        self._emulated = emulated
        self._cable = cable
        self._bytes_per_s = bytes_per_s
        self._queue: deque[Piece] = deque()
        self._queued_bytes = 0
        self._free_s = 0.0  # when the line has carried all that was sent
        self._frames = self._sent_bytes = self._dropped_bytes = 0

    def speaks(self) -> bool:
        """Whether the device has something to say unasked."""
        return self._emulated.next_s() is not None

    def hear(self, data: bytes) -> None:
        """Give the host's bytes to the device, unless it hangs."""
        if not self._cable.during(Kind.STALL, self.now_s):
            self._put(self._emulated.hear(data, self._cable.device_s(self.now_s)), self.now_s)

    def advance(self, t_s: float) -> float:
        """Say and send all that is due by `t_s` of the script; when there is more to do."""
        self._plug_or_unplug(self.now_s)
        while (edge_s := self._cable.edge_after(self.now_s)) is not None and edge_s <= t_s:
            self._pass(edge_s)
            self._plug_or_unplug(edge_s)
        due_s = self._pass(t_s)
        return due_s if edge_s is None else min(due_s, edge_s)

    def send(self, t_s: float) -> float:
        """Send what the line has carried by `t_s`; when it has carried more."""
        while self._queue:
            data, pause_s = self._queue[0]
            takes_s = len(data) / self._bytes_per_s if self._bytes_per_s else 0.0
            if self._free_s + takes_s <= t_s:
                self._queue.popleft()
                self._free_s += takes_s + pause_s
            elif self._bytes_per_s and t_s - self._free_s >= HANDED_ON_S:
                carried = int((t_s - self._free_s) * self._bytes_per_s)
                self._queue[0] = Piece(data[carried:], pause_s)
                self._free_s += carried / self._bytes_per_s
                data = data[:carried]
            else:
                return min(self._free_s + takes_s, self._free_s + HANDED_ON_S)
            self._queued_bytes -= len(data)
            self._sent_bytes += self.place.write(data)
        return math.inf

    def played(self) -> Played:
        device_s = self._cable.device_s(self.now_s)
        return Played(device_s, self._frames, self._sent_bytes, self._dropped_bytes)

    def _pass(self, t_s: float) -> float:
        """Each frame is asked for at its own time: when we look changes nothing."""
        due_s = math.inf
        while (device_s := self._emulated.next_s()) is not None:
            due_s = max(self.now_s, self._cable.script_s(device_s))
            if due_s > t_s:
                break
            self._put(self._emulated.say(device_s), due_s)
            self.send(due_s)
            due_s = math.inf
        self.now_s = t_s
        return min(due_s, self.send(t_s))

    def _put(self, frames: list[bytes], t_s: float) -> None:
        if not self._queue:
            self._free_s = max(self._free_s, t_s)
        for frame in frames:
            self._frames += 1
            if self._queued_bytes + len(frame) > BACKLOG_BYTES:
                self._dropped_bytes += len(frame)
                continue
            pieces = self._cable.carry(frame, t_s)
            self._queue += pieces
            self._queued_bytes += sum(len(piece.data) for piece in pieces)

    def _plug_or_unplug(self, t_s: float) -> None:
        out = self._cable.during(Kind.UNPLUG, t_s)
        if out and self.place.plugged:
            self.place.unplug()
            self._queue.clear()
            self._queued_bytes = 0
        elif not out and not self.place.plugged:
            self.place.plug()
