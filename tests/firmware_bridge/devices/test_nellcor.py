"""Nellcor: the printout of a real N-560, every status code, damage."""

from __future__ import annotations

import calendar
import re
from datetime import datetime
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from firmware_bridge.devices import nellcor
from firmware_bridge.devices.nellcor import Line, parse
from firmware_bridge.devices.oximetry import PULSE, SPO2
from firmware_bridge.emulators.faults import Fault, Kind
from firmware_bridge.emulators.patient import Scene
from firmware_bridge.session import NS_PER_S
from firmware_bridge.types import Alert, AlertKind, Numeric, Text, Validity

if TYPE_CHECKING:
    pass

VALID, QUESTIONABLE, UNAVAILABLE = Validity.VALID, Validity.QUESTIONABLE, Validity.UNAVAILABLE
PHYSIOLOGICAL, TECHNICAL, OTHER = AlertKind.PHYSIOLOGICAL, AlertKind.TECHNICAL, AlertKind.OTHER


def at_ns(*when: int) -> int:
    return calendar.timegm(datetime(*when).timetuple()) * NS_PER_S


@pytest.fixture
def printout(real_bytes: Any) -> bytes:
    """Three lines of heading and five lines of a real N-560, alarms off, twice with motion."""
    data: bytes = real_bytes("device_captures/masimo_rad8/nellcor_n560_lines.txt")
    return data


# What those five lines print: second of 11:24, rate, amplitude, status; the saturation is 100.
PRINTED = [
    (50, 105, 88, ("AO",)),
    (52, 104, 23, ("AO",)),
    (54, 102, 36, ("MO", "AO")),
    (56, 101, 104, ("MO", "AO")),
    (58, 101, 26, ("AO",)),
]


def values(messages: list[Any]) -> list[tuple[str, float | None, Validity]]:
    return [(m.channel, m.value, m.validity) for m in messages if isinstance(m, Numeric)]


def alerts(messages: list[Any]) -> list[tuple[str, bool]]:
    return [(m.code, m.active) for m in messages if isinstance(m, Alert)]


def usual(*status: str, **changes: Any) -> bytes:
    fields: dict[str, Any] = {"spo2_pct": 97, "pulse_bpm": 72, "amplitude": 60, **changes}
    return nellcor.encode(Line(at_ns(2026, 1, 1), status=status, **fields))


def decoded(data: bytes) -> list[Any]:
    return nellcor.Decoder().feed(data)


def test_every_printed_line_says_what_it_prints(printout: bytes) -> None:
    found = [parse(line) for line in printout.splitlines(keepends=True)[3:]]
    assert found == [
        Line(at_ns(2004, 1, 7, 11, 24, second), 100, bpm, amplitude, status)
        for second, bpm, amplitude, status in PRINTED
    ]


def test_a_real_printout_becomes_values(printout: bytes) -> None:
    decoder = nellcor.Decoder()
    messages = decoder.feed(printout)
    assert [m for m in messages if isinstance(m, Text)] == [
        Text(printout.splitlines()[0].decode().strip())
    ]
    expected = []
    for _, bpm, _, status in PRINTED:
        validity = QUESTIONABLE if "MO" in status else VALID
        expected += [(SPO2, 100, validity), (PULSE, bpm, validity)]
    assert values(messages) == expected
    assert alerts(messages) == [("nellcor:AO", True), ("nellcor:MO", True), ("nellcor:MO", False)]
    c = decoder.counters
    assert (c.frames, c.skipped_bytes) == (5, 0)
    assert c.text_bytes == sum(map(len, printout.splitlines(keepends=True)[:3]))


def test_printed_lines_encode_to_the_same_columns(printout: bytes) -> None:
    for raw in printout.splitlines()[3:]:
        assert nellcor.encode(parse(raw + b"\n")).split() == raw.split()


@pytest.mark.parametrize(
    ("code", "said", "kind", "validity"),
    [
        ("AO", "nellcor:AO", OTHER, VALID),
        ("AS", "nellcor:AS", OTHER, VALID),
        ("LB", "nellcor:LB", TECHNICAL, VALID),
        ("LM", "nellcor:LM", PHYSIOLOGICAL, QUESTIONABLE),
        ("LP", "nellcor:LP", PHYSIOLOGICAL, QUESTIONABLE),
        ("MO", "nellcor:MO", TECHNICAL, QUESTIONABLE),
        ("PH", "MDC_EVT_HI", PHYSIOLOGICAL, VALID),
        ("PL", "MDC_EVT_LO", PHYSIOLOGICAL, VALID),
        ("PS", "nellcor:PS", TECHNICAL, QUESTIONABLE),
        ("SH", "MDC_EVT_HI", PHYSIOLOGICAL, VALID),
        ("SL", "MDC_EVT_LO", PHYSIOLOGICAL, VALID),
        ("SD", "nellcor:SD", TECHNICAL, UNAVAILABLE),
        ("SO", "nellcor:SO", TECHNICAL, UNAVAILABLE),
        ("ZZ", "nellcor:ZZ", OTHER, QUESTIONABLE),
    ],
)
def test_every_status_code_is_said_on_change(
    code: str, said: str, kind: AlertKind, validity: Validity
) -> None:
    messages = decoded(usual() + usual(code) * 3 + usual())
    assert alerts(messages) == [(said, True), (said, False)]
    assert next(m for m in messages if isinstance(m, Alert)).kind is kind
    assert {v for _, _, v in values(messages)[2:8]} == {validity}


def test_limits_of_both_channels_are_two_conditions() -> None:
    found = [m for m in decoded(usual("PL", "SL")) if isinstance(m, Alert)]
    assert {(m.code, m.channel) for m in found} == {("MDC_EVT_LO", PULSE), ("MDC_EVT_LO", SPO2)}


def test_a_mark_without_a_code_is_a_condition_of_its_channel() -> None:
    [alert] = [m for m in decoded(usual(marked=(SPO2,))) if isinstance(m, Alert)]
    assert (alert.code, alert.channel, alert.kind) == ("nellcor:limit", SPO2, PHYSIOLOGICAL)
    assert values(decoded(usual(marked=(SPO2,))))[0] == (SPO2, 97, VALID)
    assert alerts(decoded(usual("SL", marked=(SPO2,)))) == [("MDC_EVT_LO", True)]


def test_dashes_zeros_and_impossible_values_are_no_numbers() -> None:
    for spo2, pulse, validity in (
        (None, None, UNAVAILABLE),
        (0, 0, UNAVAILABLE),
        (140, 400, Validity.INVALID),
    ):
        found = values(decoded(usual(spo2_pct=spo2, pulse_bpm=pulse)))
        assert found == [(SPO2, None, validity), (PULSE, None, validity)]


# Headings of the N-595 and of a menu that the same port can show.
@pytest.mark.parametrize(
    ("line", "texts"),
    [
        (b"NPB-595  VERSION 3.1.0  CRC:1A2B  SpO2 Limit: 85-100%  PR Limit: 40-170BPM\r\n", 1),
        (b"          ADULT    0SAT-S  SPO2 RESP MODE: NORMAL\r\n", 0),
        (b"TIME               %SPO2   BPM    PA   Status\r\n", 0),
        (b"\r\n", 0),
    ],
)
def test_headings_are_texts_and_no_rejects(line: bytes, texts: int) -> None:
    decoder = nellcor.Decoder()
    decoder.feed(usual())
    assert sum(isinstance(m, Text) for m in decoder.feed(line)) == texts
    assert not decoder.counters.rejects


GOOD = usual("MO")


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (GOOD.replace(b"01-Jan", b"32-Jan"), "time"),
        (GOOD.replace(b"Jan", b"Jam"), "time"),
        (GOOD.replace(b"00:00:00", b"00:60:00"), "time"),
        (GOOD.replace(b"97", b"9x"), "form"),
        (GOOD.replace(b"97", b"-97"), "form"),
        (GOOD.replace(b"97", b"1000"), "form"),
        (GOOD.replace(b"97", b"97 98 99"), "form"),
        (GOOD.replace(b"MO", b"M0"), "form"),
        (GOOD[3:], "form"),
        (GOOD.replace(b"97", "٩٧".encode()), "form"),
        (b"    0) Exit Interactive Mode\r\n", "form"),
    ],
)
def test_what_is_not_well_formed_is_no_line(line: bytes, reason: str) -> None:
    assert parse(line) == reason


VALUE = st.one_of(st.none(), st.integers(0, 999))


@settings(max_examples=100, deadline=None)
@given(
    st.integers(at_ns(2000, 1, 1) // NS_PER_S, at_ns(2099, 12, 31) // NS_PER_S),
    VALUE,
    VALUE,
    VALUE,
    st.lists(st.sampled_from(sorted(nellcor.STATUS)), unique=True, max_size=4).map(tuple),
)
def test_what_is_encoded_is_decoded(at_s: int, spo2: Any, bpm: Any, pa: Any, status: Any) -> None:
    marked = tuple(c for c, value in ((SPO2, spo2), (PULSE, bpm)) if value)
    line = Line(at_s * NS_PER_S, spo2, bpm, pa, status, marked)
    assert parse(nellcor.encode(line)) == line


def acceptable(raw: bytes) -> bool:
    """Whether a line is well-formed, told without the decoder's means."""
    text = raw.decode("latin-1")
    body = text[:-2]
    parts = body.split(" ")
    words = [part for part in parts if part]
    if not text.isascii() or not text.endswith("\r\n") or len(words) < 5:
        return False
    if not body.isprintable() or parts[0] != words[0] or parts[1] != words[1]:
        return False
    try:
        datetime.strptime(" ".join(words[:2]), "%d-%b-%y %H:%M:%S")
    except ValueError:
        return False
    exact = len(words[0]) == 9 and len(words[1]) == 8 and words[0][3:6].istitle()
    numbers = [w.removesuffix("*") for w in words[2:5]]
    shown = all(w == "---" or (w.isdigit() and len(w) <= 3) for w in numbers)
    dashed = any(w == "---*" for w in words[2:5])
    codes = all(len(w) == 2 and w.isalpha() and w.isupper() for w in words[5:])
    return exact and shown and codes and not dashed


def numbered(i: int) -> bytes:
    return usual("MO", "AO", pulse_bpm=40 + i % 100)


def test_twenty_thousand_damaged_lines(damaged_lines: Any, accepted_wrongly: Any) -> None:
    lines = damaged_lines(numbered, 20_000, seed=1)
    good = [acceptable(line) for line in lines]
    assert good.count(False) > 5_000 and all(good[::2])
    assert accepted_wrongly(nellcor.Decoder(), lines, good) == 0


def test_control_with_any_separators_damage_comes_through(
    monkeypatch: pytest.MonkeyPatch, damaged_lines: Any, accepted_wrongly: Any
) -> None:
    loose = r"(\d\d).([A-Z]..).(\d\d).(\d\d:\d\d:\d\d).+?(\d+).+?(\d+).+?(\d+)(.*)\r?\n"
    monkeypatch.setattr(nellcor, "_LINE", re.compile(loose))
    lines = damaged_lines(numbered, 2_000, seed=1)
    assert accepted_wrongly(nellcor.Decoder(), lines, [acceptable(line) for line in lines]) > 100


def test_the_emulator_obeys_the_script(wire: Any) -> None:
    faults = (
        Fault(5.0, 4.0, Kind.LEAD_OFF),
        Fault(12.0, 4.0, Kind.ALARM),
        Fault(20.0, 4.0, Kind.CLOCK_JUMP),
    )
    messages = wire("nellcor", Scene(faults=faults)).run(30.0)
    assert alerts(messages) == [
        ("nellcor:SO", True),
        ("nellcor:SO", False),
        ("MDC_EVT_LO", True),
        ("MDC_EVT_LO", False),
    ]
    assert sum(validity is UNAVAILABLE for _, _, validity in values(messages)) == 4
    times_s = [m.device_ns // NS_PER_S for m in messages if isinstance(m, Numeric)][::2]
    steps_s = [b - a for a, b in zip(times_s, times_s[1:])]
    assert min(steps_s) == -3598 and max(steps_s) == 3602


@pytest.mark.benchmark
def test_decodes_at_fifty_times_the_link_rate(times_the_link: Any) -> None:
    """9600 baud carry 14 lines a second; one line at a time."""
    assert times_the_link(nellcor.Decoder, nellcor.WIRE, 500 * GOOD, len(GOOD), 500) >= 50
