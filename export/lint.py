"""Lint an ONNX model before any TensorRT sees it: what it would refuse, crash on, or run wrongly.

Owns the rules, each one function over the graph. They rest on runs of TensorRT-RTX's parser and on
what NVIDIA publishes for 10.3 to 11; where a parser says nothing (per-channel activations, weight
scales on the wrong axis) the rule is all there is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from edge.errors import StartError
from edge.registry import resolve
from export.graph import Graph, attribute
from export.precision.qdq import channel_axis, dequantize_of
from firmware_bridge.registry import nearest_first

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from export.graph import Model, Node

Found = Any  # Iterator[tuple[Node | None, str, str]]: node, what is wrong, what mends it


@dataclass(frozen=True, slots=True)
class Complaint:
    """One finding: the `rule`, the `node` it is about, what is wrong and what mends it."""

    rule: str
    node: str
    message: str
    fix: str
    severity: Literal["error", "warning"] = "error"


@dataclass(frozen=True, slots=True)
class Target:
    """What an engine takes: newest opset and IR version, operators it lacks, and whether
    activations may be uint8 and biases int32."""

    opset: int
    ir_version: int
    lacks: frozenset[str]
    uint8: bool = False


_NEVER = {"NonZero", "DFT", "STFT", "MelWeightMatrix", "Multinomial", "DynamicQuantizeLinear",
          "QLinearConv", "QLinearMatMul", "ConvInteger", "MatMulInteger", "Attention"}  # fmt: skip
_NEWER = {"RMSNormalization", "RotaryEmbedding", "Swish", "TensorScatter"}
TARGETS = {
    "tensorrt-10.3": Target(20, 10, frozenset(_NEVER | _NEWER)),
    "tensorrt-10.13": Target(22, 11, frozenset(_NEVER | _NEWER)),
    "tensorrt-11": Target(24, 13, frozenset(_NEVER)),
    "tensorrt-rtx": Target(23, 12, frozenset(_NEVER)),
    "onnxruntime": Target(20, 10, frozenset(), uint8=True),
    "openvino": Target(20, 10, frozenset(), uint8=True),
}
"""`Attention` parses by name and then kills the process (TensorRT-RTX 1.7), so it never passes."""

RULES = {
    "versions": "export.lint:versions",
    "operators": "export.lint:operators",
    "finite": "export.lint:finite",
    "types": "export.lint:types",
    "training": "export.lint:training",
    "shapes": "export.lint:shapes",
    "zero-point": "export.lint:zero_points",
    "scale": "export.lint:scales",
    "bias": "export.lint:biases",
    "pairs": "export.lint:pairs",
    "one-sided": "export.lint:one_sided",
    "axis": "export.lint:axes",
}
WARNINGS = ("shapes",)
QUANTISED = ("Conv", "ConvTranspose", "Gemm", "MatMul")
Q, DQ = "QuantizeLinear", "DequantizeLinear"


def lint(data: bytes, target: str) -> tuple[Complaint, ...]:
    """Everything wrong with the model for `target`. Raises `StartError` for an unknown target."""
    import onnx

    model = onnx.load_from_string(data)
    limits: Target = resolve_target(target)
    graphs = [Graph(model), *(Graph(inner) for inner in _subgraphs(model))]
    return tuple(
        Complaint(rule, _name(node), message, fix, "warning" if rule in WARNINGS else "error")
        for rule in RULES
        for graph in graphs
        for node, message, fix in resolve(RULES, rule, "rule")(graph, limits)
    )


def resolve_target(name: str) -> Target:
    """The target's limits. Raises `StartError` with the known names."""
    if name not in TARGETS:
        known = ", ".join(nearest_first(name, TARGETS))
        raise StartError(f"unknown target '{name}'", f"use one of: {known}")
    return TARGETS[name]


def _subgraphs(model: Model) -> list[Model]:
    """Bodies of If, Loop and Scan, each as a model of its own."""
    import onnx

    found = []
    waiting = list(model.graph.node)
    while waiting:
        for a in waiting.pop().attribute:
            for inner in ([a.g] if a.HasField("g") else []) + list(a.graphs):
                found.append(onnx.ModelProto(graph=inner, ir_version=model.ir_version,
                                             opset_import=model.opset_import))  # fmt: skip
                waiting += list(inner.node)
    return found


def _name(node: Node | None) -> str:
    if node is None:
        return "model"
    return node.name or f"{node.op_type} -> {', '.join(node.output)}"


def versions(graph: Graph, target: Target) -> Found:
    """Opset, IR version, and operators of other domains."""
    model = graph.model
    opset = max((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), default=0)
    if opset > target.opset:
        yield None, f"opset {opset} is newer than {target.opset}", "export it at an older opset"
    if model.ir_version > target.ir_version:
        yield (None, f"IR version {model.ir_version} is newer than {target.ir_version}",
               "write it with an older IR version")  # fmt: skip


def operators(graph: Graph, target: Target) -> Found:
    """Operators that the target lacks."""
    for node in graph.nodes:
        if node.domain not in ("", "ai.onnx"):
            yield node, f"operator {node.domain}.{node.op_type} is not ONNX", "export it unfused"
        elif node.op_type in target.lacks:
            yield (node, f"the target has no {node.op_type}",
                   "replace it by operators that are there, or export it decomposed")  # fmt: skip


def finite(graph: Graph, target: Target) -> Found:
    """Weights that are NaN or infinite (in FP16 also what overflowed)."""
    for name in graph.constants():
        value = graph.constant(name)
        if value.dtype.kind == "f" and not np.isfinite(value).all():
            node = (graph.consumers.get(name) or [None])[0]
            yield (node, f"'{name}' holds values that are not finite",
                   "take an earlier checkpoint, or keep this layer in FP32")  # fmt: skip


def types(graph: Graph, target: Target) -> Found:
    """Weights in double precision, or in another file."""
    for name in graph.external():
        node = (graph.consumers.get(name) or [None])[0]
        yield node, f"'{name}' lies in another file", "save it as one file"
    for name in graph.constants():
        node = (graph.consumers.get(name) or [None])[0]
        if graph.constant(name).dtype == np.float64:
            yield node, f"'{name}' is double precision", "export the model in float32"


def training(graph: Graph, target: Target) -> Found:
    """Layers that still train."""
    for node in graph.nodes:
        if node.op_type == "BatchNormalization" and attribute(node, "training_mode", 0):
            yield node, "the batch norm still trains", "call eval() before the export"
        mode = node.input[2] if node.op_type == "Dropout" and len(node.input) > 2 else ""
        if mode and graph.is_constant(mode) and graph.constant(mode).any():
            yield node, "the dropout still trains", "call eval() before the export"


def shapes(graph: Graph, target: Target) -> Found:
    """Axes other than the first that the file leaves open."""
    for value in graph.model.graph.input:
        dims = value.type.tensor_type.shape.dim
        if any(not d.dim_value for d in dims[1:]):
            yield (None, f"input '{value.name}' leaves an axis open besides the first",
                   "fix it, or give the engine a profile for it")  # fmt: skip


def zero_points(graph: Graph, target: Target) -> Found:
    """TensorRT quantises symmetrically: int8 around zero."""
    for node in graph.nodes:
        if node.op_type not in (Q, DQ) or len(node.input) < 3:
            continue
        if not graph.is_constant(node.input[2]):
            yield node, "its zero point is not a constant", "store it as an initializer"
            continue
        zero = graph.constant(node.input[2])
        if zero.dtype in (np.int16, np.uint16):
            yield node, f"it quantises to {zero.dtype}", "quantise to int8"
        if zero.any() and not target.uint8:
            yield (node, f"its zero point is {int(zero.flat[np.flatnonzero(zero)[0]])}, not 0",
                   "quantise symmetrically as int8")  # fmt: skip


def scales(graph: Graph, target: Target) -> Found:
    """Zero, negative, subnormal and non-finite scales; subnormal ones pass TensorRT unsaid."""
    for node in graph.nodes:
        if node.op_type not in (Q, DQ):
            continue
        if not graph.is_constant(node.input[1]):
            yield node, "its scale is not a constant", "store it as an initializer"
            continue
        scale = graph.constant(node.input[1])
        tiny = np.finfo(scale.dtype).tiny
        if not np.isfinite(scale).all():
            yield node, "a scale is not finite", "calibrate again, on finite data"
        elif (scale <= 0).any():
            yield node, f"a scale is {float(scale.min()):g}", "floor scales above zero"
        elif (scale < tiny).any():
            yield node, f"a scale is subnormal ({float(scale.min()):g})", "floor scales"


def biases(graph: Graph, target: Target) -> Found:
    """TensorRT takes no int32 behind a DequantizeLinear."""
    for node in graph.nodes:
        constant = node.op_type == DQ and graph.is_constant(node.input[0])
        if constant and not target.uint8 and graph.constant(node.input[0]).dtype == np.int32:
            yield node, "it dequantises an int32 bias", "leave biases in floating point"


def pairs(graph: Graph, target: Target) -> Found:
    """Q feeds DQ only, DQ takes Q or a constant; a quantised constant is a weight, no scalar. Where
    activations may be uint8 a Clip may stand between the two."""
    between = ("Clip",) if target.uint8 else ()
    for node in graph.nodes:
        if node.op_type == Q:
            takers = graph.consumers.get(node.output[0], [])
            if any(t.op_type not in (DQ, *between) for t in takers) or not (
                takers or node.output[0] in graph.outputs
            ):
                yield node, "no DequantizeLinear follows it", "use Q/DQ in pairs"
        if node.op_type == DQ:
            made_by = graph.producer.get(node.input[0])
            if made_by is not None and made_by.op_type in between:
                made_by = graph.producer.get(made_by.input[0])
            constant = graph.is_constant(node.input[0])
            if constant and graph.constant(node.input[0]).ndim == 0:
                yield node, "it dequantises a scalar constant", "leave the constant in float"
            if made_by is not None and made_by.op_type != Q:
                yield node, f"{made_by.op_type} comes before it, no Q", "use Q/DQ in pairs"
            if made_by is not None and made_by.op_type == Q and _differ(graph, made_by, node):
                yield node, "its scale differs from that of its Q", "give both the same scale"


def _differ(graph: Graph, quantize: Node, dequantize: Node) -> bool:
    names = quantize.input[1], dequantize.input[1]
    if not all(graph.is_constant(n) for n in names):
        return False
    a, b = (graph.constant(n) for n in names)
    return a.shape != b.shape or not np.array_equal(a, b)


def one_sided(graph: Graph, target: Target) -> Found:
    """A layer with only its activation or only its weight quantised runs in floating point."""
    for node in graph.nodes:
        if node.op_type not in QUANTISED:
            continue
        sides = [dequantize_of(graph, name) is not None for name in node.input[:2]]
        if sum(sides) == 1:
            which = "activation" if sides[0] else "weight"
            yield node, f"only its {which} is quantised", "quantise both, or neither"


def axes(graph: Graph, target: Target) -> Found:
    """Activations have one scale; weights one, or one per output channel."""
    for node in graph.nodes:
        if node.op_type not in QUANTISED:
            continue
        for name in node.input[:2]:
            dequantize = dequantize_of(graph, name)
            if dequantize is None or not graph.is_constant(dequantize.input[1]):
                continue
            count = graph.constant(dequantize.input[1]).size
            weight = _weight_of(graph, dequantize)
            if weight is None:
                if count > 1:
                    yield node, f"its activation has {count} scales", "give it one scale"
                continue
            axis = channel_axis(node, weight.ndim)
            given = attribute(dequantize, "axis", 1) % max(1, weight.ndim)
            if count > 1 and (given != axis or count != weight.shape[axis]):
                yield (node, f"its weight has {count} scales on axis {given}, not on {axis}",
                       f"quantise the weight along axis {axis}")  # fmt: skip


def _weight_of(graph: Graph, dequantize: Node) -> NDArray[Any] | None:
    """The constant behind a DQ, directly or through its Q."""
    name = dequantize.input[0]
    made_by = graph.producer.get(name)
    if made_by is not None and made_by.op_type == Q:
        name = made_by.input[0]
    return graph.constant(name) if graph.is_constant(name) else None
