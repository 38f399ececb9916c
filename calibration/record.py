"""`calibration.json`: which set calibrated a bundle, how, and what came of every tensor.

Enough to repeat the calibration, and to see where a model was clipped.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from calibration.observers import BINS
from calibration.sets import Dataset, digest

if TYPE_CHECKING:
    from collections.abc import Mapping

    from calibration.observers import Histogram

SCHEMA = 1
LEVELS = 127


@dataclass(frozen=True, slots=True)
class TensorRecord:
    """Of one activation: its `scale`, the share of values that saturate, and the coverage: which
    share of the 127 magnitudes is used at all (a low one says the scale is set by outliers)."""

    scale: float
    saturated_share: float
    coverage: float


@dataclass(frozen=True, slots=True)
class CalibrationRecord:
    """How a bundle was calibrated; `high` are the layers that stayed in floating point."""

    source: str
    digest: str
    samples: int
    classes: dict[str, int]
    groups: int
    seed: int
    calibrator: str
    bias_corrected: bool
    high: tuple[str, ...]
    tensors: dict[str, TensorRecord]
    schema: int = SCHEMA


def make_record(
    data: Dataset, seed: int, calibrator: str, bias_corrected: bool, high: tuple[str, ...],
    limits: Mapping[str, float], seen: Mapping[str, Histogram],
) -> CalibrationRecord:  # fmt: skip
    """The record of a calibration on `data`; `limits` is the magnitude of code 127 by tensor."""
    classes, counts = np.unique(data.label, return_counts=True)
    return CalibrationRecord(
        data.source,
        digest(data),
        len(data),
        {str(c): int(n) for c, n in zip(classes, counts)},
        len(set(data.group.tolist())),
        seed,
        calibrator,
        bias_corrected,
        high,
        {name: tensor_record(limit, seen[name]) for name, limit in limits.items()},
    )


def tensor_record(limit: float, seen: Histogram) -> TensorRecord:
    """What a limit means for the values that were seen, to the histogram's resolution."""
    x = seen.middles()
    saturated = int(seen.counts[x > limit * (1 + 0.5 / LEVELS)].sum())
    codes = np.minimum(np.rint(x * (LEVELS / limit)), LEVELS).astype(int)
    used = np.bincount(codes, seen.counts, LEVELS + 1)[1:] > 0
    reachable = max(1, min(LEVELS, int(limit * BINS / seen.top)))
    return TensorRecord(
        scale=float(np.float32(limit / LEVELS)),
        saturated_share=round(saturated / max(1, int(seen.counts.sum())), 8),
        coverage=round(min(1.0, int(used.sum()) / reachable), 4),
    )


def encode(record: CalibrationRecord) -> bytes:
    """The bytes of `calibration.json`."""
    return msgspec.json.format(msgspec.json.encode(record)) + b"\n"
