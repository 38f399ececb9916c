"""Confidence: temperature found, sets that cover, foreign inputs stopped at the stated rate."""

from __future__ import annotations

import numpy as np
import pytest

from calibration import confidence
from edge.bundle.manifest import Label, Output
from edge.pipeline.postprocess import energy, verdict
from edge.types import Reason


def drawn(n: int, sharpness: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Logits that are `sharpness` times too sure, with labels from the true odds."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(n, 4)) * 2
    p = confidence.probabilities(logits.astype(np.float32), 1.0)
    label = (p.cumsum(1) > rng.random((n, 1))).argmax(1)
    return (logits * sharpness).astype(np.float32), label


@pytest.mark.parametrize("sharpness", [0.5, 1.0, 3.0])
def test_the_temperature_undoes_overconfidence(sharpness: float) -> None:
    logits, label = drawn(20_000, sharpness, 0)
    assert confidence.fit_temperature(logits, label) == pytest.approx(sharpness, rel=0.05)


@pytest.mark.parametrize("nominal", [0.8, 0.9, 0.95])
def test_sets_cover_what_they_promise_on_new_data(nominal: float) -> None:
    fitted = confidence.fit(*drawn(5000, 2.0, 1), nominal)
    logits, label = drawn(20_000, 2.0, 2)
    found = confidence.coverage_of(logits, label, fitted)
    assert found["overall"] == pytest.approx(nominal, abs=0.02)
    assert found["foreign_share"] == pytest.approx(confidence.FALSE_ALARM_RATE, abs=0.005)
    shuffled = confidence.coverage_of(logits, np.roll(label, 1), fitted)
    assert shuffled["overall"] < nominal - 0.1  # control


def test_the_path_withholds_what_the_fit_calls_foreign() -> None:
    fitted = confidence.fit(*drawn(5000, 2.0, 1), 0.9)
    output = Output(
        name="o",
        labels=tuple(Label(name=n, display=n) for n in "abcd"),
        temperature=fitted.temperature,
        energy_limit=fitted.energy_limit,
    )
    logits, _ = drawn(2000, 2.0, 3)
    foreign = confidence.energy(logits) > fitted.energy_limit
    assert 0 < foreign.sum() < 100
    for row, is_foreign in zip(logits, foreign):
        judged = verdict(row, output)
        assert (judged.reason is Reason.OUT_OF_DISTRIBUTION) == is_foreign
        assert energy(row.tolist()) == pytest.approx(float(confidence.energy(row[None])[0]))
