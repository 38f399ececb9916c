"""How far the times of devices may be trusted, each and one against the other: said in the log.

A device's clock is said when its drift is first known, when the clock was set, paused or caught up
with, and else every ten minutes; all are said together at the end.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from edge.clock import NS_PER_MS, NS_PER_S
from edge.log import log
from firmware_bridge.clockmodel import alignment_error_ns

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from firmware_bridge.clockmodel import ClockState

LOOK_NS = 10 * NS_PER_S
AGAIN_NS = 600 * NS_PER_S


class Timed(Protocol):
    """A source whose device has a clock; None before anything is known of it."""

    @property
    def name(self) -> str: ...

    @property
    def clock(self) -> ClockState | None: ...


class ClockReport:
    """Remembers what was said, so that only news are."""

    def __init__(self, sources: Sequence[Timed]) -> None:
        self._sources = sources
        self._said: dict[str, tuple[int, tuple[int, ...]]] = {}
        self._look_ns = 0

    def look(self, now_ns: int) -> None:
        """Say what is new, or was said long ago. To be called all the time."""
        if now_ns < self._look_ns:
            return
        self._look_ns = now_ns + LOOK_NS
        clocks = self._clocks()
        self._say(clocks, [n for n, state in clocks.items() if self._is_due(n, state, now_ns)])

    def say(self) -> None:
        """Say all."""
        clocks = self._clocks()
        self._say(clocks, clocks)

    def _clocks(self) -> dict[str, ClockState]:
        return {s.name: clock for s in self._sources if (clock := s.clock) is not None}

    def _is_due(self, name: str, state: ClockState, now_ns: int) -> bool:
        is_known = state.drift_ppm is not None
        news = (is_known, state.jumps, state.restarts, state.bursts)
        said_ns, said = self._said.setdefault(name, (now_ns, (False, 0, 0, 0)))
        due = news != said or now_ns - said_ns >= AGAIN_NS
        if due:
            self._said[name] = now_ns, news
        return due

    def _say(self, clocks: dict[str, ClockState], names: Iterable[str]) -> None:
        for name in names:
            state = clocks[name]
            log("source_clock", source=name, uncertainty_ms=state.uncertainty_ns / NS_PER_MS,
                jumps=state.jumps, restarts=state.restarts, bursts=state.bursts,
                gaps=state.gaps, duplicates=state.duplicates)  # fmt: skip
            if state.drift_ppm is not None:
                log("source_drift", source=name, drift_ppm=round(state.drift_ppm, 1))
        if names and len(clocks) > 1:
            apart_ns = alignment_error_ns(list(clocks.values()))
            log("sources_aligned", count=len(clocks), uncertainty_ms=apart_ns / NS_PER_MS)
