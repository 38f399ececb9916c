"""What the beat classifier's out-of-fold logits say: bias, temperature, conformal set, figures.

Owns every number that the card states. Sensitivity counts beats that the trigger missed and beats
that are withheld as missed; positive predictivity counts every other class as wrong (stricter than
EC57, which lets V for F pass). Intervals come from resampling records, as beats of one patient are
alike.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from calibration.confidence import probabilities
from edge.ec57 import CLASSES
from export.recipes.ecg_beat_data import Beats

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

N, S, V, F, Q = range(len(CLASSES))
TARGETS = {"V": (0.85, 0.80), "S": (0.55, 0.25)}
"""Sensitivity and positive predictivity that a release must reach."""

BIAS_F, BIAS_Q = -2.0, -1.0
"""Both classes are drawn far more often in training than they occur."""

BIAS_S = np.arange(-0.5, 2.01, 0.25)
BIAS_V = np.arange(-2.0, 0.51, 0.25)
NEARLY = 0.02
COVERAGE = 0.95
MIN_PROBABILITY = 0.35
BOOTSTRAPS = 1000


@dataclass(frozen=True, slots=True)
class Calibration:
    """What is added to logits, what they are divided by, and the manifest's thresholds."""

    bias: NDArray[np.float64]
    temperature: float
    quantile: float
    min_probability: float


def make_folds(beats: Beats, count: int) -> list[list[str]]:
    """Records dealt to folds to and fro, those with most ectopic beats first."""
    records = sorted(set(beats.record.tolist()))
    ectopic = np.isin(beats.label, (S, V))
    order = sorted(records, key=lambda r: (-int(ectopic[beats.record == r].sum()), r))
    folds: list[list[str]] = [[] for _ in range(count)]
    for i, record in enumerate(order):
        at = i % count
        folds[at if i // count % 2 == 0 else count - 1 - at].append(record)
    return folds


def choose_bias(
    logits: NDArray[np.float32], label: NDArray[np.int64], missed: NDArray[np.int64]
) -> NDArray[np.float64]:
    """The bias `[5]` that leaves the most room to the targets, S counting half: the middle of all
    that leave nearly as much, so that it does not hang on a few beats."""
    grid = [np.array([0.0, s, v, BIAS_F, BIAS_Q]) for s in BIAS_S for v in BIAS_V]
    answers = ((logits + bias.astype(np.float32)).argmax(1) for bias in grid)
    rooms = np.array([_room(_counts(answer, label), missed) for answer in answers])
    return np.asarray(np.mean([b for b, r in zip(grid, rooms) if r >= rooms.max() - NEARLY], 0))


def _room(counts: NDArray[np.int64], missed: NDArray[np.int64]) -> float:
    rates = {"V": _rates(counts, missed, V), "S": _rates(counts, missed, S)}
    weight = {"V": 1.0, "S": 0.5}
    return min(
        weight[name] * (rate - target)
        for name, targets in TARGETS.items()
        for rate, target in zip(rates[name], targets)
    )


def _counts(answer: NDArray[np.int64], label: NDArray[np.int64]) -> NDArray[np.int64]:
    """`[5, 6]`: rows true class; columns answered class, the last one withheld for confidence."""
    counts: NDArray[np.int64] = np.bincount(label * 6 + answer, minlength=30)
    return np.asarray(counts.reshape(5, 6))


def _rates(counts: NDArray[np.int64], missed: NDArray[np.int64], c: int) -> tuple[float, float]:
    """Sensitivity and positive predictivity of class `c`."""
    hit = float(counts[c, c])
    return hit / max(1, counts[c].sum() + missed[c]), hit / max(1, counts[:, c].sum())


def cross_fitted(
    logits: NDArray[np.float32], beats: Beats, folds: Sequence[Sequence[str]]
) -> NDArray[np.float32]:
    """Each fold's logits with the bias chosen on the other folds' beats."""
    out = logits.copy()
    for fold in folds:
        inside = np.isin(beats.record, fold)
        missed = missed_of(beats, [r for r in beats.missed if r not in fold])
        bias = choose_bias(logits[~inside], beats.label[~inside], missed)
        out[inside] += bias.astype(np.float32)
    return out


def missed_of(beats: Beats, records: Sequence[str]) -> NDArray[np.int64]:
    """`[5]` beats of each class that the trigger missed in `records`."""
    return np.asarray(np.sum([beats.missed[r] for r in records], axis=0), np.int64)


def answers(logits: NDArray[np.float32], temperature: float) -> NDArray[np.int64]:
    """`[k]` class answered, or 5 where its probability is under `MIN_PROBABILITY`."""
    p = probabilities(logits, temperature)
    return np.where(p.max(1) >= MIN_PROBABILITY, p.argmax(1), 5)


def figures(logits: NDArray[np.float32], beats: Beats, temperature: float) -> dict[str, Any]:
    """Counts, rates with 95 % intervals by record, and calibration: all JSON."""
    answer = answers(logits, temperature)
    records = sorted(beats.missed)
    per_record = np.stack(
        [_counts(answer[beats.record == r], beats.label[beats.record == r]) for r in records]
    )
    missed = np.array([beats.missed[r] for r in records])
    drawn = np.random.default_rng(0).integers(0, len(records), (BOOTSTRAPS, len(records)))
    total, total_missed = per_record.sum(0), missed.sum(0)
    samples = [(per_record[d].sum(0), missed[d].sum(0)) for d in drawn]
    classes = {
        name: _stated(_rates(total, total_missed, c), [_rates(a, b, c) for a, b in samples])
        for c, name in enumerate(CLASSES)
    }
    return {
        "records": records,
        "beats": int(total.sum() + total_missed.sum()),
        "confusion": {name: total[c].tolist() for c, name in enumerate(CLASSES)},
        "confusion_columns": [*CLASSES, "low_confidence"],
        "missed_by_trigger": dict(zip(CLASSES, total_missed.tolist())),
        "classes": classes,
        "calibration": _calibration(probabilities(logits, temperature), beats.label),
    }


def _stated(rates: tuple[float, float], samples: list[tuple[float, float]]) -> dict[str, Any]:
    low, high = np.percentile(np.array(samples), (2.5, 97.5), axis=0)
    names = ("sensitivity", "positive_predictivity")
    return {
        name: {
            "value": round(float(rates[i]), 4),
            "interval": [round(float(low[i]), 4), round(float(high[i]), 4)],
        }
        for i, name in enumerate(names)
    }


def _calibration(p: NDArray[np.float64], label: NDArray[np.int64]) -> dict[str, float]:
    """Expected calibration error of the answer (15 equal bins), and multi-class Brier score."""
    top, right = p.max(1), p.argmax(1) == label
    bins = np.minimum((top * 15).astype(int), 14)
    gaps = [
        abs(right[bins == b].mean() - top[bins == b].mean()) * (bins == b).mean()
        for b in range(15)
        if (bins == b).any()
    ]
    truth = np.eye(len(CLASSES))[label]
    return {
        "expected_calibration_error": round(float(sum(gaps)), 4),
        "brier_score": round(float(((p - truth) ** 2).sum(1).mean()), 4),
        "accuracy": round(float(right.mean()), 4),
    }


def shortfall(classes: dict[str, Any]) -> list[str]:
    """The targets that were not reached, in words."""
    names = ("sensitivity", "positive_predictivity")
    return [
        f"{c} {name} {classes[c][name]['value']} < {target}"
        for c, targets in TARGETS.items()
        for name, target in zip(names, targets)
        if classes[c][name]["value"] < target
    ]
