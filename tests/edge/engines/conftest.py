"""Small models, made on the spot."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

LENGTH, LABELS = 40, 3


def serialised(
    nodes: list[onnx.NodeProto],
    inputs: list[onnx.ValueInfoProto],
    outputs: list[onnx.ValueInfoProto],
    weights: list[onnx.TensorProto],
    **more: object,
) -> bytes:
    graph = helper.make_graph(nodes, "g", inputs, outputs, weights)
    opset = [helper.make_opsetid("", 17)]
    return helper.make_model(graph, opset_imports=opset, ir_version=8, **more).SerializeToString()


def floats(name: str, *shape: object) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)


def weights() -> list[onnx.TensorProto]:
    random = np.random.default_rng(1)
    values = {
        "w": random.normal(0, 1, (4, 1, 5)), "b": random.normal(0, 1, 4),
        "f": random.normal(0, 1, (4, LABELS)), "c": random.normal(0, 1, LABELS),
    }  # fmt: skip
    return [numpy_helper.from_array(v.astype(np.float32), k) for k, v in values.items()]


def cnn(batch: object = "N", length: object = LENGTH) -> bytes:
    """Convolution, ReLU, mean, linear: `x` `[N, 1, 40]` to `logits` `[N, 3]`."""
    nodes = [
        helper.make_node("Conv", ["x", "w", "b"], ["1"]),
        helper.make_node("Relu", ["1"], ["2"]),
        helper.make_node("ReduceMean", ["2"], ["3"], axes=[2], keepdims=0),
        helper.make_node("Gemm", ["3", "f", "c"], ["logits"]),
    ]
    ends = [floats("x", batch, 1, length)], [floats("logits", batch, LABELS)]
    return serialised(nodes, *ends, weights())


@pytest.fixture(scope="session")
def make_cnn() -> Callable[..., bytes]:
    return cnn


@pytest.fixture(scope="session")
def model() -> bytes:
    return cnn()


def outside() -> onnx.TensorProto:
    """A tensor whose bytes lie in another file."""
    tensor = numpy_helper.from_array(np.zeros((1, 4), np.float32), "w")
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("location", "w.bin"), ("offset", "0"), ("length", "16")):
        entry = tensor.external_data.add()
        entry.key, entry.value = key, value
    return tensor


def referring(where: str, tensor: onnx.TensorProto) -> bytes:
    """A model with `tensor` in one of the places where onnx.proto has room for one."""
    x, y = [floats("x", "N", 4)], [floats("y", "N", 4)]
    constant = helper.make_node("Constant", [], ["w"], value=tensor)
    add = helper.make_node("Add", ["x", "w"], ["y"])
    if where == "initializer":
        return serialised([add], x, y, [tensor])
    if where == "constant":
        return serialised([constant, add], x, y, [])
    if where == "function":
        body = helper.make_function(
            "own", "F", ["x"], ["y"], [constant, add], [helper.make_opsetid("", 17)]
        )
        call = helper.make_node("F", ["x"], ["y"], domain="own")
        return serialised([call], x, y, [], functions=[body])
    if where == "sparse":
        sparse = onnx.SparseTensorProto(values=tensor, dims=[4])
        model = onnx.ModelProto.FromString(serialised([add], x, y, []))
        model.graph.sparse_initializer.append(sparse)
        return model.SerializeToString()
    assert where == "subgraph"
    branch = helper.make_graph([constant, add], "b", [], [floats("y", "N", 4)])
    truth = numpy_helper.from_array(np.array(True), "t")
    node = helper.make_node("If", ["t"], ["y"], then_branch=branch, else_branch=branch)
    return serialised([node], x, y, [truth])


@pytest.fixture(scope="session")
def make_referring() -> Callable[[str], bytes]:
    """A model that names another file at a place."""
    return lambda where: referring(where, outside())


@pytest.fixture(scope="session")
def make_whole() -> Callable[[str], bytes]:
    """The same model with the weights inside."""
    inside = numpy_helper.from_array(np.zeros((1, 4), np.float32), "w")
    return lambda where: referring(where, inside)
