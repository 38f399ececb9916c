"""The Puritan-Bennett 840: its report field by field, and its waveform port line by line."""

from __future__ import annotations

import itertools
import math
import random
import re
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from firmware_bridge.devices import device, pb840, pb840_waves
from firmware_bridge.emulators.emulated import emulated
from firmware_bridge.emulators.faults import Fault, Kind
from firmware_bridge.emulators.patient import Scene
from firmware_bridge.session import NS_PER_S, Event, State
from firmware_bridge.types import (
    Alert,
    AlertKind,
    LinkLost,
    LinkUp,
    Loss,
    Numeric,
    Priority,
    SampleBlock,
    Sign,
    Validity,
)

# Field 5 on of a report on 7 October 2014, 09:33: total rate 15, exhaled 0.47 L, 7.2 L/min, peak 22
# and mean 9 cmH2O, 40 % oxygen, inspired 0.48 L, PEEP 5; dynamic compliance is blank.
FIELDS = {
    5: "09:33", 6: "840 3510012345", 7: "OCT 07 2014", 8: "INVASIVE", 9: "A/C", 70: "15",
    71: "0.470", 72: "7.20", 73: "22.0", 74: "9.0", 77: "40", 78: "0.480", 87: "5.0", 105: "OFF",
    **dict.fromkeys(range(106, 154), "NORMAL"),
}  # fmt: skip
VALUES = {
    "MDC_RESP_RATE": 15.0, "MDC_VOL_AWAY_TIDAL_EXP": 470.0, "MDC_VOL_MINUTE_AWAY": 7.2,
    "MDC_PRESS_AWAY_INSP_PEAK": 22.0, "MDC_PRESS_AWAY_INSP_MEAN": 9.0,
    "MDC_CONC_AWAY_O2_INSP": 40.0, "MDC_VOL_AWAY_TIDAL": 480.0, "MDC_PRESS_AWAY_END_EXP_POS": 5.0,
}  # fmt: skip
BREATHS = b"BS, S:7,\n12.3, 5.1\n-8.0, 15.25\nBE\nBS, S:8,\n0.0, 5\n"


def report(fields: int = pb840.FIELDS, **changes: str) -> bytes:
    texts = FIELDS | {int(name[1:]): text for name, text in changes.items()}
    return pb840.encode(texts.get(n, "") for n in range(5, 5 + fields))


def values(messages: list[Any]) -> dict[str, tuple[float | None, Validity]]:
    return {m.channel: (m.value, m.validity) for m in messages if isinstance(m, Numeric)}


def alerts(messages: list[Any]) -> list[Alert]:
    return [m for m in messages if isinstance(m, Alert)]


def test_a_worked_report_byte_by_byte() -> None:
    line = report()
    assert line.startswith(b"MISCF,1225,169,\x0209:33 ,840 3510012345    ,OCT 07 2014 ,INVASIVE ,")
    assert line.endswith(b",\x03\r") and len(line) == 16 + 1225 + 2
    found = pb840.Decoder().feed(line)
    for channel, value in VALUES.items():
        assert values(found)[channel] == (pytest.approx(value), Validity.VALID)
    assert values(found)["MDC_COMPL_LUNG"] == (None, Validity.UNAVAILABLE)
    assert {m.device_ns for m in found} == {1_412_674_380_000_000_000}
    assert not alerts(found)


def test_a_count_with_the_etx_in_it_is_the_other_reading() -> None:
    found = pb840.Decoder().feed(report().replace(b"1225", b"1226"))
    assert len(values(found)) == len(pb840.VALUES)


@pytest.mark.parametrize("text", ["", "------", "OFF", "***"])
def test_blank_and_missing_values_are_not_available(text: str) -> None:
    found = values(pb840.Decoder().feed(report(f73=text)))
    assert found["MDC_PRESS_AWAY_INSP_PEAK"] == (None, Validity.UNAVAILABLE)


@pytest.mark.parametrize("text", ["900", "1.2.3", "22:0", "1e2", "nan"])
def test_what_cannot_be_is_no_number(text: str) -> None:
    found = values(pb840.Decoder().feed(report(f73=text)))
    assert found["MDC_PRESS_AWAY_INSP_PEAK"] == (None, Validity.INVALID)


@pytest.mark.parametrize(
    ("time_text", "date_text"),
    [("24:00", "OCT 07 2014"), ("09:33", "FEB 30 2014"), ("09:33", "OKT 07 2014"), ("", "")],
)
def test_a_clock_that_is_none_gives_no_time(time_text: str, date_text: str) -> None:
    found = pb840.Decoder().feed(report(f5=time_text, f7=date_text))
    assert {m.device_ns for m in found} == {None} and len(values(found)) == len(pb840.VALUES)


def test_alarms_are_told_on_change_with_their_priority() -> None:
    decoder = pb840.Decoder()
    [begun] = alerts(decoder.feed(report(f110="HIGH")))
    assert (begun.code, begun.channel, begun.kind, begun.priority, begun.active) == (
        "MDC_EVT_HI", "MDC_PRESS_AWAY_INSP_PEAK", AlertKind.PHYSIOLOGICAL, Priority.HIGH, True,
    )  # fmt: skip
    assert not alerts(decoder.feed(report(f110="HIGH")))
    [lower] = alerts(decoder.feed(report(f110="LOW")))
    assert (lower.priority, lower.active) == (Priority.LOW, True)
    [ended] = alerts(decoder.feed(report(f110="RESET")))
    assert (ended.code, ended.active) == ("MDC_EVT_HI", False)


def test_values_of_a_circuit_without_patient_are_not_valid() -> None:
    decoder = pb840.Decoder()
    assert values(decoder.feed(report(f70="14")))["MDC_RESP_RATE"] == (14.0, Validity.VALID)
    for field in ("f124", "f125"):
        found = values(decoder.feed(report(f70="14", **{field: "HIGH"})))
        assert found["MDC_RESP_RATE"] == (14.0, Validity.QUESTIONABLE)
    assert values(decoder.feed(report(f70="14")))["MDC_RESP_RATE"] == (14.0, Validity.VALID)


def test_an_unknown_word_is_an_alarm() -> None:
    [found] = alerts(pb840.Decoder().feed(report(f124="ALARM")))
    assert (found.code, found.kind, found.priority, found.text) == (
        "pb840:124", AlertKind.TECHNICAL, Priority.MEDIUM, "disconnect")  # fmt: skip


def test_every_alarm_field_has_one_meaning() -> None:
    tables = (pb840.LIMITS, pb840.PHYSIOLOGICAL, pb840.TECHNICAL)
    assert sorted(field for table in tables for field in table) == [95, *range(106, 154)]
    assert pb840.TECHNICAL[137].endswith("A5") and pb840.TECHNICAL[153].endswith("A85")


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (report().replace(b"MISCF", b"MISCA"), "form"),
        (report().replace(b"\x02", b""), "form"),
        (report().replace(b"22.0", b"22\x010"), "form"),
        (report().replace(b"1225", b"1224"), "bytes"),
        (report().replace(b"22.0", b"2.0"), "width"),  # a byte lost: the count says "with ETX"
        (report().replace(b"22.0", b"222.0"), "bytes"),
        (report().replace(b",169,", b",168,"), "fields"),
        (report().replace(b",22.0  ,9.0", b",22.0 ,,9.0"), "fields"),
        (report().replace(b",22.0  ,9.0   ,", b",22.0   ,9.0  ,"), "width"),
    ],
    ids=lambda case: case if isinstance(case, str) else "",
)
def test_a_line_that_is_not_right_says_nothing(line: bytes, reason: str) -> None:
    decoder = pb840.Decoder()
    assert decoder.feed(line) == []
    assert decoder.counters.rejects == {reason: 1}
    assert values(decoder.feed(report())) and decoder.counters.resyncs == 1


def reference_ok(line: bytes) -> bool:
    """The checks again, written from the description."""
    head, stx, rest = line.partition(b"\x02")
    parts = head.decode("latin-1").split(",")
    if not stx or len(parts) != 4 or parts[0] != "MISCF" or rest[-2:] != b"\x03\r":
        return False
    body, counts = rest[:-2], [part.strip(" ") for part in parts[1:3]]
    if not all(count.isascii() and count.isdigit() for count in counts):
        return False
    widths = [len(text) for text in body[:-1].split(b",")]
    expected = [pb840.WIDTHS.get(n, 6) for n in range(5, 5 + len(widths))]
    printable = all(32 <= byte < 127 for byte in body) and body.endswith(b",")
    sizes = int(counts[0]) in (len(body), len(body) + 1) and int(counts[1]) == len(widths)
    return printable and sizes and widths == expected


def corrupted(n: int) -> tuple[int, int]:
    """Of `n` damaged reports (short ones, for speed): how many a check rejects, and how many of
    those gave values."""
    rng, clean = random.Random(9), report(fields=20)
    rejected = passed = 0
    for _ in range(n):
        dirty = bytearray(clean)
        for _ in range(rng.randint(1, 3)):
            at = rng.randrange(len(dirty) - 1)
            if rng.random() < 0.7:
                dirty[at] ^= 1 << rng.randrange(8)
            else:
                del dirty[at]
        if reference_ok(bytes(dirty)) or dirty[:-1].count(b"\r"):
            continue
        rejected += 1
        passed += bool(pb840.Decoder().feed(bytes(dirty)))
    return rejected, passed


def test_no_report_is_accepted_that_a_check_rejects() -> None:
    rejected, passed = corrupted(20_000)
    assert rejected > 7_000 and passed == 0


def test_control_without_the_checks_bad_reports_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    fields, _ = pb840.parse(report()[:-1])
    monkeypatch.setattr(pb840, "parse", lambda line: (fields, ""))
    assert corrupted(300)[1] > 100


@given(st.integers(0, 200), st.integers(0, 99))
def test_round_trip(rate: int, litres: int) -> None:
    found = values(pb840.Decoder().feed(report(f70=str(rate), f72=f"{litres}.5")))
    assert found["MDC_RESP_RATE"][0] == rate and found["MDC_VOL_MINUTE_AWAY"][0] == litres + 0.5


@settings(max_examples=50, deadline=None)
@given(st.binary(max_size=300), st.lists(st.integers(0, 4000), max_size=8))
def test_cuts_of_reports_change_nothing(noise: bytes, cuts: list[int]) -> None:
    data = report() + noise * 12 + b"\r" + report(f110="HIGH")
    edges = [0, *sorted(min(c, len(data)) for c in cuts), len(data)]
    whole, other = pb840.Decoder(), pb840.Decoder()
    found = [m for a, b in itertools.pairwise(edges) for m in other.feed(data[a:b])]
    assert found == whole.feed(data)
    assert other.counters == whole.counters


def test_the_emulated_ventilator_asked_every_two_seconds(wire: Any) -> None:
    faults = (Fault(3.0, 4.0, Kind.LEAD_OFF), Fault(9.0, 2.0, Kind.ALARM),
              Fault(12.0, 9.0, Kind.CLOCK_JUMP, jump_s=7200.0))  # fmt: skip
    wired = wire("pb840", Scene(faults=faults))
    messages = wired.run(16.0)
    assert wired.cable.heard == b"RSET\r" + b"SNDF\r" * 8
    assert [(a.code, a.active) for a in alerts(messages)] == [
        ("pb840:124", True), ("pb840:124", False), ("MDC_EVT_HI", True), ("MDC_EVT_HI", False),
    ]  # fmt: skip
    peaks = [m for m in messages
             if isinstance(m, Numeric) and m.channel == "MDC_PRESS_AWAY_INSP_PEAK"]  # fmt: skip
    assert [p.validity for p in peaks].count(Validity.UNAVAILABLE) == 2
    times_ns = [p.device_ns for p in peaks if p.device_ns is not None]
    assert times_ns[-1] - times_ns[0] == 7200e9


OPEN = (State.STARTING, State.STREAMING)
EXPECTED = {
    **{(state, event): (state, b"")
       for state in OPEN for event in (Event.FRAMES, Event.READY, Event.ALIVE)},
    (State.CLOSED, Event.OPENED): (State.STARTING, b"RSET\rSNDF\r"),
    (State.CLOSED, Event.JOINED): (State.STARTING, b"RSET\rSNDF\r"),
    (State.STARTING, Event.FRAMES): (State.STREAMING, b""),
    **{(state, event): (State.LOST, b"")
       for state in OPEN for event in (Event.REFUSED, Event.TIMEOUT)},
}  # fmt: skip


@pytest.mark.parametrize(("state", "event"), list(itertools.product(State, Event)))
def test_every_pair(state: State, event: Event, check_pair: Any) -> None:
    check_pair(pb840.DEVICE.dialogue, EXPECTED, state, event)


def wave(messages: list[Any], feed: str) -> list[tuple[int, int, list[float]]]:
    return [(m.seq, m.lost, [round(v, 3) for v in m.samples[:, 0].tolist()])
            for m in messages if isinstance(m, SampleBlock) and m.feed == feed]  # fmt: skip


def test_worked_breaths() -> None:
    """Flow 12.3, -8, 0 L/min; pressure 5.1, 15.25, 5 cmH2O."""
    decoder = pb840_waves.Decoder()
    messages = decoder.feed(BREATHS)
    assert wave(messages, "flow") == [(0, 0, [12.3, -8.0, 0.0])]
    assert wave(messages, "pressure") == [(0, 0, [5.1, 15.25, 5.0])]
    assert decoder.counters.frames == 6 and not decoder.counters.skipped_bytes


def test_lines_may_end_in_any_way() -> None:
    decoder = pb840_waves.Decoder()
    messages = decoder.feed(BREATHS.replace(b"\n", b"\r\n"))
    assert wave(messages, "flow") == [(0, 0, [12.3, -8.0, 0.0])]
    assert decoder.counters.text_bytes == 6


def test_samples_outside_a_breath_are_not_trusted() -> None:
    decoder = pb840_waves.Decoder()
    assert wave(decoder.feed(b"1.0, 2.0\n" + BREATHS), "flow")[0][0] == 0
    assert decoder.counters.text_bytes == 9
    assert decoder.feed(b"BE\n" + b"3.0, 4.0\n" * 49) == []
    assert decoder.feed(b"3.0, 4.0\n") == [Sign(Event.ALIVE)]


class Joined:
    """A ventilator that somebody begins to hear in the middle of a breath: the next is at `next_s`;
    `missed` is one whose BS does not come over the line."""

    def __init__(self, next_s: float, missed: int = 0, rate_hz: float = 50.0) -> None:
        self._next_s, self._missed, self._rate_hz = next_s, missed, rate_hz
        self._samples = 0
        self._breath = 1

    def hear(self, data: bytes, t_s: float) -> list[bytes]:
        return []

    def say(self, t_s: float) -> list[bytes]:
        out = []
        while self._samples < t_s * self._rate_hz:
            self._samples += 1
            out.append(pb840_waves.sample(10.0, 5.0))
            if t_s >= self._next_s * self._breath:
                begun = b"" if self._breath == self._missed else pb840_waves.begin(self._breath)
                out.append(pb840_waves.END + begun)
                self._breath += 1
        return out


def test_who_joins_in_a_long_breath_waits_for_the_next(wire_to: Any) -> None:
    wired = wire_to(device("pb840-waves"), Joined(15.0))
    assert wired.run(14.9) == []
    up, *samples = wired.run(5.0)
    assert isinstance(up, LinkUp) and all(isinstance(m, SampleBlock) for m in samples)
    assert len(wave(samples, "flow")) > 200


def test_a_breath_whose_begin_is_missed_is_lost_and_not_the_link(wire_to: Any) -> None:
    wired = wire_to(device("pb840-waves"), Joined(6.0, missed=3))
    assert not [m for m in wired.run(30.0) if isinstance(m, LinkLost)]
    lost = sum(block[1] for block in wave(wired.messages, "flow"))
    assert lost == pytest.approx(300, abs=2)


def test_samples_that_never_belong_to_a_breath_are_unintelligible(wire_to: Any) -> None:
    wired = wire_to(device("pb840-waves"), Joined(math.inf))
    [lost] = wired.run(pb840_waves.LONGEST_BREATH_S + pb840_waves.SILENT_S + 0.1)
    assert (lost.reason, lost.t_ns > 20 * NS_PER_S) == (Loss.GARBAGE, True)


def test_single_samples_now_and_then_are_silence(wire_to: Any) -> None:
    wired = wire_to(device("pb840-waves"), Joined(math.inf, rate_hz=20.0))
    [lost] = wired.run(pb840_waves.SILENT_S + 0.1)
    assert isinstance(lost, LinkLost)


def test_a_damaged_line_is_one_lost_sample() -> None:
    decoder = pb840_waves.Decoder()
    messages = decoder.feed(b"BS, S:1,\n1.0, 5.0\n2.x, 5.0\n3.0, 5.0\n")
    assert wave(messages, "flow") == [(0, 0, [1.0]), (2, 1, [3.0])]
    assert decoder.counters.rejects == {"line": 1} and decoder.counters.resyncs == 1


def test_missing_breaths_count_as_the_last_whole_one() -> None:
    decoder = pb840_waves.Decoder()
    messages = decoder.feed(BREATHS.replace(b"S:8", b"S:10"))
    assert wave(messages, "flow") == [(0, 0, [12.3, -8.0]), (6, 4, [0.0])]
    assert decoder.counters.lost == 4


def test_an_impossible_sample_is_no_number() -> None:
    messages = pb840_waves.Decoder().feed(b"BS, S:1,\n600.0, 5.0\n")
    [(_, _, [flow])] = wave(messages, "flow")
    assert math.isnan(flow)
    assert wave(messages, "pressure") == [(0, 0, [5.0])]


def corrupted_lines(n: int) -> tuple[int, int]:
    """Of `n` damaged sample lines: how many do not have the form of one, and how many of those
    gave a sample."""
    form = re.compile(rb" *-?[0-9]{1,3}\.?[0-9]{0,3} *, *-?[0-9]{1,3}\.?[0-9]{0,3} *")
    rng, rejected, passed = random.Random(3), 0, 0
    for _ in range(n):
        dirty = bytearray(b"-12.3, 15.6")
        for _ in range(rng.randint(1, 3)):
            dirty[rng.randrange(len(dirty))] ^= 1 << rng.randrange(8)
        if form.fullmatch(bytes(dirty)) or b"\n" in dirty or b"\r" in dirty:
            continue
        rejected += 1
        passed += bool(pb840_waves.Decoder().feed(b"BS, S:1,\n" + bytes(dirty) + b"\n"))
    return rejected, passed


def test_no_line_is_accepted_that_is_not_a_sample() -> None:
    rejected, passed = corrupted_lines(20_000)
    assert rejected > 10_000 and passed == 0


def test_control_with_a_looser_form_bad_lines_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pb840_waves, "_SAMPLE", re.compile(rb"\D*(\d+).*?(\d+)\D*"))
    assert corrupted_lines(500)[1] > 100


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=200), st.lists(st.integers(0, 400), max_size=8))
def test_cuts_of_breaths_change_nothing(noise: bytes, cuts: list[int]) -> None:
    data = BREATHS + noise + b"\n" + BREATHS
    edges = [0, *sorted(min(c, len(data)) for c in cuts), len(data)]
    whole, other = pb840_waves.Decoder(), pb840_waves.Decoder()
    found = [m for a, b in itertools.pairwise(edges) for m in other.feed(data[a:b])]
    flat = [[v for _, _, vs in wave(ms, "flow") for v in vs] for ms in (found, whole.feed(data))]
    assert np.array_equal(flat[0], flat[1], equal_nan=True)
    assert other.counters == whole.counters


@pytest.mark.benchmark
@pytest.mark.parametrize("name", ["pb840", "pb840-waves"])
def test_decodes_at_fifty_times_the_link_rate(name: str, times_the_link: Any) -> None:
    data = report() * 200 if name == "pb840" else b"".join(emulated(name, Scene()).say(200.0))
    found = device(name)
    whole = found.decoder()
    whole.feed(data)
    assert whole.counters.frames >= 200 and not whole.counters.rejects
    assert times_the_link(found.decoder, found.wire, data, 32, whole.counters.frames) >= 50
