"""Synthetic ECG: the scripted rhythm where it was scripted, the same samples however it is cut."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.clock import NS_PER_S
from edge.config import convert
from edge.errors import StartError
from edge.registry import resolve
from edge.sources import SOURCES
from edge.sources.synthetic import NOISE_MV, Rhythm, Synthetic, SyntheticOptions, ecg
from edge.types import SourceLost, Waveform

RATE_HZ = 250.0


def test_the_same_for_the_same_seed_only() -> None:
    x, at, labels = ecg("NNNNV", RATE_HZ, seed=1, seconds=20)
    again = ecg("NNNNV", RATE_HZ, seed=1, seconds=20)
    assert np.array_equal(x, again[0]) and np.array_equal(at, again[1]) and labels == again[2]
    assert not np.array_equal(x, ecg("NNNNV", RATE_HZ, seed=2, seconds=20)[0])
    assert x.dtype == np.float32 and x.shape == (5000,) and np.isfinite(x).all()


@pytest.mark.parametrize("rate_hz", [125.0, 250.0, 360.0, 1000.0])
def test_beats_are_where_they_are_said_to_be(rate_hz: float) -> None:
    x, at, labels = ecg("NNS", rate_hz, seed=3, seconds=30, noise_mv=0.0)
    assert labels == ["N", "N", "S"] * (len(labels) // 3) + ["N", "N", "S"][: len(labels) % 3]
    for r in at[1:-1]:
        around = x[r - int(0.1 * rate_hz) : r + int(0.1 * rate_hz)]
        assert abs(int(np.argmax(around)) - int(0.1 * rate_hz)) <= 1
        assert around.max() > 0.9


def intervals(pattern: str, **more: Any) -> list[tuple[str, float]]:
    """(letters of the two beats, interval s) at 60 a minute."""
    _, at, labels = ecg(pattern, RATE_HZ, seed=5, seconds=60, heart_rate_bpm=60, **more)
    return [(a + b, (j - i) / RATE_HZ) for (a, i), (b, j) in pairwise(zip(labels, at))]


def test_rate_and_its_variability() -> None:
    rr_s = [s for _, s in intervals("N")]
    assert np.mean(rr_s) == pytest.approx(1.0, abs=0.02)
    assert 0.01 < np.std(rr_s) < 0.04


@pytest.mark.parametrize(
    ("pattern", "pair", "expected_s"),
    [
        ("NNNV", "NV", 0.65), ("NNNV", "VN", 1.35), ("NNNS", "NS", 0.7), ("NNNS", "SN", 1.1),
        ("NVVV", "VV", 0.65), ("NN-", "NN", 1.0),
    ],
)  # fmt: skip
def test_what_comes_early_and_the_pause_after_it(
    pattern: str, pair: str, expected_s: float
) -> None:
    found = [s for letters, s in intervals(pattern) if letters == pair]
    assert np.median(found) == pytest.approx(expected_s, rel=0.1) or pattern == "NN-"
    if pattern == "NN-":
        assert max(found) == pytest.approx(2.0, rel=0.1)


def test_a_ventricular_beat_is_wide_and_without_p() -> None:
    def part(pattern: str, from_s: float, to_s: float) -> np.ndarray[Any, Any]:
        x, at, _ = ecg(pattern, 1000.0, seed=1, seconds=4, heart_rate_bpm=60, noise_mv=0.0)
        return x[at[1] + int(from_s * 1000) : at[1] + int(to_s * 1000)]

    def width_s(pattern: str) -> float:
        return float((np.abs(part(pattern, -0.1, 0.12)) > 0.3).sum()) / 1000

    assert width_s("V") > 2 * width_s("N")
    assert width_s("V") > 0.1 > width_s("N")
    p = np.ptp(part("N", -0.22, -0.14))
    assert p > 2 * np.ptp(part("S", -0.22, -0.14))


def test_asystole_is_nothing_but_noise() -> None:
    x, at, labels = ecg("-", RATE_HZ, seed=1, seconds=30)
    assert len(at) == 0 and labels == []
    assert np.abs(x).max() < 0.1
    assert 0.9 * NOISE_MV < np.diff(x.astype(float)).std() / np.sqrt(2) < 1.1 * NOISE_MV
    assert 0.005 <= NOISE_MV <= 0.010
    beating, _, _ = ecg("N", RATE_HZ, seed=1, seconds=30)
    assert np.abs(beating).max() > 1.0  # control


def test_mains_is_where_it_was_asked_for() -> None:
    def share(**more: float) -> float:
        x, _, _ = ecg("-", RATE_HZ, seed=1, seconds=20, **more)
        power = np.abs(np.fft.rfft(x)) ** 2
        hz = np.fft.rfftfreq(len(x), 1 / RATE_HZ)
        return float(power[np.abs(hz - 60) < 0.2].sum() / power[hz > 1].sum())

    assert share(mains_mv=0.1, mains_hz=60.0) > 0.9
    assert share() < 0.1


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 700), min_size=1, max_size=20))
def test_where_it_is_cut_does_not_matter(cuts: list[int]) -> None:
    rhythm, whole = Rhythm("NVS-", RATE_HZ, 9), Rhythm("NVS-", RATE_HZ, 9)
    parts, beats = [], []
    for count in cuts:
        parts.append(rhythm.next(count))
        beats += rhythm.placed
    assert np.allclose(np.concatenate(parts), whole.next(sum(cuts)), atol=1e-6)
    assert beats == whole.placed


@pytest.mark.parametrize("pattern", ["", "NQ", "n", "N V"])
def test_another_letter_is_refused(pattern: str) -> None:
    with pytest.raises(StartError, match="not made of N, V, S and -"):
        ecg(pattern, RATE_HZ, seed=1, seconds=1)
    with pytest.raises(StartError, match="not made of"):
        Synthetic(SyntheticOptions(pattern=pattern))


@pytest.mark.parametrize(
    "wrong", [{"rate_hz": 0.0}, {"heart_rate_bpm": -1.0}, {"seconds": 0.0}, {"beats": "N"}]
)
def test_options_are_strict(wrong: dict[str, Any]) -> None:
    assert resolve(SOURCES, "synthetic", "source") is Synthetic
    with pytest.raises(StartError):
        convert(wrong, Synthetic.Options, "here")


def test_an_unknown_source_is_named_with_the_nearest_first() -> None:
    with pytest.raises(StartError, match="use one of: synthetic"):
        resolve(SOURCES, "synthetik", "source")


def played(source: Synthetic, times_ns: list[int]) -> list[Waveform | SourceLost]:
    return [event for now_ns in times_ns for event in source.poll(now_ns)]


def test_plays_by_the_time_it_is_told() -> None:
    source, start_ns = Synthetic(SyntheticOptions()), 7 * NS_PER_S
    assert source.next_deadline_ns() is None and source.fileno() is None
    source.open(start_ns)
    assert source.poll(start_ns + 39_999_999) == []
    assert source.next_deadline_ns() == start_ns + 40_000_000
    blocks = played(source, [start_ns + 40_000_000, start_ns + NS_PER_S])
    assert len(blocks) == 25
    seq = 0
    for block in blocks:
        assert isinstance(block, Waveform)
        assert (block.seq, len(block.samples), block.unit) == (seq, 10, "mV")
        assert block.t_ns == start_ns + seq * 4_000_000
        assert block.t_ns + 40_000_000 <= block.received_ns
        seq += 10
    assert source.counters() == {"received": 250, "lost": 0, "gaps": 0}
    source.close()
    assert source.poll(10 * start_ns) == [] and source.next_deadline_ns() is None


def test_plays_the_pure_function() -> None:
    source = Synthetic(SyntheticOptions(pattern="NNV", seed=4, seconds=10.03))
    source.open(0)
    *blocks, lost = played(source, [n * 33_000_000 for n in range(400)])
    x = np.concatenate([block.samples for block in blocks if isinstance(block, Waveform)])
    assert np.allclose(x, ecg("NNV", RATE_HZ, 4, 10.03)[0], atol=1e-6)
    assert isinstance(lost, SourceLost) and lost.cause == "the pattern has ended"
    assert lost.t_ns >= 10.02 * NS_PER_S
    assert source.next_deadline_ns() is None and source.poll(NS_PER_S * 99) == []


def test_endless_means_beats_after_ten_minutes() -> None:
    source = Synthetic(SyntheticOptions(rate_hz=50.0, heart_rate_bpm=60.0))
    source.open(0)
    blocks = source.poll(600 * NS_PER_S)
    x = np.concatenate([block.samples for block in blocks if isinstance(block, Waveform)])
    assert len(x) == 600 * 50
    assert np.abs(x[-500:]).max() > 0.9
    assert source.counters()["received"] == len(x)
