"""Rhythm rules: each fires exactly when its pattern completes, and never across a gap."""

from __future__ import annotations

import pytest

from edge.bundle.manifest import Rhythm
from edge.pipeline.rules import Beat, RhythmRules

RHYTHM = Rhythm()
RR_NS = 800_000_000


def found(labels: str, rr_s: float = 0.8) -> list[tuple[int, str]]:
    """(beat index, finding) for a string of labels; '?' is a withheld beat."""
    rules = RhythmRules(RHYTHM)
    out = []
    for i, label in enumerate(labels):
        beat = Beat(i * RR_NS, None if label == "?" else label, rr_s if i else None)
        out += [(i, f.name) for f in rules.beat(beat) if f.name != "heart_rate"]
    return out


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ("NNNN", []),
        ("NNVN", []),
        ("NVVN", [(3, "ventricular_couplet")]),
        ("NVVS", [(3, "ventricular_couplet")]),
        ("NVV?", []),  # the run may have gone on unseen
        ("?VVN", []),  # and may have begun unseen
        ("VVN", []),
        ("NVVVN", [(3, "ventricular_run")]),
        ("NVVVVVN", [(3, "ventricular_run")]),
        ("NVV?VN", []),
        ("NVNVNV", [(5, "ventricular_bigeminy")]),
        ("NVNVNVNVNV", [(5, "ventricular_bigeminy")]),
        ("NVNVNNVNVNV", [(10, "ventricular_bigeminy")]),
        ("NVNV?VNVNV", []),
        ("NVNVNVVN", [(5, "ventricular_bigeminy"), (7, "ventricular_couplet")]),
        ("FVFVFV", [(5, "ventricular_bigeminy")]),
    ],
)
def test_patterns_fire_once_when_complete(labels: str, expected: list[tuple[int, str]]) -> None:
    assert found(labels) == expected


def test_span_of_a_finding_is_its_evidence() -> None:
    rules = RhythmRules(RHYTHM)
    last = [rules.beat(Beat(i * RR_NS, label, 0.8)) for i, label in enumerate("NVVN")][-1]
    couplet = next(f for f in last if f.name == "ventricular_couplet")
    assert (couplet.t0_ns, couplet.t1_ns) == (RR_NS, 2 * RR_NS)
    assert couplet.code == "SCT:251182009"


def test_heart_rate_needs_uninterrupted_intervals() -> None:
    rules = RhythmRules(RHYTHM)
    rates = []
    for i in range(RHYTHM.rate_beats + 3):
        findings = rules.beat(Beat(i, "N", None if i == 0 else 0.5))
        rates.append([f.value for f in findings if f.name == "heart_rate"])
    assert rates[: RHYTHM.rate_beats] == [[]] * RHYTHM.rate_beats
    assert rates[RHYTHM.rate_beats :] == [[120.0]] * 3


def test_reset_forgets() -> None:
    rules = RhythmRules(RHYTHM)
    for i, label in enumerate("NVV"):
        rules.beat(Beat(i, label, 0.8))
    rules.reset()
    assert rules.beat(Beat(9, "N", None)) == ()
