"""Runs a device's dialogue: a table of (state, event) to the next state and the bytes to send.

Owns the rules that all dialogues share and the deadline of the present state. The tables
themselves are in `devices`, each citing its document; bytes and time come from `link`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from firmware_bridge.errors import DialogueError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

NS_PER_S = 1_000_000_000


class State(Enum):
    """Where a dialogue can be."""

    CLOSED = "closed"
    LISTENING = "listening"  # is it streaming already?
    RESETTING = "resetting"  # reset sent, waiting for the banner
    STARTING = "starting"  # start sent, waiting for the first frame
    STREAMING = "streaming"
    LOST = "lost"


class Event(Enum):
    """What can happen. OPENED and JOINED are ours, the others come from the wire or its silence."""

    OPENED = "opened"
    JOINED = "joined"  # opened, but do not reset what already streams
    READY = "ready"  # a complete text
    REFUSED = "refused"  # a complete text that says the device cannot work
    FRAMES = "frames"  # at least one trusted frame
    TIMEOUT = "timeout"


@dataclass(frozen=True, slots=True)
class Step:
    """The outcome of an event. Without `rearm` the deadline of the state stays as it was."""

    state: State
    send: bytes = b""
    rearm: bool = True


@dataclass(frozen=True, slots=True)
class Dialogue:
    """A device's half of `Session`: its table, its patience per state, its words.

    `refusal` says why a device text means that it cannot work, or None. `stop` ends a stream.
    """

    table: Mapping[tuple[State, Event], Step]
    timeout_s: Mapping[State, float]
    refusal: Callable[[str], str | None]
    stop: bytes


class Session:
    """One run of a dialogue, from CLOSED to LOST."""

    def __init__(self, dialogue: Dialogue) -> None:
        self._dialogue = dialogue
        self.state = State.CLOSED
        self.deadline_ns: int | None = None

    def on(self, event: Event, now_ns: int) -> bytes:
        """Take one event and return the bytes to send now (often none).

        Raises `DialogueError` for a pair that is not in the table.
        """
        step = self._dialogue.table.get((self.state, event))
        if step is None:
            raise DialogueError(f"event '{event.value}' cannot happen in '{self.state.value}'")
        self.state = step.state
        if step.rearm:
            timeout_s = self._dialogue.timeout_s.get(step.state)
            self.deadline_ns = None if timeout_s is None else now_ns + int(timeout_s * NS_PER_S)
        return step.send
