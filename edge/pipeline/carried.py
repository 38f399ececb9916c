"""The states one patient's model carries from step to step, outside the engine.

Many patients may share one engine: what a step needs is written in before it, and taken out after.
Nothing is allocated on the way.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edge.bundle.manifest import State
    from edge.engines import Engine


class Carried:
    """`values` float32 by the name of the engine's input; zeros at first and after `reset`."""

    def __init__(self, states: Sequence[State]) -> None:
        self._states = states
        self.values = {s.input: np.zeros(s.shape, np.float32) for s in states}

    def before(self, engine: Engine) -> None:
        """Write the states into the engine's inputs."""
        for name, value in self.values.items():
            engine.inputs[name][0] = value

    def after(self, engine: Engine) -> None:
        """Take the next states from the engine's outputs."""
        for state in self._states:
            self.values[state.input][...] = engine.outputs[state.output][0]

    def reset(self) -> None:
        """At admission, discharge, or a gap."""
        for value in self.values.values():
            value.fill(0.0)
