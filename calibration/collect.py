"""Run a model over a calibration set and watch chosen tensors, a few samples at a time.

Owns the walk; memory is one small batch of activations and one histogram a tensor, however many
samples there are.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from calibration.observers import Observer
from edge.engines import open_engine
from edge.errors import StartError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from calibration.observers import Histogram
    from calibration.sets import Dataset
    from edge.engines import Engine

BATCH = 2
ANSWERED = WALKED = 32
"""Samples walked side by side; what a step keeps is small."""

REFERENCE_BACKEND = "onnxruntime"
"""The backend that runs Q/DQ and FP16 files as they are written, and gives intermediate results."""


def watch(model: bytes, tensors: Sequence[str], data: Dataset) -> dict[str, Histogram]:
    """A histogram of each of `tensors` (inputs or intermediate results of the ONNX `model`)."""
    observers = {name: Observer() for name in tensors}
    for values in activations(model, tensors, data):
        for name, observer in observers.items():
            observer.observe(values[name])
        values.clear()  # gone before the next batch is run
    return {name: observer.histogram() for name, observer in observers.items()}


def activations(
    model: bytes, tensors: Sequence[str], data: Dataset, batch: int = BATCH,
    backend: str = REFERENCE_BACKEND,
) -> Iterator[dict[str, NDArray[np.float32]]]:  # fmt: skip
    """The values of `tensors` `[b, ...]`, batch by batch in order; of a model that carries states,
    step by step of each batch. Another `backend` than the reference gives outputs only."""
    wanted = [name for name in tensors if name not in data.inputs]
    batch = max(batch, WALKED) if data.carried else batch
    with _opened(backend, model, wanted, batch) as session:
        for start in range(0, len(data), batch):
            fed = {name: x[start : start + batch] for name, x in data.inputs.items()}
            if data.carried:
                yield from _walk(session, wanted, fed, data)
            else:
                yield {**fed, **dict(zip(wanted, session.run(wanted, fed) if wanted else []))}


def _walk(
    session: Any, tensors: Sequence[str], fed: dict[str, NDArray[np.float32]], data: Dataset
) -> Iterator[dict[str, NDArray[np.float32]]]:
    """One batch over all its steps, from states of zeros."""
    count = len(next(iter(fed.values())))
    wanted = list(dict.fromkeys([*tensors, *(s.output for s in data.carried)]))
    wanted = [name for name in wanted if name not in {s.input for s in data.carried}]
    state = {s.input: np.zeros((count, *s.shape), np.float32) for s in data.carried}
    for step in range(data.steps):
        now = {name: x[:, step] for name, x in fed.items()} | state
        found = dict(zip(wanted, session.run(wanted, now)))
        yield now | found
        state = {s.input: found[s.output] for s in data.carried}


def answers(
    model: bytes, output: str, data: Dataset, backend: str = REFERENCE_BACKEND
) -> NDArray[np.float32]:
    """The model's `output` `[m, values]` by a `backend`, one row for each that `data` expects:
    every sample's, or every step's where it has a target for each."""
    every = data.target is not None
    rows: list[NDArray[np.float32]] = []
    walk: list[NDArray[np.float32]] = []
    for values in activations(model, [output], data, ANSWERED, backend):
        walk.append(values[output])
        if len(walk) == data.steps:
            one = np.stack(walk, 1).reshape(-1, *walk[0].shape[1:]) if every else walk[-1]
            rows.append(one)
            walk.clear()
    found = np.concatenate(rows)
    return np.asarray(found.reshape(len(found), -1)[data.expected().rows])


class _EngineSession:
    """An engine as a session: `run` takes up to as many rows as it was opened for."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def run(
        self, names: Sequence[str], fed: dict[str, NDArray[np.float32]]
    ) -> list[NDArray[np.float32]]:
        count = len(next(iter(fed.values())))
        for name, x in fed.items():
            self._engine.inputs[name][:count] = x
        self._engine.run()
        return [self._engine.outputs[name][:count].copy() for name in names]


@contextmanager
def _opened(backend: str, model: bytes, tensors: Sequence[str], batch: int) -> Iterator[Any]:
    """Something whose `run(names, fed)` gives arrays in the order of `names`."""
    if backend == REFERENCE_BACKEND:
        yield open_session(_with_outputs(model, tensors))
        return
    with open_engine(backend, model, "", batch=batch) as engine:
        yield _EngineSession(engine)


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
