"""Live resampling: sine waves stay themselves at their true times, however they were cut."""

from __future__ import annotations

import numpy as np
import pytest

from edge.errors import StartError
from edge.signals.live_resampling import LiveResampler

PAIRS = [(300, 250), (500, 250), (1000, 250), (360, 250), (200, 250), (128, 250), (250, 250)]


def sine(rate_hz: float, at_hz: float, n: int) -> np.ndarray:
    return np.sin(2 * np.pi * at_hz * np.arange(n) / rate_hz).astype(np.float32)


def played(x: np.ndarray, rates: tuple[int, int], cut: int, first: int = 0) -> np.ndarray:
    resampler, out = LiveResampler(*rates), []
    for at in range(0, len(x), cut):
        number, block = resampler.feed(first + at, x[at : at + cut])
        assert number == -(-first * rates[1] // rates[0]) + sum(map(len, out))
        out.append(block)
    return np.concatenate(out)


@pytest.mark.parametrize("rates", PAIRS)
@pytest.mark.parametrize("share", [0.01, 0.2, 0.48])
def test_a_sine_is_the_same_sine_at_the_same_time(rates: tuple[int, int], share: float) -> None:
    at_hz = share * min(rates) / 2
    out = played(sine(rates[0], at_hz, 10 * rates[0]), rates, 25)
    expected = sine(rates[1], at_hz, len(out))
    assert len(out) > 9.8 * rates[1]
    assert np.abs(out - expected)[rates[1] :].max() < 2e-3
    late = np.roll(expected, 1)  # control: one sample late
    assert np.abs(out - late)[rates[1] :].max() > 1e-2


@pytest.mark.parametrize("rates", PAIRS)
def test_cuts_change_no_bit(rates: tuple[int, int]) -> None:
    x = np.random.default_rng(0).normal(size=2000).astype(np.float32)
    whole = played(x, rates, len(x))
    for cut in (1, 7, 333):
        assert (played(x, rates, cut) == whole).all()


def test_what_would_alias_is_removed() -> None:
    high = played(sine(500, 200, 5000), (500, 250), 20)
    assert np.abs(high[250:]).max() < 2e-3
    assert np.abs(sine(500, 200, 5000)[::2]).max() > 0.9  # control


def test_it_waits_no_longer_than_it_says() -> None:
    for rate_in, rate_out in PAIRS:
        resampler = LiveResampler(rate_in, rate_out)
        _, out = resampler.feed(0, np.zeros(rate_in, np.float32))
        last = resampler.position(len(out) - 1)
        assert rate_in - 1 - last < resampler.reach + rate_in / rate_out
        assert resampler.reach / rate_in < 0.035 * 250 / min(rate_in, rate_out)


def test_nothing_reaches_over_a_gap() -> None:
    resampler = LiveResampler(500, 250)
    resampler.feed(0, np.full(1000, 1.0, np.float32))
    number, out = resampler.feed(1501, np.full(1000, -1.0, np.float32))
    assert number == 751  # the first output at or after input 1501
    assert np.abs(out + 1.0).max() < 1e-6


def test_a_bad_sample_spoils_only_its_neighbours() -> None:
    x = np.zeros(1000, np.float32)
    x[500] = np.nan
    out = played(x, (500, 250), 50)
    assert np.isnan(out).sum() <= 2 * LiveResampler(500, 250).reach


def test_impossible_rates_are_refused() -> None:
    with pytest.raises(StartError):
        LiveResampler(360, 250.0001)
