"""Resampling: sine waves stay themselves on the new grid, and what cannot be kept is removed."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.signal import resample_poly

from edge.errors import StartError
from edge.signals.resampling import resample


def sine(rate_hz: float, at_hz: float, seconds: float = 20) -> np.ndarray:
    return np.sin(2 * np.pi * at_hz * np.arange(round(rate_hz * seconds)) / rate_hz)


@pytest.mark.parametrize(("rate_in", "rate_out"), [(360, 250), (250, 360), (128, 250), (500, 250)])
@pytest.mark.parametrize("at_hz", [1, 17, 40])
def test_a_sine_is_the_same_sine(rate_in: int, rate_out: int, at_hz: int) -> None:
    out = resample(sine(rate_in, at_hz), rate_in, rate_out)
    assert len(out) == round(20 * rate_out)
    error = np.abs(out - sine(rate_out, at_hz))[rate_out:-rate_out]
    assert error.max() < 1e-3
    late = np.abs(out - sine(rate_out, at_hz + 0.01))[rate_out:-rate_out]  # control
    assert late.max() > 1e-2


def test_what_would_alias_is_removed() -> None:
    assert np.abs(resample(sine(360, 150), 360, 250))[250:-250].max() < 1e-3
    assert np.abs(sine(360, 150)[::2]).max() > 0.5  # control: plain decimation keeps it


def test_agrees_with_scipy_on_band_limited_noise() -> None:
    x = resample_poly(np.random.default_rng(0).normal(size=4000), 4, 1)  # nothing above 45 Hz
    ours, theirs = resample(x, 360, 250), resample_poly(x, 25, 36, window=("kaiser", 8.0))
    assert len(ours) == len(theirs)
    assert np.abs(ours - theirs)[300:-300].max() < 2e-2 * np.abs(x).max()


def test_a_constant_stays_a_constant_to_the_last_sample() -> None:
    np.testing.assert_allclose(resample(np.full(1001, 1.7), 360, 250), 1.7, rtol=1e-12)


def test_same_rate_is_a_copy() -> None:
    x = np.arange(5.0)
    out = resample(x, 250, 250)
    out[0] = 9
    assert x[0] == 0


@pytest.mark.parametrize("rates", [(0, 250), (360, -1), (360, 250.0001), (1, 20_000)])
def test_impossible_rates_are_refused(rates: tuple[float, float]) -> None:
    with pytest.raises(StartError):
        resample(np.zeros(10), *rates)
