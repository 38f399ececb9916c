"""Masimo ASCII 1: lines printed by real devices and manuals, exceptions, damage."""

from __future__ import annotations

import calendar
import re
from datetime import datetime
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from firmware_bridge.devices import masimo
from firmware_bridge.devices.masimo import Line, parse
from firmware_bridge.devices.oximetry import PERFUSION, PULSE, SPO2
from firmware_bridge.emulators.faults import Fault, Kind
from firmware_bridge.emulators.patient import Scene
from firmware_bridge.session import NS_PER_S
from firmware_bridge.types import Alert, AlertKind, Numeric, Validity

if TYPE_CHECKING:
    pass

VALID, QUESTIONABLE, UNAVAILABLE = Validity.VALID, Validity.QUESTIONABLE, Validity.UNAVAILABLE


def at_ns(*when: int) -> int:
    return calendar.timegm(datetime(*when).timetuple()) * NS_PER_S


@pytest.fixture
def real_lines(real_bytes: Any) -> list[bytes]:
    """13 lines of four real Rad-8."""
    data: bytes = real_bytes("device_captures/masimo_rad8/rad8_ascii1_lines.txt")
    return data.splitlines(keepends=True)


# What those lines print: saturation, rate, perfusion index, ALARM, EXC.
PRINTED = [
    (98, 97, 3.60, 0, 0x800),
    (98, 96, 3.95, 0, 0x800),
    (98, 96, 4.25, 0, 0x800),
    (98, 96, 3.19, 0, 0x800),
    (98, 97, 2.41, 0, 0x800),
    (97, 80, 4.96, 0, 0x800),
    (97, 81, 5.04, 0, 0x800),
    (97, 81, 5.04, 0, 0x800),
    (97, 81, 5.13, 0, 0x800),
    (97, 80, 5.26, 0, 0x800),
    (97, 80, 5.31, 0, 0x800),
    (98, 57, 7.02, 0x38, 0x800),  # rate low, sounding, muted
    (98, 101, None, 0x10, 0x824),  # sensor off, low perfusion: the last values are still printed
]

# Lines printed in manuals and by a Radical-7's user, with what they say.
RAD_8_WITHOUT_SENSOR = (
    b"09/21/08 09:56:08 SN=0000093112 SPO2=---% BPM=---% DESAT=-- PIDELTA=+-- ALARM=0000 "
    b"EXC=000001\r\n"
)
RADICAL_7_COLOUR = (
    b"03/17/16 19:19:36 SN=---------- SPO2=098% BPM=123 PI=00.55 SPCO=--% SPMET=--.-% SPHB=--.- "
    b"SPOC=-- RESVD=--- DESAT=-- PIDELTA=+-- PVI=--- ALARM=000000 EXC=0000C00 EXC1=00000000\r\n"
)
RADICAL_7 = (
    b"05/15/07 08:12:21 SN=0000070986 SPO2=---% BPM=--- PI=--.--% SPCO=--.-% SPMET=--.-% DESAT=-- "
    b"PIDELTA=+-- PVI=--- ALARM=0000 EXC=000000\r\n"
)
TREND = b"""\
09/21/08 09:56:08 SpO2=000 PR=000 PI=00.00 EXC=820:OffPat,SET
09/21/08 09:56:10 SpO2=000 PR=000 PI=00.00 EXC=828:Search,OffPat,SET
09/21/08 09:56:12 SpO2=097 PR=069 PI=04.69 EXC=800:SET
09/21/08 09:56:14 SpO2=096 PR=074 PI=02.28 EXC=C00:LowSigIQ,SET
09/21/08 09:56:16 SpO2=098 PR=078 PI=03.64 EXC=800:SET
09/21/08 09:56:18 SpO2=000 PR=000 PI=00.00 EXC=800:SET
09/21/08 09:56:20 SpO2=000 PR=000 PI=00.00 EXC=820:OffPat,SET
09/21/08 09:56:22 SpO2=096 PR=078 PI=02.68 EXC=800:SET
"""
SPO2_IN_TREND = (None, None, 97, 96, 98, None, None, 96)


def values(messages: list[Any]) -> list[tuple[str, float | None, Validity]]:
    return [(m.channel, m.value, m.validity) for m in messages if isinstance(m, Numeric)]


def alerts(messages: list[Any]) -> list[tuple[str, bool]]:
    return [(m.code, m.active) for m in messages if isinstance(m, Alert)]


def usual(**changes: Any) -> Line:
    fields = {"spo2_pct": 97, "pulse_bpm": 72, "perfusion_pct": 2.5, "alarm": 0}
    line = {"device_ns": at_ns(2026, 1, 1), "exceptions": masimo.SET, **fields, **changes}
    return Line(**line)


def decoded(line: Line) -> list[Any]:
    return masimo.Decoder().feed(masimo.encode(line))


def test_every_real_line_says_what_it_prints(real_lines: list[bytes]) -> None:
    found = [parse(line) for line in real_lines]
    got = [(f.spo2_pct, f.pulse_bpm, f.perfusion_pct, f.alarm, f.exceptions) for f in found]
    assert got == PRINTED
    assert found[0].device_ns == at_ns(2016, 2, 22, 22, 47, 45)
    assert found[12].device_ns == at_ns(2021, 5, 20, 14, 6, 2)


def test_real_lines_become_values_except_without_a_sensor(real_lines: list[bytes]) -> None:
    decoder = masimo.Decoder()
    messages = [decoder.feed(line) for line in real_lines]
    for made, (spo2, bpm, index, _, exceptions) in zip(messages[:12], PRINTED):
        assert values(made) == [(SPO2, spo2, VALID), (PULSE, bpm, VALID), (PERFUSION, index, VALID)]
        assert exceptions == masimo.SET
    assert alerts(messages[11]) == [("masimo:alarm-08", True)]
    assert {validity for _, _, validity in values(messages[12])} == {UNAVAILABLE}
    assert alerts(messages[12]) == [
        ("masimo:low-perfusion", True),
        ("masimo:sensor-off", True),
        ("masimo:alarm-08", False),
    ]
    c = decoder.counters
    assert (c.frames, c.skipped_bytes, c.rejects) == (13, 0, {})


def test_real_lines_encode_to_the_same_bytes(real_lines: list[bytes]) -> None:
    for raw in real_lines:
        serial = re.search(rb"SN=(\d+)", raw)[1].decode()
        assert masimo.encode(parse(raw), serial) == raw.rstrip() + b"\r\n"


def test_printed_lines_of_three_models() -> None:
    line = parse(RAD_8_WITHOUT_SENSOR)
    assert (line.spo2_pct, line.pulse_bpm, line.perfusion_pct) == (None, None, None)
    assert line.exceptions == masimo.NO_SENSOR
    line = parse(RADICAL_7_COLOUR)
    assert (line.spo2_pct, line.pulse_bpm, line.perfusion_pct) == (98, 123, 0.55)
    assert line.exceptions == masimo.SET | masimo.LOW_SIGNAL_IQ
    line = parse(RADICAL_7)
    assert (line.spo2_pct, line.pulse_bpm, line.perfusion_pct) == (None, None, None)
    assert values(masimo.Decoder().feed(RADICAL_7)) == [
        (channel, None, UNAVAILABLE) for channel in (SPO2, PULSE, PERFUSION)
    ]


def test_the_manuals_trend_sample() -> None:
    """A 0 is no value, with or without an exception; data of the past raise nothing."""
    messages = masimo.Decoder().feed(TREND)
    assert alerts(messages) == []
    spo2 = [(value, validity) for channel, value, validity in values(messages) if channel == SPO2]
    none = (None, UNAVAILABLE)
    seen = [None if value is None else (value, QUESTIONABLE) for value in SPO2_IN_TREND]
    assert spo2 == [pair or none for pair in seen]
    pulse = [value for channel, value, _ in values(messages) if channel == PULSE]
    assert pulse == [None, None, 69, 74, 78, None, None, 78]
    index = [value for channel, value, _ in values(messages) if channel == PERFUSION]
    assert index == [None, None, 4.69, 2.28, 3.64, None, None, 2.68]
    times_ns = {m.device_ns for m in messages if isinstance(m, Numeric)}
    assert times_ns == {at_ns(2008, 9, 21, 9, 56, s) for s in range(8, 24, 2)}


@pytest.mark.parametrize(
    ("bit", "code", "validity"),
    [
        (0x001, "no-sensor", UNAVAILABLE),
        (0x002, "defective-sensor", UNAVAILABLE),
        (0x004, "low-perfusion", QUESTIONABLE),
        (0x008, "pulse-search", QUESTIONABLE),
        (0x010, "interference", QUESTIONABLE),
        (0x020, "sensor-off", UNAVAILABLE),
        (0x040, "ambient-light", QUESTIONABLE),
        (0x080, "unrecognized-sensor", UNAVAILABLE),
        (0x400, "low-signal-iq", QUESTIONABLE),
    ],
)
def test_every_exception_is_said_on_change(bit: int, code: str, validity: Validity) -> None:
    decoder = masimo.Decoder()
    faulty = masimo.encode(usual(exceptions=masimo.SET | bit))
    messages = decoder.feed(masimo.encode(usual()) + faulty * 3)
    assert alerts(messages) == [(f"masimo:{code}", True)]
    assert all(m.kind is AlertKind.TECHNICAL for m in messages if isinstance(m, Alert))
    assert {v for _, _, v in values(messages)[3:]} == {validity}
    assert alerts(decoder.feed(masimo.encode(usual()))) == [(f"masimo:{code}", False)]


def test_alarm_bits_are_physiological_and_name_their_channel() -> None:
    messages = decoded(usual(alarm=0x3F))
    assert [(m.code, m.kind, m.channel) for m in messages if isinstance(m, Alert)] == [
        (f"masimo:alarm-0{bit}", AlertKind.PHYSIOLOGICAL, channel)
        for bit, channel in ((1, SPO2), (2, SPO2), (4, PULSE), (8, PULSE))
    ]


@pytest.mark.parametrize("spo2", [101, 140, 999])
def test_an_impossible_saturation_is_no_number(spo2: int) -> None:
    assert values(decoded(usual(spo2_pct=spo2)))[0] == (SPO2, None, Validity.INVALID)


GOOD = masimo.encode(usual())


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (GOOD.replace(b"01/01/26", b"02/30/26"), "time"),
        (GOOD.replace(b"00:00:00", b"24:00:00"), "time"),
        (GOOD.replace(b"SPO2=097%", b"SPO2=97%"), "field"),
        (GOOD.replace(b"SPO2=097%", b"SPO2=0x7%"), "field"),
        (GOOD.replace(b"SPO2=097%", b"SPO2=-97%"), "field"),
        (GOOD.replace(b"SPO2=097%", b"SPO2=097% SPO2=097%"), "field"),
        (GOOD.replace(b"SPO2=097% ", b""), "missing"),
        (GOOD.replace(b" EXC=000800", b""), "missing"),
        (GOOD.replace(b"SPO2=", b"SPO2 "), "form"),
        (GOOD[5:], "form"),
        (b"09/21/08 09:56:12 SpO2=097 PR=069 PI=04.69 EXC=820:SET\n", "exceptions"),
        (b"09/21/08 09:56:12 SpO2=097 PR=069 PI=04.69 EXC=800:OffPat\n", "exceptions"),
        (b"09/21/08 09:56:12 SpO2=\xd9\xa197 PR=069 PI=04.69 EXC=800:SET\n", "form"),
        (GOOD.replace(b"SN=0", b"SN=\x1c"), "form"),
    ],
)
def test_what_is_not_well_formed_is_no_line(line: bytes, reason: str) -> None:
    assert parse(line) == reason


@settings(max_examples=100, deadline=None)
@given(
    st.one_of(st.none(), st.integers(0, 999)),
    st.one_of(st.none(), st.integers(0, 999)),
    st.one_of(st.none(), st.integers(0, 9999).map(lambda n: n / 100)),
    st.integers(0, 0xFFFF),
    st.integers(0, 0xFFFFFF),
    st.integers(at_ns(2000, 1, 1) // NS_PER_S, at_ns(2099, 12, 31) // NS_PER_S),
)
def test_what_is_encoded_is_decoded(
    spo2: int | None, bpm: int | None, index: float | None, alarm: int, exc: int, at_s: int
) -> None:
    line = Line(at_s * NS_PER_S, spo2, bpm, index, alarm, exc)
    assert parse(masimo.encode(line)) == line


def acceptable(raw: bytes) -> bool:
    """Whether a line of a Rad-8 is well-formed, told without the decoder's means."""
    text = raw.decode("latin-1")
    parts = text.rstrip("\r\n").split(" ")
    if not text.isascii() or not text.endswith("\r\n") or len(parts) != 12:
        return False
    keys = [p.partition("=")[0] for p in parts[2:]]
    if not all(key.isupper() and key.isalnum() for key in keys):
        return False
    fields = dict(zip(keys, (p.partition("=")[2] for p in parts[2:])))
    digits = [*parts[0].split("/"), *parts[1].split(":")]
    shape = [len(d) == 2 and d.isdigit() for d in digits]
    exc = fields.get("EXC", "").partition(":")[0]
    spo2, bpm = fields.get("SPO2", "").rstrip("%"), fields.get("BPM", "").rstrip("%")
    numbers = all(v == "---" or (len(v) == 3 and v.isdigit()) for v in (spo2, bpm))
    hexes = all(c in "0123456789ABCDEF" for c in exc) and len(exc) in (3, 6, 7)
    try:
        datetime.strptime(" ".join(parts[:2]), "%m/%d/%y %H:%M:%S")
    except ValueError:
        return False
    return len(digits) == 6 and all(shape) and len(fields) == 10 and numbers and hexes


def numbered(i: int) -> bytes:
    return masimo.encode(usual(pulse_bpm=40 + i % 100))


def test_twenty_thousand_damaged_lines(damaged_lines: Any, accepted_wrongly: Any) -> None:
    lines = damaged_lines(numbered, 20_000, seed=1)
    good = [acceptable(line) for line in lines]
    assert good.count(False) > 5_000 and all(good[::2])
    assert accepted_wrongly(masimo.Decoder(), lines, good) == 0


def test_control_with_any_field_damage_comes_through(
    monkeypatch: pytest.MonkeyPatch, damaged_lines: Any, accepted_wrongly: Any
) -> None:
    monkeypatch.setattr(masimo, "_LINE", re.compile(r"(.{17})((?: [^ ]+=[^ ]+)+)\r?\n"))
    monkeypatch.setattr(masimo, "_well_formed", lambda key, value: True)
    monkeypatch.setattr(masimo, "_int", lambda text: 97)
    monkeypatch.setattr(masimo, "_float", lambda text: 2.5)
    lines = [
        line for line in damaged_lines(numbered, 5_000, seed=1) if b" ALARM=0000 EXC=000800" in line
    ]
    assert accepted_wrongly(masimo.Decoder(), lines, [acceptable(line) for line in lines]) > 20


def test_the_emulator_obeys_the_script(wire: Any) -> None:
    faults = (
        Fault(3.0, 3.0, Kind.LEAD_OFF),
        Fault(8.0, 3.0, Kind.ALARM),
        Fault(13.0, 3.0, Kind.CLOCK_JUMP),
    )
    messages = wire("masimo-ascii1", Scene(faults=faults)).run(20.0)
    assert alerts(messages) == [
        ("masimo:sensor-off", True),
        ("masimo:sensor-off", False),
        ("masimo:alarm-02", True),
        ("masimo:alarm-02", False),
    ]
    assert sum(validity is UNAVAILABLE for _, _, validity in values(messages)) == 9
    times_s = [m.device_ns // NS_PER_S for m in messages if isinstance(m, Numeric)][::3]
    steps_s = [b - a for a, b in zip(times_s, times_s[1:])]
    assert sorted(steps_s)[:2] == [-3599, 1] and max(steps_s) == 3601


@pytest.mark.benchmark
def test_decodes_at_fifty_times_the_link_rate(times_the_link: Any) -> None:
    """9600 baud carry 7 lines a second; one line at a time."""
    assert times_the_link(masimo.Decoder, masimo.WIRE, 500 * GOOD, len(GOOD), 500) >= 50
