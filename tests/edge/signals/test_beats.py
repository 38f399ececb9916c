"""Beats: windows, positions, and intervals of the raw signal, the same however it is cut."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.bundle.manifest import Channel, Signal, Step
from edge.errors import StartError
from edge.signals.beats import Beat, BeatCutter
from edge.signals.filters import chain
from edge.signals.rr import FEATURES, Intervals
from edge.signals.usual import UsualBeat

RATE_HZ = 250
FILTERS = (
    Step(name="bandpass", params={"low_hz": 0.5, "high_hz": 40.0}),
    Step(name="notch", params={"at_hz": 50.0}),
)


def declared(before_ms: float = 400, after_ms: float = 400) -> Signal:
    return Signal(
        channel=Channel(mdc="MDC_ECG_ELEC_POTL_II", unit="mV", low=-6, high=6),
        rate_hz=RATE_HZ,
        filters=FILTERS,
        trigger=Step(name="qrs"),
        before_ms=before_ms,
        after_ms=after_ms,
        max_age_ms=1500,
    )


def ecg(seconds: float, rr_s: float = 0.8) -> tuple[np.ndarray, np.ndarray]:
    """Raw ECG on an electrode offset of 3 mV, and its R peaks."""
    t_s = np.arange(round(seconds * RATE_HZ)) / RATE_HZ
    x = 3 + 0.01 * np.random.default_rng(0).normal(size=len(t_s))
    peaks_s = np.arange(0.6, seconds - 0.6, rr_s)
    for r_s in peaks_s:
        x += 1.2 * np.exp(-(((t_s - r_s) / 0.015) ** 2))
        x += 0.25 * np.exp(-(((t_s - r_s - 0.28) / 0.05) ** 2))
    return x.astype(np.float32), np.round(peaks_s * RATE_HZ).astype(int)


def cut(x: np.ndarray, edges: list[int]) -> list[Beat]:
    cutter = BeatCutter(declared())
    return [beat for a, b in zip(edges, edges[1:]) for beat in cutter.feed(x[a:b])]


def test_r_index_is_corrected_for_the_filters_delay() -> None:
    x, truth = ecg(30)
    cutter = BeatCutter(declared())
    beats = cutter.feed(x)
    assert len(beats) == len(truth)
    offset = np.array([b.r_index for b in beats]) - truth
    assert np.abs(offset).max() <= 1
    assert cutter.filter_delay_ms == pytest.approx(chain(FILTERS, RATE_HZ).group_delay_ms(10))
    assert cutter.filter_delay_ms * RATE_HZ / 1000 > 1  # control: uncorrected it would be off


def test_the_window_is_the_filtered_signal_around_the_peak() -> None:
    x, _ = ecg(30)
    cascade = chain(FILTERS, RATE_HZ)
    cascade.reset(float(x[0]))
    filtered = np.array(cascade.feed(x.tolist()), np.float32)
    for beat in BeatCutter(declared()).feed(x):
        assert beat.samples.shape == (3, 200)
        assert beat.samples.dtype == np.float32
        np.testing.assert_array_equal(beat.samples[0], filtered[beat.end - 210 : beat.end - 10])
        assert abs(int(np.abs(beat.samples[0]).argmax()) - 100) <= 1


def test_evidence_and_readiness() -> None:
    x, _ = ecg(30)
    for beat in BeatCutter(declared()).feed(x)[4:]:
        assert beat.start <= beat.r_index - 100 + 1
        assert beat.ready == beat.end  # the trigger is faster than the window
    cutter = BeatCutter(declared())
    ready = []
    for n, sample in enumerate(x, 1):
        ready += [(b.ready, n) for b in cutter.feed(np.array([sample]))]
    assert all(promised == n for promised, n in ready)
    assert len(ready) > 30


@settings(max_examples=25, deadline=None)
@given(cuts=st.lists(st.integers(0, 3000), max_size=10))
def test_chunks_never_matter(cuts: list[int]) -> None:
    """However the samples are cut: the same beats, bit for bit."""
    x, _ = ecg(12)
    whole, pieces = cut(x, [0, 3000]), cut(x, [0, *sorted(cuts), 3000])
    assert len(whole) == len(pieces) > 10
    for a, b in zip(whole, pieces):
        assert (a.r_index, a.start, a.end, a.ready, a.rr_s) == (
            b.r_index, b.start, b.end, b.ready, b.rr_s,
        )  # fmt: skip
        np.testing.assert_array_equal(a.samples, b.samples)
        np.testing.assert_array_equal(a.rr, b.rr)


def test_searched_to_never_lies() -> None:
    x, _ = ecg(12)
    cutter, promised = BeatCutter(declared()), 0
    for sample in x:
        beats = cutter.feed(np.array([sample]))
        assert all(b.r_index >= promised for b in beats)
        promised = cutter.searched_to
    assert promised > len(x) - 2 * RATE_HZ


def test_reset_starts_at_zero_without_a_transient() -> None:
    x, truth = ecg(12)
    cutter = BeatCutter(declared())
    cutter.feed(x)
    cutter.reset(float(x[0]) + 80)
    beats = cutter.feed(x + np.float32(80))
    assert abs(beats[0].r_index - truth[0]) <= 1
    assert beats[0].rr_s is None
    assert beats[0].rr[FEATURES.index("known")] == 0
    assert np.abs(beats[0].samples[0, :50]).max() < 0.1
    late = BeatCutter(declared())  # control: settled elsewhere, the step is a transient
    late.reset(0.0)
    first = late.feed(x + np.float32(80))
    assert not first or np.abs(first[0].samples[0, :50]).max() > 0.1


def test_intervals() -> None:
    x, truth = ecg(20, rr_s=0.7)
    beats = BeatCutter(declared()).feed(x)
    assert beats[0].rr_s is None
    for beat in beats[1:]:
        assert beat.rr_s == pytest.approx(0.7, abs=0.009)
        assert beat.rr.shape == (len(FEATURES),)
    assert len(beats) == len(truth)


def features(indices: list[int]) -> list[dict[str, float]]:
    intervals = Intervals(RATE_HZ)
    return [dict(zip(FEATURES, intervals.beat(i)[1].tolist())) for i in indices]


def test_a_premature_beat_shows_in_the_features() -> None:
    regular = [200 * i for i in range(20)]
    usual, early = features([*regular, 200 * 20])[-1], features([*regular, 200 * 20 - 80])[-1]
    assert usual["rr_to_usual"] == pytest.approx(0, abs=1e-6)
    assert early["rr_to_usual"] == pytest.approx(math.log(120 / 200), rel=1e-5)
    assert early["prematurity"] == pytest.approx(-2.0)
    assert early["usual_s"] == pytest.approx(0.8)
    assert early["irregularity"] == 0


def test_after_a_restart_the_interval_is_unknown_and_the_usual_one_known() -> None:
    intervals = Intervals(RATE_HZ)
    for i in range(10):
        intervals.beat(200 * i)
    intervals.restart()
    rr_s, values = intervals.beat(50)
    named = dict(zip(FEATURES, values.tolist()))
    assert rr_s is None
    assert (named["rr_to_usual"], named["known"]) == (0, 0)
    assert named["usual_s"] == pytest.approx(0.8)


def test_a_pause_is_an_interval_but_not_usual() -> None:
    named = features([0, 200, 400, 600, 600 + 1000, 1800])
    assert named[4]["rr_to_usual"] == pytest.approx(1.5)
    assert named[5]["usual_s"] == pytest.approx(0.8)


def test_ectopic_beats_hardly_move_the_usual_one() -> None:
    t = np.linspace(-1, 1, 200)
    normal = np.exp(-((t / 0.03) ** 2)).astype(np.float32)
    ectopic = -2 * np.exp(-((t / 0.15) ** 2)).astype(np.float32)
    premature, timely = UsualBeat(100, RATE_HZ), UsualBeat(100, RATE_HZ)
    for usual, early in ((premature, -0.4), (timely, 0.0)):
        for i in range(60):
            odd = i % 2 == 1
            usual.compare(ectopic if odd else normal, early if odd else 0.0)
    after = premature.compare(normal, 0.0)
    np.testing.assert_array_equal(after[0], normal)
    assert np.abs(after[1] - normal).max() < 0.15
    control = timely.compare(normal, 0.0)
    assert np.abs(control[1] - normal).max() > np.abs(after[1] - normal).max()


def test_the_first_beat_is_its_own_usual_beat() -> None:
    window = np.random.default_rng(0).normal(size=200).astype(np.float32)
    compared = UsualBeat(100, RATE_HZ).compare(window, 0.0)
    np.testing.assert_array_equal(compared[0], compared[1])
    assert (compared[2] > 0).all()


def test_a_window_without_a_beat_is_refused() -> None:
    with pytest.raises(StartError):
        BeatCutter(declared(before_ms=-100))
    with pytest.raises(StartError):
        BeatCutter(declared(after_ms=0))
