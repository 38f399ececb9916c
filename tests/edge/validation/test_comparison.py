"""Comparison: intervals cover, patients count and not samples, margins refuse what is worse."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binomtest

from edge.errors import StartError
from edge.validation.comparison import agreement, compare, interval, mcnemar_p, share
from edge.validation.page import bars, intervals, page, table


def drawn(patients: int, each: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    label = rng.integers(0, 2, patients * each)
    group = np.repeat(np.char.mod("p%d", np.arange(patients)), each)
    return (
        (rng.normal(size=(len(label), 2)) + 1.5 * np.eye(2)[label]).astype(np.float32),
        label,
        group,
    )


def judged(
    new: np.ndarray, reference: np.ndarray, label: np.ndarray, group: np.ndarray, **k: object
):
    subgroups = {"half": np.where(np.arange(len(label)) < len(label) // 2, "one", "two")}
    return compare("auroc", 0.01, reference, new, label, group, ["a", "b"], subgroups, **k)  # type: ignore[arg-type]


def test_the_same_model_passes_with_no_difference() -> None:
    logits, label, group = drawn(40, 10, 0)
    rows = judged(logits, logits, label, group)
    assert [r.name for r in rows] == ["overall", "class a", "class b", "half one", "half two"]
    assert all(r.passes and r.difference == r.low == r.high == 0 for r in rows)


def test_control_a_worse_model_is_refused_overall_and_where_it_is_worse() -> None:
    logits, label, group = drawn(40, 10, 0)
    noise = np.random.default_rng(1).normal(size=logits.shape)
    broken = logits.copy()
    broken[:200] += (3 * noise[:200]).astype(np.float32)
    rows = {r.name: r for r in judged(broken, logits, label, group)}
    assert rows["overall"].passes is False and rows["half one"].passes is False
    assert rows["half two"].passes is True


def test_a_difference_that_is_not_proved_small_does_not_pass() -> None:
    """No real difference, but few patients: the interval is wide, and that is a refusal."""
    logits, label, group = drawn(6, 4, 3)
    other = logits + np.random.default_rng(2).normal(size=logits.shape).astype(np.float32)
    assert judged(other, logits, label, group)[0].passes is False


def test_patients_count_and_not_samples() -> None:
    """The same samples as twenty patients or as four: fewer patients, wider interval."""
    rng = np.random.default_rng(0)
    label = rng.integers(0, 2, 400)
    spread = rng.normal(size=20)
    owner = np.arange(400) % 20
    logits = (1.5 * np.eye(2)[label] + rng.normal(size=(400, 2))).astype(np.float32)
    logits[:, 1] += (2 * spread[owner]).astype(np.float32)
    alone = np.char.mod("s%d", np.arange(400))
    widths = [
        (lambda v: v[2] - v[1])(interval("sensitivity", logits, label, g, 1))
        for g in (np.char.mod("p%d", owner), alone)
    ]
    assert widths[0] > 1.5 * widths[1]


def test_a_share_is_of_samples_and_its_interval_of_patients() -> None:
    owner = np.char.mod("p%d", np.arange(400) // 20)
    of_some, of_all = np.arange(400) < 100, np.arange(400) % 4 == 0
    value, low, high = share(of_some, owner)
    assert value == 0.25 and low < 0.1 and high > 0.4
    assert share(of_all, owner) == (0.25, 0.25, 0.25)  # control: every patient is alike


def test_intervals_cover_the_truth_about_as_often_as_they_say() -> None:
    truth = interval("accuracy", *drawn(2000, 20, 99))[0]
    inside = 0
    for seed in range(60):
        _, low, high = interval("accuracy", *drawn(30, 5, seed))
        inside += low <= truth <= high
    assert inside >= 51  # 95 % of 60 is 57; below 51 has a chance under 1 %


def test_too_few_to_judge_is_said() -> None:
    logits, label, group = drawn(20, 10, 0)
    label = label * 0
    label[:3] = 1
    rows = judged(logits, logits, label, group)
    assert rows[2].passes is None


def test_one_patient_is_refused() -> None:
    logits, label, _ = drawn(20, 10, 0)
    with pytest.raises(StartError, match="one group"):
        judged(logits, logits, label, np.array(["p"] * 200))


@pytest.mark.parametrize(("lost", "won"), [(0, 0), (3, 3), (10, 2), (0, 9), (40, 20)])
def test_mcnemar_is_the_exact_binomial_test(lost: int, won: int) -> None:
    expected = binomtest(lost, lost + won).pvalue if lost + won else 1.0
    assert mcnemar_p(lost, won) == pytest.approx(expected)


def test_agreement_counts_flips() -> None:
    reference = np.float32([[2, 0], [2, 0], [0, 2], [0, 2]])
    new = np.float32([[2, 0], [0, 1], [0, 2], [1, 0]])
    found = agreement(reference, new, np.array([0, 0, 1, 0]))
    assert (found.flip_rate, found.only_reference_right, found.only_new_right) == (0.5, 1, 1)
    assert found.largest_difference == 2


def test_a_page_escapes_and_draws() -> None:
    drawn_parts = [
        table(["<a>"], [["<script>"]]),
        bars([("x", 1.0)], "ms"),
        intervals([("y", -0.1, -0.2, 0.0), ("z", 0, float("nan"), 0)], 0.01),
    ]
    text = page("<b>", drawn_parts)
    assert "<script>" not in text and "<b>" not in text
    assert text.count("<svg") == 2 and text.count("<circle") == 1
