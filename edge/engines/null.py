"""The null engine: outputs are NaN, so that it can never look like a diagnosis.

For measuring what medge itself costs. Admission never considers it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from edge.engines.onnxruntime import open_onnxruntime

if TYPE_CHECKING:
    from edge.engines import Engine
    from edge.pipeline.carried import Carried


class Null:
    """Shapes of a model, none of its arithmetic; see `edge.engines.Engine`."""

    backend = "null"
    holder: Carried | None

    def __init__(self, like: Engine) -> None:
        self.precision = like.precision
        self.threads = like.threads
        self.inputs = {name: x.copy() for name, x in like.inputs.items()}
        self.outputs = {name: np.full_like(x, np.nan) for name, x in like.outputs.items()}

    def run(self) -> None:
        pass

    def close(self) -> None:
        pass


def open_null(model: bytes, precision: str, batch: int, threads: int) -> Null:
    """Read the shapes with ONNX Runtime, then forget the model."""
    real = open_onnxruntime(model, precision, batch, threads)
    engine = Null(real)
    real.close()
    return engine
