"""INT8 as ONNX Runtime is fast with it on x86: the same scales, activations as uint8 around 128.

Code c of int8 becomes c + 128 of uint8 and stands for the same value, so answers are those of the
INT8 file but for one thing: biases become int32 of their layer's own tiny scale. A quantisation
after a Relu goes before it (rounding keeps the order of values and the zero), so that the runtime
can fuse the layer in front; the Relu is then a Clip of the codes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from export.graph import Graph, add_constant, read, replace_nodes, write
from export.precision.qdq import dequantize_of

if TYPE_CHECKING:
    from export.graph import Model, Node

ZERO = 128
KEEPS_ORDER = ("Relu", "MaxPool")
BIASED = ("Conv", "Gemm", "ConvTranspose")
MAX_CODE = 2**31 - 1


def as_uint8(data: bytes) -> bytes:
    """The same INT8 model with activations as uint8."""
    model = read(data)
    zero = add_constant(model, "uint8_zero", np.asarray(ZERO, np.uint8))
    graph = Graph(model)
    added: dict[str, list[Node]] = {}
    gone: set[str] = set()
    for node in graph.nodes:
        if node.op_type == "QuantizeLinear":
            gone |= _before_relu(graph, node, zero, added)
    for node in graph.nodes:
        if node.op_type == "QuantizeLinear" or _follows_quantize(graph, node):
            node.input[2] = zero
        elif node.op_type in BIASED and len(node.input) > 2:
            _quantise_bias(model, graph, node, added)
    kept = [n for n in graph.nodes if n.name not in gone]
    replace_nodes(model, [n for node in kept for n in (*added.get(node.name, ()), node)])
    return write(model)


def _follows_quantize(graph: Graph, node: Node) -> bool:
    made_by = graph.producer.get(node.input[0]) if node.op_type == "DequantizeLinear" else None
    return made_by is not None and made_by.op_type == "QuantizeLinear"


def _before_relu(graph: Graph, quantize: Node, zero: str, added: dict[str, list[Node]]) -> set[str]:
    """Quantise in front of the Relu (and pooling) that alone feeds `quantize`; the names of the
    nodes whose work is done by that."""
    from onnx import helper

    name, relu = quantize.input[0], None
    while (node := graph.producer.get(name)) is not None and node.op_type in KEEPS_ORDER:
        if len(graph.consumers[name]) != 1 or name in graph.outputs:
            return set()
        relu = node if node.op_type == "Relu" else relu
        name = node.input[0]
    if relu is None or len(graph.consumers[relu.input[0]]) != 1:
        return set()
    raw, scale, direct = relu.input[0], quantize.input[1], relu.output[0] == quantize.input[0]
    codes = quantize.output[0] if direct else f"{raw}_codes"
    chain = [
        helper.make_node("QuantizeLinear", [raw, scale, zero], [f"{raw}_rq"], f"{raw}_RQ"),
        helper.make_node("Clip", [f"{raw}_rq", zero], [codes], f"{raw}_relu"),
    ]
    if direct:
        after, gone = graph.consumers[codes][0], {relu.name, quantize.name}
    else:
        after, gone = graph.consumers[relu.output[0]][0], {relu.name}
        chain.append(
            helper.make_node("DequantizeLinear", [codes, scale, zero], [relu.output[0]],
                             f"{raw}_RDQ")
        )  # fmt: skip
    added.setdefault(after.name, []).extend(chain)
    return gone


def _quantise_bias(model: Model, graph: Graph, node: Node, added: dict[str, list[Node]]) -> None:
    """Bias of a quantised layer as int32 of scale activation times weight."""
    from onnx import helper

    sources = [dequantize_of(graph, name) for name in node.input[:2]]
    bias = node.input[2]
    if None in sources:
        return
    activation, weight = (graph.constant(s.input[1]) for s in sources if s is not None)
    scale = (activation.astype(np.float64) * weight).astype(np.float32)
    if not graph.is_constant(bias) or scale.min() < np.finfo(np.float32).tiny:
        return
    codes = np.rint(graph.constant(bias) / scale.astype(np.float64))
    if np.abs(codes).max() > MAX_CODE:
        return
    taken = [
        add_constant(model, f"{node.name}_bias_int32", codes.astype(np.int32)),
        add_constant(model, f"{node.name}_bias_scale", scale),
        add_constant(model, f"{node.name}_bias_zero", np.zeros(len(codes), np.int32)),
    ]
    added.setdefault(node.name, []).append(
        helper.make_node("DequantizeLinear", taken, [f"{node.name}_bias_dq"],
                         f"{node.name}_bias_DQ", axis=0)
    )  # fmt: skip
    node.input[2] = f"{node.name}_bias_dq"
