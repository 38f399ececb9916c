"""Nonin formats 8 and 13: every rate and saturation, damage, acknowledgements, the past."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from firmware_bridge.devices import nonin, nonin_numerics
from firmware_bridge.devices.nonin_numerics import Decoder8, Decoder13, encode_8, encode_13
from firmware_bridge.devices.oximetry import PULSE, SPO2
from firmware_bridge.emulators.faults import Fault, Kind
from firmware_bridge.emulators.patient import Scene
from firmware_bridge.session import NS_PER_S, Event, State
from firmware_bridge.types import Alert, Numeric, Send, Sign, Validity

VALID, QUESTIONABLE, UNAVAILABLE = Validity.VALID, Validity.QUESTIONABLE, Validity.UNAVAILABLE

# Rate 200 (9 bits: 01 1001000), saturation 97, SmartPoint, no faults.
READING_8 = bytes.fromhex("81 48 61 20")

# 2016-02-29 23:59:58.25, SmartPoint, rate 300 (01 2C), saturation 96; data sum to E9 modulo 256.
RECORD_13 = bytes.fromhex("00 02 00 0D 00 0E 20 16 02 29 23 59 58 25 02 00 01 2C 00 60 E9 03")
AT = datetime(2016, 2, 29, 23, 59, 58, 250_000)
AT_NS = 1_456_790_398 * NS_PER_S + NS_PER_S // 4


def values(messages: list[Any]) -> list[tuple[str, float | None, Validity]]:
    return [(m.channel, m.value, m.validity) for m in messages if isinstance(m, Numeric)]


def alerts(messages: list[Any]) -> list[tuple[str, bool]]:
    return [(m.code, m.active) for m in messages if isinstance(m, Alert)]


def test_worked_reading_both_ways() -> None:
    assert encode_8(200, 97, more=0x20) == READING_8
    assert values(Decoder8().feed(READING_8 * 4)) == [(PULSE, 200, VALID), (SPO2, 97, VALID)] * 4


def test_every_rate_of_format_8_has_nine_bits() -> None:
    """A known driver joins the two bytes by AND, which makes every rate 0."""
    for hr in range(1, 351):
        frame = encode_8(hr, 97)
        assert values(Decoder8().feed(frame * 4))[0] == (PULSE, hr, VALID)
        assert (frame[0] << 7) & frame[1] & 0x1FF != hr


@pytest.mark.parametrize(
    ("frame", "validity", "codes"),
    [
        (encode_8(511, 127), UNAVAILABLE, []),
        (encode_8(72, 97, nonin_numerics.DISCONNECTED), UNAVAILABLE, ["sensor-disconnected"]),
        (encode_8(72, 97, 0, nonin_numerics.SENSOR_FAULT), UNAVAILABLE, ["sensor-alarm"]),
        (encode_8(72, 97, nonin_numerics.OUT_OF_TRACK), QUESTIONABLE, ["out-of-track"]),
        (encode_8(72, 97, nonin_numerics.LOW_PERFUSION), QUESTIONABLE, []),
        (encode_8(72, 97, nonin_numerics.MARGINAL_PERFUSION), QUESTIONABLE, []),
        (encode_8(72, 97, nonin_numerics.ARTIFACT), QUESTIONABLE, []),
        (encode_8(72, 97, 0, 0x03), VALID, ["low-battery", "critical-battery"]),
        (encode_8(72, 97, 0, 0x04), VALID, []),  # spot-check mode
    ],
)
def test_flags_of_format_8(frame: bytes, validity: Validity, codes: list[str]) -> None:
    messages = Decoder8().feed(frame * 5)
    assert [v for _, _, v in values(messages)] == [validity] * 10
    assert alerts(messages) == [(f"nonin:{code}", True) for code in codes]


def test_format_8_needs_four_readings_to_begin_and_again_after_noise() -> None:
    decoder = Decoder8()
    assert not decoder.feed(READING_8 * 3)
    assert len(values(decoder.feed(READING_8))) == 8
    assert len(values(decoder.feed(READING_8))) == 2
    assert not decoder.feed(b"\x00" + READING_8 * 3)
    assert len(values(decoder.feed(READING_8))) == 8
    assert decoder.counters.rejects == {"start": 1}


@pytest.mark.parametrize("spo2", range(101, 127))
def test_impossible_saturations_of_format_8_are_no_frames(spo2: int) -> None:
    decoder = Decoder8()
    assert not values(decoder.feed(encode_8(72, spo2) * 8))


def test_worked_record_both_ways() -> None:
    assert encode_13(300, 96, AT) == RECORD_13
    messages = Decoder13().feed(RECORD_13)
    assert messages[0] == Send(b"\x06")
    assert values(messages) == [(PULSE, 300, VALID), (SPO2, 96, VALID)]
    assert {m.device_ns for m in messages if isinstance(m, Numeric)} == {AT_NS}


def test_a_record_with_serial_number_is_the_same() -> None:
    record = encode_13(300, 96, AT, serial=b"501234567")
    assert record[4:6] == b"\x00\x17"
    assert values(Decoder13().feed(record)) == values(Decoder13().feed(RECORD_13))


@pytest.mark.parametrize(
    ("record", "validity"),
    [
        (encode_13(72, 97, AT, status=0), QUESTIONABLE),  # no SmartPoint
        (encode_13(72, 97, AT, more=nonin_numerics.FROM_MEMORY), QUESTIONABLE),
        (encode_13(72, 97, AT, status=nonin_numerics.NO_MEASUREMENT), UNAVAILABLE),
        (encode_13(511, 127, AT), UNAVAILABLE),
        (encode_13(0, 0, AT), UNAVAILABLE),
        (encode_13(400, 140, AT), Validity.INVALID),
        (encode_13(72 + 512, 97 + 128, AT), Validity.INVALID),
    ],
)
def test_what_a_record_is_worth(record: bytes, validity: Validity) -> None:
    assert [v for _, _, v in values(Decoder13().feed(record))] == [validity] * 2


def test_a_clock_never_set_gives_no_time() -> None:
    record = bytearray(RECORD_13)
    record[6:14] = bytes(8)
    record[20] = sum(record[6:20]) & 0xFF
    messages = Decoder13().feed(bytes(record))
    assert [m.device_ns for m in messages if isinstance(m, Numeric)] == [None, None]


def test_a_repeated_record_is_acknowledged_and_dropped() -> None:
    decoder = Decoder13()
    decoder.feed(RECORD_13)
    assert decoder.feed(RECORD_13) == [Send(b"\x06")]
    assert (decoder.counters.frames, decoder.counters.duplicates) == (1, 1)


def test_a_damaged_record_is_not_acknowledged() -> None:
    bad = RECORD_13[:17] + b"\x2d" + RECORD_13[18:]
    decoder = Decoder13()
    assert not decoder.feed(bad)
    assert Send(b"\x06") in decoder.feed(RECORD_13)


@pytest.mark.parametrize("length", [b"\x00\x00", b"\xff\xff", b"\x00\x0d"])
def test_an_impossible_length_holds_nothing_back(length: bytes) -> None:
    decoder = Decoder13()
    assert Send(b"\x06") in decoder.feed(RECORD_13[:4] + length + RECORD_13)
    assert decoder.counters.skipped_bytes == 6


@pytest.mark.parametrize("decoder", [Decoder8, Decoder13])
def test_answers(decoder: Any) -> None:
    assert decoder().feed(nonin.ACK) == [Sign(Event.READY)]
    assert decoder().feed(nonin.NAK)[0].event is Event.REFUSED


def test_dialogues_select_their_format_and_wait_as_long_as_it_may_take() -> None:
    for fmt, device in ((8, nonin_numerics.DEVICE_8), (13, nonin_numerics.DEVICE_13)):
        table = device.dialogue.table
        assert table[State.CLOSED, Event.OPENED].send == bytes.fromhex(f"0270 0202 {fmt:02x} 03")
        assert device.dialogue.timeout_s[State.STREAMING] >= 5.0


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 350), st.integers(1, 100), st.datetimes(datetime(1970, 1, 2)))
def test_what_is_encoded_is_decoded(hr: int, spo2: int, at: datetime) -> None:
    expected = [(PULSE, hr, VALID), (SPO2, spo2, VALID)]
    assert values(Decoder8().feed(encode_8(hr, spo2) * 4)) == expected * 4
    messages = Decoder13().feed(encode_13(hr, spo2, at))
    assert values(messages) == expected
    hundredths = at.microsecond // 10_000 * 10_000_000
    seconds = (at.replace(microsecond=0) - datetime(1970, 1, 1)).total_seconds()
    ns = int(seconds) * NS_PER_S + hundredths
    assert {m.device_ns for m in messages if isinstance(m, Numeric)} == {ns}


def damaged_records(n: int, seed: int) -> tuple[list[bytes], list[bool]]:
    """Records whose rates differ from one to the next, half of them with 1-3 flipped bits in the
    data or the checksum; which of them the checksum can refuse."""
    rng = np.random.default_rng(seed)
    records, refusable = [], []
    for i in range(n):
        record = np.frombuffer(encode_13(40 + i % 300, 97, AT), np.uint8).copy()
        flips = rng.integers(1, 4) if rng.random() < 0.5 else 0
        for bit in rng.choice(8 * 15, flips, replace=False):
            record[6 + bit // 8] ^= 1 << (bit % 8)
        refusable.append(int(record[6:20].sum()) & 0xFF != int(record[20]))
        records.append(record.tobytes())
    return records, refusable


def accepted_wrongly(records: list[bytes], refusable: list[bool]) -> int:
    """How many refusable records were acknowledged; every other one must be."""
    decoder, wrong = Decoder13(), 0
    for record, bad in zip(records, refusable):
        acknowledged = Send(b"\x06") in decoder.feed(record)
        wrong += acknowledged and bad
        assert acknowledged or bad
    return wrong


def test_twenty_thousand_damaged_records() -> None:
    records, refusable = damaged_records(20_000, seed=1)
    assert sum(refusable) > 8_000
    assert accepted_wrongly(records, refusable) == 0


def test_control_without_the_checksum_damage_comes_through(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nonin_numerics, "_sum_is_right", lambda data, sent: True)
    records, refusable = damaged_records(500, seed=1)
    assert accepted_wrongly(records, refusable) > 100


@pytest.mark.parametrize("name", ["nonin-8", "nonin-13"])
def test_the_emulator_obeys_the_script(name: str, wire: Any) -> None:
    faults = (
        Fault(12.0, 10.0, Kind.LEAD_OFF),
        Fault(24.0, 10.0, Kind.ALARM),
        Fault(44.0, 10.0, Kind.CLOCK_JUMP),
    )
    messages = wire(name, Scene(faults=faults)).run(60.0)
    battery = [active for code, active in alerts(messages) if code == "nonin:low-battery"]
    assert battery == [True, False]
    kinds = {validity for _, _, validity in values(messages)}
    assert kinds == {VALID, UNAVAILABLE}
    times_ns = [m.device_ns for m in messages if isinstance(m, Numeric)]
    if name == "nonin-13":
        jump_ns = [b - a for a, b in zip(times_ns[::2], times_ns[2::2])]
        assert max(jump_ns) == 3605 * NS_PER_S and min(jump_ns) == -3595 * NS_PER_S


@pytest.mark.benchmark
@pytest.mark.parametrize(
    ("decoder", "frame"), [(Decoder8, READING_8), (Decoder13, RECORD_13)], ids=["8", "13"]
)
def test_decodes_at_fifty_times_the_link_rate(
    decoder: Any, frame: bytes, times_the_link: Any
) -> None:
    """9600 baud carry 960 bytes/s; one frame at a time."""
    other = encode_13(301, 96, AT) if len(frame) > 4 else frame
    data = (frame + other) * 1000
    assert times_the_link(decoder, nonin.WIRE, data, len(frame), 2000) >= 50
