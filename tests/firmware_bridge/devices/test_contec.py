"""Contec CMS50, new and old: worked packets, every value, damage without checksum, the dialogue."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from firmware_bridge.devices import contec
from firmware_bridge.devices.contec import Packet, decode, decode_old, encode, encode_old
from firmware_bridge.devices.oximetry import PERFUSION, PULSE, SPO2
from firmware_bridge.emulators.faults import Fault, Kind
from firmware_bridge.emulators.patient import Scene
from firmware_bridge.session import Event, State
from firmware_bridge.types import Alert, Numeric, SampleBlock, Sign, Validity

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

VALID, QUESTIONABLE, UNAVAILABLE = Validity.VALID, Validity.QUESTIONABLE, Validity.UNAVAILABLE

USUAL = Packet(signal=5, pleth=64, bar=8, pulse=72, spo2=97, perfusion=250)
USUAL_OLD = replace(USUAL, perfusion=None)

# Type 01; bit 7 of the fourth data byte (rate 200 = C8) and of the sixth (perfusion index 2.00 =
# 00C8, low byte first) are in the second byte: 80 | 08 | 20. Signal 5, pleth 64, bar 8, SpO2 97.
WORKED = bytes.fromhex("01 A8 85 C0 88 C8 E1 C8 80")
# Bit 7 of the rate 200 is bit 6 of the third byte.
WORKED_OLD = bytes.fromhex("85 40 48 48 61")

BOTH = pytest.mark.parametrize(
    ("decoder", "encoded"),
    [(contec.Decoder, encode), (contec.decoder_old, encode_old)],
    ids=["new", "old"],
)


def values(messages: list[Any]) -> list[tuple[str, float | None, Validity]]:
    return [(m.channel, m.value, m.validity) for m in messages if isinstance(m, Numeric)]


def alerts(messages: list[Any]) -> list[tuple[str, bool]]:
    return [(m.code, m.active) for m in messages if isinstance(m, Alert)]


def samples(messages: list[Any]) -> dict[int, float]:
    blocks = [m for m in messages if isinstance(m, SampleBlock)]
    return {b.seq + i: float(v) for b in blocks for i, v in enumerate(b.samples[:, 0])}


def test_worked_packets_both_ways() -> None:
    expected = Packet(signal=5, pleth=64, bar=8, pulse=200, spo2=97, perfusion=200)
    assert decode(WORKED) == expected and encode(expected) == WORKED
    old = replace(expected, perfusion=None)
    assert decode_old(WORKED_OLD) == old and encode_old(old) == WORKED_OLD


def test_commands_are_nine_bytes() -> None:
    assert contec.command(contec.START) == bytes.fromhex("7D 81 A1 80 80 80 80 80 80")
    assert contec.command(contec.KEEP_ALIVE) == bytes.fromhex("7D 81 AF 80 80 80 80 80 80")


def test_a_new_stream_is_trusted_after_three_packets_an_old_one_after_six() -> None:
    new, old = contec.Decoder(), contec.decoder_old()
    assert not new.feed(WORKED * 2) and not old.feed(WORKED_OLD * 5)
    assert values(new.feed(WORKED)) == [
        (PULSE, 200, VALID),
        (SPO2, 97, VALID),
        (PERFUSION, 2, VALID),
    ]
    assert values(old.feed(WORKED_OLD)) == [(PULSE, 200, VALID), (SPO2, 97, VALID)]


@BOTH
def test_every_rate_has_eight_bits(decoder: Any, encoded: Any) -> None:
    """Known drivers of either protocol read seven: they show 0 for 128. 255 is no value."""
    for pulse in range(1, 255):
        messages = decoder().feed(encoded(replace(USUAL, pulse=pulse)) * 6)
        assert values(messages)[0] == (PULSE, pulse, VALID)
    assert encode_old(replace(USUAL_OLD, pulse=128))[3] == 0
    assert encode(replace(USUAL, pulse=128))[5] & 0x7F == 0


def test_both_bytes_of_the_perfusion_index_have_bit_7() -> None:
    for perfusion in (1, 127, 128, 255, 256, 2000, 0x0F80, 0x8000 >> 3):
        assert decode(encode(replace(USUAL, perfusion=perfusion))).perfusion == perfusion


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"pulse": 0xFF}, [UNAVAILABLE, VALID, VALID]),
        ({"spo2": 0x7F}, [VALID, UNAVAILABLE, VALID]),
        ({"perfusion": 0xFFFF}, [VALID, VALID, UNAVAILABLE]),
        ({"pulse": 0, "spo2": 0, "perfusion": 0}, [UNAVAILABLE] * 3),
        ({"perfusion": 10_001}, [VALID, VALID, Validity.INVALID]),
        ({"searching": True}, [QUESTIONABLE] * 3),
        ({"probe_error": True}, [UNAVAILABLE] * 3),
        ({"too_long": True}, [UNAVAILABLE] * 3),
        ({"signal": 15}, [VALID] * 3),
    ],
)
def test_what_values_are_worth(changes: dict[str, Any], expected: list[Validity]) -> None:
    new = contec.Decoder().feed(encode(replace(USUAL, **changes)) * 6)
    assert [v for _, _, v in values(new)] == expected
    if "perfusion" not in changes and changes.get("pulse") != 0xFF:
        old = contec.decoder_old().feed(encode_old(replace(USUAL, **changes)) * 6)
        assert [v for _, _, v in values(old)] == expected[:2]


@BOTH
@pytest.mark.parametrize("spo2", [101, 120, 126])
def test_impossible_saturations_are_no_frames(decoder: Any, encoded: Any, spo2: int) -> None:
    assert not decoder().feed(encoded(replace(USUAL, spo2=spo2)) * 10)


def test_a_saturation_of_140_is_no_frame() -> None:
    assert not contec.Decoder().feed(encode(replace(USUAL, spo2=140)) * 10)


@BOTH
def test_values_come_on_change_and_once_a_second(decoder: Any, encoded: Any) -> None:
    d = decoder()
    d.feed(encoded(USUAL) * 60)
    assert values(d.feed(encoded(replace(USUAL, pleth=3, bar=1, beep=True)))) != []
    assert not values(d.feed(encoded(replace(USUAL, pleth=9)) * 59))
    changed = values(d.feed(encoded(replace(USUAL, pulse=73))))
    assert changed[0] == (PULSE, 73, VALID)


@BOTH
def test_conditions_are_said_on_change_and_a_probe_error_takes_the_values(
    decoder: Any, encoded: Any
) -> None:
    d = decoder()
    d.feed(encoded(USUAL) * 6)
    messages = d.feed(encoded(replace(USUAL, probe_error=True)) * 10)
    assert alerts(messages) == [("contec:probe-error", True)]
    assert {v for _, _, v in values(messages)} == {UNAVAILABLE}
    assert np.isnan(list(samples(messages).values())).all()
    messages = d.feed(encoded(replace(USUAL, low=True, too_long=True)) * 10)
    low = "MDC_EVT_LO" if encoded is encode else "contec:spo2-dropping"
    expected = {("contec:probe-error", False), ("contec:searching", True), (low, True)}
    assert set(alerts(messages)) == expected and len(alerts(messages)) == 3


@BOTH
def test_a_damaged_packet_costs_itself(decoder: Any, encoded: Any) -> None:
    packets = [encoded(replace(USUAL, pleth=n)) for n in range(40)]
    packets[20] = packets[20][:1] + b"\x00" + packets[20][2:-1] + b"\xff"
    d = decoder()
    assert samples(d.feed(b"".join(packets))) == {n: float(n) for n in range(40) if n != 20}
    assert (d.counters.lost, sum(d.counters.rejects.values())) == (1, 1)


@BOTH
def test_a_torn_packet_is_at_least_one_lost_sample(decoder: Any, encoded: Any) -> None:
    packets = [encoded(replace(USUAL, pleth=n)) for n in range(40)]
    packets[20] = packets[20][:3]
    d = decoder()
    found = samples(d.feed(b"".join(packets)))
    assert found == {n: float(n) for n in range(40) if n != 20}


def test_other_packets_among_the_data_change_nothing() -> None:
    """Command feedback and free feedback do not; the end of the connection is said."""
    others = contec.pack(contec.FEEDBACK, b"\xa1\x00") + contec.pack(contec.FREE, b"")
    d = contec.Decoder()
    assert len(samples(d.feed(WORKED * 3 + others + WORKED * 3))) == 6
    assert (d.counters.lost, d.counters.skipped_bytes) == (0, 0)
    [sign] = d.feed(contec.pack(contec.DISCONNECT, b"\x01"))
    assert isinstance(sign, Sign) and sign.event is Event.REFUSED and "shuts down" in sign.detail


FLAGS = st.booleans()
PACKETS = st.builds(
    Packet,
    signal=st.integers(0, 15),
    pleth=st.integers(0, 127),
    bar=st.integers(0, 15),
    pulse=st.integers(0, 255),
    spo2=st.one_of(st.integers(0, 100), st.just(127)),
    perfusion=st.integers(0, 0xFFFF),
    probe_error=FLAGS,
    searching=FLAGS,
    too_long=FLAGS,
    low=FLAGS,
    beep=FLAGS,
)


@settings(max_examples=200, deadline=None)
@given(PACKETS)
def test_what_is_encoded_is_decoded(packet: Packet) -> None:
    assert decode(encode(packet)) == packet
    old = replace(packet, perfusion=None)
    assert decode_old(encode_old(old)) == old


def refusable(rows: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Which packets `[n, 5]` or `[n, 9]` the marks and ranges of the protocol can refuse."""
    if rows.shape[1] == 5:
        bad = (rows[:, 0] & 0x80 == 0) | (rows[:, 1:] & 0x80 != 0).any(axis=1)
        signal, spo2 = rows[:, 0] & 0x0F, rows[:, 4]
    else:
        bad = (rows[:, 0] != 1) | (rows[:, 1:] & 0x80 == 0).any(axis=1)
        signal, spo2 = rows[:, 2] & 0x0F, rows[:, 6] & 0x7F | (rows[:, 1] & 0x10) << 3
    return bad | ((signal > 8) & (signal != 15)) | ((spo2 > 100) & (spo2 != 127))


def damaged(
    encoded: Callable[[Packet], bytes], n: int, seed: int
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Packets `[n, size]` whose pleth counts modulo 128, after the first ten a third of them with
    1-3 flipped bits, none of them in the pleth; and which those are."""
    rng = np.random.default_rng(seed)
    cycle = b"".join(encoded(replace(USUAL, pleth=i)) for i in range(128))
    size = len(cycle) // 128
    clean = np.resize(np.frombuffer(cycle, np.uint8), (n, size))
    rows = clean.copy()
    at_pleth = 3 if size == 9 else 1
    for _ in range(3):
        hit = (rng.random(n) < 0.12) & (np.arange(n) >= 10)
        bit = rng.integers(0, 8 * size, n)
        hit &= (bit // 8 != at_pleth) | (bit % 8 == 7)
        rows[hit, bit[hit] // 8] ^= (1 << (bit[hit] % 8)).astype(np.uint8)
    return rows, (rows != clean).any(axis=1)


def wrongly(decoder: Any, rows: NDArray[np.uint8]) -> int:
    """How many refusable packets came through, by seq."""
    found, bad = samples(decoder().feed(rows.tobytes())), refusable(rows)
    assert len(found) > 0.5 * len(rows)
    return sum(bool(bad[n]) for n in found if n < len(rows))


@BOTH
def test_twenty_thousand_damaged_packets(decoder: Any, encoded: Any) -> None:
    rows, dirty = damaged(encoded, 80_000, seed=1)
    assert dirty.sum() > 20_000 and refusable(rows).sum() > 5_000
    assert wrongly(decoder, rows) == 0


@BOTH
def test_control_without_ranges_damage_comes_through(
    decoder: Any, encoded: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(contec, "_possible", lambda spo2: True)
    monkeypatch.setattr(contec, "SIGNALS", range(16))
    rows, _ = damaged(encoded, 5_000, seed=1)
    assert wrongly(decoder, rows) > 100


@BOTH
def test_noise_is_no_signal(decoder: Any, encoded: Any) -> None:
    d = decoder()
    assert not d.feed(np.random.default_rng(3).bytes(100_000))
    assert d.counters.frames == 0


# (state, event) -> (next state, bytes sent); V7.0 table 7: A1 starts.
START = bytes.fromhex("7D 81 A1 80 80 80 80 80 80")
OPEN_STATES = (State.LISTENING, State.STARTING, State.STREAMING)
EXPECTED = {
    (State.CLOSED, Event.OPENED): (State.STARTING, START),
    (State.CLOSED, Event.JOINED): (State.LISTENING, b""),
    (State.LISTENING, Event.TIMEOUT): (State.STARTING, START),
    (State.STARTING, Event.TIMEOUT): (State.LOST, b""),
    (State.STREAMING, Event.TIMEOUT): (State.LOST, b""),
    **{(state, Event.FRAMES): (State.STREAMING, b"") for state in OPEN_STATES},
    **{(state, Event.REFUSED): (State.LOST, b"") for state in OPEN_STATES},
    **{(state, Event.READY): (state, b"") for state in OPEN_STATES},
    **{(state, Event.ALIVE): (state, b"") for state in OPEN_STATES},
}


@pytest.mark.parametrize(("state", "event"), list(itertools.product(State, Event)))
def test_every_pair(state: State, event: Event, check_pair: Any) -> None:
    check_pair(contec.DEVICE.dialogue, EXPECTED, state, event)


def test_the_keep_alive_keeps_it_alive_and_closing_stops_it(wire: Any) -> None:
    wired = wire("contec-cms50")
    wired.run(40.0)
    assert wired.cable.heard.count(contec.command(contec.KEEP_ALIVE)) == 7
    assert wired.link.counters.losses == {}
    wired.link.close()
    assert wired.cable.heard.endswith(contec.command(contec.STOP))


def test_without_keep_alive_the_emulator_falls_silent(
    wire: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control of the test above."""
    wired = wire("contec-cms50")
    monkeypatch.setattr(wired.link._session, "beat", lambda now_ns: b"")
    wired.run(20.0)
    assert wired.link.counters.losses == {"silent": 1}


@pytest.mark.parametrize(
    ("name", "off"),
    [("contec-cms50", "contec:probe-error"), ("contec-cms50-old", "contec:searching")],
)
def test_the_emulator_obeys_the_script(name: str, off: str, wire: Any) -> None:
    faults = (
        Fault(2.0, 1.0, Kind.LEAD_OFF),
        Fault(4.0, 1.0, Kind.ALARM),
        Fault(6.0, 1.0, Kind.FLAT),
        Fault(8.0, 1.0, Kind.SATURATE),
    )
    messages = wire(name, Scene(faults=faults)).run(10.0)
    codes = [code for code, _ in alerts(messages)]
    assert codes.count(off) == 2 and len(codes) == 4
    assert [active for _, active in alerts(messages)] == [True, False] * 2
    light = np.array([v for _, v in sorted(samples(messages).items())])
    assert np.isnan(light[130:170]).all() and not np.isnan(light[190:]).any()
    assert np.ptp(light[370:410]) == 0
    assert light[485:535].max() == contec.PLETH_TOP


@pytest.mark.benchmark
@pytest.mark.parametrize(
    ("decoder", "encoded", "wire_", "chunk"),
    [
        (contec.Decoder, encode, contec.WIRE, 64),
        (contec.decoder_old, encode_old, contec.WIRE_OLD, 5),
    ],
    ids=["new", "old"],
)
def test_decodes_at_fifty_times_the_link_rate(
    decoder: Any, encoded: Any, wire_: Any, chunk: int, times_the_link: Any
) -> None:
    """115200 baud carry 1,280 packets/s, in reads of 64 bytes, what a USB adapter hands over at
    once; 19200 8O1 carry 349/s, one at a time."""
    data = b"".join(encoded(replace(USUAL, pleth=n % 128, bar=n % 16)) for n in range(6000))
    assert times_the_link(decoder, wire_, data, chunk, 6000) >= 50
