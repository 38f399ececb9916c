"""Raw samples of one lead to beats: filtered windows around R peaks, and their intervals.

Owns the order filters, trigger, ring. The recipe cuts its training windows with this very class, so
training and bedside see the same. Intervals come from the trigger's sample indices, never from host
time, and only from beats already seen: no beat waits for the next one.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edge.errors import StartError
from edge.signals.filters import chain
from edge.signals.qrs import open_trigger
from edge.signals.quality import mv_per_unit
from edge.signals.ring import Ring
from edge.signals.rr import Intervals
from edge.signals.usual import UsualBeat

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from edge.bundle.manifest import Signal
    from edge.signals.qrs_levels import Peak

QRS_HZ = 10.0
"""The filters' delay is stated at this frequency, where a QRS complex has most of its energy."""

ALIGN_S = 0.04
"""Which of two like deflections is the higher may change from beat to beat: so far a window may
move to lie on the usual beat."""

BLOCK = 256
"""Longer chunks are worked through in blocks, so that the ring need not hold them."""


@dataclass(frozen=True, slots=True)
class Beat:
    """One beat. Positions are raw samples since the last `reset`.

    `r_index`: the R peak, corrected for the filters' delay. `start..end` (exclusive): the raw
    samples that the window rests on. `ready`: how many samples had come when it was complete.
    `rr_s`: interval to the beat before (None: not known). `rr`: float32 `[k]`, see
    `edge.signals.rr`. `samples`: float32 `[3, n]` in the channel's unit, R peak at `before_ms`:
    the filtered window, the patient's usual beat before it, and the usual deviation from that.
    """

    r_index: int
    start: int
    end: int
    ready: int
    rr_s: float | None
    rr: NDArray[np.float32]
    samples: NDArray[np.float32]


class BeatCutter:
    """Filters, trigger and windows of one manifest's `signal`."""

    def __init__(self, signal: Signal) -> None:
        rate_hz = signal.rate_hz
        self._filters = chain(signal.filters, rate_hz)
        self._trigger = open_trigger(signal.trigger, rate_hz, mv_per_unit(signal.channel.unit))
        self._before = round(signal.before_ms * rate_hz / 1000)
        self._after = round(signal.after_ms * rate_hz / 1000)
        if self._before < 0 or self._after < 1:
            raise StartError(
                f"a window from -{signal.before_ms:g} to {signal.after_ms:g} ms has no beat in it",
                "correct before_ms and after_ms in the manifest",
            )
        self._reach = round(ALIGN_S * rate_hz)
        self.filter_delay_ms = self._filters.group_delay_ms(QRS_HZ)
        self._delay = round(self.filter_delay_ms * rate_hz / 1000)
        window = self._before + self._after + 2 * self._reach
        self._ring = Ring(self._trigger.late_samples + window + 2 * BLOCK)
        self._intervals = Intervals(rate_hz)
        self._usual = UsualBeat(self._before, rate_hz)
        self._pending: deque[Peak] = deque()
        self._settled = False

    @property
    def searched_to(self) -> int:
        """No beat with an R peak before this raw sample will come any more."""
        peak = self._trigger.searched_to
        if self._pending:
            peak = min(peak, self._pending[0].index)
        return max(0, peak - self._reach - self._delay)

    def reset(self, level: float) -> None:
        """Forget the samples; the next one is sample 0, as if the input had been `level` before.

        What was learned about the patient (trigger levels, usual interval and beat) is kept.
        """
        self._filters.reset(level)
        self._trigger.reset()
        self._intervals.restart()
        self._ring.reset()
        self._pending.clear()
        self._settled = True

    def feed(self, samples: NDArray[np.float32]) -> list[Beat]:
        """Beats that the next finite raw `samples` `[n]` complete, in order.

        A beat whose window would begin before sample 0 counts as the one before the next, but is
        not returned.
        """
        if not self._settled and len(samples):
            self.reset(float(samples[0]))
        beats: list[Beat] = []
        for at in range(0, len(samples), BLOCK):
            beats += self._block(samples[at : at + BLOCK].tolist())
        return beats

    def _block(self, raw: list[float]) -> list[Beat]:
        filtered = self._filters.feed(raw)
        self._ring.append(filtered)
        self._pending += self._trigger.feed(filtered)
        beats = []
        while self._pending and self._end(self._pending[0]) <= self._ring.end:
            beat = self._beat(self._pending.popleft())
            if beat is not None:
                beats.append(beat)
        return beats

    def _end(self, peak: Peak) -> int:
        return peak.index + self._after + self._reach

    def _beat(self, peak: Peak) -> Beat | None:
        """The beat at `peak`, moved by up to `ALIGN_S` to lie on the patient's usual beat."""
        first = peak.index - self._before - self._reach
        wide = self._ring.cut(first, self._end(peak))
        if wide is None:  # it begins before sample 0
            self._intervals.beat(peak.index)
            return None
        shift = self._usual.shift(wide, self._reach)
        index = peak.index + shift
        rr_s, rr = self._intervals.beat(index)
        start = self._reach + shift
        window = wide[start : start + self._before + self._after]
        return Beat(
            r_index=index - self._delay,
            start=max(0, first - self._delay),
            end=self._end(peak),
            ready=max(self._end(peak), peak.decided),
            rr_s=rr_s,
            rr=rr,
            samples=self._usual.compare(window, float(rr[0])),
        )
