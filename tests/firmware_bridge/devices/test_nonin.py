"""Nonin formats 2 and 7 against a third party's packet, every rate, damage, and the dialogue."""

from __future__ import annotations

import itertools
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from firmware_bridge.devices import nonin
from firmware_bridge.devices.oximetry import PULSE, SPO2, join9, split9
from firmware_bridge.emulators.faults import Fault, Kind
from firmware_bridge.emulators.patient import Scene
from firmware_bridge.session import Event, State
from firmware_bridge.types import (
    Alert,
    LinkLost,
    LinkUp,
    Loss,
    Numeric,
    SampleBlock,
    Sign,
    Validity,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

VALID, QUESTIONABLE, UNAVAILABLE = Validity.VALID, Validity.QUESTIONABLE, Validity.UNAVAILABLE


@pytest.fixture
def third_partys_packet(real_bytes: Any) -> bytes:
    """125 bytes: pleth 1 throughout, all rates 72, all saturations 97, firmware revision 48."""
    data: bytes = real_bytes("../vectors/nonin_fmt2_pufferfish_testpacket.bin")
    return data


def packet_data(hr: int = 72, spo2: int = 97, held_hr: int = 72, held_spo2: int = 97) -> list[int]:
    """The data bytes of one packet by place."""
    data = [0] * 25
    data[0:2] = data[13:15] = split9(hr)
    data[2] = data[9] = data[10] = data[15] = spo2
    data[19:21] = data[21:23] = split9(held_hr)
    data[8] = data[16] = held_spo2
    data[3] = 48
    return data


def packet(
    fmt: int, status: int = 0, first_pleth: int = 1, data: list[int] | None = None
) -> list[bytes]:
    """25 frames whose pleth counts up from `first_pleth`."""
    bytes_by_place = data or packet_data()
    top = nonin.PLETH_TOP[fmt]
    return [
        nonin.encode(fmt, status | (place == 0), (first_pleth + place) & top, bytes_by_place[place])
        for place in range(25)
    ]


def stream(fmt: int, packets: int) -> list[bytes]:
    """Frames whose pleth numbers them."""
    return [f for n in range(packets) for f in packet(fmt, first_pleth=25 * n)]


def numerics(messages: list[Any]) -> list[tuple[str, float | None, Validity]]:
    return [(m.channel, m.value, m.validity) for m in messages if isinstance(m, Numeric)]


def samples(messages: list[Any]) -> dict[int, float]:
    """Pleth by seq."""
    blocks = [m for m in messages if isinstance(m, SampleBlock)]
    return {b.seq + i: float(v) for b in blocks for i, v in enumerate(b.samples[:, 0])}


def test_third_partys_packet_decodes_to_its_values(third_partys_packet: bytes) -> None:
    decoder = nonin.Decoder(2)
    messages = decoder.feed(third_partys_packet)
    assert numerics(messages) == [(PULSE, 72, VALID), (SPO2, 97, VALID)]
    [block] = [m for m in messages if isinstance(m, SampleBlock)]
    assert (block.seq, block.lost, block.rate_hz, block.unit) == (0, 0, 75.0, "1")
    assert block.samples[:, 0].tolist() == [1.0] * 25
    assert (decoder.counters.frames, decoder.counters.skipped_bytes) == (25, 0)


def test_third_partys_packet_encodes_to_the_same_bytes(third_partys_packet: bytes) -> None:
    frames = [nonin.encode(2, p == 0, 1, byte) for p, byte in enumerate(packet_data())]
    assert b"".join(frames) == third_partys_packet


# Frames that the same third party expects to be refused: the checksum is one too high, the status
# byte has no bit 7.
@pytest.mark.parametrize(
    ("bad", "reason"), [("01 80 01 48 CB", "checksum"), ("01 7F 01 48 CA", "status")]
)
def test_a_bad_frame_is_refused_and_costs_itself_alone(bad: str, reason: str) -> None:
    frames = stream(2, 3)
    frames[30] = bytes.fromhex(bad)
    decoder = nonin.Decoder(2)
    messages = decoder.feed(b"".join(frames))
    assert samples(messages) == {n: n for n in range(75) if n != 30}
    assert decoder.counters.rejects[reason] == 1
    assert (decoder.counters.lost, decoder.counters.resyncs) == (1, 1)
    assert len(numerics(messages)) == 6


# Status bytes of the third party's tests, with what they say.
@pytest.mark.parametrize(
    ("status", "validity", "alerts"),
    [
        (0x82, VALID, []),  # green perfusion
        (0x84, QUESTIONABLE, []),  # red perfusion
        (0x86, QUESTIONABLE, []),  # yellow: both bits
        (0x88, UNAVAILABLE, ["nonin:sensor-alarm"]),
        (0x90, QUESTIONABLE, ["nonin:out-of-track"]),
        (0xA0, QUESTIONABLE, []),  # artifact
        (0xC0, UNAVAILABLE, ["nonin:sensor-disconnected"]),
    ],
)
def test_status_bits(status: int, validity: Validity, alerts: list[str]) -> None:
    messages = nonin.Decoder(2).feed(b"".join(packet(2, status)))
    assert [v for _, _, v in numerics(messages)][-2:] == [validity] * 2
    assert [m.code for m in messages if isinstance(m, Alert)] == alerts
    off = validity is UNAVAILABLE
    assert all(np.isnan(v) == off for v in samples(messages).values())


@pytest.mark.parametrize("fmt", [2, 7])
def test_every_rate_has_nine_bits(fmt: int) -> None:
    """A known driver takes the high byte times 256, which is wrong from 128 on."""
    for hr in range(1, 351):
        messages = nonin.Decoder(fmt).feed(b"".join(packet(fmt, data=packet_data(hr))))
        assert numerics(messages)[0] == (PULSE, hr, VALID)
    msb, lsb = split9(128)
    assert msb << 8 | lsb != 128 == join9(msb, lsb)


def test_missing_and_impossible_values_are_no_numbers() -> None:
    for hr, spo2, validity in (
        (511, 127, UNAVAILABLE),
        (0, 0, UNAVAILABLE),
        *((400, spo2, Validity.INVALID) for spo2 in range(101, 127)),
    ):
        messages = nonin.Decoder(7).feed(b"".join(packet(7, data=packet_data(hr, spo2))))
        assert numerics(messages) == [(PULSE, None, validity), (SPO2, None, validity)]


def test_values_held_for_a_display_are_never_used() -> None:
    """Without a finger the "-D" values still say 72 and 97."""
    data = packet_data(hr=511, spo2=127)
    messages = nonin.Decoder(7).feed(b"".join(packet(7, data=data)))
    assert [value for _, value, _ in numerics(messages)] == [None, None]


def test_sensor_off_takes_the_values_at_once_and_is_said_once() -> None:
    frames = packet(7) + packet(7) + packet(7, nonin.DISCONNECTED, data=packet_data(72, 97))
    decoder = nonin.Decoder(7)
    decoder.feed(b"".join(frames[:40]))
    off = [nonin.encode(7, nonin.DISCONNECTED, 1, packet_data()[15])]
    messages = decoder.feed(off[0])
    assert numerics(messages) == [(PULSE, None, UNAVAILABLE), (SPO2, None, UNAVAILABLE)]
    assert [m.active for m in messages if isinstance(m, Alert)] == [True]
    rest = b"".join(frames[41:50])
    messages = decoder.feed(rest)
    assert [m.active for m in messages if isinstance(m, Alert)] == [False]
    assert all(validity is UNAVAILABLE for _, _, validity in numerics(messages))


@pytest.mark.parametrize("gone", [1, 7, 24])
def test_frames_lost_in_the_cable_are_counted_at_the_next_packets(gone: int) -> None:
    """No byte tells of them: SYNC comes too early, and its word is taken the second time."""
    frames = stream(7, 8)
    del frames[60 : 60 + gone]
    decoder = nonin.Decoder(7)
    found = samples(decoder.feed(b"".join(frames)))
    beyond = {n: v for n, v in found.items() if n >= 125}
    assert beyond == {n: float(n) for n in range(125, 200)}
    assert all(found[n] == n for n in range(60))
    assert decoder.counters.lost == 200 - len(found)


def test_a_torn_frame_waits_for_the_next_packet() -> None:
    data = b"".join(stream(7, 4))
    decoder = nonin.Decoder(7)
    found = samples(decoder.feed(data[:152] + data[154:]))
    assert found == {n: float(n) for n in range(100) if not 30 <= n < 50}
    assert (decoder.counters.lost, decoder.counters.resyncs) == (20, 1)


def test_joining_amid_a_packet_begins_with_the_next() -> None:
    decoder = nonin.Decoder(2)
    messages = decoder.feed(b"".join(stream(2, 3))[33:])
    assert samples(messages) == {n: float(n + 25) for n in range(50)}
    assert decoder.counters.lost == 0


def test_low_battery_of_format_7_is_said_on_change() -> None:
    low = packet_data()
    low[7] = nonin.LOW_BATTERY
    frames = [*packet(7), *packet(7, data=low), *packet(7, data=low), *packet(7)]
    alerts = [m for m in nonin.Decoder(7).feed(b"".join(frames)) if isinstance(m, Alert)]
    assert [(m.code, m.active) for m in alerts] == [
        ("nonin:low-battery", True),
        ("nonin:low-battery", False),
    ]


@settings(max_examples=30, deadline=None)
@given(
    st.sampled_from([2, 7]),
    st.integers(1, 350),
    st.integers(1, 100),
    st.lists(st.integers(0, 255), min_size=25, max_size=25),
)
def test_what_is_encoded_is_decoded(fmt: int, hr: int, spo2: int, pleth: list[int]) -> None:
    data = packet_data(hr, spo2)
    frames = [nonin.encode(fmt, p == 0, pleth[p], data[p]) for p in range(25)]
    messages = nonin.Decoder(fmt).feed(b"".join(frames))
    assert numerics(messages) == [(PULSE, hr, VALID), (SPO2, spo2, VALID)]
    assert samples(messages) == dict(enumerate(map(float, pleth)))


def damaged(fmt: int, packets: int, seed: int) -> tuple[bytes, NDArray[np.bool_]]:
    """Frames numbered by their pleth (16 bits), after the first packet a third of them with
    1-3 flipped bits; which of them the protocol's own marks and checksum can refuse."""
    rng = np.random.default_rng(seed)
    clean = np.frombuffer(b"".join(stream(fmt, packets)), np.uint8).reshape(-1, 5)
    dirty = clean.copy()
    for _ in range(3):
        hit = (rng.random(len(dirty)) < 0.12) & (np.arange(len(dirty)) >= 25)
        bit = rng.integers(0, 40, len(dirty))
        dirty[hit, bit[hit] // 8] ^= (1 << (bit[hit] % 8)).astype(np.uint8)
    refusable = (dirty[:, 0] & 0x80 == 0) | (dirty[:, 3] & 0x80 != 0)
    refusable |= dirty[:, :4].sum(axis=1) & 0xFF != dirty[:, 4]
    return dirty.tobytes(), refusable


def wrongly(data: bytes, refusable: NDArray[np.bool_]) -> int:
    """How many refusable frames came through, by seq."""
    found = samples(nonin.Decoder(7).feed(data))
    assert len(found) > 0.5 * len(refusable)
    return sum(bool(refusable[n]) for n in found if n < len(refusable))


def test_twenty_thousand_damaged_frames() -> None:
    data, refusable = damaged(7, 2600, seed=1)
    assert refusable.sum() > 20_000
    assert wrongly(data, refusable) == 0


def test_control_without_the_checksum_damage_comes_through(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nonin, "_sum_is_right", lambda buffer, at: True)
    data, refusable = damaged(7, 200, seed=1)
    assert wrongly(data, refusable) > 500


def test_noise_is_no_signal() -> None:
    rng = np.random.default_rng(3)
    decoder = nonin.Decoder(7)
    assert not [m for m in decoder.feed(rng.bytes(100_000)) if not isinstance(m, Sign)]
    assert decoder.counters.frames == 0


def test_the_command_and_its_answers() -> None:
    assert nonin.select(7) == bytes.fromhex("02 70 02 02 07 03")
    assert nonin.Decoder(7).feed(nonin.ACK) == [Sign(Event.READY)]
    [sign] = nonin.Decoder(7).feed(nonin.NAK)
    assert sign.event is Event.REFUSED and "format 7" in sign.detail


def test_bytes_within_data_answer_nothing() -> None:
    """06 and 15 occur in any stream; only directly after a frame, or alone, are they an answer."""
    data = b"".join(nonin.encode(2, p == 0, 0x15, 0x06) for p in range(25))
    assert not [m for m in nonin.Decoder(7).feed(data) if isinstance(m, Sign)]
    frames = b"".join(packet(7))
    assert Sign(Event.READY) in nonin.Decoder(7).feed(frames + nonin.ACK)


# (state, event) -> (next state, bytes sent); "Set Data Format": 02 70 02 02 format 03.
SELECT_7 = bytes.fromhex("02 70 02 02 07 03")
WAITING = (State.LISTENING, State.CONFIGURING, State.STARTING)
EXPECTED = {
    (State.CLOSED, Event.OPENED): (State.CONFIGURING, SELECT_7),
    (State.CLOSED, Event.JOINED): (State.LISTENING, b""),
    (State.LISTENING, Event.READY): (State.LISTENING, b""),
    (State.LISTENING, Event.REFUSED): (State.LISTENING, b""),
    (State.LISTENING, Event.TIMEOUT): (State.CONFIGURING, SELECT_7),
    (State.CONFIGURING, Event.READY): (State.STARTING, b""),
    (State.CONFIGURING, Event.REFUSED): (State.LOST, b""),
    (State.CONFIGURING, Event.TIMEOUT): (State.LOST, b""),
    (State.STARTING, Event.READY): (State.STARTING, b""),
    (State.STARTING, Event.REFUSED): (State.LOST, b""),
    (State.STARTING, Event.TIMEOUT): (State.LOST, b""),
    (State.STREAMING, Event.READY): (State.STREAMING, b""),
    (State.STREAMING, Event.ALIVE): (State.STREAMING, b""),
    (State.STREAMING, Event.REFUSED): (State.STREAMING, b""),
    (State.STREAMING, Event.FRAMES): (State.STREAMING, b""),
    (State.STREAMING, Event.TIMEOUT): (State.LOST, b""),
    **{(state, Event.FRAMES): (State.STREAMING, b"") for state in WAITING},
    **{(state, Event.ALIVE): (state, b"") for state in WAITING},
}


@pytest.mark.parametrize(("state", "event"), list(itertools.product(State, Event)))
def test_every_pair(state: State, event: Event, check_pair: Any) -> None:
    check_pair(nonin.DEVICE_7.dialogue, EXPECTED, state, event)


def test_a_refusal_ends_the_link_with_its_reason(wire: Any) -> None:
    wired = wire("nonin-7")
    wired.cable._emulated._obey = lambda command: nonin.NAK
    [lost] = wired.run(1.0)
    assert isinstance(lost, LinkLost)
    assert lost.reason is Loss.REFUSED and "refuses data format 7" in lost.detail


def test_a_device_that_keeps_its_format_gives_no_values(wire: Any) -> None:
    wired = wire("nonin-7")
    wired.cable._emulated._obey = lambda command: nonin.ACK
    [lost] = wired.run(5.0)
    assert isinstance(lost, LinkLost) and lost.reason is Loss.GARBAGE


def test_a_format_that_changes_under_way_ends_the_link_and_is_asked_for_again(wire: Any) -> None:
    wired = wire("nonin-7")
    wired.run(2.0)
    wired.cable._emulated._format = 8
    messages = wired.run(4.0)
    assert [type(m) for m in messages if isinstance(m, (LinkLost, LinkUp))] == [LinkLost, LinkUp]
    assert wired.cable.heard == SELECT_7 * 2


@pytest.mark.parametrize("name", ["nonin-2", "nonin-7"])
def test_the_emulator_obeys_the_script(name: str, wire: Any) -> None:
    faults = (
        Fault(2.0, 2.0, Kind.LEAD_OFF),
        Fault(5.0, 1.0, Kind.ALARM),
        Fault(7.0, 1.0, Kind.FLAT),
        Fault(8.0, 1.0, Kind.ASYSTOLE),
        Fault(9.0, 1.0, Kind.SATURATE),
    )
    messages = wire(name, Scene(faults=faults)).run(11.0)
    alerts = [(m.code, m.active) for m in messages if isinstance(m, Alert)]
    assert alerts.count(("nonin:sensor-disconnected", True)) == 1
    assert alerts.count(("nonin:sensor-disconnected", False)) == 1
    assert len(alerts) in (4, 6)  # and the alarm; format 2 says it by "out of track" as well
    light = np.array([v for _, v in sorted(samples(messages).items())])
    assert np.isnan(light[160:290]).all()
    assert not np.isnan(light[310:]).any()
    assert np.ptp(light[530:590]) == 0
    assert 0 < np.ptp(light[605:670]) < 0.05 * nonin.PLETH_TOP[int(name[-1])]
    assert light[680:745].max() == nonin.PLETH_TOP[int(name[-1])]


@pytest.mark.benchmark
@pytest.mark.parametrize("fmt", [2, 7])
def test_decodes_at_fifty_times_the_link_rate(fmt: int, times_the_link: Any) -> None:
    """9600 baud carry 192 frames/s. Chunks of one frame are the worst case of a real port."""
    frames = stream(fmt, 200)
    data = b"".join(frames)
    make = partial(nonin.Decoder, fmt)
    assert times_the_link(make, nonin.WIRE, data, nonin.FRAME_BYTES, len(frames)) >= 50
