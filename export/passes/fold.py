"""Fold constants, and batch norms into the convolutions before them.

ONNX Runtime does it: its basic level gives standard ONNX only. Before: sorted, with unique names.
After: no node depends on constants alone, no BatchNormalization follows a Conv, names are unique.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from edge.errors import StartError
from export.passes.names import name_nodes

if TYPE_CHECKING:
    from export.graph import Model


def fold(model: Model) -> Model:
    """A new model. Raises `StartError` where ONNX Runtime refuses it (an unknown operator)."""
    import onnx
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.log_severity_level = 4
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "folded.onnx")
        options.optimized_model_filepath = str(file)
        try:
            ort.InferenceSession(
                model.SerializeToString(), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # its exceptions share no base of their own
            first = str(error).split("\n")[0][:300]
            raise StartError(
                f"ONNX Runtime refuses the model ({first})",
                "export it with standard operators only",
            ) from None
        folded = onnx.load(str(file))
    used = {node.domain for node in folded.graph.node}
    kept = [o for o in folded.opset_import if o.domain in used or not o.domain]
    del folded.opset_import[:]
    folded.opset_import.extend(kept)
    folded.ir_version = model.ir_version
    return name_nodes(folded)
