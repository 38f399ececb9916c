"""Run a model over a calibration set and watch chosen tensors, a few samples at a time.

Owns the walk; memory is one small batch of activations and one histogram a tensor, however many
samples there are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from calibration.observers import Observer
from edge.errors import StartError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from calibration.observers import Histogram
    from calibration.sets import Dataset

BATCH = 2


def watch(model: bytes, tensors: Sequence[str], data: Dataset) -> dict[str, Histogram]:
    """A histogram of each of `tensors` (inputs or intermediate results of the ONNX `model`)."""
    observers = {name: Observer() for name in tensors}
    for values in activations(model, tensors, data):
        for name, observer in observers.items():
            observer.observe(values[name])
        values.clear()  # gone before the next batch is run
    return {name: observer.histogram() for name, observer in observers.items()}


def activations(
    model: bytes, tensors: Sequence[str], data: Dataset, batch: int = BATCH
) -> Iterator[dict[str, NDArray[np.float32]]]:
    """The values of `tensors` `[b, ...]`, batch by batch in order."""
    wanted = [name for name in tensors if name not in data.inputs]
    session = open_session(_with_outputs(model, wanted))
    for start in range(0, len(data), batch):
        fed = {name: x[start : start + batch] for name, x in data.inputs.items()}
        yield {**fed, **dict(zip(wanted, session.run(wanted, fed) if wanted else []))}


def open_session(model: bytes) -> Any:
    """An ONNX Runtime session on one thread, without memory kept between runs."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.enable_cpu_mem_arena = False
    options.log_severity_level = 3
    try:
        return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its exceptions share no base of their own
        first = str(error).split("\n")[0][:300]
        raise StartError(f"ONNX Runtime refuses the model ({first})", "export it again") from None


def _with_outputs(model: bytes, tensors: Sequence[str]) -> bytes:
    """The same model, `tensors` among its outputs."""
    import onnx

    proto = onnx.load_from_string(model)
    have = {output.name for output in proto.graph.output}
    for name in tensors:
        if name not in have:
            proto.graph.output.append(onnx.helper.make_empty_tensor_value_info(name))
    return bytes(proto.SerializeToString())
