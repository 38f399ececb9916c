"""Runs a device's dialogue: a table of (state, event) to the next state and the bytes to send.

Owns the rules that all dialogues share, the deadline of the present state, and what is sent again
and again in it. The tables themselves are in `devices`, each citing its document; bytes and time
come from `link`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Union

from firmware_bridge.errors import DialogueError

NS_PER_S = 1_000_000_000
NS_PER_MS = 1_000_000

Bytes = Union[bytes, Callable[[int], bytes]]
"""What to send: fixed, or made from how many times the session has sent something before."""


def earliest(*times_ns: int | None) -> int | None:
    """The first of these deadlines; None where there is none."""
    return min((t for t in times_ns if t is not None), default=None)


class State(Enum):
    """Where a dialogue can be."""

    CLOSED = "closed"
    LISTENING = "listening"  # is it streaming already?
    RESETTING = "resetting"  # reset sent, waiting for the banner
    ASSOCIATING = "associating"  # asked for a connection, waiting for the answer
    CONFIGURING = "configuring"  # asked what there is, or said what is wanted
    STARTING = "starting"  # start sent, waiting for the first frame
    STREAMING = "streaming"
    LOST = "lost"

    __hash__ = object.__hash__  # that of `Enum` is slow, and each frame asks for it


class Event(Enum):
    """What can happen. OPENED and JOINED are ours, the others come from the wire or its silence."""

    OPENED = "opened"
    JOINED = "joined"  # opened, but do not reset what already streams
    READY = "ready"  # the device has done what was asked: a complete text, an acceptance
    ALIVE = "alive"  # a sign of life without values
    REFUSED = "refused"  # it says that it cannot work, or ends the connection
    FRAMES = "frames"  # at least one trusted value
    TIMEOUT = "timeout"

    __hash__ = object.__hash__


@dataclass(frozen=True, slots=True)
class Step:
    """The outcome of an event. Without `rearm` the deadline of the state stays as it was. With
    `forget` what was heard so far does not answer what is sent now: the decoder begins anew."""

    state: State
    send: Bytes = b""
    rearm: bool = True
    forget: bool = False


@dataclass(frozen=True, slots=True)
class Beat:
    """Sent every `every_s` for as long as the state lasts: a poll, a keep-alive."""

    every_s: float
    send: Bytes


def _no_refusal(text: str) -> str | None:
    return None


@dataclass(frozen=True, slots=True)
class Dialogue:
    """A device's half of `Session`: its table, its patience per state, its words.

    `refusal` says why a device text means that it cannot work, or None. `stop` ends a stream.
    `beats` are sent in their state, the first time one period after it is entered.
    """

    table: Mapping[tuple[State, Event], Step]
    timeout_s: Mapping[State, float]
    refusal: Callable[[str], str | None] = _no_refusal
    stop: bytes = b""
    beats: Mapping[State, tuple[Beat, ...]] = field(default_factory=dict)


class Session:
    """One run of a dialogue, from CLOSED to LOST."""

    def __init__(self, dialogue: Dialogue) -> None:
        self._dialogue = dialogue
        self._sent = 0
        self._due_ns: list[tuple[int, Beat]] = []
        self.state = State.CLOSED
        self.deadline_ns: int | None = None

    def on(self, event: Event, now_ns: int) -> Step:
        """Take one event; the step that was taken, with its bytes to send now (often none).

        Raises `DialogueError` for a pair that is not in the table.
        """
        step = self._dialogue.table.get((self.state, event))
        if step is None:
            raise DialogueError(f"event '{event.value}' cannot happen in '{self.state.value}'")
        if step.state is not self.state:
            beats = self._dialogue.beats.get(step.state, ())
            self._due_ns = [(now_ns + int(b.every_s * NS_PER_S), b) for b in beats]
        self.state = step.state
        if step.rearm:
            timeout_s = self._dialogue.timeout_s.get(step.state)
            self.deadline_ns = None if timeout_s is None else now_ns + int(timeout_s * NS_PER_S)
        send = self._made(step.send)
        return step if send is step.send else replace(step, send=send)

    def beat(self, now_ns: int) -> bytes:
        """What is due to be sent again."""
        out = b""
        for i, (due_ns, beat) in enumerate(self._due_ns):
            if now_ns >= due_ns:
                out += self._made(beat.send)
                self._due_ns[i] = (now_ns + int(beat.every_s * NS_PER_S), beat)
        return out

    def next_ns(self) -> int | None:
        """When `beat` or the deadline has something to say."""
        times_ns = [due_ns for due_ns, _ in self._due_ns]
        times_ns += [self.deadline_ns] if self.deadline_ns is not None else []
        return min(times_ns, default=None)

    def _made(self, send: Bytes) -> bytes:
        if not send:
            return b""
        self._sent += 1
        return send if isinstance(send, bytes) else send(self._sent - 1)


def usual(*states: State) -> dict[tuple[State, Event], Step]:
    """What nearly every device means in `states`; a table begins with it and says what differs.

    A value: it streams. Another sign: nothing changes, no time is won. Refusal or silence: lost.
    """
    table: dict[tuple[State, Event], Step] = {}
    for state in states:
        table |= {
            (state, Event.FRAMES): Step(State.STREAMING),
            (state, Event.READY): Step(state, rearm=False),
            (state, Event.ALIVE): Step(state, rearm=False),
            (state, Event.REFUSED): Step(State.LOST),
            (state, Event.TIMEOUT): Step(State.LOST),
        }
    return table


def listening(silent_s: float) -> Dialogue:
    """The dialogue with a device that talks without being asked and is never sent anything: silence
    of `silent_s` is a loss."""
    return Dialogue(
        table={
            **usual(State.LISTENING, State.STREAMING),
            (State.CLOSED, Event.OPENED): Step(State.LISTENING),
            (State.CLOSED, Event.JOINED): Step(State.LISTENING),
            (State.STREAMING, Event.ALIVE): Step(State.STREAMING),
        },
        timeout_s={State.LISTENING: silent_s, State.STREAMING: silent_s},
    )
