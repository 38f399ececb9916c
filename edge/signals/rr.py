"""Intervals between beats as features of a beat: a fixed vector from the beats before it.

Owns the vector's definition. Indices in, numbers out; nothing here waits for the next beat. After
the RR features of de Chazal et al., IEEE Trans. Biomed. Eng. 51 (2004) 1196-1206, less the post-RR,
with medians in place of means so that ectopic beats do not move what is usual.
"""

from __future__ import annotations

import math
from collections import deque
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

FEATURES = (
    "rr_to_usual",
    "rr_to_previous",
    "previous_to_usual",
    "one_before_to_usual",
    "rr_to_recent",
    "prematurity",
    "irregularity",
    "usual_s",
    "known",
)
"""In order. The first five are natural logarithms of ratios, limited to +-1.5, and 0 (neutral)
where an interval is not known. Usual: the median of the last 48 usable intervals, this one
excluded; recent: the mean of the last 8. `irregularity`: the median difference of neighbouring
intervals (of the last 24) over the usual one. `prematurity`: `rr_to_usual` in units of
`irregularity` + 0.03, limited to +-6, over 3. `usual_s` in seconds. `known`: 1 where this beat's
interval is known, else 0."""

USUAL_BEATS, STEADY_BEATS, RECENT_BEATS = 48, 24, 8
LOW_S, HIGH_S = 0.2, 3.0
"""Intervals outside are not usable: a false or a missed beat."""

START_S = 0.8
LOG_LIMIT = 1.5
LEAST_IRREGULARITY = 0.03
PREMATURITY_LIMIT = 6.0


class Intervals:
    """The intervals of one patient. `restart` forgets the last beat and keeps what is usual."""

    def __init__(self, rate_hz: float) -> None:
        self._rate_hz = rate_hz
        self._past_s: deque[float] = deque(maxlen=USUAL_BEATS)
        self.restart()

    def restart(self) -> None:
        """After a gap: the next beat has no interval."""
        self._last: int | None = None
        self._run_s: list[float] = []  # up to two usable intervals since the restart, newest last

    def beat(self, index: int) -> tuple[float | None, NDArray[np.float32]]:
        """Add the R peak at `index`; its interval to the one before (s), and its features `[9]`."""
        rr_s = None if self._last is None else (index - self._last) / self._rate_hz
        features = self._features(rr_s)
        self._last = index
        if rr_s is None or not LOW_S <= rr_s <= HIGH_S:
            self._run_s = []
        else:
            self._past_s.append(rr_s)
            self._run_s = [*self._run_s[-1:], rr_s]
        return rr_s, features

    def _features(self, rr_s: float | None) -> NDArray[np.float32]:
        past = list(self._past_s)
        recent = past[-RECENT_BEATS:]
        usual_s = _median(past, START_S)
        irregularity = _irregularity(past[-STEADY_BEATS:]) / usual_s
        to_usual = _log_ratio(rr_s, usual_s)
        prematurity = to_usual / (irregularity + LEAST_IRREGULARITY)
        values = (
            to_usual,
            _log_ratio(rr_s, self._run_s[-1] if self._run_s else None),
            _log_ratio(self._run_s[-1] if self._run_s else None, usual_s),
            _log_ratio(self._run_s[-2] if len(self._run_s) > 1 else None, usual_s),
            _log_ratio(rr_s, sum(recent) / len(recent) if recent else None),
            max(-PREMATURITY_LIMIT, min(PREMATURITY_LIMIT, prematurity)) / 3,
            irregularity,
            usual_s,
            float(rr_s is not None),
        )
        return np.array(values, np.float32)


def _log_ratio(value_s: float | None, to_s: float | None) -> float:
    if value_s is None or to_s is None:
        return 0.0
    return max(-LOG_LIMIT, min(LOG_LIMIT, math.log(value_s / to_s)))


def _irregularity(past_s: list[float]) -> float:
    return _median([abs(b - a) for a, b in zip(past_s, past_s[1:])], 0.0)


def _median(values: list[float], default: float) -> float:
    """The upper median; `default` where there is nothing."""
    return sorted(values)[len(values) // 2] if values else default
