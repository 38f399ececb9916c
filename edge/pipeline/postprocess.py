"""Logits to a verdict: calibrated probabilities, a label or a reason to withhold one.

Owns temperature, threshold, and conformal set; the rules over several beats are in `rules`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edge.types import Finding, Reason

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from edge.bundle.manifest import Label, Output


@dataclass(frozen=True, slots=True)
class Verdict:
    """The most probable label, or why it is withheld (`reason` set, `label` what it would be)."""

    label: Label
    probability: float
    prediction_set: tuple[str, ...]
    reason: Reason | None = None
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Told:
    """What one run of a model says: `findings`, or the `reason` why it says nothing."""

    findings: tuple[Finding, ...]
    reason: Reason | None = None
    detail: str = ""


def told(row: NDArray[np.float32], output: Output, t0_ns: int, t1_ns: int) -> Told:
    """Judge one row of a model's output, logits of labels or quantities, over a span of evidence.

    A quantity outside its possible range is not told."""
    if output.labels:
        judged = verdict(row, output)
        found = (finding(judged, t0_ns, t1_ns),) if judged.reason is None else ()
        return Told(found, judged.reason, judged.detail)
    values = row.tolist()
    if not all(map(math.isfinite, values)):
        return Told((), Reason.OUT_OF_RANGE, "non-finite model output")
    pairs = [(q, v) for q, v in zip(output.quantities, values) if q.low <= v <= q.high]
    if not pairs:
        return Told((), Reason.OUT_OF_RANGE, "no predicted value is possible")
    return Told(
        tuple(Finding(q.name, q.code, t0_ns, t1_ns, value=v, unit=q.unit) for q, v in pairs)
    )


def finding(judged: Verdict, t0_ns: int, t1_ns: int) -> Finding:
    """The finding of a verdict that is not withheld."""
    return Finding(
        judged.label.name,
        judged.label.code,
        t0_ns,
        t1_ns,
        probability=judged.probability,
        prediction_set=judged.prediction_set,
    )


def probabilities(logits: Sequence[float], temperature: float) -> list[float]:
    """Softmax of logits over `temperature`, in double precision."""
    top = max(logits)
    weights = [math.exp((logit - top) / temperature) for logit in logits]
    total = sum(weights)
    return [weight / total for weight in weights]


def verdict(logits: NDArray[np.float32], output: Output) -> Verdict:
    """Judge one row of logits `[labels]` by the manifest's `output`."""
    values = logits.tolist()
    if not all(map(math.isfinite, values)):
        return Verdict(output.labels[0], 0.0, (), Reason.OUT_OF_RANGE, "non-finite model output")
    p = probabilities(values, output.temperature)
    probability = max(p)
    label = output.labels[p.index(probability)]
    reason, detail = _foreign(values, output.energy_limit)
    if reason is None:
        reason, detail = _withhold(label, probability, output.min_probability)
    return Verdict(label, probability, _prediction_set(p, output), reason, detail)


def energy(logits: Sequence[float]) -> float:
    """`-log sum exp(logits)`: high where no class speaks for the input."""
    top = max(logits)
    return -(top + math.log(math.fsum(math.exp(logit - top) for logit in logits)))


def _foreign(logits: Sequence[float], limit: float | None) -> tuple[Reason | None, str]:
    if limit is not None and (found := energy(logits)) > limit:
        return Reason.OUT_OF_DISTRIBUTION, f"energy {found:.2f} > {limit:.2f}"
    return None, ""


def _withhold(label: Label, probability: float, minimum: float) -> tuple[Reason | None, str]:
    if label.withhold:
        return Reason.UNCLASSIFIABLE, f"{label.name} {probability:.2f}"
    if probability < minimum:
        return Reason.LOW_CONFIDENCE, f"{label.name} {probability:.2f} < {minimum:.2f}"
    return None, ""


def _prediction_set(p: Sequence[float], output: Output) -> tuple[str, ...]:
    if output.conformal_quantile is None:
        return ()
    floor = 1.0 - output.conformal_quantile
    return tuple(o.name for o, q in zip(output.labels, p) if q >= floor)
