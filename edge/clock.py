"""Clocks: where `t_ns` comes from, and the wall-time anchors that are for people and messages only.

Every time inside medge is an int of monotonic nanoseconds read from an injected clock.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Protocol

NS_PER_S = 1_000_000_000
NS_PER_MS = 1_000_000


class Clock(Protocol):
    """Monotonic time in nanoseconds; `speed` is stream seconds per real second."""

    speed: float

    def now_ns(self) -> int: ...


class MonotonicClock:
    """The machine's monotonic clock."""

    speed = 1.0

    def now_ns(self) -> int:
        return time.monotonic_ns()


class ScaledClock:
    """Monotonic time running `speed` times faster, for a demo or a soak played in fast motion."""

    def __init__(self, speed: float) -> None:
        self.speed = speed
        self._start_ns = time.monotonic_ns()

    def now_ns(self) -> int:
        elapsed_ns = time.monotonic_ns() - self._start_ns
        return self._start_ns + int(elapsed_ns * self.speed)


class ManualClock:
    """Time that moves only when told: replay and tests."""

    speed = 1.0

    def __init__(self, start_ns: int = 0) -> None:
        self._now_ns = start_ns

    def now_ns(self) -> int:
        return self._now_ns

    def advance_to(self, t_ns: int) -> None:
        """Move forward to `t_ns`; an earlier time leaves the clock where it is."""
        self._now_ns = max(self._now_ns, t_ns)


@dataclass(frozen=True, slots=True)
class WallAnchor:
    """Pairs one monotonic instant with UTC. `quality` says how far to trust the wall clock."""

    t_ns: int
    unix_ns: int
    quality: str

    def utc(self, t_ns: int) -> str:
        """ISO 8601 UTC with offset and milliseconds for a monotonic `t_ns`."""
        unix_s = (self.unix_ns + t_ns - self.t_ns) / NS_PER_S
        return datetime.fromtimestamp(unix_s, timezone.utc).isoformat(timespec="milliseconds")


def anchor_now(clock: Clock) -> WallAnchor:
    """Anchor `clock` to the system's wall clock, whose synchronisation nobody has checked."""
    return WallAnchor(clock.now_ns(), time.time_ns(), "unsynchronised")
