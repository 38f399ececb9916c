"""Calibrated confidence: temperature, split-conformal sets, and when an input is foreign.

Fitted on data held back from training, written to the manifest, applied by
`edge.pipeline.postprocess`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

TEMPERATURES = np.geomspace(0.05, 20.0, 481)
FALSE_ALARM_RATE = 0.01
"""Share of ordinary inputs that may be withheld as out of distribution."""


@dataclass(frozen=True, slots=True)
class Confidence:
    """What the manifest's output applies; `energy_limit` is in logits at temperature 1."""

    temperature: float
    conformal_quantile: float
    energy_limit: float


def fit(logits: NDArray[np.float32], label: NDArray[np.int64], coverage: float) -> Confidence:
    """From held-back `logits` `[n, k]` and `label` `[n]`, for sets of the nominal `coverage`."""
    temperature = fit_temperature(logits, label)
    quantile = conformal_quantile(probabilities(logits, temperature), label, coverage)
    limit = float(np.quantile(energy(logits), 1 - FALSE_ALARM_RATE, method="higher"))
    return Confidence(temperature, quantile, round(limit, 6))


def probabilities(logits: NDArray[np.float32], temperature: float) -> NDArray[np.float64]:
    """Softmax `[n, k]` of logits over `temperature`."""
    scaled = logits.astype(np.float64) / temperature
    weight = np.exp(scaled - scaled.max(1, keepdims=True))
    return np.asarray(weight / weight.sum(1, keepdims=True))


def fit_temperature(logits: NDArray[np.float32], label: NDArray[np.int64]) -> float:
    """The temperature with the least negative log likelihood."""
    at = np.arange(len(label))
    losses = [-np.log(probabilities(logits, t)[at, label] + 1e-12).mean() for t in TEMPERATURES]
    return round(float(TEMPERATURES[int(np.argmin(losses))]), 4)


def conformal_quantile(p: NDArray[np.float64], label: NDArray[np.int64], coverage: float) -> float:
    """Split-conformal quantile of 1 - p(true class) for `coverage` (Vovk et al. 2005)."""
    score = np.sort(1 - p[np.arange(len(label)), label])
    rank = int(np.ceil((len(score) + 1) * coverage))
    return round(float(score[min(rank, len(score)) - 1]), 6)


def energy(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    """`-log sum exp(logits)` `[n]`: high where no class speaks for the input (Liu et al. 2020)."""
    x = logits.astype(np.float64)
    top = x.max(1)
    return np.asarray(-(top + np.log(np.exp(x - top[:, None]).sum(1))))


def sets(logits: NDArray[np.float32], fitted: Confidence) -> NDArray[np.bool_]:
    """Which classes are in the prediction set of each of `logits`, `[n, k]`."""
    p = probabilities(logits, fitted.temperature)
    return np.asarray(p >= 1 - fitted.conformal_quantile)


def coverage_of(
    logits: NDArray[np.float32], label: NDArray[np.int64], fitted: Confidence
) -> dict[str, Any]:
    """On other data: the share of true classes inside the prediction set, overall and by class
    index, its mean size, and the share that is taken for foreign."""
    inside = sets(logits, fitted)
    covered = inside[np.arange(len(label)), label]
    return {
        "overall": round(float(covered.mean()), 4),
        "by_class": {str(c): round(float(covered[label == c].mean()), 4) for c in np.unique(label)},
        "mean_set_size": round(float(inside.sum(1).mean()), 4),
        "foreign_share": round(float((energy(logits) > fitted.energy_limit).mean()), 4),
    }
