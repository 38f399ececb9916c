"""INT8 as explicit Q/DQ, the way TensorRT takes it: symmetric, zero point 0, bias left in float.

Weights are stored as int8 with one scale per output channel. Activations get one Q/DQ pair each,
shared by everything quantised that takes them: the inputs of convolutions and matrix products, of
residual additions between them, and of the pooling behind them. A pair behind a MaxPool goes in
front of it: the largest value and rounding change places freely, and bytes are pooled, not floats.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from export.graph import Graph, add_constant, attribute, read, replace_nodes, write

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from numpy.typing import NDArray

    from export.graph import Model, Node

LEVELS = 127
LEAST_SCALE = np.float32(2.0**-40)
"""TensorRT takes subnormal scales without a word; none is ever written."""

MAX_SCALE_RATIO = 2.0**-14
"""A channel's scale is not smaller than this part of its layer's largest: a bias of int32 codes has
to fit too."""

WEIGHTED = ("Conv", "ConvTranspose", "Gemm", "MatMul")
POOLS = ("GlobalAveragePool", "AveragePool", "ReduceMean")
THROUGH = ("Relu", "MaxPool", "Flatten", "Reshape", "Identity", "Clip")


@dataclass(frozen=True, slots=True)
class Layer:
    """One weighted node: `activation` it takes, its constant `weight`, the axis of its channels."""

    name: str
    kind: str
    activation: str
    weight: str
    axis: int


def layers(model: Model) -> list[Layer]:
    """The nodes that can be quantised, in graph order."""
    graph = Graph(model)
    found = []
    for node in graph.nodes:
        if node.op_type in WEIGHTED and graph.is_constant(node.input[1]):
            rank = graph.constant(node.input[1]).ndim
            if rank >= 2 and not graph.is_constant(node.input[0]):
                axis = channel_axis(node, rank)
                found.append(Layer(node.name, node.op_type, node.input[0], node.input[1], axis))
    return found


def channel_axis(node: Node, rank: int) -> int:
    """The axis of a weighted node's output channels in its weight of `rank` axes."""
    if node.op_type == "Conv":
        return 0
    if node.op_type == "ConvTranspose":
        return 1
    if node.op_type == "Gemm":
        return 0 if attribute(node, "transB", 0) else 1
    return rank - 1


def quantised_inputs(model: Model, high: Collection[str]) -> dict[str, list[tuple[Node, int]]]:
    """Activations that get a Q/DQ pair, each with the (node, input) that take it; layers in `high`
    stay as they are."""
    graph = Graph(model)
    low = {layer.name for layer in layers(model)} - set(high)
    wanted = _feeding(graph, low)
    made: set[str] = set()  # tensors that come from a quantised layer
    places: dict[str, list[tuple[Node, int]]] = {}
    for node in graph.nodes:
        taken = [i for i, name in enumerate(node.input) if not graph.is_constant(name)]
        from_made = bool(taken) and all(node.input[i] in made for i in taken)
        between = from_made and node.output[0] in wanted and _is_sum_or_pool(node, taken)
        quantised = [0] if node.name in low else taken if between else []
        for i in quantised:
            places.setdefault(node.input[i], []).append((node, i))
        if quantised or (from_made and node.op_type in THROUGH):
            made.update(node.output)
    return places


def _is_sum_or_pool(node: Node, taken: list[int]) -> bool:
    return (node.op_type == "Add" and len(taken) == 2) or node.op_type in POOLS


def _feeding(graph: Graph, low: Collection[str]) -> set[str]:
    """Tensors that reach a quantised layer; logits do not, so sums behind the last stay exact."""
    wanted: set[str] = set()
    for node in reversed(graph.nodes):
        passes = node.op_type in (*THROUGH, *POOLS, "Add")
        if node.name in low or (passes and node.output[0] in wanted):
            wanted.update(node.input)
    return wanted


def quantise(data: bytes, limits: Mapping[str, float], high: Collection[str] = ()) -> bytes:
    """The INT8 model of FP32 `data`; `limits` is the magnitude of code 127 by activation."""
    from onnx import helper

    model = read(data)
    low = [layer for layer in layers(model) if layer.name not in high]
    if not low:
        return data
    before: dict[str, list[Node]] = {}
    graph = Graph(model)
    for name, takers in quantised_inputs(model, high).items():
        scale = add_constant(model, f"{name}_scale", scale_of(limits[name]))
        zero = add_constant(model, f"{name}_zero", np.asarray(0, np.int8))
        pool = _pool_alone(graph, name, takers)
        places = [(pool, 0)] if pool is not None else takers
        taken = places[0][0].input[places[0][1]]
        pair = [
            helper.make_node("QuantizeLinear", [taken, scale, zero], [f"{name}_q"], f"{name}_Q"),
            helper.make_node("DequantizeLinear", [f"{name}_q", scale, zero], [f"{name}_dq"],
                             f"{name}_DQ"),
        ]  # fmt: skip
        before.setdefault(places[0][0].name, []).extend(pair)
        for node, i in places:
            node.input[i] = f"{name}_dq"
    _quantise_weights(model, low, before)
    replace_nodes(
        model, [n for node in model.graph.node for n in (*before.get(node.name, ()), node)]
    )
    return write(model)


def _pool_alone(graph: Graph, name: str, takers: list[tuple[Node, int]]) -> Node | None:
    """The MaxPool that makes `name` for `takers` alone, from what it alone takes."""
    pool = graph.producer.get(name)
    if pool is None or pool.op_type != "MaxPool" or len(pool.output) > 1 or name in graph.outputs:
        return None
    alone = len(graph.consumers[name]) == len(takers) and len(graph.consumers[pool.input[0]]) == 1
    return pool if alone and pool.input[0] not in graph.outputs else None


def dequantize_of(graph: Graph, name: str) -> Node | None:
    """The DequantizeLinear that a layer takes `name` from; a MaxPool between changes nothing, as
    engines pool the codes."""
    node = graph.producer.get(name)
    if node is not None and node.op_type == "MaxPool":
        node = graph.producer.get(node.input[0])
    return node if node is not None and node.op_type == "DequantizeLinear" else None


def _quantise_weights(model: Model, low: list[Layer], before: dict[str, list[Node]]) -> None:
    from onnx import helper

    graph = Graph(model)
    nodes = {node.name: node for node in graph.nodes}
    done: dict[tuple[str, int], str] = {}
    for layer in low:
        key = layer.weight, layer.axis
        if key not in done:
            codes, scale = weight_codes(graph.constant(layer.weight), layer.axis)
            stem = f"{layer.weight}_{layer.axis}"
            taken = [
                add_constant(model, f"{stem}_int8", codes),
                add_constant(model, f"{stem}_scale", scale),
                add_constant(model, f"{stem}_zero", np.zeros(len(scale), np.int8)),
            ]
            done[key] = f"{stem}_dq"
            before.setdefault(layer.name, []).append(
                helper.make_node("DequantizeLinear", taken, [done[key]], f"{stem}_DQ",
                                 axis=layer.axis)
            )  # fmt: skip
        nodes[layer.name].input[1] = done[key]


def scale_of(limit: float) -> NDArray[np.float32]:
    """The scale whose code 127 is `limit`, never zero or subnormal."""
    return np.asarray(max(np.float32(limit / LEVELS), LEAST_SCALE), np.float32)


def weight_codes(
    weight: NDArray[np.float32], axis: int
) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """int8 codes of the weight's shape and a scale for each channel along `axis`."""
    others = tuple(a for a in range(weight.ndim) if a != axis)
    amax = np.abs(weight).max(others).astype(np.float64)
    scale = np.maximum(amax, amax.max() * MAX_SCALE_RATIO) / LEVELS
    scale = np.maximum(scale.astype(np.float32), LEAST_SCALE)
    shape = [1] * weight.ndim
    shape[axis] = -1
    codes = np.rint(weight / scale.reshape(shape))
    return np.clip(codes, -LEVELS, LEVELS).astype(np.int8), scale
