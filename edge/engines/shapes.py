"""Arrays for a model's declared inputs and outputs: the first axis is the batch, the rest fixed."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from edge.errors import StartError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

MAX_ELEMENTS = 1 << 26
OPEN = -1
"""An axis whose length the file leaves open; ONNX Runtime gives its name or None instead."""


def allocate(
    declared: Iterable[tuple[str, Sequence[object], str]], batch: int
) -> dict[str, NDArray[np.float32]]:
    """Zeros by name for (name, shape, type). Raises `StartError` where they cannot be fixed."""
    shapes = fixed_shapes(declared, batch)
    return {name: np.zeros(shape, np.float32) for name, shape in shapes.items()}


def fixed_shapes(
    declared: Iterable[tuple[str, Sequence[object], str]], batch: int
) -> dict[str, tuple[int, ...]]:
    """The shape of each (name, shape, type) at this `batch`; an open axis is no positive int."""
    return {name: _fixed(name, shape, kind, batch) for name, shape, kind in declared}


def _fixed(name: str, shape: Sequence[object], kind: str, batch: int) -> tuple[int, ...]:
    """`shape` with `batch` for its first axis, which is symbolic in the file or that number."""
    rest = tuple(d for d in shape[1:] if isinstance(d, int) and d > 0)
    if kind not in ("tensor(float)", "f32") or not shape or len(rest) != len(shape) - 1:
        raise StartError(
            f"tensor '{name}' is {kind} {list(shape)}", "export it float32, batch first"
        )
    if isinstance(shape[0], int) and shape[0] not in (batch, OPEN):
        raise StartError(
            f"tensor '{name}' has {shape[0]} for its batch axis, not {batch}",
            "export that axis symbolic",
        )
    if batch * math.prod(rest) > MAX_ELEMENTS:
        raise StartError(
            f"tensor '{name}' of {[batch, *rest]} is too large", "export a smaller model"
        )
    return (batch, *rest)
