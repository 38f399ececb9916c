"""What cross-validation says of the trend findings of `icu-vitals`, by the rules that run at the
bed.

Every stay is predicted by a network that never saw it. The control is the same rule upon a naive
prediction, the last value and a share of its last change; that share, and every threshold, is
chosen on the other folds. A finding may be told only where the network beats the control. Limits
are those at which NEWS2 (Royal College of Physicians 2017) counts a sign as abnormal, of mean
pressures that of the SOFA score (Vincent et al. 1996).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from edge.bundle.manifest import Sign
from edge.pipeline.trend import DETERIORATION, RULES, outside
from edge.signals.rows import SINCE, VALUE
from edge.validation.comparison import RESAMPLES, compare
from edge.validation.metrics import each_alone, prepare, value_of
from export.recipes.icu_data import NAMES

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from edge.bundle.manifest import Trend
    from export.recipes.icu_data import Stays

    Mask = NDArray[np.bool_]
    Values = NDArray[np.float32]

HORIZON_STEPS = 4
"""As long as a sign counts as known: what was not measured for longer is not told."""

SPECIFICITY = 0.95
SHARES = (-0.8, -0.6, -0.4, -0.3, -0.2, -0.1, 0.0, 0.25, 0.5, 1.0)
"""Of the last change that a naive prediction adds; below zero it goes back."""

CANDIDATES = (
    Sign(name="HR", low=51.0, high=90.0, by=10.0),
    Sign(name="SysABP", low=111.0, high=219.0, by=10.0),
    Sign(name="MAP", low=70.0, by=5.0),
    Sign(name="NISysABP", low=111.0, high=219.0, by=10.0),
    Sign(name="NIMAP", low=70.0, by=5.0),
    Sign(name="RespRate", low=12.0, high=20.0, by=4.0),
    Sign(name="Temp", low=36.1, high=38.0, by=0.5),
    Sign(name="SaO2", low=96.0, by=2.0),
)


@dataclass(frozen=True, slots=True)
class Proof:
    """One finding of a sign, judged on `hours` of which `share` had the event. `model` and `naive`
    are (area, sensitivity, specificity, positive predictive value); `area` and `told` the 95 %
    intervals of their differences in area and in sensitivity + specificity, stays resampled;
    `least` the threshold fitted over all stays."""

    sign: str
    finding: str
    hours: int
    share: float
    model: tuple[float, ...]
    naive: tuple[float, ...]
    area: tuple[float, float]
    told: tuple[float, float]
    least: float

    @property
    def holds(self) -> bool:
        """Whether the network beats the control, in all and where it is told."""
        return self.area[0] > 0 and self.told[0] > 0


def proofs(stays: Stays, predicted: dict[str, Values], fold: NDArray[np.int64]) -> Iterator[Proof]:
    """Each candidate by each rule; `predicted` `[n, 48]` by sign, `fold` `[n]`."""
    for sign in CANDIDATES:
        for finding, _, _ in RULES:
            yield _proof(stays, predicted[sign.name], fold, sign, finding)


def told(found: Sequence[Proof]) -> dict[tuple[str, str], float]:
    """The thresholds of what may be told, by sign and finding. Recovery only of a sign whose
    deterioration is told too: silence must not pass for health."""
    holds = {(proof.sign, proof.finding): proof.least for proof in found if proof.holds}
    return {key: least for key, least in holds.items() if (key[0], DETERIORATION) in holds}


def unproved(trend: Trend, found: Sequence[Proof]) -> list[str]:
    """What a manifest's trend says otherwise than what was found."""
    proved = told(found)
    declared = {
        (s.name, finding): getattr(s, least) for s in trend.signs for finding, _, least in RULES
    }
    judged = {(c.name, c.low, c.high, c.by) for c in CANDIDATES}
    wrong = [
        f"'{s.name}' was not judged with these limits and this step"
        for s in trend.signs if (s.name, s.low, s.high, s.by) not in judged
    ]  # fmt: skip
    if trend.horizon_steps != HORIZON_STEPS:
        wrong.append(f"{HORIZON_STEPS} steps were judged, not {trend.horizon_steps}")
    return wrong + [
        f"'{proof.sign} {proof.finding}' must have the threshold {wanted}, not {said}"
        for proof in found
        if (wanted := proved.get(key := (proof.sign, proof.finding))) != (said := declared.get(key))
    ]


def lines(found: Sequence[Proof]) -> Iterator[str]:
    """The rows of the card's table."""
    proved = told(found)
    for proof in found:
        pairs = [f"{m:.3f} / {n:.3f}" for m, n in zip(proof.model, proof.naive)]
        bounds = [f"{low:+.3f} to {high:+.3f}" for low, high in (proof.area, proof.told)]
        least = proved.get((proof.sign, proof.finding))
        parts = (f"{proof.sign} {proof.finding}", f"{proof.share:.3f} of {proof.hours}",
                 pairs[0], bounds[0], *pairs[1:], bounds[1],
                 "no" if least is None else f"from {least:g}")  # fmt: skip
        yield f"| {' | '.join(parts)} |"


def events(stays: Stays, sign: Sign, finding: str) -> tuple[Mask, Mask]:
    """`[n, 48]`: the hours in which the finding can be judged, and those before its event."""
    column = NAMES.index(sign.name)
    planes = stays.planes[:, :, :, column]
    now = outside(planes[:, :, VALUE], sign)
    coming = np.full((HORIZON_STEPS, *now.shape), np.nan, np.float32)
    for k in range(HORIZON_STEPS):
        coming[k, :, : -1 - k] = outside(stays.values[:, k + 1 :, column], sign)
    coming = np.where(np.isnan(coming), np.nan, np.maximum(coming, 0))
    measured = np.isfinite(coming).sum(0)
    known = (planes[:, :, SINCE] < HORIZON_STEPS) & (measured > 0)
    if finding == DETERIORATION:
        worst = np.nan_to_num(coming, nan=-np.inf).max(0)
        return known, worst >= np.maximum(now, 0) + sign.by
    mean = np.nan_to_num(coming).sum(0) / np.maximum(measured, 1)
    return known & (now >= sign.by), mean <= now - sign.by


def score(stays: Stays, predicted: Values, sign: Sign, finding: str) -> Values:
    """`[n, 48]`, as the rule at the bed has it."""
    last = stays.planes[:, :, VALUE, NAMES.index(sign.name)]
    rule = next(rule for name, rule, _ in RULES if name == finding)
    return np.asarray(rule(last, predicted, sign), np.float32)


def _proof(
    stays: Stays, predicted: Values, fold: NDArray[np.int64], sign: Sign, finding: str
) -> Proof:
    known, event = events(stays, sign, finding)
    stay = np.nonzero(known)[0]
    of, truth = fold[stay], event[known]
    ours = score(stays, predicted, sign, finding)[known]
    last, change = _last_change(stays, NAMES.index(sign.name))
    guesses = [score(stays, last + k * change, sign, finding)[known] for k in SHARES]
    theirs, alarms = np.empty_like(ours), np.zeros((2, len(ours)), bool)
    for k in np.unique(fold):
        here, others = of == k, of != k
        guess = max(guesses, key=lambda x: _area(x[others], truth[others]))
        theirs[here] = guess[here]
        for i, found in enumerate((ours, guess)):
            alarms[i, here] = found[here] >= _threshold(found[others], truth[others])
    compared = compare(
        "auroc", 1.0, _logits(theirs), _logits(ours), truth.astype(np.int64), stays.record[stay],
        (), {}, 1,
    )[0]  # fmt: skip
    rates, low, high = _rates(alarms, truth, stay)
    return Proof(
        sign=sign.name, finding=finding, hours=len(truth), share=float(truth.mean()),
        model=(compared.value, *rates[0]), naive=(compared.reference, *rates[1]),
        area=(compared.low, compared.high), told=(low, high),
        least=round(_threshold(ours, truth), 2),
    )  # fmt: skip


def _last_change(stays: Stays, column: int) -> tuple[Values, Values]:
    """`[n, 48]`: the last value, and its change from the one before (0 where there is none)."""
    last = stays.planes[:, :, VALUE, column]
    change = np.zeros_like(last)
    before = np.full(len(last), np.nan, np.float32)
    for t in range(last.shape[1]):
        new = stays.values[:, t, column]
        measured = np.isfinite(new)
        change[:, t] = np.where(measured, np.nan_to_num(new - before), change[:, max(t - 1, 0)])
        before = np.where(measured, new, before)
    return last, change


def _threshold(score: Values, truth: Mask) -> float:
    """What `SPECIFICITY` of the hours without the event stay under."""
    return float(np.quantile(score[~truth], SPECIFICITY))


def _area(score: Values, truth: Mask) -> float:
    """Area under the curve, ties counted half."""
    alone = each_alone(_logits(score), truth.astype(np.int64))
    return value_of(prepare("auroc", alone, 1), len(truth))


def _logits(score: Values) -> Values:
    return np.stack((np.zeros_like(score), score), 1)


def _rates(
    alarms: Mask, truth: Mask, stay: NDArray[np.int64]
) -> tuple[list[tuple[float, float, float]], float, float]:
    """Sensitivity, specificity and positive predictive value of both in `alarms` `[2, hours]`; the
    95 % interval of the difference in the sum of the first two, stays resampled."""
    parts = np.stack([alarms & truth, alarms & ~truth, np.broadcast_to(truth, alarms.shape),
                      np.broadcast_to(~truth, alarms.shape)])  # fmt: skip
    counts = np.zeros((*parts.shape[:2], int(stay.max()) + 1))
    for i in np.ndindex(*parts.shape[:2]):
        counts[i] = np.bincount(stay[parts[i]], minlength=counts.shape[2])
    rows = np.unique(stay)
    draws = np.random.default_rng(0).multinomial(
        len(rows), np.full(len(rows), 1 / len(rows)), RESAMPLES
    )
    hit, false, event, none = np.moveaxis(counts[..., rows] @ draws.T, 2, 0).transpose(1, 2, 0)
    both = hit / event - false / none
    low, high = np.percentile(both[0] - both[1], (2.5, 97.5))
    hit, false, event, none = counts.sum(2)
    rates = [
        (float(h / e), float(1 - f / n), float(h / max(h + f, 1)))
        for h, f, e, n in zip(hit, false, event, none)
    ]
    return rates, float(low), float(high)
