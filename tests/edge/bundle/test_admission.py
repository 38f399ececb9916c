"""Admission: golden vectors decide, the child takes the damage, the choice is stored."""

from __future__ import annotations

import json
import resource
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge.bundle import admission
from edge.bundle.load import load
from edge.bundle.manifest import Input
from edge.engines import ENGINES
from edge.errors import StartError

ONLY_ORT = {"onnxruntime": ENGINES["onnxruntime"]}


def test_chosen_stored_and_not_measured_again(
    make_bundle: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = make_bundle()
    bundle = load(made.folder, trusted_keys=[made.public])
    first = admission.admitted(bundle, tmp_path)
    assert first.backend in ("onnxruntime", "openvino")
    assert all(not t.refused for t in first.trials)
    monkeypatch.setattr(admission, "admit", lambda *_: pytest.fail("measured again"))
    assert admission.admitted(bundle, tmp_path) == first


def test_another_environment_measures_again(
    make_bundle: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = make_bundle()
    bundle = load(made.folder, trusted_keys=[made.public])
    admission.admitted(bundle, tmp_path, ONLY_ORT)
    assert admission.stored(bundle, tmp_path, ONLY_ORT) is not None
    monkeypatch.setattr(admission, "environment", lambda _: "other")
    assert admission.stored(bundle, tmp_path, ONLY_ORT) is None


def test_a_model_that_computes_something_else_is_refused(
    make_bundle: Any, model_bytes: Any, tmp_path: Path
) -> None:
    made = make_bundle(model_bytes=model_bytes(1.01))
    bundle = load(made.folder, trusted_keys=[made.public])
    with pytest.raises(StartError, match="golden vectors differ"):
        admission.admit(bundle, tmp_path, ONLY_ORT)


ROGUES = """
import os, time
from edge.engines.onnxruntime import open_onnxruntime

def crash(*_): os.abort()
def hang(*_): time.sleep(60)
def bomb(*_): return bytearray(64 << 30)
def leave(*_): os._exit(0)
def odd(*_): raise RuntimeError("two\\nlines")

class Late:
    backend = "rogue"
    def __init__(self, *arguments):
        self.real, self.runs = open_onnxruntime(*arguments), 0
        self.precision, self.threads = self.real.precision, self.real.threads
        self.inputs, self.outputs = self.real.inputs, self.real.outputs
    def run(self):
        self.real.run()
        self.runs += 1
        if self.runs > 50:
            os.abort()
    def close(self): pass

class Silent(Late):
    def run(self): pass

class Wrong(Late):
    def run(self):
        self.real.run()
        self.outputs["logits"] *= 1.01
"""
REASONS = {
    "crash": "ended by SIGABRT",
    "hang": "no answer in 2 s",
    "bomb": "more memory than is allowed",
    "leave": "exit code 0",
    "odd": "RuntimeError: two lines",
    "Late": "ended by SIGABRT",
    "Silent": "not finite",
    "Wrong": "golden vectors differ",
    "missing": "cannot be loaded",
}


@pytest.mark.parametrize("rogue", REASONS)
def test_a_rogue_backend_costs_only_itself(
    make_bundle: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rogue: str
) -> None:
    """Whatever it does, and whether before or after its golden vectors passed."""
    (tmp_path / "rogues.py").write_text(ROGUES)
    monkeypatch.syspath_prepend(tmp_path)
    made = make_bundle()
    bundle = load(made.folder, trusted_keys=[made.public])
    table = {"rogue": f"rogues:{rogue}", **ONLY_ORT}
    before_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    record = admission.admit(bundle, tmp_path, table, limit_s=2)
    assert record.backend == "onnxruntime"
    (trial,) = [t for t in record.trials if t.backend == "rogue"]
    assert REASONS[rogue] in trial.refused
    assert admission.stored(bundle, tmp_path, table) == record
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kib < 50_000


def test_the_control_a_good_backend_of_the_operators_own_passes(
    make_bundle: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "goods.py").write_text(
        "from edge.engines.onnxruntime import open_onnxruntime as good"
    )
    monkeypatch.syspath_prepend(tmp_path)
    made = make_bundle()
    bundle = load(made.folder, trusted_keys=[made.public])
    record = admission.admit(bundle, tmp_path, {"mine": "goods:good"})
    assert (record.backend, record.trials[0].refused) == ("mine", "")


def test_null_under_another_name_passes_nowhere(make_bundle: Any, tmp_path: Path) -> None:
    made = make_bundle()
    bundle = load(made.folder, trusted_keys=[made.public])
    with pytest.raises(StartError, match="not finite"):
        admission.admit(bundle, tmp_path, {"mine": ENGINES["null"]})
    with pytest.raises(StartError, match="passes on no backend"):
        admission.admit(bundle, tmp_path, {"null": ENGINES["null"]})
    assert not (tmp_path / "admission").exists()


@pytest.mark.parametrize(
    "spoil",
    [
        lambda r: {**r, "backend": "null"},
        lambda r: {**r, "backend": "gone"},
        lambda r: {**r, "precision": "int8"},
        lambda r: {**r, "digest": "0" * 64},
        lambda r: {**r, "schema": 2},
        lambda r: [r],
    ],
)
def test_a_record_that_does_not_hold_is_not_used(
    make_bundle: Any, tmp_path: Path, spoil: Any
) -> None:
    made = make_bundle()
    bundle = load(made.folder, trusted_keys=[made.public])
    admission.admit(bundle, tmp_path, ONLY_ORT)
    (file,) = (tmp_path / "admission").iterdir()
    record = file.read_bytes()
    file.write_bytes(json.dumps(spoil(json.loads(record))).encode())
    assert admission.stored(bundle, tmp_path) is None
    for size in range(0, len(record) - 1, 50):
        file.write_bytes(record[:size])
        assert admission.stored(bundle, tmp_path, ONLY_ORT) is None
    file.write_bytes(record)
    assert admission.stored(bundle, tmp_path, ONLY_ORT) is not None


def test_a_folder_that_cannot_hold_the_record(make_bundle: Any, tmp_path: Path) -> None:
    made = make_bundle()
    bundle = load(made.folder, trusted_keys=[made.public])
    (tmp_path / "admission").write_text("a file")
    with pytest.raises(StartError, match="state_dir"):
        admission.admit(bundle, tmp_path, ONLY_ORT)


def test_the_folder_a_user_stands_in_is_not_imported_from(
    make_bundle: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = make_bundle()
    bundle = load(made.folder, trusted_keys=[made.public])
    downloads = tmp_path / "downloads"
    downloads.mkdir()
    for name in ("numpy", "msgspec", "onnxruntime"):
        (downloads / f"{name}.py").write_text("import os; os.abort()")
    monkeypatch.chdir(downloads)
    monkeypatch.setattr("sys.path", [p for p in sys.path if p])
    assert admission.admit(bundle, tmp_path, ONLY_ORT).backend == "onnxruntime"


def test_a_model_of_other_shapes_is_refused(
    make_bundle: Any, model_bytes: Any, tmp_path: Path
) -> None:
    made = make_bundle(inputs=(Input(name="beat", shape=(1, 32), source="window"),))
    bundle = load(made.folder, trusted_keys=[made.public])
    with pytest.raises(StartError, match="the manifest"):
        admission.admit(bundle, tmp_path, ONLY_ORT)


def test_weights_in_another_file_are_refused(
    make_bundle: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file is there: both runtimes by themselves would read it."""
    from onnx import TensorProto, helper, numpy_helper

    tensor = numpy_helper.from_array(np.zeros((64, 3), np.float32), "w")
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", "weights.bin"
    nodes = [
        helper.make_node("Flatten", ["beat"], ["flat"]),
        helper.make_node("MatMul", ["flat", "w"], ["logits"]),
    ]
    made = make_bundle(model_bytes=serialised(nodes, [tensor]))
    (tmp_path / "weights.bin").write_bytes(bytes(64 * 3 * 4))
    monkeypatch.chdir(tmp_path)
    bundle = load(made.folder, trusted_keys=[made.public])
    with pytest.raises(StartError, match="another file"):
        admission.admit(bundle, tmp_path)


def serialised(nodes: list[Any], weights: list[Any]) -> bytes:
    from onnx import TensorProto, helper

    graph = helper.make_graph(
        nodes,
        "attack",
        [helper.make_tensor_value_info("beat", TensorProto.FLOAT, ["N", 1, 64])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", 3])],
        weights,
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    return bytes(made.SerializeToString())


@pytest.mark.parametrize("elements", [1 << 31, 1 << 26], ids=["8 GiB", "256 MiB"])
@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_a_tiny_file_that_asks_for_gigabytes(
    make_bundle: Any, tmp_path: Path, backend: str, elements: int
) -> None:
    """`ConstantOfShape`: too much fails to load, what still fits fails its golden vectors."""
    from onnx import helper, numpy_helper

    nodes = [
        helper.make_node("ConstantOfShape", ["n"], ["huge"]),
        helper.make_node("ReduceMax", ["huge"], ["zero"], keepdims=0),
        helper.make_node("ReduceMean", ["beat"], ["mean"], axes=[2], keepdims=0),
        helper.make_node("Add", ["mean", "zero"], ["one"]),
        helper.make_node("Concat", ["one", "one", "one"], ["logits"], axis=1),
    ]
    bomb = serialised(nodes, [numpy_helper.from_array(np.array([elements]), "n")])
    assert len(bomb) < 500
    made = make_bundle(model_bytes=bomb)
    bundle = load(made.folder, trusted_keys=[made.public])
    before_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(StartError, match="passes on no backend"):
        admission.admit(bundle, tmp_path, {backend: ENGINES[backend]}, limit_s=20)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kib < 50_000


def test_null_is_never_considered() -> None:
    assert "null" in ENGINES
    assert "null" not in admission.present()
