"""The released bundle: its card states what was reached, and it works on a record it never saw."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge.bundle.load import REFERENCE, load
from edge.clock import NS_PER_S
from edge.demo.score import by_class
from edge.demo.summary import beat_class
from edge.ec57 import AAMI
from edge.pipeline.pipeline import build
from edge.signals.resampling import resample
from edge.sources.wfdb import read_annotations, read_record
from edge.types import Waveform

TARGETS = {"V": (0.85, 0.80), "S": (0.55, 0.25)}
"""Sensitivity and positive predictivity, leave-records-out on DS1 without 208."""


@pytest.fixture(scope="module")
def figures() -> dict[str, Any]:
    card = load("ecg-beat").files["card.md"].decode()
    (text,) = re.findall(r"```json\n(.*?)```", card, re.DOTALL)
    return dict(json.loads(text))


@pytest.mark.parametrize("name", TARGETS)
def test_the_stated_figures_reach_the_targets(figures: dict[str, Any], name: str) -> None:
    rates = figures["classes"][name]
    for rate, target in zip(rates.values(), TARGETS[name]):
        assert rate["value"] >= target
        assert rate["interval"][0] < rate["value"] < rate["interval"][1]


def test_the_rates_follow_from_the_stated_counts(figures: dict[str, Any]) -> None:
    columns = figures["confusion_columns"]
    for name in TARGETS:
        at, counts = columns.index(name), figures["confusion"]
        hit = counts[name][at]
        beats = sum(counts[name]) + figures["missed_by_trigger"][name]
        answered = sum(row[at] for row in counts.values())
        rates = figures["classes"][name]
        assert rates["sensitivity"]["value"] == pytest.approx(hit / beats, abs=1e-4)
        assert rates["positive_predictivity"]["value"] == pytest.approx(hit / answered, abs=1e-4)


def test_208_was_kept_out_and_the_bundle_is_small() -> None:
    bundle = load("ecg-beat")
    provenance = bundle.manifest.provenance
    assert "208" not in provenance.trained_on
    assert provenance.excluded == ("208",)
    assert len(provenance.trained_on) == 21
    assert sum(file.stat().st_size for file in (REFERENCE / "ecg-beat").iterdir()) < 2_000_000


def results_on(path: Path, seconds: float) -> list[tuple[float, str]]:
    """(time s, class or "") of every beat that the released bundle judges in a record."""
    record = read_record(path)
    samples = resample(record.samples[: round(seconds * record.rate_hz)], record.rate_hz, 250.0)
    period_ns, block = NS_PER_S // 250, 250
    found = []
    with build(load("ecg-beat"), backend="onnxruntime", precision="fp32") as pipeline:
        for at in range(0, len(samples), block):
            part = samples[at : at + block].astype(np.float32)
            wave = Waveform(
                at * period_ns, (at + len(part)) * period_ns, "r", "MDC_ECG_ELEC_POTL_II", "mV",
                250.0, at, part,
            )  # fmt: skip
            for result in pipeline.feed(wave):
                name = beat_class(result)
                if name is not None:
                    found.append((result.t_ns / NS_PER_S, name))
    return found


def test_on_record_208_which_it_never_saw(medge_data: Path) -> None:
    path, seconds = medge_data / "mitdb" / "208", 600.0
    marks = read_annotations(path)
    truth = [(n / 360.0, AAMI[s]) for n, s in zip(marks.sample, marks.symbol) if s in AAMI]
    counts = by_class(results_on(path, seconds), [(t, c) for t, c in truth if t < seconds])
    v = counts["V"]
    assert v["tp"] / (v["tp"] + v["fn"] + v["withheld"]) > 0.8
    assert v["tp"] / (v["tp"] + v["fp"]) > 0.8
    # control: the same answers against beats of another record do not agree
    other = read_annotations(medge_data / "mitdb" / "101")
    wrong = [(n / 360.0, "V") for n, s in zip(other.sample, other.symbol) if s in AAMI]
    assert by_class(results_on(path, 60.0), wrong)["V"]["tp"] < 0.5 * len(wrong)
