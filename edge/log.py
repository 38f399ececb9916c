"""Logs: one JSON object a line on stderr, a fixed event name plus allow-listed fields.

Never a patient identifier, never a waveform: a field that is not listed, or that is not one
value, is left out and counted in `unlisted`. An event that repeats is held back and counted in
`held_back` of its next line. Rendering is structlog's, loaded with the first line.
"""

from __future__ import annotations

import re
import sys
from collections import Counter
from typing import TYPE_CHECKING, Any, TextIO

from edge.clock import NS_PER_S, MonotonicClock
from edge.errors import BugError

if TYPE_CHECKING:
    from collections.abc import Callable

    from edge.clock import Clock

FIELDS = frozenset({
    "backend", "bundle", "cause", "count", "drift_ppm", "pid", "results", "source",
    "uncertainty_ms",
})  # fmt: skip
EVENT = re.compile(r"[a-z][a-z0-9_]{2,40}")
MAX_TEXT = 300
BURST_LINES = 5
PERIOD_NS = 10 * NS_PER_S
"""An event is written at most `BURST_LINES` times in a period, which starts with its first line."""


class Log:
    """Writes events to `out()`. `strict` raises `BugError` for what is otherwise left out."""

    def __init__(self, clock: Clock, out: Callable[[], TextIO], *, strict: bool = False) -> None:
        self._clock = clock
        self._out = out
        self._strict = strict
        self._period_from_ns: dict[str, int] = {}
        self._written: Counter[str] = Counter()
        self._held_back: Counter[str] = Counter()

    def __call__(self, event: str, **fields: str | int | float) -> None:
        """Write one event, unless it has been written often enough lately."""
        name = event if EVENT.fullmatch(event) else "unnamed_event"
        listed: dict[str, Any] = {k: v for k, v in fields.items() if k in FIELDS and _is_one(v)}
        if self._strict and (name != event or len(listed) != len(fields)):
            raise BugError(
                f"event '{name}' carries more than the log may", "list the field in edge.log"
            )
        if not self._is_due(name):
            return
        if len(listed) != len(fields):
            listed["unlisted"] = len(fields) - len(listed)
        if held_back := self._held_back.pop(name, 0):
            listed["held_back"] = held_back
        self._write(name, listed)

    def _is_due(self, name: str) -> bool:
        now_ns = self._clock.now_ns()
        if now_ns - self._period_from_ns.setdefault(name, now_ns) >= PERIOD_NS:
            self._period_from_ns[name] = now_ns
            self._written[name] = 0
        due = self._written[name] < BURST_LINES
        (self._written if due else self._held_back)[name] += 1
        return due

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


def _is_one(value: object) -> bool:
    """One number or text, not a series of them."""
    return isinstance(value, (int, float, str))


def _shortened(value: Any) -> Any:
    return value[:MAX_TEXT] if isinstance(value, str) else value


log = Log(MonotonicClock(), lambda: sys.stderr)
"""The process' log."""
