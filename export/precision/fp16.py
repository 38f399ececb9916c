"""FP32 to FP16, inputs and outputs left in float32. ONNX Runtime's converter does the rewriting.

Owns what it does not: weights and activations that FP16 cannot hold are found first, and the layers
around them stay in float32.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from edge.errors import StartError
from export.graph import Graph, attribute, read, replace_nodes, write
from export.passes.leftovers import remove_leftovers
from export.passes.sort import sort

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from calibration.observers import Histogram
    from export.graph import Model, Node

LARGEST = 65504.0
HEADROOM = 4.0
"""An activation this close to the largest half is left in float32: the bed may show larger ones."""


def to_fp16(data: bytes, high: Collection[str] = ()) -> bytes:
    """The FP16 model of FP32 `data`; nodes in `high` stay in float32."""
    from onnxruntime.transformers.float16 import convert_float_to_float16

    model = read(data)
    keep = sorted({*high, *_with_large_constants(model)})
    try:
        converted: Any = convert_float_to_float16(
            model, keep_io_types=True, node_block_list=keep, max_finite_val=LARGEST
        )
    except (ValueError, TypeError, KeyError) as error:
        raise StartError(
            f"FP16 cannot be made of the model ({error})", "leave fp16 out of `precisions`"
        ) from None
    return write(_without_round_trips(sort(converted)))


def _without_round_trips(model: Model) -> Model:
    """The converter casts to FP16 and back between two nodes that both stay in float32, which
    loses what they were kept for: the way back takes the value from before."""
    from onnx import TensorProto

    graph = Graph(model)
    for node in graph.nodes:
        there = graph.producer.get(node.input[0]) if node.input else None
        if _casts(node, TensorProto.FLOAT) and _casts(there, TensorProto.FLOAT16):
            node.op_type, node.input[0] = "Identity", there.input[0]  # type: ignore[union-attr]
            del node.attribute[:]
    remove_leftovers(model)
    taken = {n for node in model.graph.node for n in node.input} | graph.outputs
    replace_nodes(
        model, [n for n in model.graph.node if n.op_type != "Cast" or n.output[0] in taken]
    )
    return model


def _casts(node: Node | None, to: int) -> bool:
    return node is not None and node.op_type == "Cast" and attribute(node, "to", 0) == to


def overflowing(model: Model, seen: Mapping[str, Histogram]) -> tuple[str, ...]:
    """Nodes that take or make a value that FP16 holds badly, by what calibration saw."""
    large = {name for name, h in seen.items() if h.amax * HEADROOM > LARGEST}
    return tuple(n.name for n in model.graph.node if large & {*n.input, *n.output})


def _with_large_constants(model: Model) -> list[str]:
    graph = Graph(model)
    return [
        node.name
        for node in graph.nodes
        if any(graph.is_constant(n) and _too_large(graph.constant(n)) for n in node.input)
    ]


def _too_large(value: np.ndarray[Any, Any]) -> bool:
    return value.dtype == np.float32 and value.size > 0 and float(np.abs(value).max()) > LARGEST
