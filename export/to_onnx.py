"""A torch module to the bytes of a clean ONNX file, checked against the module itself.

Owns the export and what must not be in the file (traces, paths, documentation). The first axis of
every input and of the output is symbolic. Opset and IR version are ones that TensorRT 10.3 and ONNX
Runtime 1.20 read.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import numpy as np

from edge.errors import BugError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

OPSET, IR_VERSION = 18, 10


def to_onnx(module: Any, inputs: Mapping[str, NDArray[np.float32]], output: str) -> bytes:
    """Export `module(**inputs) -> output`. `inputs` are examples with at least two rows: a single
    one would be traced as a constant."""
    import onnx
    import torch

    example = tuple(torch.from_numpy(x[:2]) for x in inputs.values())
    batch = torch.export.Dim("batch", min=1, max=1 << 16)
    program: Any = torch.onnx.export(
        module, example, dynamo=True, opset_version=OPSET, input_names=list(inputs),
        output_names=[output], dynamic_shapes=tuple({0: batch} for _ in inputs), verbose=False,
    )  # fmt: skip
    data = io.BytesIO()
    program.save(data)
    model = onnx.load_from_string(data.getvalue())
    model.ir_version = IR_VERSION
    strip(model)
    onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString(deterministic=True))


def strip(model: Any) -> None:
    """Remove every documentation string and metadata entry: they hold traces and paths."""
    graph = model.graph
    for thing in (model, graph, *graph.node, *graph.initializer, *graph.input, *graph.output,
                  *graph.value_info):  # fmt: skip
        thing.ClearField("doc_string")
        thing.ClearField("metadata_props")
    del graph.value_info[:]


def largest_difference(
    data: bytes, module: Any, inputs: Mapping[str, NDArray[np.float32]]
) -> float:
    """Largest absolute difference between the file in ONNX Runtime and the module in torch."""
    import onnxruntime
    import torch

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    (found,) = session.run(None, dict(inputs))
    with torch.no_grad():
        expected = module(*(torch.from_numpy(x) for x in inputs.values())).numpy()
    return float(np.abs(found - expected).max())


def require_same(
    data: bytes, module: Any, inputs: Mapping[str, NDArray[np.float32]], bound: float
) -> float:
    """The largest difference, at most `bound`. Raises `BugError` where it is more, and where a
    changed input does not show in it."""
    import torch

    difference = largest_difference(data, module, inputs)
    if not difference <= bound:
        raise BugError(f"the exported file strays {difference:g} from the model", "mend the export")

    def changed(*tensors: torch.Tensor) -> Any:
        return module(*(t + 0.1 * (i + 1) for i, t in enumerate(tensors)))

    if largest_difference(data, changed, inputs) <= 10 * bound:
        raise BugError("the comparison does not see a changed input", "mend the comparison")
    return difference
