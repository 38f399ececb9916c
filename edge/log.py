"""Logs: one JSON object a line on stderr, a fixed event name plus allow-listed fields.

Never a patient identifier, never a waveform: a field that is not listed, or that is not one
value, is left out and counted in `unlisted`. An event that repeats is held back, each source's for
itself, and counted in `held_back` of the next line of that event and source. Rendering is
structlog's, loaded with the first line.
"""

from __future__ import annotations

import re
import sys
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TextIO

from edge.clock import NS_PER_S, MonotonicClock
from edge.errors import BugError

if TYPE_CHECKING:
    from collections.abc import Callable

    from edge.clock import Clock

FIELDS = frozenset({
    "backend", "bundle", "bursts", "cause", "channel", "code", "count", "drift_ppm", "duplicates",
    "gaps", "jumps", "pid", "priority", "restarts", "results", "source", "uncertainty_ms",
})  # fmt: skip
EVENT = re.compile(r"[a-z][a-z0-9_]{2,40}")
MAX_TEXT = 300
ABOUT = ("source", "bundle")
"""Whom an event is about: names of the configuration, so there are only so many."""
KIND = ("code", "channel")
"""What tells the conditions of one of them apart. A device may say any code."""
BURST_LINES = 5
KINDS = 64  # more than any device has channels
PERIOD_NS = 10 * NS_PER_S
"""Each kind of an event about a source is written at most `BURST_LINES` times in a period, which
starts with that event's first line about it; kinds beyond `KINDS` in a period are one kind."""


class Log:
    """Writes events to `out()`. `strict` raises `BugError` for what is otherwise left out."""

    def __init__(self, clock: Clock, out: Callable[[], TextIO], *, strict: bool = False) -> None:
        self._clock = clock
        self._out = out
        self._strict = strict
        self._lately: dict[tuple[str, ...], _Lately] = {}

    def __call__(self, event: str, **fields: str | int | float) -> None:
        """Write one event, unless it has been written often enough lately."""
        name = event if EVENT.fullmatch(event) else "unnamed_event"
        listed: dict[str, Any] = {k: v for k, v in fields.items() if k in FIELDS and _is_one(v)}
        if self._strict and (name != event or len(listed) != len(fields)):
            raise BugError(
                f"event '{name}' carries more than the log may", "list the field in edge.log"
            )
        now_ns = self._clock.now_ns()
        lately = self._lately.setdefault((name, *_said(listed, ABOUT)), _Lately(now_ns))
        if not lately.is_due(_said(listed, KIND), now_ns):
            return
        if len(listed) != len(fields):
            listed["unlisted"] = len(fields) - len(listed)
        if lately.held_back:
            listed["held_back"], lately.held_back = lately.held_back, 0
        self._write(name, listed)

    def _write(self, name: str, listed: dict[str, Any]) -> None:
        import structlog

        logger = structlog.wrap_logger(
            structlog.WriteLogger(self._out()),
            processors=[
                structlog.processors.TimeStamper(fmt="iso", utc=True),
                structlog.processors.JSONRenderer(),
            ],
        )
        logger.msg(name, **{k: _shortened(v) for k, v in listed.items()})


@dataclass(slots=True)
class _Lately:
    """One event about one source: what was written in this period, and held back since a line."""

    from_ns: int
    written: Counter[tuple[str, ...]] = field(default_factory=Counter)
    held_back: int = 0

    def is_due(self, kind: tuple[str, ...], now_ns: int) -> bool:
        if now_ns - self.from_ns >= PERIOD_NS:
            self.from_ns = now_ns
            self.written.clear()
        if kind not in self.written and len(self.written) >= KINDS:
            kind = ()
        due = self.written[kind] < BURST_LINES
        self.written[kind] += due
        self.held_back += not due
        return due


def _said(listed: dict[str, Any], names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(str(listed.get(name, "")) for name in names)


def _is_one(value: object) -> bool:
    """One number or text, not a series of them."""
    return isinstance(value, (int, float, str))


def _shortened(value: Any) -> Any:
    return value[:MAX_TEXT] if isinstance(value, str) else value


log = Log(MonotonicClock(), lambda: sys.stderr)
"""The process' log."""
