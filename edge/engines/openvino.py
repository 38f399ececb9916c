"""OpenVINO on the CPU: one prebound request, held at float32 (its default is bfloat16)."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from edge.engines import refused
from edge.engines.onnx_bytes import declared_names
from edge.engines.shapes import OPEN, allocate, fixed_shapes
from edge.errors import MedgeError, StartError

if TYPE_CHECKING:
    from collections.abc import Collection

    from edge.pipeline.carried import Carried

TELEMETRY = "openvino.tools.ovc"
SETTINGS = {
    "INFERENCE_PRECISION_HINT": "f32",
    "NUM_STREAMS": 1,
    "PERFORMANCE_HINT": "LATENCY",
    "ENABLE_CPU_PINNING": False,  # affinity belongs to the service's unit
}


class OpenVino:
    """One compiled model; see `edge.engines.Engine`."""

    backend = "openvino"
    holder: Carried | None

    def __init__(
        self, openvino: Any, compiled: Any, names: Collection[str], precision: str, batch: int,
        threads: int,
    ) -> None:  # fmt: skip
        self.precision = precision
        self.threads = threads
        self.inputs = allocate(_declared(compiled.inputs, names), batch)
        self.outputs = allocate(_declared(compiled.outputs, names), batch)
        self._request = compiled.create_infer_request()
        ports = (*compiled.inputs, *compiled.outputs)
        for port, array in zip(ports, (*self.inputs.values(), *self.outputs.values())):
            self._request.set_tensor(port, openvino.Tensor(array, shared_memory=True))

    def run(self) -> None:
        self._request.infer(share_outputs=True)  # else it copies them once more

    def close(self) -> None:
        self._request = None


def _declared(ports: Any, names: Collection[str]) -> list[tuple[str, list[object], str]]:
    """(name, shape, element type). OpenVINO may know a tensor by several names (that of a cast
    behind it too): the one that the file declares counts. Two outputs of one tensor are known by
    the names of both: each gets one of them."""
    found: list[tuple[str, list[object], str]] = []
    left = set(names)
    for p in ports:
        name = next((n for n in sorted(p.get_names()) if n in left), p.any_name)
        left.discard(name)
        shape = [d.get_length() if d.is_static else OPEN for d in p.get_partial_shape()]
        found.append((name, shape, p.element_type.get_type_name()))
    return found


def open_openvino(model: bytes, precision: str, batch: int, threads: int) -> OpenVino:
    """Compile from bytes for a fixed batch. Raises `StartError`."""
    try:
        openvino = _import_silent()
    except ImportError as error:
        raise StartError(
            f"openvino cannot be imported ({error})",
            "install it: pip install '.[openvino]' in medge's folder",
        ) from None
    core = openvino.Core()
    try:
        read = core.read_model(model)
        names = declared_names(model)
        fixed_shapes(_declared(read.inputs, names), batch)
        read.reshape({i: [batch, *list(i.get_partial_shape())[1:]] for i in read.inputs})
        settings = {**SETTINGS, "INFERENCE_NUM_THREADS": threads}
        compiled = core.compile_model(read, "CPU", settings)
        return OpenVino(openvino, compiled, names, precision, batch, threads)
    except MedgeError:
        raise
    except Exception as error:  # RuntimeError mostly; a port without a name is another
        raise refused("openvino", error) from None


def _import_silent() -> Any:
    """`openvino` without its model converter, whose import reports to its maker over the network.

    The package does without: it catches the `ImportError` that the blocked name gives.
    """
    blocked = TELEMETRY not in sys.modules
    if blocked:
        sys.modules[TELEMETRY] = None  # type: ignore[assignment]
    try:
        import openvino
    finally:
        if blocked:
            del sys.modules[TELEMETRY]
    return openvino
