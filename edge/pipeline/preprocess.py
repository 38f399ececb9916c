"""Per-window preprocessing: the manifest's registered steps, bound once, run into engine inputs.

A bundle names steps; it never imports code. An operator may register his own steps.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from edge.errors import StartError
from edge.registry import resolve

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from edge.bundle.manifest import Input, Manifest, Step

    Array = NDArray[np.float32]
    Transform = Callable[[Array], Array]

STEPS = {
    "remove_mean": "edge.pipeline.preprocess:remove_mean",
    "scale": "edge.pipeline.preprocess:scale",
    "clip": "edge.pipeline.preprocess:clip",
}


def remove_mean() -> Transform:
    """Subtract the window's own mean; unit unchanged."""
    return lambda x: x - x.mean(dtype=np.float32)


def scale(factor: float) -> Transform:
    """Multiply by `factor` (1/unit makes the result dimensionless)."""
    by = np.float32(factor)
    return lambda x: x * by


def clip(low: float, high: float) -> Transform:
    """Limit to `low`..`high` in the unit at that point of the chain."""
    return lambda x: np.clip(x, np.float32(low), np.float32(high))


def bind(step: Step, known: Mapping[str, str]) -> Transform:
    """The step's transform with its parameters. Raises `StartError` for unknown name or params."""
    factory: Any = resolve(known, step.name, "preprocess step")
    try:
        transform: Transform = factory(**step.params)
    except TypeError as error:
        raise StartError(
            f"preprocess step '{step.name}' refuses its parameters ({error})",
            "correct the manifest",
        ) from None
    return transform


class Preprocessor:
    """All inputs of one bundle: `fill(arrays, tensors)` writes row 0 of each engine input."""

    def __init__(self, manifest: Manifest, known: Mapping[str, str] = STEPS) -> None:
        self._chains = [(i, [bind(s, known) for s in i.preprocess]) for i in manifest.inputs]

    def fill(self, arrays: Mapping[str, Array], tensors: Mapping[str, Array], row: int = 0) -> None:
        """Transform the arrays (float32, by the manifest's source) into `tensors[name][row]`."""
        for spec, chain in self._chains:
            tensors[spec.name][row] = _run(chain, arrays[spec.source], spec)


def _run(chain: list[Transform], array: Array, spec: Input) -> Array:
    for transform in chain:
        array = transform(array)
    return array.reshape(spec.shape)
