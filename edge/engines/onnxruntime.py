"""ONNX Runtime on the CPU: IO bound once to preallocated arrays, no spinning between windows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from edge.engines import refused
from edge.engines.shapes import allocate

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edge.pipeline.carried import Carried

SETTINGS = {
    # what lies in the bytes decides nothing: ONNX, never the runtime's own format
    "session.load_model_format": "ONNX",
    # periodic work: spinning took 58 % of a core and 3 ms of lateness from an acquisition thread
    "session.intra_op.allow_spinning": "0",
}


class OnnxRuntime:
    """One session; see `edge.engines.Engine`."""

    backend = "onnxruntime"
    holder: Carried | None

    def __init__(self, session: Any, precision: str, batch: int, threads: int) -> None:
        self.precision = precision
        self.threads = threads
        self._session = session
        self.inputs = allocate([(i.name, i.shape, i.type) for i in session.get_inputs()], batch)
        self.outputs = allocate([(o.name, o.shape, o.type) for o in session.get_outputs()], batch)
        self._binding = session.io_binding()
        for name, array in self.inputs.items():
            self._bind(self._binding.bind_input, name, array)
        for name, array in self.outputs.items():
            self._bind(self._binding.bind_output, name, array)
        self._run = session.run_with_iobinding

    def run(self) -> None:
        self._run(self._binding)  # without RunOptions: they cost 40 us and more

    def close(self) -> None:
        self._run = self._binding = self._session = None

    @staticmethod
    def _bind(bind: Any, name: str, array: NDArray[np.float32]) -> None:
        bind(name, "cpu", 0, np.float32, array.shape, array.ctypes.data)


def open_onnxruntime(model: bytes, precision: str, batch: int, threads: int) -> OnnxRuntime:
    """A session from bytes on the CPU provider. Raises `StartError`."""
    import onnxruntime as ort

    ort.disable_telemetry_events()
    try:
        session = ort.InferenceSession(
            model, _options(ort, threads), providers=["CPUExecutionProvider"]
        )
    except Exception as error:  # its exceptions share no base of their own
        raise refused("onnxruntime", error) from None
    return OnnxRuntime(session, precision, batch, threads)


def _options(ort: Any, threads: int) -> Any:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    for name, value in SETTINGS.items():
        options.add_session_config_entry(name, value)
    return options
