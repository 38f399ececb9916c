"""Passes: what the model computes stays, what should go goes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

onnx = pytest.importorskip("onnx", reason="test models are made with onnx")

from onnx import TensorProto, helper, numpy_helper  # noqa: E402

from calibration.collect import open_session  # noqa: E402
from edge.errors import StartError  # noqa: E402
from export.graph import read, write  # noqa: E402
from export.passes import clean  # noqa: E402
from export.passes.leftovers import remove_leftovers  # noqa: E402
from export.passes.scale_input import scale_input  # noqa: E402
from export.passes.sort import sort  # noqa: E402


def made(nodes: list[object], constants: dict[str, np.ndarray] | None = None) -> bytes:
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes, "g", [value("x", TensorProto.FLOAT, ["n", 2, 4])],
        [value("y", TensorProto.FLOAT, ["n", 2, 4])],
        [numpy_helper.from_array(np.asarray(v), k) for k, v in (constants or {}).items()],
    )  # fmt: skip
    opset = [helper.make_opsetid("", 18)]
    return bytes(helper.make_model(graph, opset_imports=opset, ir_version=10).SerializeToString())


def run(model: bytes, x: np.ndarray) -> np.ndarray:
    return np.asarray(open_session(model).run(None, {"x": x})[0])


X = np.random.default_rng(0).normal(size=(3, 2, 4)).astype(np.float32)
node = helper.make_node


def test_dropout_identity_and_text_go() -> None:
    data = made(
        [node("Identity", ["x"], ["a"]), node("Dropout", ["a"], ["b"]), node("Relu", ["b"], ["c"]),
         node("Identity", ["c"], ["d"]), node("Tanh", ["d"], ["y"], doc_string="/home/me")]
    )  # fmt: skip
    cleaned = clean(data)
    assert [n.op_type for n in read(cleaned).graph.node] == ["Relu", "Tanh"]
    assert b"/home/me" not in cleaned
    np.testing.assert_allclose(run(cleaned, X), run(data, X), atol=1e-6)


def test_a_dropout_that_trains_stays_for_lint_to_refuse() -> None:
    constants = {"ratio": np.float32(0.5), "mode": np.asarray(True)}
    model = read(made([node("Dropout", ["x", "ratio", "mode"], ["y"])], constants))
    assert [n.op_type for n in remove_leftovers(model).graph.node] == ["Dropout"]


def test_batch_norms_and_constants_fold() -> None:
    rng = np.random.default_rng(0)
    constants = {
        "w": rng.normal(size=(2, 2, 3)).astype(np.float32),
        "s": np.float32([1.5, 0.5]), "b": np.float32([0.1, -1]), "m": np.float32([0.3, 0.2]),
        "v": np.float32([2.0, 0.5]), "one": np.float32(1.0), "two": np.float32(2.0),
    }  # fmt: skip
    data = made(
        [node("Conv", ["x", "w"], ["a"], pads=[1, 1]),
         node("BatchNormalization", ["a", "s", "b", "m", "v"], ["c"]),
         node("Add", ["one", "two"], ["three"]), node("Mul", ["c", "three"], ["y"])], constants
    )  # fmt: skip
    cleaned = clean(data)
    kinds = [n.op_type for n in read(cleaned).graph.node]
    assert "BatchNormalization" not in kinds and "Add" not in kinds
    np.testing.assert_allclose(run(cleaned, X), run(data, X), atol=1e-5)


def test_nodes_are_sorted_and_a_cycle_is_refused() -> None:
    nodes = [node("Tanh", ["a"], ["y"]), node("Relu", ["x"], ["a"])]
    model = onnx.load_from_string(made(nodes))
    assert [n.op_type for n in sort(model).graph.node] == ["Relu", "Tanh"]
    again = [node("Add", ["x", "y"], ["a"]), node("Relu", ["a"], ["y"])]
    with pytest.raises(StartError, match="cycle"):
        sort(onnx.load_from_string(made(again)))


def test_names_are_given_once() -> None:
    data = made([node("Relu", ["x"], ["a"], "same"), node("Relu", ["a"], ["y"], "same")])
    names = [n.name for n in read(clean(data)).graph.node]
    assert len(set(names)) == len(names) and all(names)


def test_scaling_moves_inside() -> None:
    plain = made([node("Tanh", ["x"], ["y"])])
    model = scale_input(read(plain), "x", (1.0, -2.0), (0.5, 4.0))
    mean, deviation = np.float32([[[1], [-2]]]), np.float32([[[0.5], [4]]])
    expected = run(plain, (X - mean) / deviation)
    np.testing.assert_allclose(run(write(model), X), expected, atol=1e-6)
    for arguments in (("z", (1.0,), (1.0,)), ("x", (1.0,), (0.0,)), ("x", (1.0, 2.0), (1.0,))):
        with pytest.raises(StartError):
            scale_input(read(plain), *arguments)


def test_cleaning_is_deterministic_and_idempotent(toy_model: bytes) -> None:
    once = clean(toy_model)
    assert once == clean(toy_model) == clean(once)


def test_the_toy_computes_the_same(toy_model: bytes, toy_images: Callable[..., object]) -> None:
    x = toy_images(20, 3).inputs["image"]  # type: ignore[attr-defined]
    before, after = (
        open_session(m).run(None, {"image": x})[0] for m in (toy_model, clean(toy_model))
    )
    np.testing.assert_allclose(before, after, atol=1e-4)
