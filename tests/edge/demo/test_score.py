"""Beat by beat comparison: one to one, within 150 ms, withheld beats apart."""

from __future__ import annotations

from edge.demo.score import against_detector, by_class, outside
from edge.ec57 import match


def test_match_is_one_to_one_and_nearest_first() -> None:
    assert match([1.0, 1.1], [1.08]) == {1: 0}
    assert match([1.0], [1.16]) == {}
    assert match([1.0, 2.0], [2.05, 1.05]) == {0: 1, 1: 0}


def test_counts_by_class() -> None:
    truth = [(1.0, "N"), (2.0, "V"), (3.0, "V"), (4.0, "S"), (5.0, "Q")]
    ours = [(1.01, "N"), (2.02, "V"), (3.0, ""), (4.0, "N"), (6.0, "V")]
    counts = by_class(ours, truth)
    assert counts["N"] == {"tp": 1, "fn": 0, "fp": 1, "withheld": 0}
    assert counts["V"] == {"tp": 1, "fn": 0, "fp": 1, "withheld": 1}
    assert counts["S"] == {"tp": 0, "fn": 1, "fp": 0, "withheld": 0}


def test_against_a_detector() -> None:
    assert against_detector([1.0, 2.0, 9.0], [1.05, 2.05, 3.0]) == {
        "matched": 2, "missed": 1, "extra": 1,
    }  # fmt: skip


def test_outside_spans() -> None:
    assert outside([0.5, 1.5, 2.5], [(1.0, 2.0)]) == [True, False, True]
