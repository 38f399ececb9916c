"""Calibrators: a tensor's histogram to the magnitude that the largest int8 code stands for.

Values above it saturate. All are symmetric with zero point 0, as TensorRT asks. Which one serves a
model is found by trying: clipping R peaks hurts an ECG, not clipping outliers hurts others.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from calibration.observers import BINS, Histogram

if TYPE_CHECKING:
    from numpy.typing import NDArray

CALIBRATORS = {
    "minmax": "calibration.calibrators:minmax",
    "percentile": "calibration.calibrators:percentile",
    "entropy": "calibration.calibrators:entropy",
    "mse": "calibration.calibrators:mse",
}
LEVELS = 128
"""Magnitudes 0..127."""

PERCENT = 99.99
CANDIDATES = 96


def minmax(histogram: Histogram) -> float:
    """The largest magnitude seen: nothing saturates."""
    return histogram.amax


def percentile(histogram: Histogram) -> float:
    """The magnitude that `PERCENT` of values do not exceed."""
    part = np.cumsum(histogram.counts) / histogram.counts.sum()
    at = int(np.searchsorted(part, PERCENT / 100))
    return min(histogram.amax, (at + 1) * histogram.top / BINS)


def mse(histogram: Histogram) -> float:
    """The limit with the least mean squared error of rounding and saturation together."""
    x, weight = histogram.middles(), histogram.counts

    def loss(limit: float) -> float:
        step = limit / (LEVELS - 1)
        error = x - np.minimum(np.rint(x / step), LEVELS - 1) * step
        return float((error * error * weight).sum())

    limits = _candidates(histogram)
    return limits[int(np.argmin([loss(limit) for limit in limits]))]


def entropy(histogram: Histogram) -> float:
    """The limit whose quantised distribution is nearest by Kullback-Leibler divergence (Migacz,
    8-bit inference with TensorRT, GTC 2017), saturated mass counted in the last bin."""
    limits = _candidates(histogram)
    losses = [_divergence(histogram, limit) for limit in limits]
    return limits[int(np.argmin(losses))]


def _candidates(histogram: Histogram) -> list[float]:
    """Limits from a sixteenth of the largest magnitude up to it; of a tensor of zeros, any."""
    return [float(v) for v in np.geomspace(1 / 16, 1, CANDIDATES) * (histogram.amax or 1.0)]


def _divergence(histogram: Histogram, limit: float) -> float:
    bins = max(LEVELS, min(BINS, int(np.ceil(limit * BINS / histogram.top))))
    p = histogram.counts[:bins].astype(np.float64)
    inside = p.copy()
    p[-1] += histogram.counts[bins:].sum()
    q = _requantised(inside)
    q = np.where(inside > 0, q, 0.0)
    p, q = _smooth(p / p.sum()), _smooth(q / max(1e-12, q.sum()))
    return float((p * np.log(p / q)).sum())


def _requantised(counts: NDArray[np.float64]) -> NDArray[np.float64]:
    """Each level's mass spread evenly over its occupied bins."""
    level = np.arange(len(counts)) * LEVELS // len(counts)
    mass = np.bincount(level, counts, LEVELS)
    occupied = np.bincount(level, counts > 0, LEVELS)
    return np.asarray((mass / np.maximum(1, occupied))[level])


def _smooth(p: NDArray[np.float64]) -> NDArray[np.float64]:
    p = p + 1e-9
    return np.asarray(p / p.sum())
