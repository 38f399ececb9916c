"""The IntelliVue dialogue, alone and with its emulator, on the serial port and on the network."""

from __future__ import annotations

import itertools
import struct
from typing import Any

import numpy as np
import pytest

from firmware_bridge.devices import philips_association as association
from firmware_bridge.devices import philips_intellivue as intellivue
from firmware_bridge.devices import philips_messages as wire_format
from firmware_bridge.devices import philips_values as values
from firmware_bridge.devices.philips_frames import frame
from firmware_bridge.emulators.emulated import emulated
from firmware_bridge.emulators.faults import Fault, Kind
from firmware_bridge.emulators.patient import Scene
from firmware_bridge.session import NS_PER_S, Event, Session, State
from firmware_bridge.types import (
    Alert,
    LinkLost,
    LinkUp,
    Loss,
    Numeric,
    Send,
    Sign,
    Validity,
)

# --- dialogue -----------------------------------------------------------------------------------

WAITING = (State.ASSOCIATING, State.CONFIGURING, State.STARTING)
REQUEST = frame(association.connect())
EXPECTED = {
    (State.CLOSED, Event.OPENED): (State.ASSOCIATING, REQUEST),
    (State.CLOSED, Event.JOINED): (State.ASSOCIATING, REQUEST),
    (State.ASSOCIATING, Event.READY): (State.CONFIGURING, b""),
    (State.CONFIGURING, Event.READY): (State.STARTING, b""),
    (State.STARTING, Event.READY): (State.STARTING, b""),
    (State.ASSOCIATING, Event.FRAMES): (State.ASSOCIATING, b""),
    (State.CONFIGURING, Event.FRAMES): (State.CONFIGURING, b""),
    (State.STARTING, Event.FRAMES): (State.STREAMING, b""),
    **{(state, Event.ALIVE): (state, b"") for state in (*WAITING, State.STREAMING)},
    **{(state, Event.REFUSED): (State.LOST, b"") for state in (*WAITING, State.STREAMING)},
    **{(state, Event.TIMEOUT): (State.LOST, b"") for state in (*WAITING, State.STREAMING)},
    (State.STREAMING, Event.FRAMES): (State.STREAMING, b""),
    (State.STREAMING, Event.READY): (State.STREAMING, b""),
}


@pytest.mark.parametrize(("state", "event"), list(itertools.product(State, Event)))
def test_every_pair(state: State, event: Event, check_pair: Any) -> None:
    check_pair(intellivue.DEVICE.dialogue, EXPECTED, state, event)


def signs(messages: list[Any]) -> list[Event]:
    return [m.event for m in messages if isinstance(m, Sign)]


INTRODUCTION = wire_format.message(
    wire_format.ROIV, 1, wire_format.CONFIRMED_EVENT,
    struct.pack(">HHHIHH", 0x21, 0, 0, 0x4847, wire_format.MDS_CREATED, 4) + bytes(4),
)  # fmt: skip


def test_acceptance_then_introduction_then_polls() -> None:
    decoder = intellivue.lan_decoder()
    assert signs(decoder.feed(association.accept())) == [Event.READY]
    messages = decoder.feed(INTRODUCTION)
    sent = [m.data for m in messages if isinstance(m, Send)]
    assert sent[0] == wire_format.created(wire_format.parse_message(INTRODUCTION))
    assert sent[1] == wire_format.set_wave_priorities(values.WAVE_LABELS, 3)
    assert sent[2:] == [intellivue.poll(count) for count in range(3)]
    assert signs(messages) == [Event.READY]
    again = decoder.feed(INTRODUCTION)  # the answer was lost
    assert [m.data for m in again if isinstance(m, Send)] == sent[:1]
    assert signs(again) == [Event.ALIVE]


def test_an_introduction_out_of_turn_is_answered_and_moves_nothing() -> None:
    messages = intellivue.lan_decoder().feed(INTRODUCTION)
    assert len([m for m in messages if isinstance(m, Send)]) == 1
    assert signs(messages) == [Event.ALIVE]


@pytest.mark.parametrize(
    ("message", "events"),
    [
        (association.REFUSED, [Event.REFUSED]),
        (association.ABORTED, [Event.REFUSED]),
        (association.RELEASE, [Event.REFUSED]),
        (association.RELEASED, [Event.ALIVE]),
        (wire_format.message(wire_format.ROER, 1, 0x0B, b""), [Event.ALIVE]),
    ],
)
def test_refusals(message: bytes, events: list[Event]) -> None:
    decoder = intellivue.lan_decoder()
    messages = decoder.feed(message)
    assert signs(messages) == events
    answers = [m.data for m in messages if isinstance(m, Send)]
    assert answers == ([association.RELEASED] if message == association.RELEASE else [])


@pytest.mark.parametrize("kind", [0x0C, 0x19, 0x09, 0x0A, 0x0E, 0x0D])
def test_a_byte_that_looks_like_a_refusal_is_none(kind: int) -> None:
    decoder = intellivue.lan_decoder()
    for rest in (b"", b"\x05\x00", b"\xff\x00", bytes(40)):
        assert decoder.feed(bytes([kind]) + rest) == []
    assert sum(decoder.counters.rejects.values()) == 4


def test_what_the_monitor_refuses_to_do_is_counted() -> None:
    decoder = intellivue.lan_decoder()
    decoder.feed(wire_format.message(wire_format.ROER, 1, 0x0B, b""))
    assert decoder.counters.rejects == {"refused by the monitor": 1}


def test_polls_are_renewed_long_before_they_end() -> None:
    """Each of the three in turn: none is older than 4.5 s, none of our silences lasts 10 s."""
    sent = [wire_format.parse_message(intellivue.poll(count)) for count in range(3)]
    classes = [struct.unpack_from(">H", operation.body, 4)[0] for operation in sent]
    assert classes == [wire_format.VALUES, wire_format.WAVES, wire_format.ALARM_MONITOR]
    assert len(sent) * intellivue.POLL_EVERY_S < intellivue.POLL_S / 2
    assert intellivue.POLL_EVERY_S < 10 / 2


# --- with its emulator --------------------------------------------------------------------------

BOTH = ("philips-intellivue", "philips-intellivue-lan")


@pytest.mark.parametrize("name", BOTH)
def test_a_stream_outlives_its_polls(name: str, wire: Any) -> None:
    wired = wire(name)
    messages = wired.run(75.0)
    assert not [m for m in messages if isinstance(m, LinkLost)]
    ends = [m.seq + len(m.samples) for m in messages if getattr(m, "feed", "") == "ecg"]
    assert ends[-1] > 73 * 500
    stream = wired.link.counters.stream
    assert (stream.lost, stream.duplicates, dict(stream.rejects)) == (0, 0, {})
    assert len(wired.cable.said) / 75 < 0.9 * intellivue.SERIAL.bytes_per_s


def test_every_message_on_the_network_is_a_datagram_of_its_own() -> None:
    """What the link writes is never two messages in one."""
    monitor = emulated("philips-intellivue-lan", Scene())
    session = Session(intellivue.DEVICE_LAN.dialogue)
    decoder = intellivue.DEVICE_LAN.decoder()
    first = session.on(Event.OPENED, 0).send
    assert isinstance(first, bytes)
    answers = monitor.hear(first, 0.0) + monitor.say(0.2)
    sent = [m.data for a in answers for m in decoder.feed(a) if isinstance(m, Send)]
    assert len(sent) == 5
    for event in (Event.READY, Event.READY, Event.FRAMES):
        assert session.on(event, 0).send == b""
    beats = [session.beat(at_ns) for at_ns in range(0, 20 * NS_PER_S, NS_PER_S // 10)]
    assert len([beat for beat in beats if beat]) == 13
    for data in (*sent, *filter(None, beats)):
        wire_format.parse_message(data)


@pytest.mark.parametrize("name", BOTH)
def test_leads_off_and_alarm_of_a_scene(name: str, wire: Any) -> None:
    scene = Scene(faults=(Fault(4.0, 3.0, Kind.LEAD_OFF), Fault(9.0, 3.0, Kind.ALARM)))
    messages = wire(name, scene).run(15.0)
    assert [(m.code, m.active) for m in messages if isinstance(m, Alert)] == [
        ("MDC_EVT_LEADS_OFF", True),
        ("MDC_EVT_LEADS_OFF", False),
        ("MDC_EVT_HI", True),
        ("MDC_EVT_HI", False),
    ]
    rates = [m for m in messages if isinstance(m, Numeric) and m.channel == "MDC_ECG_HEART_RATE"]
    assert [m.validity for m in rates].count(Validity.INVALID) == 3
    leads = [m for m in messages if getattr(m, "feed", "") == "ecg"]
    off = [bool(np.isnan(m.samples).all()) for m in leads]
    assert 10 <= off.count(True) <= 13
    assert all(np.isfinite(m.samples).all() for m, gone in zip(leads, off) if not gone)


def test_a_wave_of_a_scene_saturates_and_freezes(wire: Any) -> None:
    faults = (Fault(2.0, 2.0, Kind.SATURATE, clip_mv=0.5), Fault(6.0, 2.0, Kind.FLAT))
    found = [
        m
        for m in wire("philips-intellivue", Scene(faults=faults)).run(9.0)
        if getattr(m, "feed", "") == "ecg"
    ]
    ecg_mv = np.concatenate([m.samples[:, 0] for m in found])
    begun_s = 9.0 - len(ecg_mv) / 500

    def during(from_s: float, to_s: float) -> Any:
        return ecg_mv[round((from_s - begun_s) * 500) : round((to_s - begun_s) * 500)]

    assert np.ptp(during(6.5, 7.5)) == 0
    assert during(2.5, 3.5).max() == pytest.approx(0.5, abs=0.01)
    assert during(4.5, 5.5).max() > 1.0


@pytest.mark.parametrize("name", BOTH)
def test_a_jump_of_the_clock_loses_no_sample(name: str, wire: Any) -> None:
    wired = wire(name, Scene(faults=(Fault(5.0, 100.0, Kind.CLOCK_JUMP, jump_s=-600.0),)))
    messages = wired.run(10.0)
    rates = [m for m in messages if isinstance(m, Numeric) and m.channel == "MDC_ECG_HEART_RATE"]
    steps_s = {(b.device_ns - a.device_ns) // NS_PER_S for a, b in zip(rates, rates[1:])}
    assert steps_s == {1, -599}
    assert wired.link.counters.stream.lost == 0


@pytest.mark.parametrize("name", BOTH)
def test_a_monitor_that_is_lost_is_found_again(name: str, wire: Any) -> None:
    """It keeps the old association for 10 s and aborts what is asked meanwhile; then it accepts."""
    wired = wire(name)
    wired.run(4.0)
    wired.cable.plugged = False
    lost = wired.run(1.0)
    assert [m.reason for m in lost if isinstance(m, LinkLost)] == [Loss.UNPLUGGED, Loss.ABSENT]
    wired.cable.plugged = True
    messages = wired.run(30.0)
    assert [m.reason for m in messages if isinstance(m, LinkLost)] in ([], [Loss.REFUSED])
    assert sum(isinstance(m, LinkUp) for m in messages) == 1


def test_closing_releases_the_monitor(wire: Any) -> None:
    wired = wire("philips-intellivue")
    wired.run(3.0)
    wired.link.close()
    assert wired.cable.heard.endswith(frame(association.RELEASE))
    assert wired.cable.said.endswith(frame(association.RELEASED))


@pytest.mark.benchmark
def test_decodes_at_fifty_times_the_link_rate(wire: Any, times_the_link: Any) -> None:
    wired = wire("philips-intellivue")
    wired.run(20.0)
    frames, said = wired.link.counters.stream.frames, wired.cable.said
    assert times_the_link(intellivue.Decoder, intellivue.SERIAL, said, 64, frames) >= 50
