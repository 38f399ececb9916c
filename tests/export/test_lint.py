"""Lint: each planted defect is found, at its node, with a fix; good models give nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

onnx = pytest.importorskip("onnx", reason="test models are made with onnx")

from onnx import helper, numpy_helper  # noqa: E402

from calibration.collect import watch  # noqa: E402
from calibration.sets import Dataset  # noqa: E402
from edge.engines.tensorrt_build import Request, build_plan  # noqa: E402
from edge.errors import StartError  # noqa: E402
from export.graph import Graph, attribute, read  # noqa: E402
from export.lint import TARGETS, lint  # noqa: E402
from export.passes import clean  # noqa: E402
from export.precision.fp16 import to_fp16  # noqa: E402
from export.precision.qdq import quantise, quantised_inputs  # noqa: E402
from export.precision.uint8 import as_uint8  # noqa: E402


@pytest.fixture(scope="module")
def good(toy_model: bytes, toy_images: Callable[..., Dataset]) -> dict[str, bytes]:
    fp32 = clean(toy_model)
    seen = watch(fp32, list(quantised_inputs(read(fp32), ())), toy_images(50, 4))
    int8 = quantise(fp32, {name: h.amax for name, h in seen.items()})
    return {"fp32": fp32, "fp16": to_fp16(fp32), "int8": int8, "int8u": as_uint8(int8)}


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_good_models_give_nothing(good: dict[str, bytes], precision: str, target: str) -> None:
    assert lint(good[precision], target) == ()


def test_uint8_is_for_onnx_runtime_and_openvino(good: dict[str, bytes]) -> None:
    assert lint(good["int8u"], "onnxruntime") == lint(good["int8u"], "openvino") == ()
    assert {c.rule for c in lint(good["int8u"], "tensorrt-11")} == {"zero-point", "bias", "pairs"}


def constant(model: Any, name: str) -> Any:
    return next(i for i in model.graph.initializer if i.name == name)


def change(model: Any, name: str, to: Callable[[np.ndarray], np.ndarray]) -> None:
    tensor = constant(model, name)
    value = np.asarray(to(numpy_helper.to_array(tensor).copy()))
    tensor.CopyFrom(numpy_helper.from_array(value, name))


def node(model: Any, name: str) -> Any:
    return next(n for n in model.graph.node if n.name == name)


def scaled(factor: float) -> Callable[[Any], None]:
    return lambda m: change(m, "m1_scale", lambda s: np.float32(s * factor))


def zero_point(m: Any) -> None:
    change(m, "m1_zero", lambda z: np.int8(z + 3))


def int16(m: Any) -> None:
    change(m, "m1_zero", lambda z: z.astype(np.int16))


def tiny_scale(m: Any) -> None:
    change(m, "m1_scale", lambda s: np.float32(1e-40))


def bias(m: Any) -> None:
    m.graph.initializer.append(numpy_helper.from_array(np.int32([1] * 16), "b2_codes"))
    m.graph.initializer.append(numpy_helper.from_array(np.float32(0.1), "b2_scale"))
    made = helper.make_node("DequantizeLinear", ["b2_codes", "b2_scale"], ["b2_dq"], "b2_DQ")
    m.graph.node.insert(0, made)
    node(m, "second").input[2] = "b2_dq"


def one_sided(m: Any) -> None:
    node(m, "second").input[0] = "r1"


def unpaired(m: Any) -> None:
    node(m, "head").input[0] = "features"
    taken = [n for n in m.graph.node if n.name == "features_DQ"]
    m.graph.node.remove(taken[0])


def other_scale(m: Any) -> None:
    m.graph.initializer.append(numpy_helper.from_array(np.float32(0.7), "other"))
    node(m, "m1_DQ").input[1] = "other"


def per_channel_activation(m: Any) -> None:
    change(m, "m1_scale", lambda s: np.full(8, s, np.float32))
    change(m, "m1_zero", lambda z: np.zeros(8, np.int8))


def wrong_axis(m: Any) -> None:
    change(m, "w2_0_scale", lambda s: np.full(8, s[0], np.float32))
    change(m, "w2_0_zero", lambda z: np.zeros(8, np.int8))
    node(m, "w2_0_DQ").attribute[0].i = 1


def scalar_constant(m: Any) -> None:
    for name, value in {"sc": np.int8(3), "ss": np.float32(1.0), "sz": np.int8(0)}.items():
        m.graph.initializer.append(numpy_helper.from_array(np.asarray(value), name))
    m.graph.node.insert(0, helper.make_node("DequantizeLinear", ["sc", "ss", "sz"], ["sd"], "sDQ"))


def nan_weight(m: Any) -> None:
    change(m, "b2", lambda b: b * np.float32(np.nan))


def double(m: Any) -> None:
    change(m, "b2", lambda b: b.astype(np.float64))


def lacking(m: Any) -> None:
    m.graph.node.append(helper.make_node("NonZero", ["logits"], ["nz"], "lost"))


def attention(m: Any) -> None:
    m.graph.node.append(helper.make_node("Attention", ["q", "k", "v"], ["at"], "lost"))


def inside_a_branch(m: Any) -> None:
    inner = helper.make_graph([helper.make_node("NonZero", ["logits"], ["n"], "lost")], "b", [], [])
    m.graph.node.append(helper.make_node("If", ["c"], ["o"], "if", then_branch=inner))


def foreign(m: Any) -> None:
    node(m, "second").domain = "com.microsoft"


def opset(m: Any) -> None:
    m.opset_import[0].version = 25


def external(m: Any) -> None:
    constant(m, "b2").data_location = onnx.TensorProto.EXTERNAL


def trains(m: Any) -> None:
    for name, value in {"ratio": np.float32(0.5), "mode": np.asarray(True)}.items():
        m.graph.initializer.append(numpy_helper.from_array(np.asarray(value), name))
    m.graph.node.append(helper.make_node("Dropout", ["logits", "ratio", "mode"], ["d"], "drop"))


PLANTED: dict[str, tuple[Callable[[Any], None], str, str]] = {
    "zero point": (zero_point, "zero-point", "m1_Q"),
    "int16": (int16, "zero-point", "m1_Q"),
    "zero scale": (scaled(0.0), "scale", "m1_Q"),
    "negative scale": (scaled(-1.0), "scale", "m1_Q"),
    "NaN scale": (scaled(float("nan")), "scale", "m1_Q"),
    "infinite scale": (scaled(float("inf")), "scale", "m1_Q"),
    "subnormal scale": (tiny_scale, "scale", "m1_Q"),
    "int32 bias": (bias, "bias", "b2_DQ"),
    "one-sided": (one_sided, "one-sided", "second"),
    "Q without DQ": (unpaired, "pairs", "features_Q"),
    "DQ with another scale": (other_scale, "pairs", "m1_DQ"),
    "quantised scalar": (scalar_constant, "pairs", "sDQ"),
    "activation per channel": (per_channel_activation, "axis", "second"),
    "weight on the wrong axis": (wrong_axis, "axis", "second"),
    "NaN weight": (nan_weight, "finite", "second"),
    "double precision": (double, "types", "second"),
    "another file": (external, "types", "second"),
    "operator that lacks": (lacking, "operators", "lost"),
    "Attention, which crashes": (attention, "operators", "lost"),
    "operator inside a branch": (inside_a_branch, "operators", "lost"),
    "operator of another domain": (foreign, "operators", "second"),
    "opset": (opset, "versions", "model"),
    "dropout that trains": (trains, "training", "drop"),
}


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_defect_is_found_at_its_node(good: dict[str, bytes], name: str) -> None:
    plant, rule, where = PLANTED[name]
    model = onnx.load_from_string(good["int8"])
    plant(model)
    found = lint(model.SerializeToString(), "tensorrt-10.3")
    assert (rule, where) in {(c.rule, c.node) for c in found}
    assert all(c.fix and c.message for c in found)


REFUSED = ("zero point", "zero scale", "NaN scale", "int32 bias", "int16", "operator that lacks")


@pytest.mark.integration
@pytest.mark.parametrize("name", REFUSED)
def test_tensorrt_rtx_refuses_it_too(good: dict[str, bytes], name: str) -> None:
    pytest.importorskip("tensorrt_rtx")
    model = onnx.load_from_string(good["int8"])
    PLANTED[name][0](model)
    with pytest.raises(StartError, match="refuses the model"):
        build_plan(model.SerializeToString(), Request("tensorrt_rtx"))
    assert build_plan(good["int8"], Request("tensorrt_rtx")).plan  # control


def test_an_open_axis_is_a_warning() -> None:
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("Relu", ["x"], ["y"])], "g",
        [value("x", onnx.TensorProto.FLOAT, ["n", "t"])],
        [value("y", onnx.TensorProto.FLOAT, ["n", "t"])],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    (found,) = lint(model.SerializeToString(), "tensorrt-11")
    assert (found.rule, found.severity) == ("shapes", "warning")


def test_an_unknown_target_lists_the_known(good: dict[str, bytes]) -> None:
    with pytest.raises(StartError, match=r"tensorrt-10\.3"):
        lint(good["fp32"], "tensorrt-10.2")


def test_weights_are_scaled_by_output_channel(good: dict[str, bytes]) -> None:
    graph = Graph(read(good["int8"]))
    axes = {n.name: attribute(n, "axis", 1) for n in graph.nodes if n.name.endswith("_0_DQ")}
    assert axes == {"w1_0_DQ": 0, "w2_0_DQ": 0, "w3_0_DQ": 0}
