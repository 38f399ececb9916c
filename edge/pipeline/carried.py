"""The states one patient's model carries from step to step.

Many patients may share one engine. Between two steps the newest states of one of them, the engine's
holder, lie in its outputs, from where they go to its inputs; they are taken out when they are asked
for, or when somebody else wants the engine. Nothing is allocated on the way.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from edge.errors import BugError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from edge.bundle.manifest import State
    from edge.engines import Engine

    Place = NDArray[np.float32]


class Carried:
    """States float32 by the name of the engine's input; zeros at first and after `reset`."""

    def __init__(self, states: Sequence[State]) -> None:
        self._states = states
        self._values = {s.input: np.zeros(s.shape, np.float32) for s in states}
        self._engine: Engine | None = None
        self._places: list[tuple[Place, Place, Place]] = []
        self._in_outputs = False
        self._under_way = False  # a step that began from the outputs and overwrites them

    @property
    def values(self) -> dict[str, Place]:
        """The states, to read and to write in place. Raises `BugError` after a step that failed."""
        self._require_whole()
        self._take()
        return self._values

    def before(self, engine: Engine) -> None:
        """Write the states into the engine's inputs. Raises `BugError` after a step that failed."""
        self._require_whole()
        if engine is not self._engine:
            self._take()
            self._find_places(engine)
        if engine.holder is self and self._in_outputs:
            for _, into, out_of in self._places:
                into[...] = out_of
            self._in_outputs, self._under_way = False, True
            return
        if self._in_outputs:
            raise BugError("an engine forgot whose states it has", "let `Carried` alone set it")
        if engine.holder is not None:
            engine.holder._take()
        engine.holder = self
        for value, into, _ in self._places:
            into[...] = value

    def after(self, engine: Engine) -> None:
        """The engine that `before` was told has run: the next states are in its outputs. Raises
        `BugError` where it was another one, or somebody else had it meanwhile."""
        if engine is not self._engine or engine.holder is not self:
            raise BugError("a step ends on an engine that it does not have", "one step at a time")
        self._in_outputs, self._under_way = True, False

    def reset(self) -> None:
        """At admission, discharge, or a gap."""
        self._in_outputs = self._under_way = False
        for value in self._values.values():
            value.fill(0.0)

    def _take(self) -> None:
        """Out of the engine, where they lie there."""
        if self._in_outputs:
            for value, _, out_of in self._places:
                value[...] = out_of
            self._in_outputs = False

    def _require_whole(self) -> None:
        if self._under_way:
            raise BugError("a step has failed and its states are gone", "reset them, or end it")

    def _find_places(self, engine: Engine) -> None:
        """Of each state: our value, and where the engine has it, before and after."""
        self._engine = engine
        self._places = [
            (self._values[s.input], engine.inputs[s.input][0], engine.outputs[s.output][0])
            for s in self._states
        ]
