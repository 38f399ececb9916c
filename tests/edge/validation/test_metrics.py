"""Metrics against brute force and scipy, and what a weighting of groups means."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import mannwhitneyu

from edge.errors import StartError
from edge.validation.metrics import (
    METRICS,
    OF_QUANTITIES,
    Answers,
    each_alone,
    margins,
    prepare,
    value_of,
)


def drawn(n: int = 300, seed: int = 0, ties: bool = False) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    label = rng.integers(0, 3, n)
    logits = rng.normal(size=(n, 3)) + 1.2 * np.eye(3)[label]
    return (np.round(logits) if ties else logits).astype(np.float32), label


@pytest.mark.parametrize("ties", [False, True])
def test_auroc_is_mann_whitney(ties: bool) -> None:
    logits, label = drawn(ties=ties)
    m = margins(logits, 1)
    u = mannwhitneyu(m[label == 1], m[label != 1]).statistic
    expected = u / ((label == 1).sum() * (label != 1).sum())
    found = value_of(prepare("auroc", each_alone(logits, label), 1), len(label))
    assert found == pytest.approx(expected)


def test_sensitivity_at_specificity_by_trying_every_threshold() -> None:
    logits, label = drawn()
    m = margins(logits, 2)
    best = max((m[label == 2] >= t).mean() for t in m if (m[label != 2] < t).mean() >= 0.9)
    metric = prepare("sensitivity_at_specificity", each_alone(logits, label), 2)
    assert value_of(metric, len(label)) == pytest.approx(best)


def test_f1_sensitivity_and_accuracy_by_counting() -> None:
    logits, label = drawn()
    answer = logits.argmax(1)
    hit = ((answer == 0) & (label == 0)).sum()
    f1 = 2 * hit / ((answer == 0).sum() + (label == 0).sum())
    some = each_alone(logits, label)
    assert value_of(prepare("f1", some, 0), 300) == pytest.approx(f1)
    assert value_of(prepare("sensitivity", some, 0), 300) == pytest.approx(hit / (label == 0).sum())
    assert value_of(prepare("accuracy", some), 300) == pytest.approx((answer == label).mean())


@pytest.mark.parametrize("name", sorted(set(METRICS) - set(OF_QUANTITIES)))
@pytest.mark.parametrize("only", [None, 1])
def test_a_weight_is_a_repetition(name: str, only: int | None) -> None:
    """Group 0 twice and group 1 not at all is the same as the samples so repeated."""
    logits, label = drawn(200)
    group = np.arange(200) % 4
    every = Answers(logits, label, group, np.ones(200, bool))
    weighted = prepare(name, every, only)(np.array([[2.0, 0.0, 1.0, 1.0]]))[0]
    repeated = np.concatenate([np.flatnonzero(group == g) for g in (0, 0, 2, 3)])
    again = each_alone(logits[repeated], label[repeated])
    assert weighted == pytest.approx(value_of(prepare(name, again, only), len(repeated)))


@pytest.mark.parametrize("name", sorted(set(METRICS) - set(OF_QUANTITIES)))
def test_what_is_not_kept_does_not_count(name: str) -> None:
    logits, label = drawn(200)
    kept = np.arange(200) % 3 > 0
    some = Answers(logits, label, np.arange(200), kept)
    alone = each_alone(logits[kept], label[kept])
    expected = value_of(prepare(name, alone), int(kept.sum()))
    assert value_of(prepare(name, some), 200) == pytest.approx(expected)


def test_a_class_that_is_not_there_is_no_number_and_no_part_of_the_mean() -> None:
    logits, label = drawn(200)
    some = Answers(logits, label, (label == 2).astype(int), np.ones(200, bool))
    without = np.array([[1.0, 0.0]])
    assert np.isnan(prepare("f1", some, 2)(without)[0])
    others = [prepare("f1", some, c)(without)[0] for c in (0, 1)]
    assert prepare("f1", some)(without)[0] == pytest.approx(np.mean(others))


def test_an_unknown_metric_is_refused() -> None:
    with pytest.raises(StartError, match="auroc"):
        prepare("auroq", each_alone(*drawn()))


def test_skill_is_one_minus_error_over_spread() -> None:
    """Errors of 1, 0, 1 and one unknown; deviations from the median 3 of 2, 0, 3; a quantity on its
    own and the mean of both."""
    target = np.float32([[1, 0], [3, 1], [6, 2], [np.nan, 3]])
    found = np.float32([[2, 0], [3, 1], [5, 2], [9, 3]])
    some = each_alone(found, np.zeros(4, np.int64), target)
    assert value_of(prepare("mae_skill", some, 0), 4) == pytest.approx(1 - 2 / 5)
    assert value_of(prepare("mae_skill", some, 1), 4) == 1.0
    assert value_of(prepare("mae_skill", some), 4) == pytest.approx((0.6 + 1.0) / 2)
    without_the_last_known = np.array([[1.0, 1.0, 0.0, 1.0]])
    assert prepare("mae_skill", some, 0)(without_the_last_known)[0] == pytest.approx(1 - 1 / 2)


def test_image_agreement_is_one_minus_the_mean_difference_in_levels() -> None:
    target = np.full((4, 6), 100, np.float32)
    away = np.array([0, 10, 20, -30], np.float32)[:, None]
    some = each_alone(target + away, np.zeros(4, np.int64), target)
    assert value_of(prepare("image_agreement", some), 4) == pytest.approx(1 - 15 / 255)
    first_two = np.array([[1.0, 1.0, 0.0, 0.0]])
    assert prepare("image_agreement", some)(first_two)[0] == pytest.approx(1 - 5 / 255)
    with pytest.raises(StartError, match="whole images"):
        prepare("image_agreement", some, 0)


def test_a_metric_of_the_other_kind_is_refused() -> None:
    logits, label = drawn(50)
    with pytest.raises(StartError, match="does not fit"):
        prepare("mae_skill", each_alone(logits, label))
    with pytest.raises(StartError, match="does not fit"):
        prepare("auroc", each_alone(logits, label, logits))
