"""Faults of the line that every device meets: a port pulled inside a frame, another baud rate,
bytes that drip, noise before a frame, a sensor that comes off and alarms that must be raised after
it."""

from __future__ import annotations

import random
from typing import Any

import pytest

from firmware_bridge.devices import device
from firmware_bridge.emulators.emulated import EMULATORS
from firmware_bridge.emulators.faults import Fault, Kind
from firmware_bridge.emulators.patient import Scene
from firmware_bridge.link import RETRY_MAX_S, Link
from firmware_bridge.session import NS_PER_S, State
from firmware_bridge.types import Alert, AlertKind, LinkLost, LinkUp, Loss, Numeric, SampleBlock

pytestmark = pytest.mark.slow

STREAMS = [name for name in EMULATORS if not device(name).datagrams]
SERIAL = [name for name in STREAMS if device(name).wire.baud < 1_000_000]
ON_TCP = ("hl7-oru", "phd-blood-pressure", "phd-oximeter", "phd-scale")  # a byte a second will do


TORN = {
    "checksum", "crc", "data", "escape", "form", "length", "lengths", "start", "stop", "torn",
    "width",
}  # fmt: skip
"""What a frame is refused for that was put together of two."""


def said_by(wire: Any, name: str, seconds: float) -> bytes:
    wired = wire(name)
    wired.run(seconds)
    said: bytes = wired.cable.said
    return said


def next_frame(wired: Any) -> bytes:
    """What comes next, which the link does not hear."""
    frames: list[bytes] = []
    wired.cable._take = frames.extend
    while not frames:
        wired._t_s = round(wired._t_s + 0.01, 6)
        wired.cable.advance(wired._t_s)
        wired.link.poll(int(wired._t_s * NS_PER_S))
    del wired.cable._take
    return frames[0]


def values(messages: list[Any]) -> list[Any]:
    return [m for m in messages if isinstance(m, (SampleBlock, Numeric, Alert))]


@pytest.mark.parametrize("name", STREAMS)
def test_no_old_byte_joins_a_new_frame(name: str, wire: Any) -> None:
    """Pulled inside a frame, put back: a loss, then all frames are whole."""
    wired = wire(name)
    assert any(isinstance(m, LinkUp) for m in wired.run(10.0))
    frame = next_frame(wired)
    wired.cable._inbox.append(frame[: max(1, len(frame) // 2)])
    wired.link.poll(int(wired._t_s * NS_PER_S))
    wired.cable.plugged = False
    lost = [m for m in wired.run(1.0) if isinstance(m, LinkLost)]
    assert lost[0].reason is Loss.UNPLUGGED
    wired.cable._inbox.clear()
    wired.cable.plugged = True
    patience_s = device(name).dialogue.timeout_s
    again = wired.run(RETRY_MAX_S + max(patience_s.values()) % 20 + 6.0)
    ups = [m.t_ns for m in again if isinstance(m, LinkUp)]
    assert ups and values(again)
    assert not TORN & wired.link.counters.stream.rejects.keys()


def test_control_a_decoder_that_is_kept_joins_them(
    wire: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Link, "_reset_decoder", lambda self: None)
    for name in ("ge-s5", "masimo-ascii1", "medibus"):
        with pytest.raises(AssertionError):
            test_no_old_byte_joins_a_new_frame(name, wire)


def misread(data: bytes, ratio: float) -> bytes:
    """What a receiver makes of a line whose bits are `ratio` times as long as it thinks (8N1)."""
    bits = [b for byte in data for b in (0, *(byte >> i & 1 for i in range(8)), 1)]

    def level(at: float) -> int:
        return bits[int(at / ratio)] if at / ratio < len(bits) else 1

    out, at, end = bytearray(), 0.0, len(bits) * ratio
    while at < end:
        if level(at):
            at += 0.25
            continue
        byte = sum(level(at + 1.5 + i) << i for i in range(8))
        at += 9.5
        if level(at):  # else a framing error, which the driver drops
            out.append(byte)
    return bytes(out)


def test_control_at_the_right_rate_it_is_read() -> None:
    data = random.Random(4).randbytes(400)
    assert misread(data, 1.0) == data


@pytest.mark.parametrize("name", SERIAL)
def test_at_another_baud_rate_nothing_is_a_value(name: str, wire: Any) -> None:
    """Half, double and other rates, as cables and menus have them."""
    said = said_by(wire, name, 3.0)[:3000]
    for ratio in (0.25, 0.5, 2.0, 3.0, 4.0, 12.0):
        decoder = device(name).decoder()
        assert not values(decoder.feed(misread(said, ratio))), ratio


@pytest.mark.parametrize("name", STREAMS)
def test_noise_costs_no_more_than_the_frames_it_touches(name: str, wire: Any) -> None:
    """Beginnings of frames with lengths that are none, then the stream: it is found again."""
    said = said_by(wire, name, 6.0)
    clean = len(values(device(name).decoder().feed(said * 2)))
    for noise in (b"\xff" * 50, b"\x00" * 50, said[:3] + b"\xff" * 30, b"\x0b\x7e\xc0\xa0\x0a\xfa"):
        decoder = device(name).decoder()
        found = values(decoder.feed(said + noise + said))
        assert len(found) >= clean // 2, noise


@pytest.mark.parametrize("name", [name for name in STREAMS if name not in ON_TCP])
def test_a_drip_of_one_byte_a_second_is_a_loss(name: str, wire: Any) -> None:
    """The port is open, and nothing is complete in its time."""
    wired = wire(name)
    assert any(isinstance(m, LinkUp) for m in wired.run(12.0))
    wired.link.poll(int(12.0 * NS_PER_S))
    wired.cable._take = lambda frames: None
    wired.cable._inbox.clear()
    said, patience_s = wired.cable.said, device(name).dialogue.timeout_s[State.STREAMING]
    found: list[Any] = []
    for second in range(int(patience_s) + 2):
        at = len(said) // 2 + second
        wired.cable._inbox.append(said[at : at + 1])
        found += wired.link.poll(int((12.0 + 1.0 + second) * NS_PER_S))
        if any(isinstance(m, LinkLost) for m in found):
            break
    assert [m.reason for m in found if isinstance(m, LinkLost)]
    assert not [m for m in found if isinstance(m, (SampleBlock, Numeric))]


@pytest.mark.parametrize("name", EMULATORS)
def test_after_a_sensor_was_off_an_alarm_is_raised_again(name: str, wire: Any) -> None:
    """The recall of a telemetry system: alarms did not come back after a gap."""
    faults = (
        Fault(7.0, 8.0, Kind.ALARM), Fault(20.0, 8.0, Kind.LEAD_OFF), Fault(34.0, 10.0, Kind.ALARM),
    )  # fmt: skip
    alarms = [
        m for m in wire(name, Scene(faults=faults)).run(52.0)
        if isinstance(m, Alert) and m.kind is not AlertKind.TECHNICAL
    ]  # fmt: skip
    if not alarms:
        pytest.skip("it has no alarm of its own")
    by_code: dict[tuple[str, str], list[bool]] = {}
    for alarm in alarms:
        by_code.setdefault((alarm.code, alarm.channel), []).append(alarm.active)
    twice = [states for states in by_code.values() if len(states) >= 4]
    assert twice and all(states == [True, False] * (len(states) // 2) for states in twice)
