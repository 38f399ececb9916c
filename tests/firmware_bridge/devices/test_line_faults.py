"""Faults of the line that every device meets: a port pulled inside a frame, another baud rate,
bytes that drip, noise before a frame, a sensor that comes off and alarms that must be raised after
it."""

from __future__ import annotations

import random
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from firmware_bridge import link
from firmware_bridge.emulators.emulated import EMULATORS, Emulator, emulator
from firmware_bridge.emulators.faults import Fault, Kind
from firmware_bridge.emulators.patient import Scene
from firmware_bridge.link import GARBAGE_BYTES, GARBAGE_RUN, RETRY_MAX_S, Link
from firmware_bridge.session import NS_PER_S, State
from firmware_bridge.types import Alert, AlertKind, LinkLost, LinkUp, Loss, Numeric, SampleBlock

if TYPE_CHECKING:
    from collections.abc import Callable

    from firmware_bridge.types import Device

pytestmark = pytest.mark.slow

MAP = Path(__file__).with_name("modbus.toml")
EVERY = [*map(emulator, EMULATORS), emulator("modbus", str(MAP))]
STREAMS = [each for each in EVERY if not each.device.datagrams]
SERIAL = [each for each in STREAMS if each.device.wire.baud < 1_000_000]
ON_TCP = ("hl7-oru", "phd-blood-pressure", "phd-oximeter", "phd-scale")  # a byte a second will do


TORN = {
    "checksum", "crc", "data", "escape", "form", "length", "lengths", "start", "stop", "torn",
    "width",
}  # fmt: skip
"""What a frame is refused for that was put together of two."""


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


@pytest.mark.parametrize("each", STREAMS)
def test_no_old_byte_joins_a_new_frame(each: Emulator, wire_to: Any) -> None:
    """Pulled inside a frame, put back: a loss, then all frames are whole."""
    wired = wire_to(each.device, each.make(Scene()))
    assert any(isinstance(m, LinkUp) for m in wired.run(10.0))
    frame = next_frame(wired)
    wired.cable._inbox.append(frame[: max(1, len(frame) // 2)])
    wired.link.poll(int(wired._t_s * NS_PER_S))
    wired.cable.plugged = False
    lost = [m for m in wired.run(1.0) if isinstance(m, LinkLost)]
    assert lost[0].reason is Loss.UNPLUGGED
    wired.cable._inbox.clear()
    wired.cable.plugged = True
    patience_s = each.device.dialogue.timeout_s
    again = wired.run(RETRY_MAX_S + max(patience_s.values()) % 20 + 6.0)
    ups = [m.t_ns for m in again if isinstance(m, LinkUp)]
    assert ups and values(again)
    assert not TORN & wired.link.counters.stream.rejects.keys()


def test_control_a_decoder_that_is_kept_joins_them(
    wire_to: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Link, "_reset_decoder", lambda self: None)
    for name in ("ge-s5", "masimo-ascii1", "medibus"):
        with pytest.raises(AssertionError):
            test_no_old_byte_joins_a_new_frame(emulator(name), wire_to)


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


@pytest.mark.parametrize("each", SERIAL)
def test_at_another_baud_rate_nothing_is_a_value(each: Emulator, wire_to: Any) -> None:
    """Half, double and other rates, as cables and menus have them; of a decoder that has heard
    nothing yet, and of one that has been set up on the running link."""
    for ratio in (0.25, 0.5, 2.0, 3.0, 4.0, 12.0):
        wired = wire_to(each.device, each.make(Scene()))
        wired.run(3.0)
        garbled = misread(wired.cable.said[:3000], ratio)
        assert not values(each.device.decoder().feed(garbled)), ratio
        running = wired.link._decoder
        running.feed(b"\xd0")  # in MEDIBUS the end of the true record under way
        assert not measured(running.feed(garbled)), ratio


def heard_instead(
    wired: Any, what: Callable[[list[bytes]], list[bytes]], limit_s: float
) -> tuple[list[Any], float]:
    """What the link says while `what` takes the place of each frame, until it is lost; and when
    that was, s from then on."""
    take, found, began_s = wired.cable._take, [], wired._t_s
    wired.cable._take = lambda frames: take(what(list(frames)))
    while wired._t_s < began_s + limit_s and not any(isinstance(m, LinkLost) for m in found):
        wired.cable._take([])
        found += wired.run(0.05)
    return found, wired._t_s - began_s


def measured(messages: list[Any]) -> list[Any]:
    return [
        m for m in messages
        if (isinstance(m, Numeric) and m.value is not None)
        or (isinstance(m, SampleBlock) and np.isfinite(m.samples).any())
    ]  # fmt: skip


def noise_of(made: Device, seed: int = 1) -> Callable[[list[bytes]], list[bytes]]:
    """Random bytes as fast as the line carries them; 1,000 a second on a network."""
    rng = random.Random(seed)
    per_s = 1000.0 if made.name in ON_TCP or made.datagrams else made.wire.bytes_per_s
    return lambda frames: [] if frames else [rng.randbytes(int(per_s * 0.05))]


@pytest.mark.parametrize("each", EVERY)
def test_noise_on_a_running_link_is_garbage_and_no_value(each: Emulator, wire_to: Any) -> None:
    wired = wire_to(each.device, each.make(Scene()))
    assert any(isinstance(m, LinkUp) for m in wired.run(12.0))
    found, after_s = heard_instead(wired, noise_of(each.device), 8.0)
    assert [m.reason for m in found if isinstance(m, LinkLost)] == [Loss.GARBAGE]
    assert after_s <= 6.0
    assert not measured(found)


@pytest.mark.parametrize("each", EVERY)
def test_one_good_frame_in_ten_does_not_keep_a_link_up(each: Emulator, wire_to: Any) -> None:
    wired, rng = wire_to(each.device, each.make(Scene())), random.Random(1)
    assert any(isinstance(m, LinkUp) for m in wired.run(12.0))
    wanted_s = GARBAGE_BYTES * 12.0 / len(wired.cable.said)  # until it can be judged
    limit_s = 4.0 + (GARBAGE_RUN + 1) * max(1.0, wanted_s)
    found, _ = heard_instead(
        wired,
        lambda frames: [f if rng.random() < 0.1 else rng.randbytes(len(f)) for f in frames],
        limit_s,
    )
    assert [m.reason for m in found if isinstance(m, LinkLost)], f"up after {limit_s:.0f} s"


def test_control_without_the_share_of_garbage_they_stay_up(
    wire_to: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(link, "GARBAGE_SHARE", 99.0)
    for name in ("hl7-oru", "nonin-13"):
        with pytest.raises(AssertionError, match="up after"):
            test_one_good_frame_in_ten_does_not_keep_a_link_up(emulator(name), wire_to)
    with pytest.raises(AssertionError):
        test_noise_on_a_running_link_is_garbage_and_no_value(emulator("hl7-oru"), wire_to)


def brought(decoder: Any, before: bytes, noise: bytes, after: list[bytes]) -> list[int]:
    """How many samples, numbers and alerts each frame after the noise brings."""
    decoder.feed(before)
    decoder.feed(noise)
    sizes = [[len(getattr(m, "samples", "1")) for m in values(decoder.feed(f))] for f in after]
    return [sum(found) for found in sizes]


FINDING_BYTES = {
    "nonin-2": 125, "nonin-7": 125,  # a packet, whose beginning says where its frames belong
    "phd-blood-pressure": 255, "phd-oximeter": 255, "phd-scale": 255,  # a length that is believed
}  # fmt: skip
"""What a device needs to be found again, besides the frame that the noise runs into."""


def require_found_again(each: Emulator, make: Any, wire_to: Any) -> None:
    """Beginnings of frames with lengths that are none, inside the stream: what comes after it is
    heard, but for what the frames bring that the noise takes."""
    wired, frames = wire_to(each.device, each.make(Scene())), list[bytes]()
    take = wired.cable._take
    wired.cable._take = lambda said: take([*said, *(frames.extend(said) or [])])
    wired.run(12.0)
    before, after = b"".join(frames[: len(frames) // 2]), frames[len(frames) // 2 :]
    clean = brought(make(), before, b"", after)
    taken = 1 + FINDING_BYTES.get(each.device.name, 0) // min(map(len, after))
    most = max(sum(clean[i : i + taken]) for i in range(len(clean)))
    torn = [frame[:3] + b"\xff" * 30 for frame in (frames[0], after[0])]
    for noise in (b"\xff" * 50, b"\x00" * 50, *torn, b"\x0b\x7e\xc0\xa0\x0a\xfa"):
        found = brought(make(), before, noise, after)
        assert sum(found) >= sum(clean) - most > 0, noise


@pytest.mark.parametrize("each", STREAMS)
def test_noise_costs_no_more_than_the_frames_it_touches(each: Emulator, wire_to: Any) -> None:
    require_found_again(each, each.device.decoder, wire_to)


class Dead:
    """A decoder that says nothing any more once it has skipped something."""

    def __init__(self, decoder: Any) -> None:
        self._decoder = decoder

    def feed(self, data: bytes) -> list[Any]:
        found: list[Any] = self._decoder.feed(data)
        return [] if self._decoder.counters.skipped_bytes else found


@pytest.mark.parametrize("each", STREAMS)
def test_control_a_decoder_that_is_dead_after_noise_is_seen(each: Emulator, wire_to: Any) -> None:
    with pytest.raises(AssertionError):
        require_found_again(each, lambda: Dead(each.device.decoder()), wire_to)


@pytest.mark.parametrize("each", [e for e in STREAMS if e.device.name not in ON_TCP])
def test_a_drip_of_one_byte_a_second_is_a_loss(each: Emulator, wire_to: Any) -> None:
    """The port is open, and nothing is complete in its time."""
    wired = wire_to(each.device, each.make(Scene()))
    assert any(isinstance(m, LinkUp) for m in wired.run(12.0))
    wired.link.poll(int(12.0 * NS_PER_S))
    wired.cable._take = lambda frames: None
    wired.cable._inbox.clear()
    said, patience_s = wired.cable.said, each.device.dialogue.timeout_s[State.STREAMING]
    found: list[Any] = []
    for second in range(int(patience_s) + 2):
        at = len(said) // 2 + second
        wired.cable._inbox.append(said[at : at + 1])
        found += wired.link.poll(int((12.0 + 1.0 + second) * NS_PER_S))
        if any(isinstance(m, LinkLost) for m in found):
            break
    assert [m.reason for m in found if isinstance(m, LinkLost)]
    assert not [m for m in found if isinstance(m, (SampleBlock, Numeric))]


@pytest.mark.parametrize("each", [e for e in EVERY if Kind.ALARM in e.shows])
def test_after_a_sensor_was_off_an_alarm_is_raised_again(each: Emulator, wire_to: Any) -> None:
    """The recall of a telemetry system: alarms did not come back after a gap."""
    faults = (
        Fault(7.0, 8.0, Kind.ALARM), Fault(20.0, 8.0, Kind.LEAD_OFF), Fault(34.0, 10.0, Kind.ALARM),
    )  # fmt: skip
    alarms = [
        m for m in wire_to(each.device, each.make(Scene(faults=faults))).run(52.0)
        if isinstance(m, Alert) and m.kind is not AlertKind.TECHNICAL
    ]  # fmt: skip
    if not alarms:
        pytest.skip("its alarm is not about the patient")
    by_code: dict[tuple[str, str], list[bool]] = {}
    for alarm in alarms:
        by_code.setdefault((alarm.code, alarm.channel), []).append(alarm.active)
    twice = [states for states in by_code.values() if len(states) >= 4]
    assert twice and all(states == [True, False] * (len(states) // 2) for states in twice)
