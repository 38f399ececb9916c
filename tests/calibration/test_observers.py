"""Observers: the same whatever the batches, in memory that does not grow; calibrators on top."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calibration.calibrators import CALIBRATORS, entropy, minmax, mse, percentile
from calibration.observers import BINS, Histogram, Observer
from calibration.record import tensor_record
from edge.errors import StartError
from edge.registry import resolve


def seen(*batches: np.ndarray) -> Histogram:
    observer = Observer()
    for batch in batches:
        observer.observe(batch.astype(np.float32))
    return observer.histogram()


VALUES = st.floats(-1e4, 1e4, width=32) | st.sampled_from([2.0**i for i in range(-5, 6)])
"""Powers of two lie upon the edges of ranges."""


@settings(max_examples=200, deadline=None)
@given(st.lists(VALUES, min_size=2, max_size=60), st.data())
def test_the_cut_into_batches_does_not_matter(values: list[float], data: st.DataObject) -> None:
    x = np.array(values, np.float32)
    at = data.draw(st.integers(1, len(x) - 1))
    whole, parts = seen(x), seen(x[:at], x[at:])
    assert (whole.top, whole.low, whole.high) == (parts.top, parts.low, parts.high)
    np.testing.assert_array_equal(whole.counts, parts.counts)
    assert whole.counts.sum() == len(x)


def test_values_that_are_not_finite_are_refused() -> None:
    with pytest.raises(StartError, match="not finite"):
        seen(np.array([1.0, np.nan]))


def peak_bytes(samples: int) -> int:
    rng = np.random.default_rng(0)
    observer = Observer()
    tracemalloc.start()
    for _ in range(samples // 8):
        observer.observe(rng.normal(size=(8, 4, 500)).astype(np.float32))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak


def test_memory_does_not_grow_with_samples() -> None:
    peak_bytes(64)
    few, many = peak_bytes(64), peak_bytes(4096)
    assert many <= 1.1 * few
    assert many < 4 * BINS * 8 + 16 * 8 * 4 * 500 * 8


def normal(scale: float = 1.0, outliers: float = 0.0) -> Histogram:
    x = np.random.default_rng(0).normal(size=200_000) * scale
    return seen(x, np.array([outliers]))


def test_minmax_takes_all_and_percentile_cuts_outliers() -> None:
    h = normal(outliers=100.0)
    assert minmax(h) == 100.0
    assert 3 < percentile(h) < 5


def test_mse_is_the_best_of_its_grid_against_brute_force() -> None:
    x = np.random.default_rng(0).normal(size=50_000).astype(np.float32)
    h = seen(x)

    def loss(limit: float) -> float:
        step = limit / 127
        return float(((np.clip(np.rint(x / step), -127, 127) * step - x) ** 2).mean())

    assert loss(mse(h)) <= 1.02 * min(loss(v) for v in np.linspace(1.5, 4.5, 200))
    assert loss(mse(h)) < loss(minmax(h))  # control: it is worth something


def test_entropy_cuts_a_long_tail() -> None:
    x = np.concatenate((np.random.default_rng(0).normal(size=200_000), np.linspace(0, 40, 40)))
    limit = entropy(seen(x))
    assert 1.5 < limit < 20 < minmax(seen(x))


@pytest.mark.parametrize("name", CALIBRATORS)
@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e4])
def test_limits_scale_with_the_values(name: str, scale: float) -> None:
    calibrate: Callable[[Histogram], float] = resolve(CALIBRATORS, name, "calibrator")
    assert calibrate(normal(scale)) / scale == pytest.approx(calibrate(normal()), rel=0.1)


@pytest.mark.parametrize("name", CALIBRATORS)
def test_a_tensor_of_zeros_has_a_limit(name: str) -> None:
    assert np.isfinite(resolve(CALIBRATORS, name, "calibrator")(seen(np.zeros(10))))


def test_saturation_and_coverage_of_a_tensor() -> None:
    h = seen(np.linspace(-1, 1, 100_001))
    whole, half = tensor_record(1.0, h), tensor_record(0.5, h)
    assert (whole.saturated_share, whole.coverage) == (0.0, 1.0)
    assert half.saturated_share == pytest.approx(0.5, abs=0.01)
    sparse = tensor_record(100.0, seen(np.linspace(-1, 1, 1000), np.array([100.0])))
    assert sparse.coverage < 0.1
