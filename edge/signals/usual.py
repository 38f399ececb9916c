"""The patient's usual beat and how far his beats usually stray from it, sample by sample.

Owns these two running averages, which ectopic beats hardly move, and where a beat lies on them. A
classifier that sees how a beat differs from the usual one, and whether that is unusual for this
patient, need not know every patient's normal shape.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

QRS_S = 0.12
"""Beats are compared within this time of the R peak."""

WEIGHT = 1 / 12
"""Of a new beat in the average; more in the first beats."""

PREMATURE = -0.10
"""Beats whose interval is this much shorter than usual (natural logarithm of the ratio) ..."""

PREMATURE_SHARE = 0.1
"""... count only so much."""

ALIKE, UNLIKE_SHARE, SETTLED_BEATS = 0.7, 0.2, 8
"""After the first beats, one whose correlation with the usual beat is under `ALIKE` counts less."""

ALIGNED, CLEARLY = 0.75, 0.05
"""A window moves to a place with at least this correlation, so much better than where it is."""

START_SPREAD = 0.1
"""Spread before there is any, as a share of the first beat's height."""

SPREAD_CAP = 3.0
"""A difference counts at most this many times the spread so far."""


class UsualBeat:
    """Averages over one patient's windows `[n]`, R peak at sample `before`, at `rate_hz`."""

    def __init__(self, before: int, rate_hz: float) -> None:
        reach = round(QRS_S * rate_hz)
        self._qrs = slice(max(0, before - reach), before + reach)
        self._shape: NDArray[np.float32] | None = None
        self._spread: NDArray[np.float32] | None = None
        self._beats = 0
        self._weight = 0.0

    def shift(self, wide: NDArray[np.float32], reach: int) -> int:
        """By how many samples, up to `reach`, a window must move to lie on the usual beat.

        `wide` is the window with `reach` samples more on both sides. 0 where no place is clearly
        better.
        """
        if self._shape is None:
            return 0
        usual = self._shape[self._qrs]
        around = wide[self._qrs.start : self._qrs.stop + 2 * reach]
        places = np.lib.stride_tricks.sliding_window_view(around, len(usual))
        power = np.einsum("ij,ij->i", places, places) * np.dot(usual, usual)
        alike = places @ usual / np.sqrt(power + np.float32(1e-9))
        best = int(alike.argmax())
        clear = alike[best] > ALIGNED and alike[best] > alike[reach] + CLEARLY
        return best - reach if clear else 0

    def compare(self, window: NDArray[np.float32], rr_to_usual: float) -> NDArray[np.float32]:
        """`[3, n]`: the window, the usual beat before it (itself, for the first), and the mean
        magnitude of the differences from that; then takes the window in."""
        if self._shape is None or self._spread is None:
            self._shape = window.copy()
            self._spread = np.full_like(window, START_SPREAD * np.abs(window).max())
        compared = np.stack((window, self._shape, self._spread))
        share = PREMATURE_SHARE if rr_to_usual <= PREMATURE else 1.0
        self._take_in(window, self._shape, self._spread, share)
        return compared

    def _take_in(
        self,
        window: NDArray[np.float32],
        shape: NDArray[np.float32],
        spread: NDArray[np.float32],
        share: float,
    ) -> None:
        self._weight += share
        step = share * max(WEIGHT, 1 / (self._weight + 1))
        if self._beats > SETTLED_BEATS and self._likeness(window, shape) < ALIKE:
            step *= UNLIKE_SHARE
        self._beats += 1
        difference = window - shape
        capped = np.minimum(np.abs(difference), np.float32(SPREAD_CAP) * spread)
        spread += np.float32(step) * (capped - spread)
        shape += np.float32(step) * difference

    def _likeness(self, window: NDArray[np.float32], shape: NDArray[np.float32]) -> float:
        a, b = window[self._qrs], shape[self._qrs]
        return float(np.dot(a, b) / np.sqrt(np.dot(a, a) * np.dot(b, b) + np.float32(1e-9)))
