"""QRS trigger: every beat once, in order, in time; silent on asystole; not deafened by a spike."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.bundle.manifest import Step
from edge.errors import StartError
from edge.signals.filters import bandpass
from edge.signals.qrs import QrsTrigger, open_trigger
from edge.signals.qrs_levels import Peak
from edge.signals.resampling import resample
from edge.sources.wfdb import BEATS, read_annotations, read_record

RATE_HZ = 250.0
MATCH = 0.150 * RATE_HZ  # ANSI/AAMI EC57


def ecg(seconds: float, rr_s: float = 0.8, noise_mv: float = 0.02) -> tuple[np.ndarray, np.ndarray]:
    """A filtered-looking ECG (QRS, T, noise) in mV, and its R peaks."""
    t_s = np.arange(round(seconds * RATE_HZ)) / RATE_HZ
    x = noise_mv * np.random.default_rng(0).normal(size=len(t_s))
    peaks_s = np.arange(0.5, seconds - 0.3, rr_s)
    for r_s in peaks_s:
        x += 1.2 * np.exp(-(((t_s - r_s) / 0.012) ** 2))
        x -= 0.25 * np.exp(-(((t_s - r_s - 0.03) / 0.012) ** 2))
        x += 0.25 * np.exp(-(((t_s - r_s - 0.28) / 0.05) ** 2))
    return x, np.round(peaks_s * RATE_HZ).astype(int)


def found(x: np.ndarray, chunk: int = 5) -> list[Peak]:
    trigger = QrsTrigger(RATE_HZ)
    return [p for i in range(0, len(x), chunk) for p in trigger.feed(x[i : i + chunk].tolist())]


@pytest.mark.parametrize("rr_s", [0.35, 0.5, 0.8, 1.5])
def test_finds_every_beat_from_the_first_on(rr_s: float) -> None:
    x, truth = ecg(30, rr_s)
    peaks = [p.index for p in found(x)]
    assert len(peaks) == len(truth)
    assert np.abs(np.array(peaks) - truth).max() <= 1


def test_emission_is_bounded() -> None:
    x, _ = ecg(30)
    trigger = QrsTrigger(RATE_HZ)
    waits = [p.decided - p.index for p in found(x)]
    assert max(waits[4:]) <= trigger.delay_samples <= 0.3 * RATE_HZ
    assert max(waits) <= trigger.late_samples


@settings(max_examples=30, deadline=None)
@given(cuts=st.lists(st.integers(0, 2500), max_size=10), drop=st.integers(0, 11))
def test_chunks_never_matter(cuts: list[int], drop: int) -> None:
    """However the samples are cut: the same peaks, decided at the same samples."""
    x, truth = ecg(10)
    x[truth[drop] - 40 : truth[drop] + 40] *= 0.15  # something for search-back
    edges = [0, *sorted(cuts), 2500]
    trigger = QrsTrigger(RATE_HZ)
    cut = [p for a, b in zip(edges, edges[1:]) for p in trigger.feed(x[a:b].tolist())]
    assert cut == found(x, 2500)


def test_searched_to_never_lies() -> None:
    x, truth = ecg(20)
    x[truth[8] - 40 : truth[8] + 40] *= 0.15
    trigger = QrsTrigger(RATE_HZ)
    promised = 0
    for sample in x.tolist():
        peaks = trigger.feed([sample])
        assert all(p.index >= promised for p in peaks)
        assert trigger.searched_to >= promised
        promised = trigger.searched_to
    assert promised >= len(x) - trigger.late_samples


def test_silent_on_an_asystole_but_not_on_small_beats() -> None:
    noise = 0.02 * np.random.default_rng(3).normal(size=60 * 250)
    assert found(np.array(bandpass(RATE_HZ, 0.5, 40).feed(noise.tolist()))) == []
    x, truth = ecg(30)
    assert len(found(0.35 * x)) == len(truth)  # control: 0.4 mV beats are seen


def test_asystole_after_beats_stays_silent() -> None:
    x, truth = ecg(20)
    quiet = 0.02 * np.random.default_rng(4).normal(size=20 * 250)
    x = np.concatenate((x, bandpass(RATE_HZ, 0.5, 40).feed(quiet.tolist())))
    peaks = [p.index for p in found(x)]
    assert len(peaks) == len(truth)


def test_hears_again_within_seconds_of_a_spike() -> None:
    x, truth = ecg(40)
    x[2500:2510] += 30.0
    peaks = np.array([p.index for p in found(x)])
    after = truth[(truth > 2510 + 5 * 250)]
    assert all(np.abs(peaks - r).min() <= 2 for r in after)


def test_t_waves_are_not_beats() -> None:
    x, truth = ecg(30)
    t_s = np.arange(len(x)) / RATE_HZ
    for r in truth:
        x += 0.7 * np.exp(-(((t_s - r / RATE_HZ - 0.3) / 0.045) ** 2))
    assert len(found(x)) == len(truth)


def test_reset_keeps_what_was_learned() -> None:
    x, _ = ecg(20)
    trigger = QrsTrigger(RATE_HZ)
    trigger.feed(x.tolist())
    trigger.reset()
    assert trigger.searched_to == 0
    early = trigger.feed(x[:300].tolist())
    assert [p.index for p in early] == [125]
    assert QrsTrigger(RATE_HZ).feed(x[:300].tolist()) == []  # control: a new one must learn first


def test_units_and_parameters() -> None:
    x, truth = ecg(10)
    microvolts = open_trigger(Step(name="qrs"), RATE_HZ, 1e-3)
    assert len(microvolts.feed((x * 1000).tolist())) >= len(truth) - 1
    assert open_trigger(Step(name="qrs"), RATE_HZ, 1e-3).feed(x.tolist()) == []  # control
    with pytest.raises(StartError):
        open_trigger(Step(name="qrs", params={"floor": 1.0}), RATE_HZ, 1.0)
    with pytest.raises(StartError):
        open_trigger(Step(name="qsr"), RATE_HZ, 1.0)
    with pytest.raises(StartError):
        QrsTrigger(50.0)


@pytest.mark.parametrize("record", ["101", "119", "215", "223"])
def test_real_records(medge_data: Path, record: str) -> None:
    """Five minutes of each: sensitivity and positive predictivity of at least 0.99."""
    read = read_record(medge_data / "mitdb" / record)
    marks = read_annotations(medge_data / "mitdb" / record)
    seconds = 300
    x = resample(read.samples[: seconds * 360], 360, RATE_HZ)
    cascade = bandpass(RATE_HZ, 0.5, 40)
    cascade.reset(float(x[0]))
    peaks = np.array([p.index for p in found(np.array(cascade.feed(x.tolist())), 1000)])
    at = np.array([n for n, s in zip(marks.sample, marks.symbol) if s in BEATS]) * RATE_HZ / 360
    beats = at[(at > MATCH) & (at < len(x) - 2 * MATCH)]
    matched = np.array([np.abs(peaks - b).min() <= MATCH for b in beats])
    true = np.array([np.abs(at - p).min() <= MATCH for p in peaks])
    assert matched.mean() >= 0.99
    assert true.mean() >= 0.99
    shifted = np.array([np.abs(peaks - b - 2 * MATCH).min() <= MATCH for b in beats])
    assert shifted.mean() < 0.9  # control: the comparison notices positions
