"""Trend: which vital signs are about to get worse, or better, from a table of rules.

A rule holds the value that a model predicts for the next step against the last one known and
against the limits of what is normal. Limits and thresholds are the manifest's (`trend`), with their
source; what a rule is worth is for the recipe to prove before a manifest declares it. Nothing here
remembers: the model's carried states do.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Union

import numpy as np

from edge.types import Finding

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from edge.bundle.manifest import Sign, Trend

    Values = Union[float, NDArray[np.float32]]

DETERIORATION, RECOVERY = "deterioration expected", "recovery expected"


def outside(value: Values, sign: Sign) -> Any:
    """How far a value lies beyond the nearer limit, in the sign's unit; negative within them."""
    low, high = _limits(sign)
    return np.maximum(value - high, low - value)


def worsening(last: Values, predicted: Values, sign: Sign) -> Any:
    """How far the prediction goes beyond the limit, or beyond the last value where that already
    lies further out; negative where it stays short of that."""
    low, high = _limits(sign)
    return np.maximum(predicted - np.maximum(high, last), np.minimum(low, last) - predicted)


def recovering(last: Values, predicted: Values, sign: Sign) -> Any:
    """How much less far outside the prediction lies than the last value; minus infinity where that
    is not `by` outside: there is nothing to recover."""
    gain = outside(last, sign) - outside(predicted, sign)
    return np.where(outside(last, sign) >= sign.by, gain, -math.inf)


RULES = ((DETERIORATION, worsening, "worse"), (RECOVERY, recovering, "better"))
"""Finding, its score, and the manifest's threshold; of one sign the first that holds is told."""


def trends(last: Mapping[str, float], told: Sequence[Finding], trend: Trend) -> Iterator[Finding]:
    """The trend of each sign that has a prediction among the findings `told`, which the trend's
    value is; `last` are the last values known."""
    predicted = {finding.name: finding for finding in told}
    for sign in trend.signs:
        if (finding := predicted.get(sign.name)) is not None and finding.value is not None:
            name = _first(last[sign.name], finding.value, sign)
            if name is not None:
                yield Finding(
                    f"{sign.name} {name}", "", finding.t0_ns, finding.t1_ns,
                    value=finding.value, unit=finding.unit,
                )  # fmt: skip


def _first(last: float, predicted: float, sign: Sign) -> str | None:
    for name, score, threshold in RULES:
        least = getattr(sign, threshold)
        if least is not None and score(last, predicted, sign) >= least:
            return name
    return None


def _limits(sign: Sign) -> tuple[float, float]:
    low, high = sign.low, sign.high
    return (-math.inf if low is None else low, math.inf if high is None else high)
