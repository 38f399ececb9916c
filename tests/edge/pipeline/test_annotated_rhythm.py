"""Rhythm rules on cardiologists' own beat labels: their rhythm annotations are found again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edge.bundle.manifest import Rhythm
from edge.ec57 import AAMI
from edge.pipeline.rules import Beat, RhythmRules
from edge.sources.wfdb import read_annotations
from edge.types import Finding

RATE_HZ = 360.0
RECORDS = ("106", "119", "203", "208", "215", "223")


def findings(record: Path) -> list[Finding]:
    """What the rules find on the annotated beats of a record; times in samples."""
    marks, rules = read_annotations(record), RhythmRules(Rhythm())
    found: list[Finding] = []
    last: int | None = None
    for sample, symbol in zip(marks.sample.tolist(), marks.symbol):
        label = AAMI.get(symbol)
        if label is None:
            continue
        rr_s = None if last is None else (sample - last) / RATE_HZ
        found += rules.beat(Beat(sample, None if label == "Q" else label, rr_s))
        last = sample
    return found


def stretches(record: Path, rhythm: str) -> list[tuple[int, int]]:
    """Spans the cardiologists marked with a rhythm, e.g. "(B" or "(VT", in samples."""
    marks = read_annotations(record)
    changes = [(int(s), a) for s, a in zip(marks.sample, marks.aux) if a.startswith("(")]
    ends = [s for s, _ in changes[1:]] + [int(marks.sample[-1])]
    return [(start, end) for (start, aux), end in zip(changes, ends) if aux == rhythm]


def found_in(names: list[Finding], name: str, start: int, end: int) -> bool:
    return any(f.name == name and f.t0_ns < end and f.t1_ns > start for f in names)


@pytest.mark.parametrize("record", RECORDS)
def test_ventricular_tachycardia_is_a_run(medge_data: Path, record: str) -> None:
    path = medge_data / "mitdb" / record
    marked = stretches(path, "(VT")
    found = findings(path)
    assert all(found_in(found, "ventricular_run", start, end) for start, end in marked)


def of_fusion_beats(record: Path, start: int, end: int) -> bool:
    """Alternation with fusion beats, which the rule does not call ventricular."""
    marks = read_annotations(record)
    return any(start <= s < end and y == "F" for s, y in zip(marks.sample, marks.symbol))


def test_bigeminy_is_found_where_it_is_marked(medge_data: Path) -> None:
    total = hits = 0
    for record in ("106", "119", "223"):
        path = medge_data / "mitdb" / record
        found = findings(path)
        long = [(a, b) for a, b in stretches(path, "(B") if b - a > 8 * RATE_HZ]
        long = [(a, b) for a, b in long if not of_fusion_beats(path, a, b)]
        total += len(long)
        hits += sum(found_in(found, "ventricular_bigeminy", a, b) for a, b in long)
    assert total >= 10
    assert hits == total


def test_couplets_are_exactly_two(medge_data: Path) -> None:
    path = medge_data / "mitdb" / "208"
    marks = read_annotations(path)
    labels = [AAMI[s] for s in marks.symbol if s in AAMI]
    expected = sum(
        labels[i : i + 2] == ["V", "V"] and labels[i - 1] not in "VQ" and labels[i + 2] not in "VQ"
        for i in range(1, len(labels) - 2)
    )
    found = [f for f in findings(path) if f.name == "ventricular_couplet"]
    assert expected > 20
    assert len(found) == expected


def test_heart_rate_is_the_annotated_one(medge_data: Path) -> None:
    path = medge_data / "mitdb" / "101"
    marks = read_annotations(path)
    at = np.array([s for s, y in zip(marks.sample, marks.symbol) if y in AAMI])
    mean_bpm = 60 * RATE_HZ / np.diff(at).mean()
    rates = [f.value for f in findings(path) if f.name == "heart_rate"]
    assert np.mean(rates) == pytest.approx(mean_bpm, rel=0.02)


def test_control_no_rhythm_in_a_calm_record(medge_data: Path) -> None:
    names = {f.name for f in findings(medge_data / "mitdb" / "101")}
    assert names == {"heart_rate"}
