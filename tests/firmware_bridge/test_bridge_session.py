"""The Cyton dialogue, pair by pair: every state and event, legal or not."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from firmware_bridge.devices import cyton
from firmware_bridge.session import NS_PER_S, Event, Session, State

DIALOGUE = cyton.DEVICE.dialogue
OURS = (Event.OPENED, Event.JOINED)
FROM_THE_WIRE = tuple(e for e in Event if e not in OURS)
OPEN_STATES = (State.LISTENING, State.RESETTING, State.STARTING, State.STREAMING)

# (state, event) -> (next state, bytes sent); "Cyton Board SDK": v resets, b starts.
EXPECTED = {
    (State.CLOSED, Event.OPENED): (State.RESETTING, b"v"),
    (State.CLOSED, Event.JOINED): (State.LISTENING, b""),
    (State.LISTENING, Event.FRAMES): (State.STREAMING, b""),
    (State.LISTENING, Event.READY): (State.LISTENING, b""),
    (State.LISTENING, Event.REFUSED): (State.LOST, b""),
    (State.LISTENING, Event.TIMEOUT): (State.RESETTING, b"v"),
    (State.RESETTING, Event.FRAMES): (State.RESETTING, b""),
    (State.RESETTING, Event.READY): (State.STARTING, b"b"),
    (State.RESETTING, Event.REFUSED): (State.LOST, b""),
    (State.RESETTING, Event.TIMEOUT): (State.LOST, b""),
    (State.STARTING, Event.FRAMES): (State.STREAMING, b""),
    (State.STARTING, Event.READY): (State.STARTING, b""),
    (State.STARTING, Event.REFUSED): (State.LOST, b""),
    (State.STARTING, Event.TIMEOUT): (State.LOST, b""),
    (State.STREAMING, Event.FRAMES): (State.STREAMING, b""),
    (State.STREAMING, Event.READY): (State.LOST, b""),
    (State.STREAMING, Event.REFUSED): (State.LOST, b""),
    (State.STREAMING, Event.TIMEOUT): (State.LOST, b""),
    **{(state, Event.ALIVE): (state, b"") for state in OPEN_STATES},
}


def session_in(state: State) -> Session:
    session = Session(DIALOGUE)
    session.state = state
    return session


@pytest.mark.parametrize(("state", "event"), list(itertools.product(State, Event)))
def test_every_pair(state: State, event: Event, check_pair: Any) -> None:
    check_pair(DIALOGUE, EXPECTED, state, event)


def test_an_open_port_can_hear_anything_at_any_time() -> None:
    """What a device does is never our bug: no event from the wire is illegal while open."""
    for pair in itertools.product(OPEN_STATES, FROM_THE_WIRE):
        assert pair in DIALOGUE.table


def test_every_waiting_state_has_a_deadline() -> None:
    assert set(DIALOGUE.timeout_s) == set(OPEN_STATES)
    wrap_s = 256 / cyton.RATE_HZ
    assert DIALOGUE.timeout_s[State.STREAMING] < wrap_s


def test_old_frames_do_not_extend_the_wait_for_the_banner() -> None:
    session = Session(DIALOGUE)
    session.on(Event.OPENED, 0)
    session.on(Event.FRAMES, NS_PER_S)
    assert session.deadline_ns == 3 * NS_PER_S


def test_each_frame_extends_the_stream() -> None:
    session = session_in(State.STREAMING)
    session.on(Event.FRAMES, 5 * NS_PER_S)
    assert session.deadline_ns == 6 * NS_PER_S
