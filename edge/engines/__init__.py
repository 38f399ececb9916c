"""Engines: a model's bytes to named arrays that are written, run and read in place.

One file per backend. Owns opening and closing; a backend is chosen by admission, never by falling
back, and decoding a bundle is `edge.bundle`'s.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

from edge.engines.onnx_bytes import require_self_contained
from edge.errors import MedgeError, StartError
from edge.registry import load, resolve

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    from numpy.typing import NDArray

    from edge.pipeline.carried import Carried

ENGINES = {
    "onnxruntime": "edge.engines.onnxruntime:open_onnxruntime",
    "openvino": "edge.engines.openvino:open_openvino",
    "null": "edge.engines.null:open_null",
}


class Engine(Protocol):
    """One model at one fixed batch N.

    `inputs` and `outputs` are preallocated C-contiguous float32 arrays `[N, ...]` by name, the same
    objects for the engine's life: write in place, `run()`, read in place. Nothing else may be done
    with them meanwhile; one thread at a time.
    """

    backend: str
    precision: str
    threads: int
    inputs: dict[str, NDArray[np.float32]]
    outputs: dict[str, NDArray[np.float32]]
    holder: Carried | None
    """Whose states may lie in `outputs`; `open_engine` sets None, then `Carried` alone. Who runs an
    engine with states without one of them destroys what its holder has."""

    def run(self) -> None: ...

    def close(self) -> None: ...


@contextmanager
def open_engine(
    backend: str, model: bytes, precision: str, *, batch: int = 1, threads: int = 1,
    factory: str | None = None,
) -> Iterator[Engine]:  # fmt: skip
    """Open `model` (ONNX bytes) on `backend` for a fixed `batch`, warmed up; closed on leaving.

    `factory` ("module:attr", called with model, precision, batch and threads) stands in for the
    registered one. Raises `StartError` for a model or a backend that cannot be used.
    """
    opener: Any = (
        load(factory, f"engine '{backend}'") if factory else resolve(ENGINES, backend, "engine")
    )
    require_self_contained(model)
    engine: Engine = opener(model, precision, batch, threads)
    try:
        engine.holder = None
        _warm_up(engine)
        yield engine
    finally:
        engine.close()


def _warm_up(engine: Engine) -> None:
    """The first run allocates, and is where a model fails that its backend let pass."""
    try:
        engine.run()
    except MedgeError:
        raise
    except Exception as error:  # each runtime raises its own, without a common base
        raise refused(engine.backend, error, "runs") from None


def refused(backend: str, error: Exception, what: str = "opens") -> StartError:
    """A runtime's exception as one line."""
    first = next(iter(str(error).split("\n")), "")[:300] or type(error).__name__
    return StartError(f"{backend} refuses the model as it {what} it ({first})", "export it again")
