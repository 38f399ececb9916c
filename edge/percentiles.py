"""Latency distributions as medge reports them: p50, p90, p99, p999 and max, in the input's unit."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

POINTS = {"p50": 50.0, "p90": 90.0, "p99": 99.0, "p999": 99.9}


def summary(values: Sequence[float], digits: int = 4) -> dict[str, float] | None:
    """The five figures, or None where nothing was measured."""
    if len(values) == 0:
        return None
    figures = {name: float(np.percentile(values, q)) for name, q in POINTS.items()}
    figures["max"] = float(np.max(values))
    return {name: round(value, digits) for name, value in figures.items()}
