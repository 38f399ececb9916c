"""Two models on the same samples: is the new one worse by less than a margin?

Owns the paired bootstrap, which draws whole groups (patients), as samples of one patient are alike,
and what else a reader asks of two sets of logits: flips, McNemar's test, largest difference, SQNR.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from edge.errors import StartError
from edge.validation.metrics import Answers, prepare

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from edge.validation.metrics import Metric

RESAMPLES = 2000
CHUNK_VALUES = 4_000_000
LEVELS = (2.5, 97.5)
FEWEST = 5
"""Samples a class or subgroup needs in two groups or more to be judged at all."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """One metric of two models on the same samples. `difference` is new minus reference, with its
    95 % interval `low`..`high`; `passes` where `low` is above minus the margin, None where there
    are too few samples to judge."""

    name: str
    samples: int
    groups: int
    reference: float
    value: float
    difference: float
    low: float
    high: float
    passes: bool | None


@dataclass(frozen=True, slots=True)
class Agreement:
    """How two models' answers differ: largest difference of a logit or quantity, signal to noise in
    dB; of classes also the `flip_rate` of the largest logit, samples only one answers rightly, and
    McNemar's exact two-sided `p`."""

    samples: int
    largest_difference: float
    sqnr_db: float
    flip_rate: float | None = None
    only_reference_right: int | None = None
    only_new_right: int | None = None
    mcnemar_p: float | None = None


def compare(
    metric: str, margin: float, reference: NDArray[np.float32], new: NDArray[np.float32],
    label: NDArray[np.int64], group: NDArray[np.str_], labels: Sequence[str],
    subgroups: Mapping[str, NDArray[np.str_]], positive: int | None = None,
    target: NDArray[np.float32] | None = None,
) -> tuple[Comparison, ...]:  # fmt: skip
    """The primary metric (of class `positive`, else the mean over classes), then every class, then
    every value of every subgroup. Logits `[n, k]`; `label`, `group` and subgroups `[n]`. With a
    `target` `[n, k]` the logits are quantities, and each takes the place of a class. Without
    `labels`, as of the tokens of a vocabulary, classes are not judged one by one."""
    where = np.unique(group, return_inverse=True)[1].reshape(-1)
    draws = _draws(where)

    def one(name: str, only: int | None, kept: NDArray[np.bool_]) -> Comparison:
        pair = [
            prepare(metric, Answers(x, label, where, kept, target), only) for x in (reference, new)
        ]
        values = np.stack([_over(one_of, draws, len(label)) for one_of in pair])
        judged = _enough(_made_of(only, kept, label, target, bool(labels)), where)
        return _compared(name, values, kept, len(np.unique(where[kept])), margin, judged)

    everyone = np.ones(len(label), bool)
    rows = [one("overall", positive, everyone)]
    parts = Answers(reference, label, where, everyone, target).parts()
    kind = "class" if target is None else "quantity"
    rows += [one(f"{kind} {labels[c]}", c, everyone) for c in parts if labels]
    for name, values in subgroups.items():
        rows += [one(f"{name} {v}", positive, values == v) for v in np.unique(values)]
    return tuple(rows)


def interval(
    metric: str, logits: NDArray[np.float32], label: NDArray[np.int64], group: NDArray[np.str_],
    positive: int | None = None,
) -> tuple[float, float, float]:  # fmt: skip
    """(value, low, high) of one model's metric with its 95 % interval, groups resampled."""
    where = np.unique(group, return_inverse=True)[1].reshape(-1)
    everyone = np.ones(len(label), bool)
    return _bounds(prepare(metric, Answers(logits, label, where, everyone), positive), where)


def share(hit: NDArray[np.bool_], group: NDArray[np.str_]) -> tuple[float, float, float]:
    """(value, low, high) of the share of `hit` `[n]` with its 95 % interval, groups resampled."""
    where = np.unique(group, return_inverse=True)[1].reshape(-1)
    total, hits = np.bincount(where).astype(float), np.bincount(where, hit)
    return _bounds(lambda weights: (weights @ hits) / (weights @ total), where)


def _bounds(metric: Metric, where: NDArray[np.int64]) -> tuple[float, float, float]:
    values = _over(metric, _draws(where), len(where))
    low, high = np.nanpercentile(values[1:], LEVELS)
    return float(values[0]), float(low), float(high)


def _draws(where: NDArray[np.int64]) -> NDArray[np.float64]:
    """`[1 + RESAMPLES, groups]` how often each group is drawn; the first row is everybody once."""
    count = int(where.max()) + 1
    if count < 2:
        raise StartError("all samples are one group", "give two groups (patients) or more")
    rng = np.random.default_rng(0)
    drawn = rng.multinomial(count, np.full(count, 1 / count), RESAMPLES)
    return np.concatenate((np.ones((1, count)), drawn))


def _over(metric: Metric, draws: NDArray[np.float64], samples: int) -> NDArray[np.float64]:
    """The metric of each row of draws, in bounded memory."""
    size = max(1, CHUNK_VALUES // samples)
    return np.concatenate([metric(draws[i : i + size]) for i in range(0, len(draws), size)])


def _enough(masks: Sequence[NDArray[np.bool_]], where: NDArray[np.int64]) -> bool:
    """Whether there is enough of everything that the metric is made of."""
    return bool(masks) and all(m.sum() >= FEWEST and len(np.unique(where[m])) >= 2 for m in masks)


def _made_of(
    only: int | None, kept: NDArray[np.bool_], label: NDArray[np.int64],
    target: NDArray[np.float32] | None, by_class: bool,
) -> list[NDArray[np.bool_]]:  # fmt: skip
    """The samples of each part that a metric over `kept` needs: every class (the one and some
    other), the known values of a quantity, or all samples."""
    if target is not None:
        return [kept & np.isfinite(target if only is None else target[:, [only]]).any(1)]
    if not by_class:
        return [kept]
    classes = np.unique(label[kept])
    if len(classes) < 2:
        return []
    return [kept & (label == c) for c in (classes if only is None else [only])]


def _compared(
    name: str, values: NDArray[np.float64], kept: NDArray[np.bool_], groups: int, margin: float,
    judged: bool,
) -> Comparison:  # fmt: skip
    """From `values` `[2, 1 + RESAMPLES]`: reference and new, everybody first, then every draw."""
    reference, value = (float(v) for v in values[:, 0])
    differences = values[1, 1:] - values[0, 1:]
    differences = differences[np.isfinite(differences)]
    low, high = np.percentile(differences, LEVELS) if len(differences) else (math.nan, math.nan)
    return Comparison(
        name=name,
        samples=int(kept.sum()),
        groups=groups,
        reference=round(reference, 6),
        value=round(value, 6),
        difference=round(value - reference, 6),
        low=round(float(low), 6),
        high=round(float(high), 6),
        passes=bool(low > -margin) if judged and len(differences) else None,
    )


def agreement(
    reference: NDArray[np.float32], new: NDArray[np.float32], label: NDArray[np.int64] | None
) -> Agreement:
    """Of logits `[n, k]` and labels `[n]`; without labels, of quantities."""
    noise = float(((new - reference).astype(np.float64) ** 2).sum())
    power = float((reference.astype(np.float64) ** 2).sum())
    differ = Agreement(
        samples=len(reference),
        largest_difference=round(float(np.abs(new - reference).max()), 6),
        sqnr_db=round(10 * math.log10(power / noise), 2) if noise and power else 999.0,
    )
    if label is None:
        return differ
    before, after = reference.argmax(1), new.argmax(1)
    lost = int(((before == label) & (after != label)).sum())
    won = int(((before != label) & (after == label)).sum())
    return replace(
        differ,
        flip_rate=round(float((before != after).mean()), 6),
        only_reference_right=lost,
        only_new_right=won,
        mcnemar_p=round(mcnemar_p(lost, won), 6),
    )


def mcnemar_p(lost: int, won: int) -> float:
    """Exact two-sided p of so uneven a split of the discordant pairs, were both equally good."""
    n, least = lost + won, min(lost, won)
    if n == 0:
        return 1.0
    logs = [math.lgamma(n + 1) - math.lgamma(i + 1) - math.lgamma(n - i + 1) - n * math.log(2)
            for i in range(least + 1)]  # fmt: skip
    return min(1.0, 2 * sum(map(math.exp, logs)))
