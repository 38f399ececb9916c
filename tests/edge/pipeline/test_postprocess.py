"""Logits to verdicts: calibrated, thresholded, and never a label from a non-finite number."""

from __future__ import annotations

import numpy as np
import pytest

from edge.bundle.manifest import Label, Output
from edge.pipeline.postprocess import probabilities, verdict
from edge.types import Reason

LABELS = tuple(Label(name=n, display=n, withhold=n == "Q") for n in "NSVFQ")


def output(**changes: float) -> Output:
    return Output(name="logits", labels=LABELS, **changes)


def logits(**high: float) -> np.ndarray:
    return np.array([high.get(label.name, 0.0) for label in LABELS], np.float32)


def test_temperature_divides_logits() -> None:
    p = probabilities(logits(V=2.0).tolist(), 2.0)
    expected = np.e / (np.e + 4)
    assert sum(p) == pytest.approx(1)
    assert p[2] == pytest.approx(expected)


def test_confident_label() -> None:
    judged = verdict(logits(V=8.0), output(min_probability=0.5, conformal_quantile=0.9))
    assert (judged.label.name, judged.reason, judged.prediction_set) == ("V", None, ("V",))


def test_q_is_unclassifiable_however_sure() -> None:
    assert verdict(logits(Q=9.0), output()).reason is Reason.UNCLASSIFIABLE


def test_under_the_threshold_is_low_confidence() -> None:
    judged = verdict(logits(V=0.1), output(min_probability=0.5))
    assert judged.reason is Reason.LOW_CONFIDENCE
    assert verdict(logits(V=0.1), output(min_probability=0.1)).reason is None  # control


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_non_finite_output_is_never_a_label(bad: float) -> None:
    values = logits(N=9.0)
    values[3] = bad
    assert verdict(values, output()).reason is Reason.OUT_OF_RANGE


def test_prediction_set_grows_with_the_quantile() -> None:
    values = logits(V=1.0, F=0.8)
    small = verdict(values, output(conformal_quantile=0.65)).prediction_set
    large = verdict(values, output(conformal_quantile=0.95)).prediction_set
    assert set(small) < set(large)
