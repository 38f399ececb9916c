"""A streaming QRS trigger: R peaks of a filtered ECG, each once, in order, after a bounded delay.

Owns where energy in the QRS band has its maxima and which sample is their R peak; whether a maximum
is a beat is `qrs_levels`'. Whether the signal may be trusted is decided elsewhere. After Pan &
Tompkins, IEEE Trans. Biomed. Eng. 32 (1985) 230-236, with the energy taken as a root mean square in
millivolts.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from edge.errors import StartError
from edge.registry import resolve
from edge.signals.filters import bandpass
from edge.signals.qrs_levels import LATE_S, Bump, Levels, Peak

if TYPE_CHECKING:
    from collections.abc import Mapping

    from edge.bundle.manifest import Step

TRIGGERS = {"qrs": "edge.signals.qrs:QrsTrigger"}
"""Registered trigger names; a factory takes `rate_hz`, `mv_per_unit` and the step's parameters."""

LOW_HZ, HIGH_HZ = 5.0, 18.0
ENERGY_S = 0.12
"""The energy is averaged over this time, about the width of a broad QRS."""

CONFIRM_S = 0.10
"""A maximum is one when nothing higher came for this long."""

REFINE_S = 0.08
"""The R peak lies within this distance of the middle of the energy."""

LEAN, LEAN_STEP = 0.5, 0.125
"""How much, and from how many beats, the usual polarity counts in the choice of the R peak."""

TINY_MV = 1e-6
RISE = 2.0
"""A new maximum begins when the energy (squared) is this many times its last low."""


def open_trigger(
    step: Step, rate_hz: float, mv_per_unit: float, known: Mapping[str, str] = TRIGGERS
) -> QrsTrigger:
    """The manifest's trigger. Raises `StartError` for an unknown name or parameters."""
    factory = resolve(known, step.name, "trigger")
    try:
        trigger: QrsTrigger = factory(rate_hz, mv_per_unit, **step.params)
    except TypeError as error:
        raise StartError(
            f"trigger '{step.name}' refuses its parameters ({error})", "correct the manifest"
        ) from None
    return trigger


class QrsTrigger:
    """R peaks of one filtered lead at `rate_hz`; a sample is worth `mv_per_unit` millivolts.

    Maxima of energy lower than `floor_mv` (root mean square in the QRS band) are never beats.
    `delay_samples` is the longest time from a peak to its emission; `late_samples` the longest for
    a peak that search-back or the learning of the first seconds brings.
    """

    def __init__(self, rate_hz: float, mv_per_unit: float = 1.0, floor_mv: float = 0.045) -> None:
        if not rate_hz >= 100:
            raise StartError(f"the QRS trigger cannot work at {rate_hz:g} Hz", "use 100 Hz or more")
        self._scale = mv_per_unit
        self._band = bandpass(rate_hz, LOW_HZ, HIGH_HZ)
        self._width = round(ENERGY_S * rate_hz)
        self._confirm = round(CONFIRM_S * rate_hz)
        self._refine = round(REFINE_S * rate_hz)
        band_delay = self._band.group_delay_ms(10.0) * rate_hz / 1000
        self._lag = round(band_delay + (self._width - 1) / 2)
        self.delay_samples = self._confirm + self._lag + self._refine + 3
        self.late_samples = self.delay_samples + round(LATE_S * rate_hz)
        self._least = self._width * (floor_mv / 2) ** 2  # lower maxima are not even looked at
        self._levels = Levels(rate_hz, floor_mv)
        self._upright = 0.0
        self.reset()

    def reset(self) -> None:
        """Forget the samples, keep what was learned; the next sample is sample 0."""
        self._band.reset()
        self._levels.restart()
        self._n = 0
        self._squares = [0.0] * self._width
        self._sum = self._low = self._top = 0.0
        self._top_at = 0
        self._rising = False
        self._recent = [0.0] * self.delay_samples

    @property
    def searched_to(self) -> int:
        """No peak before this sample will be emitted any more."""
        done = max(0, self._n - self.delay_samples)
        pending = self._levels.pending_from
        return done if pending is None else min(done, pending)

    def feed(self, samples: list[float]) -> list[Peak]:
        """Peaks that the next `samples` decide, in order; the same however they are cut."""
        if self._scale != 1.0:
            samples = [x * self._scale for x in samples]
        history = self._recent + samples
        origin = self._n - self.delay_samples  # absolute index of history[0]
        peaks: list[Peak] = []
        for top_at, top, n in self._maxima(self._band.feed(samples)):
            peaks += self._levels.wake(n)
            bump = self._bump(history, origin, top_at, math.sqrt(top / self._width))
            peaks += self._levels.judge(bump, n)
        self._recent = history[-self.delay_samples :]
        return peaks + self._levels.wake(self._n)

    def _maxima(self, band: list[float]) -> list[tuple[int, float, int]]:
        """(sample of the maximum, its energy, samples seen when it was confirmed), in order."""
        n, total, squares, width = self._n, self._sum, self._squares, self._width
        rising, low, top, top_at = self._rising, self._low, self._top, self._top_at
        confirm, least = self._confirm, self._least
        found = []
        for b in band:
            square = b * b
            slot = n % width
            total += square - squares[slot]
            squares[slot] = square
            if rising:
                if total > top:
                    top, top_at = total, n
                elif n - top_at >= confirm:
                    found.append((top_at, top, n + 1))
                    rising, low = False, total
            elif total > least and total > RISE * low:
                rising, top, top_at = True, total, n
            elif total < low:
                low = total
            n += 1
        self._n, self._sum = n, total
        self._rising, self._low, self._top, self._top_at = rising, low, top, top_at
        return found

    def _bump(self, history: list[float], origin: int, top_at: int, height_mv: float) -> Bump:
        """The maximum's R peak and steepest slope, about its middle."""
        middle = top_at - self._lag - origin
        around = range(middle - self._refine, middle + self._refine + 1)
        slope_mv = max(abs(history[i] - history[i - 2]) for i in around)
        r_peak = self._r_peak(history, around)
        return Bump(max(0, origin + r_peak), height_mv, slope_mv)

    def _r_peak(self, history: list[float], around: range) -> int:
        """The highest or the lowest point: the larger, with a lean to what it usually is, so that
        in a biphasic complex the choice does not change from beat to beat."""
        highest = max(around, key=lambda i: history[i])
        lowest = min(around, key=lambda i: history[i])
        up_mv, down_mv = max(history[highest], TINY_MV), max(-history[lowest], TINY_MV)
        upright = max(-1.0, min(1.0, math.log(up_mv / down_mv)))
        chosen = highest if upright + LEAN * self._upright >= 0 else lowest
        self._upright += LEAN_STEP * (upright - self._upright)
        return chosen
