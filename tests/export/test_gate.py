"""The gate: the worst of the backends that are here decides."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnx", reason="test models are made with onnx")

from calibration.collect import answers
from calibration.sets import Dataset
from export import gate
from export.passes import clean
from export.precision.fp16 import to_fp16
from export.spec import read_spec


@pytest.fixture(scope="module")
def fp32(toy_model: bytes) -> bytes:
    return clean(toy_model)


@pytest.fixture(scope="module")
def data(toy_images: Callable[..., Dataset]) -> Dataset:
    return toy_images(200, 3)


def verdict_of(fp32: bytes, data: Dataset, project: Path) -> gate.Verdict:
    spec, manifest = read_spec(project)
    reference = answers(fp32, "logits", data)
    (found,) = gate.judge_all({"fp16": to_fp16(fp32)}, reference, data, manifest, spec.gate)
    return found


@pytest.mark.integration
def test_every_backend_here_is_judged(fp32: bytes, data: Dataset, project: Path) -> None:
    pytest.importorskip("openvino", reason="the other CPU backend")
    found = verdict_of(fp32, data, project)
    assert found.passes and set(found.lower_bounds) == {"onnxruntime", "openvino"}
    assert found.lower_bounds[found.backend] == min(found.lower_bounds.values())


@pytest.mark.parametrize(("wrong", "passes"), [("onnxruntime", False), ("twin", False), ("", True)])
def test_the_worst_backend_decides(
    fp32: bytes, data: Dataset, project: Path, monkeypatch: pytest.MonkeyPatch, wrong: str,
    passes: bool,
) -> None:  # fmt: skip
    """One backend tells the classes apart no better than chance; the last case is the control."""

    def given(model: bytes, output: str, of: Dataset, backend: str) -> Any:
        found = answers(model, output, of)
        return np.random.default_rng(0).permutation(found) if backend == wrong else found

    monkeypatch.setattr(gate, "present", lambda: ["onnxruntime", "twin"])
    monkeypatch.setattr(gate, "taken", lambda backend, models: list(models))
    monkeypatch.setattr(gate, "answers", given)
    found = verdict_of(fp32, data, project)
    assert found.passes is passes
    assert set(found.lower_bounds) == {"onnxruntime", "twin"}
    if wrong:
        assert found.backend == wrong and "overall" in found.failures()


def test_a_backend_that_refuses_the_model_has_no_say(
    fp32: bytes, data: Dataset, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gate, "present", lambda: ["onnxruntime", "twin"])
    monkeypatch.setattr(gate, "taken", lambda backend, models: [] if backend == "twin" else models)
    assert set(verdict_of(fp32, data, project).lower_bounds) == {"onnxruntime"}
