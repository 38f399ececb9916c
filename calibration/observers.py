"""What a tensor's values look like, seen batch by batch in memory that does not grow.

A histogram of |x| over a power-of-two range. When a larger value comes the range doubles and
neighbouring bins merge, which is exact, so the result does not depend on how the samples were cut
into batches.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from edge.errors import StartError

if TYPE_CHECKING:
    from numpy.typing import NDArray

BINS = 4096
SMALLEST = 2.0**-100
CHUNK = 1 << 16


@dataclass(frozen=True, slots=True)
class Histogram:
    """`counts` int64 `[BINS]` of |x| in equal bins over 0..`top`; exact `low`, `high`."""

    counts: NDArray[np.int64]
    top: float
    low: float
    high: float

    @property
    def amax(self) -> float:
        """The largest magnitude seen."""
        return max(abs(self.low), abs(self.high))

    def middles(self) -> NDArray[np.float64]:
        """The magnitude in the middle of each bin."""
        return np.asarray((np.arange(BINS) + 0.5) * (self.top / BINS), np.float64)


class Observer:
    """Collects one tensor's values; `BINS` counters whatever the number of samples."""

    def __init__(self) -> None:
        self._counts = np.zeros(BINS, np.int64)
        self._top = SMALLEST
        self._low, self._high = np.inf, -np.inf

    def observe(self, values: NDArray[np.float32]) -> None:
        """Add values of any shape. Raises `StartError` for one that is not finite."""
        low, high = float(values.min()), float(values.max())
        if not (np.isfinite(low) and np.isfinite(high)):
            raise StartError(
                "calibration met a value that is not finite", "look at the model's weights"
            )
        self._low, self._high = min(self._low, low), max(self._high, high)
        self._grow(max(abs(low), abs(high)))
        flat = values.reshape(-1)
        for start in range(0, flat.size, CHUNK):
            at = np.abs(flat[start : start + CHUNK]) * np.float32(BINS / self._top)
            self._counts += np.bincount(at.astype(np.int64), minlength=BINS)

    def _grow(self, amax: float) -> None:
        """Until every value lies below the top: one upon it would be in a bin of its own later."""
        while self._top <= amax:
            half = self._counts.reshape(-1, 2).sum(1)
            self._counts = np.concatenate((half, np.zeros(BINS // 2, np.int64)))
            self._top *= 2

    def histogram(self) -> Histogram:
        """What was seen until now."""
        return Histogram(self._counts.copy(), self._top, self._low, self._high)
