"""IntelliVue messages against documented bytes; lists that lie about what they hold."""

from __future__ import annotations

import hashlib
import struct
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from firmware_bridge.devices import philips_association as association
from firmware_bridge.devices import philips_frames
from firmware_bridge.devices import philips_messages as wire
from firmware_bridge.devices.big_endian import Malformed, absolute_ns
from firmware_bridge.devices.philips_messages import PolledObject, PollResult
from firmware_bridge.types import Validity

# An extended poll result of numerics, 2026-11-23 12:00:00, relative time 123456: heart rate 72
# (exponent 0) and saturation 97.5 (exponent -1, mantissa 975).
RESULT = bytes.fromhex(
    "E1 00 00 02 00 02 00 74 00 01 00 07 00 6E 00 21 00 00 00 00 F1 3B 00 64 00 01 00 00"
    "00 01 E2 40 20 26 11 23 12 00 00 00 00 01 00 06 00 00 00 01 00 4A 00 00 00 02 00 44"
    "01 01 00 03 00 1C 09 21 00 02 01 01 09 24 00 04 00 02 41 82 09 50 00 0A 41 82 00 00"
    "0A A0 00 00 00 48 01 02 00 03 00 1C 09 21 00 02 01 02 09 24 00 04 00 02 4B B8 09 50"
    "00 0A 4B B8 00 00 02 20 FF 00 03 CF"
)
# VSCaptureMP's request for it: 30 s of numerics.
EXTENDED = bytes.fromhex(
    "E1 00 00 02 00 01 00 28 00 01 00 07 00 22 00 21 00 00 00 00 00 00 00 00 F1 3B 00 14"
    "00 01 00 01 00 06 00 00 00 01 00 08 F1 3E 00 04 00 03 A9 80"
)


def poll_of(data: bytes) -> PollResult:
    return wire.parse_poll(wire.parse_message(data))


def test_the_documented_result() -> None:
    assert len(RESULT) == 124
    assert philips_frames.frame(RESULT)[-3:].hex() == "fd13c1"
    operation = wire.parse_message(RESULT)
    assert (operation.kind, operation.invoke, operation.command) == (wire.RORS, 1, wire.ACTION)
    result = wire.parse_poll(operation)
    assert (result.number, result.ticks, result.object_class) == (1, 123456, wire.VALUES)
    assert result.clock_ns == 1795435200 * 1_000_000_000
    assert [(o.context, o.handle, sorted(o.attributes)) for o in result.objects] == [
        (0, 0x0101, [0x0921, 0x0924, 0x0950]),
        (0, 0x0102, [0x0921, 0x0924, 0x0950]),
    ]
    assert wire.encode_poll(result, 1) == RESULT


def test_a_single_poll_is_answered_without_a_sequence_number() -> None:
    """As a recording by another client may hold it: action 0C16, all lengths two less."""
    operation = wire.parse_message(RESULT)
    body = operation.body[:2] + operation.body[4:]
    head = struct.pack(">HHHHH", *wire.MONITOR_ID, wire.SINGLE_POLL, len(body))
    single = wire.message(wire.RORS, 1, wire.ACTION, head + body)
    assert (len(single), poll_of(single)) == (122, poll_of(RESULT))


def test_a_poll_is_the_request_of_an_independent_client() -> None:
    assert wire.extended_poll(wire.VALUES, invoke=1, duration_s=30) == EXTENDED


def test_wave_priorities_name_labels() -> None:
    """VSCaptureMP's request for lead II: replace attribute F23A by a list of one label."""
    assert wire.set_wave_priorities([0x00020102], invoke=0).hex() == (
        "e10000020001002200000005001c002100000000000000000001000e0000f23a00080001000400020102"
    )


def test_the_create_event_is_answered_with_its_own_numbers() -> None:
    """The answer is that of VSCaptureMP: invoke 1, the monitor object, time 000ABD00."""
    event = wire.Operation(
        wire.ROIV, 1, wire.CONFIRMED_EVENT, wire.MONITOR_ID, wire.MDS_CREATED, 0x000ABD00
    )
    assert wire.created(event).hex() == "e10000020002001400010001000e002100000000000abd000d060000"


@pytest.mark.parametrize(
    ("encoded", "expected"),
    [
        ("FD007D00", (32.0, Validity.VALID)),  # guide: exponent -3, mantissa 32000
        ("01000140", (3200.0, Validity.VALID)),  # guide: exponent 1, mantissa 320
        ("FF0003CF", (97.5, Validity.VALID)),
        ("FFFFFF38", (-20.0, Validity.VALID)),
        ("007FFFFF", (None, Validity.UNAVAILABLE)),
        ("00800000", (None, Validity.INVALID)),
        ("007FFFFE", (None, Validity.OVER)),
        ("00800002", (None, Validity.UNDER)),
        ("00800001", (None, Validity.INVALID)),
    ],
)
def test_floats(encoded: str, expected: Any) -> None:
    assert wire.float_value(bytes.fromhex(encoded)) == expected


@given(st.integers(-8_000_000, 8_000_000), st.integers(0, 6))
@settings(max_examples=100)
def test_floats_survive(mantissa: int, decimals: int) -> None:
    value = mantissa / 10**decimals
    assert wire.float_value(wire.encode_float(value, decimals))[0] == value


@given(st.integers(0, 4_000_000_000))
@settings(max_examples=100)
def test_calendar_times_survive(seconds: int) -> None:
    clock_ns = seconds * 1_000_000_000 + 120_000_000
    assert absolute_ns(wire.calendar(clock_ns)) == clock_ns


@pytest.mark.parametrize(
    "clock",
    ["ff" * 8, "20261323120000" + "00", "2026112a12000000", "00" * 8, "2026023012000000", "20", ""],
)
def test_a_time_that_is_none(clock: str) -> None:
    assert absolute_ns(bytes.fromhex(clock)) is None
    assert len(wire.calendar(None)) == 8


attribute_lists = st.dictionaries(st.integers(0, 0xFFFF), st.binary(max_size=20), max_size=4)
objects = st.builds(PolledObject, st.integers(0, 3), st.integers(0, 0xFFFF), attribute_lists)


@given(st.lists(objects, max_size=5), st.integers(0, 3), st.integers(0, 0xFFFFFFFF))
@settings(max_examples=100, deadline=None)
def test_any_result_survives(found: list[PolledObject], link: int, ticks: int) -> None:
    found.sort(key=lambda polled: polled.context)  # objects of one context are sent together
    result = PollResult(2, ticks, None, wire.WAVES, tuple(found))
    assert poll_of(wire.encode_poll(result, 7, link=link)) == result


@pytest.mark.parametrize("at", [i for i in range(6, 124) if i not in range(24, 46)])
def test_a_length_or_count_that_lies_is_refused_or_changes_no_structure(at: int) -> None:
    """Every byte of the result turned: what is still read has all its bytes in some object."""
    data = bytearray(RESULT)
    for value in (0x00, 0xFF, data[at] + 1 & 0xFF, data[at] - 1 & 0xFF):
        data[at] = value
        try:
            result = poll_of(bytes(data))
        except Malformed:
            continue
        sizes = [4 + len(v) for o in result.objects for v in o.attributes.values()]
        assert sum(sizes) + 6 * len(result.objects) == 68


LYING = {
    "more items than there are": (52, b"\x00\x03"),
    "fewer items than there are": (52, b"\x00\x01"),
    "none": (52, b"\x00\x00"),
    "65,535 items": (52, b"\xff\xff"),
    "longer than the message": (54, b"\x00\x45"),
    "shorter than the items": (54, b"\x00\x43"),
    "an attribute beyond its list": (64, b"\xff\xff"),
    "an attribute list beyond its object": (60, b"\x00\x1d"),
}


@pytest.mark.parametrize("what", LYING)
def test_a_list_that_lies(what: str) -> None:
    at, lie = LYING[what]
    with pytest.raises(Malformed):
        poll_of(RESULT[:at] + lie + RESULT[at + 2 :])


def test_no_cut_of_a_message_is_read() -> None:
    for size in range(len(RESULT)):
        with pytest.raises(Malformed):
            poll_of(RESULT[:size])


# --- association --------------------------------------------------------------------------------


def test_the_association_request_is_that_of_an_independent_client() -> None:
    """The 300 bytes that VSCaptureMP sends, by their hash, and how they begin."""
    request = association.connect()
    assert len(request) == 300
    assert request.hex().startswith(
        "0dff012805081301001601028000140200" + "02c1ff01163180a0808001010000a280"
    )
    assert hashlib.sha256(request).hexdigest() == (
        "a3fcf1ae0c390eed32650a2399b88a7003a7f09c2c392729e194d48c3aabe9ec"
    )


def test_an_acceptance_says_what_was_agreed() -> None:
    assert association.parse_accept(association.accept(1000)) == association.Profile(1000.0, 1456)


def test_an_acceptance_with_the_shorter_header_is_read_too() -> None:
    """mdpnp knows both ends of the presentation header."""
    accepted = association.accept()
    short = accepted.replace(bytes.fromhex("be80288002010281"), bytes.fromhex("be80288081"))
    session_bytes = short[1]
    short = bytes([short[0], session_bytes - 3]) + short[2:]
    assert association.parse_accept(short).min_poll_ms == 500.0


def test_no_cut_of_an_acceptance_is_read() -> None:
    accepted = association.accept()
    for size in range(len(accepted)):
        with pytest.raises(Malformed):
            association.parse_accept(accepted[:size])


def test_release_is_that_of_an_independent_client() -> None:
    assert association.RELEASE.hex() == "0918c11661803080020101a08062808001000000000000000000"
    assert len(association.ABORTED) == 48
