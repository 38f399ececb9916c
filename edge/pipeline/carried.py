"""The states one patient's model carries from step to step, outside the engine.

Many patients may share one engine: what a step needs is written in before it, and taken out after.
Nothing is allocated on the way.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from edge.bundle.manifest import State
    from edge.engines import Engine

    Place = NDArray[np.float32]


class Carried:
    """`values` float32 by the name of the engine's input; zeros at first and after `reset`."""

    def __init__(self, states: Sequence[State]) -> None:
        self._states = states
        self.values = {s.input: np.zeros(s.shape, np.float32) for s in states}
        self._engine: Engine | None = None
        self._places: list[tuple[Place, Place, Place]] = []

    def before(self, engine: Engine) -> None:
        """Write the states into the engine's inputs."""
        if engine is not self._engine:
            self._find_places(engine)
        for value, into, _ in self._places:
            into[...] = value

    def after(self, engine: Engine) -> None:
        """Take the next states from the outputs of the engine that `before` was told."""
        for value, _, out_of in self._places:
            value[...] = out_of

    def _find_places(self, engine: Engine) -> None:
        """Of each state: our value, and where the engine has it, before and after."""
        self._engine = engine
        self._places = [
            (self.values[s.input], engine.inputs[s.input][0], engine.outputs[s.output][0])
            for s in self._states
        ]

    def reset(self) -> None:
        """At admission, discharge, or a gap."""
        for value in self.values.values():
            value.fill(0.0)
