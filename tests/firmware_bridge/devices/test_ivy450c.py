"""The Ivy 450C against a capture of a real monitor, and what the capture cannot show, made up."""

from __future__ import annotations

import itertools
import random
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from firmware_bridge.devices import ivy450c
from firmware_bridge.emulators.emulated import emulated
from firmware_bridge.emulators.faults import Fault, Kind
from firmware_bridge.emulators.patient import Scene
from firmware_bridge.types import Alert, AlertKind, Message, Numeric, SampleBlock, Validity

if TYPE_CHECKING:
    pass

# The lines of the capture, word for word: pulse 80, breaths 35, SpO2 100 %, cuff 121/75 (92) with
# pulse 80, P1 111/73 (88), nothing on P2, ETCO2 and the temperatures.
LINES = (
    b"HR=1;80;ECG-II-DIAG;\rRR=1;35;APNEA: 20 SEC;\rETCO2=1;;;\rSPO2=1;100;PR=80 ;\r"
    b"NIBP=4;121;75;92;80;;\rP1=3;111;73;88;;\rP2=3;;;;NO TRANSDUCER;\rT1=1;;;\rT2=1;;;\r"
)


def message(lines: bytes = LINES, wave: int = 120) -> bytes:
    return b"\xffANSAR-B " + bytes([wave]) * 350 + b"\xfb" * 50 + lines + b"\xfe"


def values(messages: list[Message]) -> dict[str, tuple[float | None, Validity]]:
    return {m.channel: (m.value, m.validity) for m in messages if isinstance(m, Numeric)}


@pytest.fixture(scope="module")
def capture(real_bytes: Any) -> bytes:
    data: bytes = real_bytes("device_captures/ivy450c/Ivy450C.1.data")
    return data


@pytest.fixture(scope="module")
def captured(capture: bytes) -> tuple[list[Message], ivy450c.Decoder]:
    decoder = ivy450c.Decoder()
    return decoder.feed(capture), decoder


def wave(messages: list[Message], feed: str, column: int) -> Any:
    return np.concatenate(
        [m.samples[:, column] for m in messages if isinstance(m, SampleBlock) and m.feed == feed]
    )


def test_the_capture_is_27_messages_after_a_torn_one(captured: Any) -> None:
    """15,426 bytes: 252 of a message that began before, 27 messages of 562."""
    _, decoder = captured
    c = decoder.counters
    assert (c.frames, c.skipped_bytes, c.lost, c.rejects) == (27, 252, 0, {})
    assert c.received_bytes == 252 + 27 * 562 == 15_426


def test_the_captures_numbers(captured: Any) -> None:
    messages, _ = captured
    found = values(messages)
    assert found["MDC_ECG_HEART_RATE"] == (80.0, Validity.VALID)
    assert found["MDC_RESP_RATE"] == (35.0, Validity.VALID)
    assert found["MDC_PULS_OXIM_SAT_O2"] == (100.0, Validity.VALID)
    assert found["MDC_PULS_OXIM_PULS_RATE"] == (80.0, Validity.VALID)
    systolic = [m.value for m in messages if getattr(m, "channel", "") == "MDC_PRESS_BLD_SYS"]
    assert set(systolic) == {110.0, 111.0} and len(systolic) == 27
    assert found["MDC_PRESS_BLD_DIA"][0] == 73.0 and found["MDC_PRESS_BLD_MEAN"][0] == 88.0
    assert set(found) == set(ivy450c.DEVICE.numerics)
    assert not [m for m in messages if isinstance(m, Alert)]


def test_the_captures_cuff_is_told_once_and_its_age_is_unknown(captured: Any) -> None:
    messages, _ = captured
    cuff = [m for m in messages if isinstance(m, Numeric) and "NONINV" in m.channel]
    assert [m.value for m in cuff] == [121.0, 75.0, 92.0]
    assert {m.validity for m in cuff} == {Validity.QUESTIONABLE}


def test_the_captures_waves_have_the_rates_that_its_numbers_say(captured: Any) -> None:
    """80 beats and 35 breaths a minute, counted in 27 s of waves at 200 and 50 Hz."""
    messages, _ = captured
    ecg = wave(messages, "ecg", 0)
    beats = np.flatnonzero((ecg[1:-1] > 180) & (ecg[1:-1] >= ecg[:-2]) & (ecg[1:-1] > ecg[2:]))
    assert len(ecg) == 27 * 200
    assert np.median(np.diff(beats)) * 80 / 60 / 200 == pytest.approx(1.0, abs=0.01)
    breathing = wave(messages, "slow", 0)
    rising = np.flatnonzero((breathing[1:] > 100) & (breathing[:-1] <= 100))
    assert np.median(np.diff(rising)) * 35 / 60 / 50 == pytest.approx(1.0, abs=0.02)
    assert np.isnan(wave(messages, "slow", 3)).all()  # P2 has no transducer


def test_the_captures_p1_wave_follows_its_numbers_one_to_one(captured: Any) -> None:
    """Why somebody may take P1 for mmHg; one capture at one setting is no proof."""
    messages, _ = captured
    p1 = wave(messages, "slow", 2)
    assert (np.nanmax(p1), np.nanmin(p1)) == (111.0, 73.0)


def test_a_capture_in_any_cuts_is_the_same(capture: bytes, captured: Any) -> None:
    expected, whole = captured
    for size in (1, 7, 561, 563, 2000):
        decoder = ivy450c.Decoder()
        found = [m for at in range(0, len(capture), size)
                 for m in decoder.feed(capture[at : at + size])]  # fmt: skip
        assert values(found) == values(expected)
        assert decoder.counters == whole.counters


def test_blank_values_are_not_available() -> None:
    lines = LINES.replace(b"HR=1;80", b"HR=1;").replace(b"111;73;88", b";;")
    found = values(ivy450c.Decoder().feed(message(lines)))
    for channel in ("MDC_ECG_HEART_RATE", "MDC_PRESS_BLD_SYS", "MDC_PRESS_BLD_MEAN"):
        assert found[channel] == (None, Validity.UNAVAILABLE)
    assert found["MDC_RESP_RATE"][0] == 35.0


@pytest.mark.parametrize("wrong", [b"140", b"16.1"], ids=["impossible", "a decimal"])
def test_what_cannot_be_is_no_number(wrong: bytes) -> None:
    lines = LINES.replace(b"SPO2=1;100", b"SPO2=1;" + wrong)
    found = values(ivy450c.Decoder().feed(message(lines)))
    assert found["MDC_PULS_OXIM_SAT_O2"] == (None, Validity.INVALID)


def test_a_missing_line_makes_its_values_unavailable() -> None:
    found = values(ivy450c.Decoder().feed(message(LINES.replace(b"SPO2=1;100;PR=80 ;\r", b""))))
    assert found["MDC_PULS_OXIM_SAT_O2"] == (None, Validity.UNAVAILABLE)
    assert found["MDC_PULS_OXIM_PULS_RATE"] == (None, Validity.UNAVAILABLE)


def test_cuff_is_told_again_when_it_changes() -> None:
    decoder = ivy450c.Decoder()
    decoder.feed(message() * 2)
    found = values(decoder.feed(message(LINES.replace(b"121;75", b"118;75"))))
    assert found["MDC_PRESS_BLD_NONINV_SYS"] == (118.0, Validity.VALID)


def test_labels_and_alarms_are_told_on_change() -> None:
    decoder = ivy450c.Decoder()
    off = LINES.replace(b"HR=1;80;ECG-II-DIAG;", b"HR=1;;LEAD OFF;")
    high = LINES.replace(b"ECG-II-DIAG;", b"ECG-II-DIAG;HR HIGH")
    messages = decoder.feed(message() + message(off) * 2 + message(high) * 2 + message())
    alerts = [(m.code, m.kind, m.active) for m in messages if isinstance(m, Alert)]
    assert alerts == [
        ("ivy-450c:HR LEAD OFF", AlertKind.TECHNICAL, True),
        ("ivy-450c:HR LEAD OFF", AlertKind.TECHNICAL, False),
        ("ivy-450c:HR HR HIGH", AlertKind.OTHER, True),
        ("ivy-450c:HR HR HIGH", AlertKind.OTHER, False),
    ]


def test_the_emulated_monitor_says_when_its_lead_is_off(wire: Any) -> None:
    faults = (Fault(2.5, 2.0, Kind.LEAD_OFF), Fault(6.5, 2.0, Kind.ALARM))
    messages = wire("ivy-450c", Scene(faults=faults)).run(10.0)
    assert [m.active for m in messages if isinstance(m, Alert)] == [True, False] * 2
    heart = [m.validity for m in messages
             if isinstance(m, Numeric) and m.channel == "MDC_ECG_HEART_RATE"]  # fmt: skip
    assert heart.count(Validity.UNAVAILABLE) == 2 and heart[-1] is Validity.VALID


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (message().replace(b"ANSAR-B", b"ANSAR-C"), "header"),
        (message(wave=252), "wave"),
        (message(LINES[1:]), "line"),  # a byte of the waves was lost
        (message(LINES.replace(b"RR=1", b"RR=2")), "line"),
        (message(LINES.replace(b"35", b"3x")), "line"),
        (message(LINES.replace(b"T2=", b"T1=")), "line"),
        (message(LINES[:-1]), "line"),
        (message(LINES * 9), "length"),
    ],
)
def test_messages_that_are_not_right_are_rejected(data: bytes, reason: str) -> None:
    decoder = ivy450c.Decoder()
    messages = decoder.feed(message() + data + message())
    blocks = [m for m in messages if isinstance(m, SampleBlock) and m.feed == "ecg"]
    assert len(blocks) == 2 and decoder.counters.rejects[reason] >= 1
    assert blocks[1].lost == blocks[1].seq - 200 >= 200


def reference_ok(data: bytes) -> bool:
    """The checks again, written from the description: is this one whole message?"""
    if data[:9] != b"\xffANSAR-B " or max(data[9:409], default=255) > 251 or data[-2:] != b"\r\xfe":
        return False
    names = {"HR": 1, "RR": 1, "ETCO2": 1, "SPO2": 1, "NIBP": 4, "P1": 3, "P2": 3, "T1": 1, "T2": 1}
    seen = []
    for line in data[409:-2].split(b"\r"):
        first, *rest = line.decode("latin-1").split(";")
        name, _, count = first.partition("=")
        if count != str(names.get(name)) or len(rest) != int(count) + 2:
            return False
        numbers = [v.strip() for v in rest[: int(count)]]
        if not all(v == "" or v.replace(".", "", 1).isdigit() for v in numbers):
            return False
        if not all(32 <= c < 127 for c in line):
            return False
        seen.append(name)
    return seen[0] == "HR" and len(set(seen)) == len(seen)


def accepted_bad(n: int) -> tuple[int, int]:
    """Of `n` messages with flipped bits in header or lines: how many a check rejects, and how many
    of those gave values."""
    rng = random.Random(5)
    clean = message()
    places = [*range(9), *range(409, len(clean))]
    rejected = passed = 0
    for _ in range(n):
        dirty = bytearray(clean)
        for _ in range(rng.randint(1, 3)):
            dirty[rng.choice(places)] ^= 1 << rng.randrange(8)
        if reference_ok(bytes(dirty)):
            continue
        rejected += 1
        passed += bool(ivy450c.Decoder().feed(bytes(dirty)))
    return rejected, passed


def test_no_message_is_accepted_that_a_check_rejects() -> None:
    rejected, passed = accepted_bad(20_000)
    assert rejected > 10_000 and passed == 0


def test_control_without_the_grammar_bad_messages_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = ivy450c.parse_lines(LINES)
    monkeypatch.setattr(ivy450c, "parse_lines", lambda text: lines)
    assert accepted_bad(300)[1] > 100


@settings(max_examples=50, deadline=None)
@given(st.binary(max_size=700), st.lists(st.integers(0, 2600), max_size=8))
def test_cuts_change_nothing(noise: bytes, cuts: list[int]) -> None:
    data = message() + noise + message() * 2
    edges = [0, *sorted(min(c, len(data)) for c in cuts), len(data)]
    whole, other = ivy450c.Decoder(), ivy450c.Decoder()
    found = [m for a, b in itertools.pairwise(edges) for m in other.feed(data[a:b])]
    assert values(found) == values(whole.feed(data))
    assert other.counters == whole.counters


@pytest.mark.benchmark
def test_decodes_at_fifty_times_the_link_rate(times_the_link: Any) -> None:
    data = b"".join(emulated("ivy-450c", Scene()).say(100.0))
    assert times_the_link(ivy450c.Decoder, ivy450c.WIRE, data, 32, 100) >= 50
