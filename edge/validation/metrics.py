"""Clinical metrics of logits against labels, or of quantities, for many weightings of the patients.

A metric is prepared once for n samples of g groups and then asked for any number of weightings of
the groups `[r, g]`, which is what a bootstrap needs. All are at most 1, higher is better; NaN where
a class has no weight.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from edge.errors import StartError
from edge.registry import resolve

if TYPE_CHECKING:
    from numpy.typing import NDArray

METRICS = {
    "auroc": "edge.validation.metrics:auroc",
    "sensitivity_at_specificity": "edge.validation.metrics:sensitivity_at_specificity",
    "f1": "edge.validation.metrics:f1",
    "sensitivity": "edge.validation.metrics:sensitivity",
    "accuracy": "edge.validation.metrics:accuracy",
    "mae_skill": "edge.validation.metrics:mae_skill",
    "image_agreement": "edge.validation.metrics:image_agreement",
}
Rows = Any  # NDArray[np.float64]: `[r]`, or weights `[r, g]`
Metric = Callable[[Rows], Rows]
SPECIFICITY = 0.9
OF_QUANTITIES = ("mae_skill", "image_agreement")
WHOLE = ("accuracy", "image_agreement")
"""Metrics of everything at once, where others are means over classes or quantities."""

LEVELS = 255.0


@dataclass(frozen=True, slots=True)
class Answers:
    """`logits` `[n, k]` and `label` `[n]` of the samples; `group` int `[n]` says whose they are, of
    0..g-1; only those `kept` `[n]` count. For quantities `logits` are the predicted values and
    `target` `[n, k]` the true ones (NaN: not known)."""

    logits: NDArray[np.float32]
    label: NDArray[np.int64]
    group: NDArray[np.int64]
    kept: NDArray[np.bool_]
    target: NDArray[np.float32] | None = None

    def parts(self) -> list[int]:
        """The classes there are, or every quantity."""
        if self.target is not None:
            return list(range(self.target.shape[1]))
        return [int(c) for c in np.unique(self.label)]

    def sums(self, value: NDArray[Any]) -> Metric:
        """The weighted sum of a value of each sample."""
        groups = int(self.group.max()) + 1
        by_group = np.bincount(self.group, value * self.kept, groups)
        return lambda weights: weights @ by_group


def each_alone(
    logits: NDArray[np.float32],
    label: NDArray[np.int64],
    target: NDArray[np.float32] | None = None,
) -> Answers:
    """Every sample kept, and a group of its own."""
    return Answers(logits, label, np.arange(len(label)), np.ones(len(label), bool), target)


def prepare(name: str, answers: Answers, only: int | None = None) -> Metric:
    """The metric `name` of class `only` against the rest, or its mean over the classes there are;
    of quantity `only`, or its mean over all.

    Raises `StartError` for an unknown name, or one that does not fit the answers.
    """
    of_class = resolve(METRICS, name, "metric")
    if (name in OF_QUANTITIES) != (answers.target is not None):
        raise StartError(
            f"metric '{name}' does not fit what the model gives",
            f"use {', '.join(OF_QUANTITIES)} for quantities, another one for labels and tokens",
        )
    if only is not None or name in WHOLE:
        return of_class(answers, only)  # type: ignore[no-any-return]
    classes = [of_class(answers, c) for c in answers.parts()]

    def mean(weights: Rows) -> Rows:
        values = np.stack([metric(weights) for metric in classes])
        there = np.isfinite(values)
        return _ratio(np.where(there, values, 0.0).sum(0), there.sum(0).astype(float))

    return mean


def value_of(metric: Metric, groups: int) -> float:
    """With everybody weighing the same."""
    return float(metric(np.ones((1, groups)))[0])


def margins(logits: NDArray[np.float32], c: int) -> NDArray[np.float64]:
    """Log odds `[n]` of class `c` against the rest under a softmax."""
    x = logits.astype(np.float64)
    rest = np.delete(x, c, axis=1)
    top = rest.max(1)
    return np.asarray(x[:, c] - top - np.log(np.exp(rest - top[:, None]).sum(1)))


def auroc(answers: Answers, c: int) -> Metric:
    """Area under the receiver operating characteristic of class `c`, ties counted half."""
    positive_of, negative_of = _sorted_masses(answers, c)

    def metric(weights: Rows) -> Rows:
        positive, negative = positive_of(weights), negative_of(weights)
        below = np.cumsum(negative, 1) - negative
        pairs = positive.sum(1) * negative.sum(1)
        return _ratio((positive * (below + negative / 2)).sum(1), pairs)

    return metric


def sensitivity_at_specificity(answers: Answers, c: int) -> Metric:
    """Sensitivity of class `c` at the least threshold with a specificity of `SPECIFICITY`."""
    positive_of, negative_of = _sorted_masses(answers, c)

    def metric(weights: Rows) -> Rows:
        positive, negative = positive_of(weights), negative_of(weights)
        total = negative.sum(1, keepdims=True)
        above = total - np.cumsum(negative, 1) + negative  # false alarms at this threshold
        allowed = above <= (1 - SPECIFICITY) * total + 1e-9
        return _ratio((positive * allowed).sum(1), positive.sum(1))

    return metric


def f1(answers: Answers, c: int) -> Metric:
    """F1 of class `c` when the largest logit answers."""
    answer, truth = answers.logits.argmax(1) == c, answers.label == c
    hit, present = answers.sums(answer & truth), answers.sums(truth)
    either = answers.sums(answer.astype(float) + truth)
    return lambda w: np.where(present(w) > 0, _ratio(2 * hit(w), either(w)), np.nan)


def sensitivity(answers: Answers, c: int) -> Metric:
    """Share of class `c` that the largest logit answers with `c`."""
    truth = answers.label == c
    hit, present = answers.sums((answers.logits.argmax(1) == c) & truth), answers.sums(truth)
    return lambda w: _ratio(hit(w), present(w))


def accuracy(answers: Answers, c: int | None) -> Metric:
    """Share of right answers, of all samples or of those of class `c`."""
    if c is not None:
        return sensitivity(answers, c)
    right = answers.sums(answers.logits.argmax(1) == answers.label)
    everyone = answers.sums(np.ones(len(answers.label)))
    return lambda w: _ratio(right(w), everyone(w))


def mae_skill(answers: Answers, q: int) -> Metric:
    """1 - mean absolute error of quantity `q` over its mean absolute deviation from the median: 1
    is perfect, 0 no better than a constant (Legates and McCabe 1999)."""
    if answers.target is None:
        raise StartError("mae_skill needs a target", "give the data set an array 'target'")
    truth, found = answers.target[:, q].astype(np.float64), answers.logits[:, q]
    known = np.isfinite(truth)
    middle = np.median(truth[known]) if known.any() else 0.0
    error = answers.sums(np.where(known, np.abs(found - truth), 0.0))
    spread = answers.sums(np.where(known, np.abs(truth - middle), 0.0))
    return lambda w: 1 - _ratio(error(w), spread(w))


def image_agreement(answers: Answers, only: int | None) -> Metric:
    """1 - mean absolute difference from the `target` images over 255, levels `[n, pixels]`: what a
    generator is judged by, held against the FP32 images of the same noise."""
    if answers.target is None or only is not None:
        raise StartError("image_agreement is of whole images", "name no positive label")
    away = np.abs(answers.logits.astype(np.float64) - answers.target).mean(1) / LEVELS
    error, everyone = answers.sums(away), answers.sums(np.ones(len(away)))
    return lambda w: 1 - _ratio(error(w), everyone(w))


def _sorted_masses(answers: Answers, c: int) -> tuple[Metric, Metric]:
    """Weight of class `c`, and of the rest, at each distinct margin in ascending order."""
    margin = margins(answers.logits, c)
    order = np.argsort(margin, kind="stable")
    order = order[answers.kept[order]]
    starts = np.flatnonzero(np.diff(margin[order], prepend=-np.inf) > 0)
    group, truth = answers.group[order], (answers.label[order] == c).astype(float)

    def mass(of: NDArray[np.float64]) -> Metric:
        return lambda w: np.add.reduceat(w[:, group] * of, starts, axis=1)

    return mass(truth), mass(1 - truth)


def _ratio(part: Rows, whole: Rows) -> Rows:
    return np.divide(part, whole, out=np.full(np.shape(part), np.nan), where=whole > 0)
