"""Walking a model that carries states over its steps, and what its answers are held against."""

from __future__ import annotations

import numpy as np
import pytest

from calibration.collect import activations, answers, watch
from calibration.sets import Dataset
from edge.bundle.manifest import State

onnx = pytest.importorskip("onnx", reason="test models are made with onnx")

STATE = (State(input="sum", output="sum_next", shape=(2,)),)


@pytest.fixture(scope="module")
def adder() -> bytes:
    """`y = sum_next = sum + x`."""
    from onnx import TensorProto, helper

    def value(name: str) -> object:
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, ["b", 2])

    nodes = [
        helper.make_node("Add", ["sum", "x"], ["sum_next"]),
        helper.make_node("Identity", ["sum_next"], ["y"]),
    ]
    names = ("x", "sum"), ("y", "sum_next")
    graph = helper.make_graph(nodes, "adder", *([value(n) for n in some] for some in names))
    opset = [helper.make_opsetid("", 18)]
    return bytes(helper.make_model(graph, opset_imports=opset, ir_version=10).SerializeToString())


def walked(count: int = 70, steps: int = 5, target: np.ndarray | None = None) -> Dataset:
    x = np.random.default_rng(0).normal(size=(count, steps, 2)).astype(np.float32)
    label = np.arange(count) % 2
    group = np.array([f"p{i // 2}" for i in range(count)])
    return Dataset({"x": x}, label, group, {"sex": group}, "made", target, STATE)


def test_the_last_answer_counts(adder: bytes) -> None:
    data = walked()
    assert np.allclose(answers(adder, "y", data), data.inputs["x"].sum(1), atol=1e-5)
    expected = data.expected()
    assert expected.label is data.label and expected.target is None


def test_another_backend_walks_as_the_reference_does(adder: bytes) -> None:
    """70 samples, which no batch divides, on an engine that is opened at one batch."""
    pytest.importorskip("openvino", reason="the other CPU backend")
    data = walked()
    found = answers(adder, "y", data, "openvino")
    assert np.allclose(found, data.inputs["x"].sum(1), atol=1e-5)
    every = walked(target=np.zeros((70, 5, 2), np.float32))
    cumulated = np.cumsum(data.inputs["x"], 1)
    assert np.allclose(
        answers(adder, "y", every, "openvino").reshape(70, 5, 2), cumulated, atol=1e-5
    )


def test_with_a_target_every_step_is_an_answer(adder: bytes) -> None:
    target = np.zeros((70, 5, 2), np.float32)
    data = walked(target=target)
    found = answers(adder, "y", data).reshape(70, 5, 2)
    assert np.allclose(found, np.cumsum(data.inputs["x"], 1), atol=1e-5)
    expected = data.expected()
    assert expected.group[:6].tolist() == ["p0"] * 6 and len(expected.label) == 350
    assert expected.target is not None and expected.target.shape == (350, 2)


def test_classes_of_steps_without_an_answer_are_left_out(adder: bytes) -> None:
    target = np.full((70, 5), -1)
    target[:, 1], target[3, 4] = 0, 1
    data = walked(target=target)
    found, expected = answers(adder, "y", data), data.expected()
    assert len(found) == len(expected.label) == 71
    assert expected.label.tolist() == [0] * 4 + [1] + [0] * 66
    assert np.allclose(found[4], data.inputs["x"][3].sum(0), atol=1e-5)


def test_observers_see_every_step_and_the_states(adder: bytes) -> None:
    data = walked()
    seen = watch(adder, ["x", "sum", "y"], data)
    assert int(seen["x"].counts.sum()) == int(seen["sum"].counts.sum()) == 70 * 5 * 2
    assert seen["sum"].amax == pytest.approx(np.abs(np.cumsum(data.inputs["x"], 1)[:, :4]).max())


def test_samples_are_walked_alone(adder: bytes) -> None:
    """However they are cut into batches; a state that leaked would show."""
    data = walked()
    together = answers(adder, "y", data)
    alone = np.concatenate([answers(adder, "y", data.take(np.array([i]))) for i in (0, 40, 69)])
    assert np.allclose(together[[0, 40, 69]], alone, atol=1e-6)
    first = next(iter(activations(adder, ["sum"], data)))
    assert not first["sum"].any()
