"""The INT8 model of a spec: calibrator, bias correction and mixed precision, all found by trying.

Owns the search. Every choice is judged on the calibration set only; the gate judges the result on
data that no choice has seen.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from calibration.calibrators import CALIBRATORS
from calibration.collect import answers, watch
from calibration.record import CalibrationRecord, make_record
from calibration.sets import stratified
from edge.registry import resolve
from edge.validation.comparison import agreement
from edge.validation.metrics import each_alone, prepare, value_of
from export.graph import read
from export.latency import latencies_ms
from export.precision.bias import corrected
from export.precision.qdq import layers, quantise, quantised_inputs
from export.precision.uint8 import as_uint8

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from calibration.observers import Histogram
    from calibration.sets import Dataset

SENSITIVITY_SAMPLES = 128
CORRECTION_SAMPLES = 64
NEARLY_AS_FAST = 1.03
"""Of two mixes this close in time the more accurate one is taken."""


@dataclass(frozen=True, slots=True)
class LayerCost:
    """What quantising one layer alone costs: fall of the metric, and signal to noise of logits."""

    layer: str
    metric_fall: float
    sqnr_db: float


@dataclass(frozen=True, slots=True)
class Mix:
    """One tried mix: how many of the costliest layers stay high, and what came of it.
    `latency_ms` is the best of all backends and of both INT8 dialects, None where not measured."""

    high: tuple[str, ...]
    metric_fall: float
    sqnr_db: float
    latency_ms: float | None


@dataclass(frozen=True, slots=True)
class Int8:
    """The model in both dialects, and how it was found."""

    int8: bytes
    int8u: bytes
    record: CalibrationRecord
    costs: tuple[LayerCost, ...]
    mixes: tuple[Mix, ...]


@dataclass(frozen=True, slots=True)
class _Judge:
    """FP32 answers on a set, against which every try is held."""

    data: Dataset
    reference: NDArray[np.float32]
    output: str
    metric: str
    positive: int | None

    def of(self, model: bytes, only: int = 0) -> tuple[float, float]:
        """(fall of the metric, SQNR in dB) of a model on the set, or its first `only` samples."""
        data = self.data.take(np.arange(min(only or len(self.data), len(self.data))))
        expected = data.expected()
        reference = self.reference[: len(expected.label)]
        found = answers(model, self.output, data)
        before, after = (
            value_of(prepare(self.metric, each_alone(x, expected.label, expected.target),
                             self.positive), len(expected.label))
            for x in (reference, found)
        )  # fmt: skip
        fall = before - after if np.isfinite(before - after) else 1.0
        return round(fall, 6), agreement(reference, found, None).sqnr_db


def make_int8(
    fp32: bytes, output: str, calibration: Dataset, samples: int, seed: int, metric: str,
    positive: int | None, allowed_fall: float,
) -> Int8:  # fmt: skip
    """The fastest mix whose metric on the calibration set falls by at most `allowed_fall`, or the
    most accurate one where none does: then the gate has the word."""
    chosen = stratified(calibration, samples, seed)
    judge = _Judge(chosen, answers(fp32, output, chosen), output, metric, positive)
    seen = watch(fp32, list(quantised_inputs(read(fp32), ())), chosen)
    calibrator, limits = _calibrated(fp32, seen, judge)
    costs = _costs(fp32, limits, judge)
    mixes, fp32_ms = _tried(fp32, limits, judge, _candidates(costs))
    mix = _chosen(mixes, allowed_fall, fp32_ms)
    plain = quantise(fp32, limits, mix.high)
    few = chosen.take(np.random.default_rng(seed).permutation(len(chosen))[:CORRECTION_SAMPLES])
    shifted = corrected(fp32, plain, few)
    corrects = judge.of(shifted)[1] > judge.of(plain)[1]
    int8 = shifted if corrects else plain
    used = {n: limits[n] for n in quantised_inputs(read(fp32), mix.high)}
    record = make_record(chosen, seed, calibrator, corrects, mix.high, used, seen)
    return Int8(int8, as_uint8(int8), record, costs, mixes)


def _calibrated(
    fp32: bytes, seen: Mapping[str, Histogram], judge: _Judge
) -> tuple[str, dict[str, float]]:
    """The calibrator whose answers are nearest to FP32's, and its limit for each tensor."""
    best: tuple[float, str, dict[str, float]] = (-np.inf, "", {})
    for name in CALIBRATORS:
        calibrator = resolve(CALIBRATORS, name, "calibrator")
        limits = {tensor: calibrator(h) or 1.0 for tensor, h in seen.items()}
        sqnr_db = judge.of(quantise(fp32, limits))[1]
        if sqnr_db > best[0]:
            best = sqnr_db, name, limits
    return best[1], best[2]


def _costs(fp32: bytes, limits: Mapping[str, float], judge: _Judge) -> tuple[LayerCost, ...]:
    """Each layer quantised alone, the costliest first."""
    names = [layer.name for layer in layers(read(fp32))]
    costs = []
    for name in names:
        alone = quantise(fp32, limits, set(names) - {name})
        costs.append(LayerCost(name, *judge.of(alone, SENSITIVITY_SAMPLES)))
    return tuple(sorted(costs, key=lambda c: (-c.metric_fall, c.sqnr_db)))


def _candidates(costs: Sequence[LayerCost]) -> list[tuple[str, ...]]:
    """None high, then the 1, 2, 4, ... costliest, up to half of all."""
    counts = [0, *(2**i for i in range(16) if 2**i <= len(costs) // 2)]
    by_noise = sorted(costs, key=lambda c: c.sqnr_db)
    return [tuple(c.layer for c in by_noise[:count]) for count in counts]


def _tried(
    fp32: bytes, limits: Mapping[str, float], judge: _Judge, candidates: list[tuple[str, ...]]
) -> tuple[tuple[Mix, ...], float | None]:
    """Every mix, and what FP32 takes at best, ms."""
    models = {"fp32": fp32}
    for i, high in enumerate(candidates):
        int8 = quantise(fp32, limits, high)
        models[f"{i} int8"], models[f"{i} int8u"] = int8, as_uint8(int8)
    took = latencies_ms(models, judge.data.one())

    def best(start: str) -> float | None:
        return min((ms for backend in took.values() for name, ms in backend.items()
                    if name.split()[0] == start), default=None)  # fmt: skip

    mixes = tuple(
        Mix(high, *judge.of(models[f"{i} int8"]), best(str(i))) for i, high in enumerate(candidates)
    )
    return mixes, best("fp32")


def _chosen(mixes: Sequence[Mix], allowed_fall: float, fp32_ms: float | None) -> Mix:
    """The fastest that is accurate enough; where none is faster than FP32, size is all there is to
    gain, and the one with the fewest layers high is taken."""
    good = [m for m in mixes if m.metric_fall <= allowed_fall and m.latency_ms is not None]
    if not good:
        return max(mixes, key=lambda m: m.sqnr_db)
    fastest = min(m.latency_ms or 0.0 for m in good)
    if fp32_ms is not None and fastest * NEARLY_AS_FAST >= fp32_ms:
        return min(good, key=lambda m: len(m.high))
    close = [m for m in good if (m.latency_ms or 0.0) <= fastest * NEARLY_AS_FAST]
    return max(close, key=lambda m: m.sqnr_db)
