"""Bias correction: rounding weights shifts a layer's mean; its bias takes the shift back.

After Nagel et al., Data-free quantization through weight equalization and bias correction (2019),
with the shift measured on the calibration set. Used only where it brings the answers nearer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from calibration.collect import activations
from export.graph import Graph, add_constant, read, write

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from calibration.sets import Dataset
    from export.graph import Model

BIASED = ("Conv", "ConvTranspose", "Gemm")


def corrected(fp32: bytes, int8: bytes, data: Dataset) -> bytes:
    """The INT8 model with the mean of every biased layer's output moved onto the FP32 one's, layer
    after layer, as each shift moves the means behind it."""
    model = read(int8)
    outputs = {
        node.name: node.output[0]
        for node in model.graph.node
        if node.op_type in BIASED and len(node.input) > 2 and node.input[1].endswith("_dq")
    }
    wanted = _means(fp32, list(outputs.values()), data)
    for name, tensor in outputs.items():
        found = _means(write(model), [tensor], data)
        _shift(model, name, (wanted[tensor] - found[tensor]).astype(np.float32))
    return write(model)


def _shift(model: Model, name: str, by: NDArray[np.float32]) -> None:
    graph = Graph(model)
    node = next(n for n in graph.nodes if n.name == name)
    bias = graph.constant(node.input[2])
    node.input[2] = add_constant(model, f"{name}_corrected_bias", (bias + by).astype(np.float32))


def _means(model: bytes, tensors: list[str], data: Dataset) -> dict[str, NDArray[np.float64]]:
    """Mean of each tensor for each channel (axis 1)."""
    parts: dict[str, list[NDArray[np.float64]]] = {name: [] for name in tensors}
    count = len(data) * data.steps
    for values in activations(model, tensors, data):
        for name in tensors:
            x = values[name]
            axes = tuple(a for a in range(x.ndim) if a != 1)
            parts[name].append(x.mean(axes, dtype=np.float64) * len(x))
    return {name: np.asarray(sum(p) / count) for name, p in parts.items()}
