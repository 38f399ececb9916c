"""A model that ends its backend's process is left out, and nothing else with it."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge.bundle.admission import present
from export.backends import taken

pytest.importorskip("onnx", reason="test models are made with onnx")

OPENER = """
import os, time
from edge.engines.onnxruntime import open_onnxruntime
from edge.errors import StartError
def opener(model, precision, batch, threads):
    if precision == WHICH:
        ACT
    return open_onnxruntime(model, precision, batch, threads)
"""
ACTS = {
    "crashes": "os.abort()",
    "exits": "os._exit(0)",
    "refuses": "raise StartError('no', 'no')",
    "hangs": "time.sleep(60)",
    "crashes at a larger batch": "batch == 1 or os.abort()",
}


def opener(folder: Path, monkeypatch: pytest.MonkeyPatch, act: str, which: str) -> str:
    text = OPENER.replace("ACT", act).replace("WHICH", repr(which))
    (folder / "opener_of_a_test.py").write_text(text)
    monkeypatch.syspath_prepend(str(folder))
    return "opener_of_a_test:opener"


@pytest.mark.integration
@pytest.mark.parametrize("act", ACTS)
def test_only_the_model_at_fault_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, toy_model: bytes, act: str
) -> None:
    models = dict.fromkeys(("a", "b", "c"), toy_model)
    factory = opener(tmp_path, monkeypatch, ACTS[act], "1")
    limit_s = 6.0 if act == "hangs" else 60.0
    assert taken("openvino", models, factory, limit_s) == ["a", "c"]
    sound = opener(tmp_path, monkeypatch, ACTS[act], "nothing")
    assert taken("openvino", models, sound) == ["a", "b", "c"]  # control


def test_the_reference_is_here_first_and_not_tried() -> None:
    assert present()[0] == "onnxruntime"
    assert taken("onnxruntime", {"broken": b""}) == ["broken"]
