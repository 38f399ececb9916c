"""Plans by NVIDIA's own builder, without a GPU; what it dies of costs its child only."""

from __future__ import annotations

import os
import signal
import threading
import time

import numpy as np
import pytest

onnx = pytest.importorskip("onnx", reason="test models are made with onnx")

from onnx import TensorProto, helper, numpy_helper  # noqa: E402

from edge import child  # noqa: E402
from edge.bundle.load import REFERENCE, load  # noqa: E402
from edge.engines.tensorrt_build import Request, build_plan  # noqa: E402
from edge.errors import StartError  # noqa: E402

pytestmark = pytest.mark.integration
RTX = "tensorrt_rtx"


@pytest.fixture(autouse=True)
def _rtx() -> None:
    pytest.importorskip(RTX)


def model(kind: str = "Relu", shape: tuple[object, ...] = ("n", 4), opset: int = 18) -> bytes:
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node(kind, ["x"], ["y"])], "g",
        [value("x", TensorProto.FLOAT, shape)], [value("y", TensorProto.FLOAT, shape)],
    )  # fmt: skip
    opsets = [helper.make_opsetid("", opset)]
    return bytes(helper.make_model(graph, opset_imports=opsets, ir_version=10).SerializeToString())


@pytest.mark.parametrize("bundle", sorted(p.parent.name for p in REFERENCE.glob("*/manifest.json")))
@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_every_released_precision_builds(bundle: str, precision: str) -> None:
    released = load(bundle)
    if precision not in released.manifest.precisions:
        pytest.skip(f"{bundle} is released without {precision}")
    phases = set()

    def progress(phase: str, share: float, eta_s: float | None) -> bool:
        assert 0 <= share <= 1 and (eta_s is None or eta_s >= 0)
        phases.add(phase)
        return True

    file = released.manifest.precisions[precision].file
    built = build_plan(released.files[file], Request(RTX), progress)
    assert built.plan and built.version and phases
    assert built.seconds < 10


def test_a_cancelled_build_ends() -> None:
    with pytest.raises(StartError, match="cancelled"):
        build_plan(model(), Request(RTX), lambda *_: False)


def test_a_build_has_a_time_limit() -> None:
    began = time.monotonic()
    with pytest.raises(StartError, match="no plan in"):
        build_plan(model(), Request(RTX, limit_s=0.02))
    assert time.monotonic() - began < 2


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"no model at all", "not ONNX"),
        (model("NonZero"), "refuses the model"),
        (model(shape=("n", "t")), "leaves axes open"),
    ],
)
def test_what_it_refuses_is_one_error(data: bytes, says: str) -> None:
    with pytest.raises(StartError, match=says):
        build_plan(data, Request(RTX))


def test_profiles() -> None:
    data = model(shape=("n", "t"))
    good = Request(RTX, profiles={"x": ((1, 1), (1, 8), (2, 16))})
    assert build_plan(data, good).plan
    wrong = Request(RTX, profiles={"x": ((1, 9), (1, 8), (2, 16))})
    with pytest.raises(StartError, match="not in order"):
        build_plan(data, wrong)


def test_a_profile_that_the_model_contradicts_is_an_error_not_a_warning() -> None:
    """A reshape that fixes what the profile leaves open: the builder only warns, and builds."""
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("Reshape", ["x", "to"], ["y"])], "g",
        [value("x", TensorProto.FLOAT, ["n", "t", 4])],
        [value("y", TensorProto.FLOAT, ["n", 4])],
        [numpy_helper.from_array(np.array([1, 4], np.int64), "to")],
    )  # fmt: skip
    data = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    request = Request(RTX, profiles={"x": ((1, 1, 4), (1, 1, 4), (2, 8, 4))})
    with pytest.raises(StartError, match="would be wrong"):
        build_plan(data.SerializeToString(), request)


def attention() -> bytes:
    """Opset 23 Attention of rank 4: it parses, and then the builder dies of it."""
    value = helper.make_tensor_value_info
    shape = [2, 4, 8, 16]
    graph = helper.make_graph(
        [helper.make_node("Attention", ["x", "x", "x"], ["y"])], "g",
        [value("x", TensorProto.FLOAT, shape)], [value("y", TensorProto.FLOAT, shape)],
    )  # fmt: skip
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 23)], ir_version=11)
    return bytes(made.SerializeToString())


def test_a_model_that_crashes_the_builder_is_one_error() -> None:
    with pytest.raises(StartError, match=r"ended its process by SIG|refuses the model"):
        build_plan(attention(), Request(RTX))


def test_a_child_that_is_killed_is_one_error(monkeypatch: pytest.MonkeyPatch) -> None:
    real = child.spawn

    def doomed(*arguments: object, **options: object) -> object:
        process = real(*arguments, **options)  # type: ignore[arg-type]
        threading.Timer(0.1, os.kill, (process.pid, signal.SIGKILL)).start()
        return process

    monkeypatch.setattr(child, "spawn", doomed)
    with pytest.raises(StartError, match="SIGKILL"):
        build_plan(load("breast-ultrasound").files["model.int8.onnx"], Request(RTX))


def test_a_missing_package_and_another_builder_are_said() -> None:
    with pytest.raises(StartError, match="no DLA"):
        build_plan(model(), Request("dla"))
    with pytest.raises(StartError, match=r"\.\[tensorrt\]"):
        build_plan(model(), Request("tensorrt"))
