"""Take the declared scaling of an input into the model, so that an engine takes raw values.

Before: the model takes `(raw - mean) / deviation` per channel (axis 1). After: it takes `raw`; the
names of its inputs stay.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from edge.errors import StartError
from export.graph import Graph, add_constant, replace_nodes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from export.graph import Model


def scale_input(
    model: Model, name: str, mean: Sequence[float], deviation: Sequence[float]
) -> Model:
    """In place; the same model. Raises `StartError` where the input or its channels do not fit."""
    from onnx import helper

    declared = next((i for i in model.graph.input if i.name == name), None)
    if declared is None:
        raise StartError(f"the model has no input '{name}' to scale", "correct [model.scale]")
    rank = len(declared.type.tensor_type.shape.dim)
    if len(mean) != len(deviation) or not all(d > 0 for d in deviation) or rank < 2:
        raise StartError(f"the scaling of '{name}' does not fit", "give a mean and a deviation > 0")
    shape = (1, len(mean), *[1] * (rank - 2))
    minus = add_constant(model, f"{name}_mean", np.asarray(mean, np.float32).reshape(shape))
    by = add_constant(
        model, f"{name}_gain", (1 / np.asarray(deviation)).astype(np.float32).reshape(shape)
    )
    scaled = f"{name}_scaled"
    for node in Graph(model).consumers.get(name, []):
        for i, taken in enumerate(node.input):
            if taken == name:
                node.input[i] = scaled
    first = [
        helper.make_node("Sub", [name, minus], [f"{name}_centred"], name=f"{name}_centre"),
        helper.make_node("Mul", [f"{name}_centred", by], [scaled], name=f"{name}_scale"),
    ]
    replace_nodes(model, [*first, *list(model.graph.node)])
    return model
