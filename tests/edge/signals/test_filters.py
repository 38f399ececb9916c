"""Filters: same numbers as scipy, stated delay is the real one, and chunks never matter."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import signal

from edge.bundle.manifest import Step
from edge.errors import StartError
from edge.signals.filters import Cascade, bandpass, chain, notch

RATE_HZ = 250.0


def scipy_bandpass(order: int) -> np.ndarray:
    high = signal.butter(order, 0.5, "highpass", fs=RATE_HZ, output="sos")
    low = signal.butter(order, 40.0, "lowpass", fs=RATE_HZ, output="sos")
    return np.concatenate((high, low))


@pytest.mark.parametrize("order", [2, 4, 6])
def test_bandpass_is_scipys_butterworth(order: int) -> None:
    x = np.random.default_rng(0).normal(size=3000)
    ours = bandpass(RATE_HZ, 0.5, 40.0, order).feed(x.tolist())
    np.testing.assert_allclose(ours, signal.sosfilt(scipy_bandpass(order), x), atol=1e-9)
    control = bandpass(RATE_HZ, 0.5, 41.0, order).feed(x.tolist())
    assert np.abs(np.array(control) - ours).max() > 1e-3


@pytest.mark.parametrize(("at_hz", "q"), [(50.0, 5.0), (60.0, 30.0)])
def test_notch_is_scipys(at_hz: float, q: float) -> None:
    x = np.random.default_rng(1).normal(size=3000)
    expected = signal.lfilter(*signal.iirnotch(at_hz, q, RATE_HZ), x)
    np.testing.assert_allclose(notch(RATE_HZ, at_hz, q).feed(x.tolist()), expected, atol=1e-9)


def test_notch_removes_mains_and_passes_its_neighbourhood() -> None:
    cascade = notch(RATE_HZ, 50.0)
    assert cascade.gain(50.0) < 1e-9
    assert cascade.gain(10.0) > 0.99


@pytest.mark.parametrize("at_hz", [5.0, 10.0, 25.0])
def test_group_delay_is_that_of_the_transfer_function(at_hz: float) -> None:
    b, a = signal.sos2tf(scipy_bandpass(2))
    _, expected = signal.group_delay((b, a), [at_hz], fs=RATE_HZ)
    ours = bandpass(RATE_HZ, 0.5, 40.0).group_delay_ms(at_hz) * RATE_HZ / 1000
    assert ours == pytest.approx(expected[0], abs=1e-3)


def test_stated_delay_is_seen_on_a_burst() -> None:
    cascade = bandpass(RATE_HZ, 0.5, 40.0)
    t_s = np.arange(2000) / RATE_HZ
    burst = np.sin(2 * np.pi * 10 * t_s) * np.exp(-(((t_s - 4) / 0.4) ** 2))
    out = np.abs(signal.hilbert(cascade.feed(burst.tolist())))
    middle_s = (t_s * out**2).sum() / (out**2).sum()
    assert (middle_s - 4) * 1000 == pytest.approx(cascade.group_delay_ms(10.0), abs=0.5)


@settings(max_examples=50, deadline=None)
@given(cuts=st.lists(st.integers(0, 400), max_size=8), seed=st.integers(0, 99))
def test_chunks_never_matter(cuts: list[int], seed: int) -> None:
    """However the samples are cut, every bit of the output is the same."""
    x = np.random.default_rng(seed).normal(size=400).tolist()
    steps = [Step(name="bandpass", params={"low_hz": 0.5, "high_hz": 40.0})]
    steps.append(Step(name="notch", params={"at_hz": 50.0}))
    whole = chain(steps, RATE_HZ).feed(x)
    pieces = chain(steps, RATE_HZ)
    edges = [0, *sorted(cuts), 400]
    cut = [y for a, b in zip(edges, edges[1:]) for y in pieces.feed(x[a:b])]
    assert cut == whole


def test_a_cut_that_loses_state_is_noticed() -> None:
    """Control of the test above."""
    x = np.random.default_rng(0).normal(size=400).tolist()
    cascade = bandpass(RATE_HZ, 0.5, 40.0)
    whole = cascade.feed(x)
    cascade.reset()
    first = cascade.feed(x[:200])
    cascade.reset()
    assert first + cascade.feed(x[200:]) != whole


@pytest.mark.parametrize("level", [0.0, 3.5, -180.0])
def test_reset_leaves_no_transient(level: float) -> None:
    for cascade in (bandpass(RATE_HZ, 0.5, 40.0), notch(RATE_HZ, 50.0)):
        cascade.reset(level)
        out = cascade.feed([level] * 500)
        steady = level * math.prod(s.dc_gain() for s in cascade.sections)
        assert np.abs(np.array(out) - steady).max() < 1e-9 * max(1.0, abs(level))


def test_without_reset_a_step_rings() -> None:
    """Control of the test above."""
    assert max(bandpass(RATE_HZ, 0.5, 40.0).feed([3.5] * 500)) > 1.0


@pytest.mark.parametrize(
    "build",
    [
        lambda: bandpass(RATE_HZ, 40.0, 0.5),
        lambda: bandpass(RATE_HZ, 0.5, 125.0),
        lambda: bandpass(RATE_HZ, 0.5, 40.0, 3),
        lambda: notch(RATE_HZ, 125.0),
        lambda: notch(RATE_HZ, 50.0, -1.0),
        lambda: chain([Step(name="bandpas")], RATE_HZ),
        lambda: chain([Step(name="notch", params={"hz": 50.0})], RATE_HZ),
    ],
)
def test_impossible_filters_are_refused(build: object) -> None:
    with pytest.raises(StartError):
        build()  # type: ignore[operator]


def test_an_empty_chain_passes_everything() -> None:
    cascade = chain([], RATE_HZ)
    assert isinstance(cascade, Cascade)
    assert cascade.feed([1.0, 2.0]) == [1.0, 2.0]
    assert cascade.group_delay_ms(10.0) == 0
