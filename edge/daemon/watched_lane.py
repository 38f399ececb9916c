"""A device that feeds no bundle, in the daemon's loop: nothing is asked, nothing is decided."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edge.clock import Clock
    from edge.sources.watched import Watched


class WatchedLane:
    """See `edge.daemon.core.Lane`."""

    busy = False

    def __init__(self, source: Watched, clock: Clock) -> None:
        self._source = source
        self._clock = clock

    @property
    def name(self) -> str:
        return self._source.name

    def fileno(self) -> int | None:
        return self._source.fileno()

    def next_deadline_ns(self) -> int | None:
        return self._source.next_deadline_ns()

    def poll(self) -> None:
        self._source.poll(self._clock.now_ns())

    def settle(self, committed: int) -> None:
        """Nothing of it is kept."""
