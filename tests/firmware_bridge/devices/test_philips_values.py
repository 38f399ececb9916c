"""IntelliVue values, waves and alarms out of polled objects, right and wrong."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
import pytest

from firmware_bridge.devices import philips_intellivue as intellivue
from firmware_bridge.devices import philips_messages as wire_format
from firmware_bridge.devices import philips_values as values
from firmware_bridge.devices.philips_frames import frame
from firmware_bridge.devices.philips_messages import PolledObject, PollResult, counted
from firmware_bridge.nomenclature import TERMS
from firmware_bridge.session import NS_PER_S, Event
from firmware_bridge.types import (
    Alert,
    AlertKind,
    Numeric,
    Priority,
    SampleBlock,
    Sign,
    Validity,
)

# The documented result of an extended poll: 72 beats a minute and a saturation of 97.5 %.
DOCUMENTED = frame(
    bytes.fromhex(
        "E1 00 00 02 00 02 00 74 00 01 00 07 00 6E 00 21 00 00 00 00 F1 3B 00 64 00 01 00 00"
        "00 01 E2 40 20 26 11 23 12 00 00 00 00 01 00 06 00 00 00 01 00 4A 00 00 00 02 00 44"
        "01 01 00 03 00 1C 09 21 00 02 01 01 09 24 00 04 00 02 41 82 09 50 00 0A 41 82 00 00"
        "0A A0 00 00 00 48 01 02 00 03 00 1C 09 21 00 02 01 02 09 24 00 04 00 02 4B B8 09 50"
        "00 0A 4B B8 00 00 02 20 FF 00 03 CF"
    )
)
BPM, PERCENT, MMHG, KPA, MV = 0x0AA0, 0x0220, 0x0F20, 0x0F03, 0x10B2
NAN = b"\x00\x7f\xff\xff"
CLOCK_NS = 1_600_000_000 * NS_PER_S


def result(object_class: int, ticks: int, *objects: PolledObject, link: int = 0) -> bytes:
    polled = PollResult(1, ticks, CLOCK_NS, object_class, objects)
    return wire_format.encode_poll(polled, 1, link=link)


def observed(
    physio: int, value: float | bytes, unit: int, state: int = 0, decimals: int = 1
) -> bytes:
    number = value if isinstance(value, bytes) else wire_format.encode_float(value, decimals)
    return struct.pack(">HHH", physio, state, unit) + number


def numeric_of(*args: Any, **more: Any) -> Numeric:
    polled = PolledObject(0, 1, {values.VALUE: observed(*args, **more)})
    [found] = intellivue.lan_decoder().feed(result(wire_format.VALUES, 0, polled))
    assert isinstance(found, Numeric)
    return found


def signs(messages: list[Any]) -> list[Event]:
    return [m.event for m in messages if isinstance(m, Sign)]


# --- nomenclature -------------------------------------------------------------------------------


def test_physiological_ids_are_the_lower_half_of_the_codes() -> None:
    """But for the pulse by oximetry, which is 4822 at Philips and 481A in the nomenclature."""
    for physio, channel in values.NUMERICS.items():
        code = TERMS[channel].code
        if physio == values.PLETH_PULSE:
            assert code is not None
            assert code & 0xFFFF == 0x481A
        elif code is not None:
            assert code & 0xFFFF == physio, channel
    for physio, feed in values.WAVES.items():
        code = TERMS[feed.channels[0]].code
        assert code is None or code & 0xFFFF == physio
    body = TERMS["MDC_TEMP_BODY"].code
    assert body is not None
    assert body & 0xFFFF == values.BODY_TEMPERATURE


def test_event_codes_are_the_lower_half_of_the_codes() -> None:
    """196648 MDC_EVT_HI, 196670 MDC_EVT_LO, 196882 MDC_EVT_LEADS_OFF."""
    for code in (196648, 196670, 196882):
        assert code - (3 << 16) in values.EVENTS


# --- values -------------------------------------------------------------------------------------


def test_the_documented_result_is_72_and_97_5() -> None:
    found = intellivue.Decoder().feed(DOCUMENTED)
    assert [(m.channel, m.value, m.unit, m.validity, m.device_ns) for m in found] == [
        ("MDC_ECG_HEART_RATE", 72.0, "/min", Validity.VALID, 1795435200 * NS_PER_S),
        ("MDC_PULS_OXIM_SAT_O2", 97.5, "%", Validity.VALID, 1795435200 * NS_PER_S),
    ]


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        (0x0000, (97.0, Validity.VALID)),
        (0x8000, (None, Validity.INVALID)),
        (0x4000, (97.0, Validity.QUESTIONABLE)),
        (0x2000, (None, Validity.UNAVAILABLE)),
        (0x1000, (None, Validity.UNAVAILABLE)),  # calibration
        (0x0800, (None, Validity.INVALID)),  # test
        (0x0400, (97.0, Validity.QUESTIONABLE)),  # demonstration: never as if it were real
        (0x0400 | 0x8000, (None, Validity.INVALID)),
        (0x0002, (97.0, Validity.VALID)),  # in alarm
    ],
)
def test_how_far_a_value_is_trusted(state: int, expected: Any) -> None:
    found = numeric_of(0x4BB8, 97.0, PERCENT, state)
    assert (found.value, found.validity) == expected


@pytest.mark.parametrize(
    ("number", "validity"),
    [
        (NAN, Validity.UNAVAILABLE),
        (b"\x00\x80\x00\x00", Validity.INVALID),
        (b"\x00\x7f\xff\xfe", Validity.OVER),
        (b"\x00\x80\x00\x02", Validity.UNDER),
        (b"\x00\x00\x00\x8c", Validity.INVALID),  # a saturation of 140 %
        (b"\x00\xff\xff\xfb", Validity.INVALID),  # of -5 %
        (b"\x7f\x00\x00\x01", Validity.INVALID),  # of 1e129 %
    ],
)
def test_what_is_no_saturation_is_no_number(number: bytes, validity: Validity) -> None:
    for state in (0, wire_format.QUESTIONABLE):
        found = numeric_of(0x4BB8, number, PERCENT, state)
        assert (found.value, found.validity) == (None, validity)


def test_units_are_converted_or_refused() -> None:
    """5.07 kPa are 38.03 mmHg; a saturation in mmHg is none."""
    assert numeric_of(0x50B0, 5.07, KPA, decimals=2).value == pytest.approx(38.03, abs=0.01)
    assert numeric_of(0x50B0, 38.0, MMHG).value == 38.0
    assert numeric_of(0x4BB8, 97.0, MMHG).validity is Validity.INVALID
    assert numeric_of(0x4BB8, 97.0, 0x1234).validity is Validity.INVALID


def test_compound_values() -> None:
    three = [observed(0x4A15 + i, v, MMHG) for i, v in enumerate((120, 76, 91))]
    polled = PolledObject(0, 1, {values.VALUE_LIST: counted(three)})
    found = intellivue.lan_decoder().feed(result(wire_format.VALUES, 0, polled))
    assert [(m.channel, m.value) for m in found] == [
        ("MDC_PRESS_BLD_ART_ABP_SYS", 120.0),
        ("MDC_PRESS_BLD_ART_ABP_DIA", 76.0),
        ("MDC_PRESS_BLD_ART_ABP_MEAN", 91.0),
    ]


def test_a_value_under_a_private_label_is_not_the_plain_one() -> None:
    """80035402 is the pulse found by the arterial line, 0002480A the pulse."""
    for label, expected in ((0x80035402, []), (0x0002480A, [72.0])):
        found = {values.LABEL: struct.pack(">I", label), values.VALUE: observed(0x480A, 72, BPM)}
        messages = intellivue.lan_decoder().feed(
            result(wire_format.VALUES, 0, PolledObject(0, 1, found))
        )
        assert [m.value for m in messages if isinstance(m, Numeric)] == expected


def test_a_cuff_pressure_is_said_once_for_each_measurement() -> None:
    decoder = intellivue.lan_decoder()

    def say(value: float, minute: int) -> list[Any]:
        stamp = wire_format.calendar(CLOCK_NS + minute * 60 * NS_PER_S)
        found = {values.VALUE: observed(0x4A05, value, MMHG), values.TIME_STAMP: stamp}
        messages = decoder.feed(result(wire_format.VALUES, 0, PolledObject(0, 1, found)))
        return [m for m in messages if isinstance(m, Numeric)]

    assert [m.value for m in say(122, 0)] == [122.0]
    assert say(122, 0) == []
    [second] = say(122, 5)  # the same value, measured anew
    assert second.device_ns == CLOCK_NS + 300 * NS_PER_S


@pytest.mark.parametrize(
    ("ago_s", "expected"), [(30, Validity.VALID), (3600, Validity.QUESTIONABLE)]
)
def test_a_cuff_pressure_of_before_we_came_is_of_the_past(ago_s: int, expected: Validity) -> None:
    """An hour old when the link comes up: it is shown, and it is not a value of now."""
    decoder = intellivue.lan_decoder()
    stamp = wire_format.calendar(CLOCK_NS - ago_s * NS_PER_S)
    found = {values.VALUE: observed(0x4A05, 122.0, MMHG), values.TIME_STAMP: stamp}
    data = result(wire_format.VALUES, 0, PolledObject(0, 1, found))
    [first] = [m for m in decoder.feed(data) if isinstance(m, Numeric)]
    assert (first.value, first.validity) == (122.0, expected)
    assert not [m for m in decoder.feed(data) if isinstance(m, Numeric)]
    found[values.TIME_STAMP] = wire_format.calendar(CLOCK_NS)
    data = result(wire_format.VALUES, 0, PolledObject(0, 1, found))
    [second] = [m for m in decoder.feed(data) if isinstance(m, Numeric)]
    assert second.validity is Validity.VALID


def test_a_cuff_pressure_without_a_time_is_said_once_while_it_stands() -> None:
    """The time of the poll is not that of the measurement: the same pressure is none measured anew,
    and the first may be of the past. What is measured all the time has the time of the poll."""
    decoder = intellivue.lan_decoder()

    def say(second: int, pressure: float) -> list[Numeric]:
        objects = (
            PolledObject(0, 1, {values.VALUE: observed(0x4A05, pressure, MMHG)}),
            PolledObject(0, 2, {values.VALUE: observed(0x4182, 72.0, BPM)}),
        )
        at_ns = CLOCK_NS + second * NS_PER_S
        polled = PollResult(1, 8000 * second, at_ns, wire_format.VALUES, objects)
        data = wire_format.encode_poll(polled, 1, link=0)
        return [m for m in decoder.feed(data) if isinstance(m, Numeric)]

    told = []
    for second, pressure in enumerate((120.0, 120.0, 120.0, 118.0, 118.0, 120.0)):
        *cuff, rate = say(second, pressure)
        told += [(second, m.value, m.validity, m.device_ns) for m in cuff]
        assert rate.device_ns == CLOCK_NS + second * NS_PER_S
    assert told == [
        (0, 120.0, Validity.QUESTIONABLE, None),
        (3, 118.0, Validity.VALID, None),
        (5, 120.0, Validity.VALID, None),
    ]


def test_linked_results_are_read_as_they_come() -> None:
    decoder = intellivue.lan_decoder()
    found = []
    for link, physio in ((1, 0x4182), (2, 0x480A), (3, 0x4822)):
        polled = PolledObject(0, physio, {values.VALUE: observed(physio, 72, BPM)})
        found += decoder.feed(result(wire_format.VALUES, 0, polled, link=link))
    assert [m.channel for m in found if isinstance(m, Numeric)] == [
        "MDC_ECG_HEART_RATE",
        "MDC_PULS_RATE",
        "MDC_PULS_OXIM_PULS_RATE",
    ]


# --- waves --------------------------------------------------------------------------------------

# An ECG as the guide describes it: 2 ms, 14 of 16 bits, 0..16383 are -40.96..40.955 mV.
ECG_STATIC = {
    values.LABEL: struct.pack(">I", 0x00020102),
    values.WAVE_SPEC: struct.pack(">HBBH", 4, 16, 14, 0x2000),
    values.WAVE_SCALE: wire_format.encode_float(-40.96, 3)
    + wire_format.encode_float(40.955, 3)
    + struct.pack(">HH", 0, 16383),
    values.WAVE_FIXED: counted([struct.pack(">HH", 1, 0x8000), struct.pack(">HH", 2, 0x4000)]),
    values.WAVE_PERIOD: struct.pack(">I", 16),
    values.UNIT: struct.pack(">H", MV),
}
STEP = 4 * 16  # ticks of one message of four samples


def ecg(words: list[int], state: int = 0, physio: int = 0x0102) -> bytes:
    return struct.pack(f">HHH{len(words)}H", physio, state, 2 * len(words), *words)


def waves(decoder: Any, ticks: int, **attributes: bytes) -> list[SampleBlock]:
    found = {getattr(values, k): v for k, v in attributes.items()}
    messages = decoder.feed(result(wire_format.WAVES, ticks, PolledObject(0, 5, found)))
    return [m for m in messages if isinstance(m, SampleBlock)]


def ready() -> Any:
    """A decoder that has heard the static attributes of an ECG and four samples, at time 0."""
    decoder = intellivue.lan_decoder()
    polled = PolledObject(0, 5, {**ECG_STATIC, values.WAVE: ecg([8192, 8392, 16383, 0])})
    [block] = decoder.feed(result(wire_format.WAVES, 0, polled))
    assert isinstance(block, SampleBlock)
    np.testing.assert_allclose(block.samples[:, 0], [0.0, 1.0, 40.955, -40.96], atol=1e-3)
    assert (block.seq, block.lost, block.rate_hz, block.unit) == (0, 0, 500, "mV")
    return decoder


def test_masks_are_no_samples_and_marks_no_values() -> None:
    """Bit 15 marks what is invalid, bit 14 a pacer pulse; neither is part of the value."""
    [block] = waves(ready(), STEP, WAVE=ecg([8192 | 0x8000, 8192 | 0x4000, 8192, 8192]))
    np.testing.assert_allclose(block.samples[:, 0], [np.nan, 0, 0, 0], atol=1e-3)


@pytest.mark.parametrize("state", [0x8000, 0x2000, 0x1000, 0x0800, 0x0400, 0x4400])
def test_a_wave_that_is_not_real_has_no_samples(state: int) -> None:
    [block] = waves(ready(), STEP, WAVE=ecg([8192] * 4, state))
    assert np.isnan(block.samples).all()
    [doubted] = waves(ready(), STEP, WAVE=ecg([8192] * 4, 0x4000))
    assert not np.isnan(doubted.samples).any()


def test_a_wave_in_eight_bits_and_without_absolute_values() -> None:
    static = {
        "WAVE_SPEC": struct.pack(">HBBH", 4, 8, 8, 0),
        "WAVE_SCALE": NAN + NAN + struct.pack(">HH", 0, 200),
        "WAVE_PERIOD": struct.pack(">I", 64),
        "UNIT": struct.pack(">H", 0x0200),
    }
    raw = struct.pack(">HHH", 0x4BB4, 0, 4) + bytes([0, 50, 100, 200])
    [block] = waves(intellivue.lan_decoder(), 0, WAVE=raw, **static)
    assert (block.feed, block.unit, block.rate_hz) == ("pleth", "1", 125)
    np.testing.assert_allclose(block.samples[:, 0], [0, 0.25, 0.5, 1.0])


def test_compound_waves() -> None:
    """Leads I, II and III in one object: the one that is known is read."""
    three = counted([ecg([8192] * 4, physio=p) for p in (0x0101, 0x0102, 0x013D)])
    [block] = waves(ready(), STEP, WAVE_LIST=three)
    assert block.feed == "ecg"


def test_a_wave_that_cannot_be_used_does_not_take_the_values_with_it() -> None:
    """mdpnp's simulated monitor sends a pleth without scale beside its values."""
    decoder = intellivue.lan_decoder()
    wave = {values.WAVE: ecg([8192] * 4)}
    pulse = {values.VALUE: observed(0x4822, 72, BPM)}
    objects = (PolledObject(0, 5, wave), PolledObject(0, 6, pulse))
    [found] = decoder.feed(result(wire_format.VALUES, 0, *objects))
    assert isinstance(found, Numeric)
    assert decoder.counters.rejects == {"wave without its scale": 1}


def test_a_wave_is_never_scaled_by_a_guess() -> None:
    """VSCaptureMP assumes a scale where it has none."""
    for missing in ("WAVE_SPEC", "WAVE_SCALE", "WAVE_PERIOD", "UNIT"):
        known = {k: v for k, v in ECG_STATIC.items() if k != getattr(values, missing)}
        decoder = intellivue.lan_decoder()
        polled = PolledObject(0, 5, {**known, values.WAVE: ecg([8192] * 4)})
        found = decoder.feed(result(wire_format.WAVES, 0, polled))
        assert signs(found) == [Event.ALIVE]
        assert decoder.counters.rejects == {"wave without its scale": 1}


@pytest.mark.parametrize(
    ("attribute", "value", "reason"),
    [
        ("WAVE_SPEC", struct.pack(">HBBH", 4, 12, 12, 0), "wave sample size"),
        ("WAVE_SPEC", struct.pack(">HBBH", 4, 16, 17, 0), "wave sample size"),
        ("WAVE_SPEC", struct.pack(">HBBH", 4, 16, 0, 0), "wave sample size"),
        ("WAVE_SPEC", b"\0", "length"),
        ("WAVE_SCALE", bytes(8) + struct.pack(">HH", 5, 5), "wave scale"),
        ("WAVE_SCALE", bytes(4) + b"\x7f\x00\x00\x01\x00\x00\x00\x05", "wave scale"),
        ("WAVE_PERIOD", struct.pack(">I", 0), "wave rate"),
        ("WAVE_PERIOD", struct.pack(">I", 32), "wave rate"),
        ("UNIT", struct.pack(">H", MMHG), "wave unit"),
        ("WAVE_FIXED", b"\x00\x02\x00\x04\x00\x01\x80\x00", "length"),
        ("WAVE", struct.pack(">HHH", 0x0102, 0, 4) + bytes(8), "length"),
        ("WAVE", struct.pack(">HHH", 0x0102, 0, 8) + bytes(4), "length"),
        ("WAVE", struct.pack(">HHH", 0x0102, 0, 3) + bytes(3), "wave length"),
        ("WAVE", struct.pack(">HHH", 0x0102, 0, 0), "wave length"),
        ("WAVE", struct.pack(">HHH", 0x0102, 0, 2050) + bytes(2050), "wave length"),
    ],
)
def test_a_wave_that_does_not_add_up_is_refused(attribute: str, value: bytes, reason: str) -> None:
    decoder = ready()
    assert waves(decoder, STEP, **{"WAVE": ecg([8192] * 4), attribute: value}) == []
    assert decoder.counters.rejects == {reason: 1}


def test_lost_messages_of_a_wave_are_counted() -> None:
    decoder = ready()
    blocks = [
        waves(decoder, ticks, WAVE=ecg([8192] * 4))[0]
        for ticks in (STEP + 5, 2 * STEP - 5, 5 * STEP, 6 * STEP)
    ]
    assert [(b.seq, b.lost) for b in blocks] == [(4, 0), (8, 0), (20, 8), (24, 0)]
    assert decoder.counters.lost == 8


def test_a_wave_that_comes_twice_or_too_late_is_dropped() -> None:
    decoder = ready()
    assert waves(decoder, STEP, WAVE=ecg([8192] * 4))
    assert waves(decoder, STEP, WAVE=ecg([8192] * 4)) == []
    assert waves(decoder, 0, WAVE=ecg([8192] * 4)) == []
    assert decoder.counters.duplicates == 2


def test_relative_time_that_is_set_back_does_not_end_the_wave() -> None:
    """The samples go on, after a gap, and not in 74 hours."""
    decoder = ready()
    assert waves(decoder, 10_000 * STEP, WAVE=ecg([8192] * 4))
    found = [waves(decoder, n * STEP, WAVE=ecg([8192] * 4)) for n in range(1, 40)]
    dropped = [n for n, blocks in enumerate(found) if not blocks]
    assert dropped == list(range(intellivue.MAX_LATE - 1))
    assert found[len(dropped)][0].lost == 4
    assert [b.lost for blocks in found[len(dropped) + 1 :] for b in blocks] == [0] * 23


def test_relative_time_wraps() -> None:
    decoder = intellivue.lan_decoder()
    polled = PolledObject(0, 5, {**ECG_STATIC, values.WAVE: ecg([8192] * 4)})
    decoder.feed(result(wire_format.WAVES, 2**32 - STEP, polled))
    [block] = waves(decoder, 0, WAVE=ecg([8192] * 4))
    assert (block.seq, block.lost) == (4, 0)


def test_attributes_of_ever_new_objects_are_not_kept() -> None:
    decoder = intellivue.lan_decoder()
    for handle in range(1000):
        decoder.feed(result(wire_format.WAVES, 0, PolledObject(0, handle, ECG_STATIC)))
    assert len(decoder._known) == intellivue.MAX_OBJECTS


# --- alarms -------------------------------------------------------------------------------------


def alarm(code: int, kind: int, text: str = "", state: int = 0, source: int = 0x4182) -> bytes:
    raw = (text + "\0").encode("utf-16-be")
    info = bytes(10) + struct.pack(">H", len(raw)) + raw
    head = struct.pack(">7H", source, code, kind, state, wire_format.VALUES, 0, 1)
    return head + struct.pack(">HH", values.TEXT_INFO, len(info)) + info


def said(decoder: Any, patient: list[bytes], technical: list[bytes]) -> list[Alert]:
    found = {values.PATIENT_ALARMS: counted(patient), values.TECHNICAL_ALARMS: counted(technical)}
    polled = PolledObject(0, 9, found)
    messages = decoder.feed(result(wire_format.ALARM_MONITOR, 0, polled))
    return [m for m in messages if isinstance(m, Alert)]


def test_alarms_are_said_on_change() -> None:
    decoder = intellivue.lan_decoder()
    [begun] = said(decoder, [alarm(40, 0x0200, "** HR   130 > 120")], [])
    assert begun == Alert(
        "MDC_EVT_HI", AlertKind.PHYSIOLOGICAL, Priority.MEDIUM, True, "** HR 130 > 120",
        "MDC_ECG_HEART_RATE", CLOCK_NS,
    )  # fmt: skip
    assert said(decoder, [alarm(40, 0x0200, "** HR   131 > 120")], []) == []
    [raised] = said(decoder, [alarm(40, 0x0400, "*** HR 190 > 120")], [])
    assert (raised.active, raised.priority) == (True, Priority.HIGH)
    [ended] = said(decoder, [], [])
    assert (ended.code, ended.active) == ("MDC_EVT_HI", False)


def test_technical_alarms_are_a_list_of_their_own() -> None:
    """Codes 274 and 275 are one alarm; the last bit says how it is worded."""
    decoder = intellivue.lan_decoder()
    [off] = said(decoder, [], [alarm(275, 0x0001, "!! ECG LEADS OFF", source=0x0100)])
    assert (off.code, off.kind, off.priority) == (
        "MDC_EVT_LEADS_OFF", AlertKind.TECHNICAL, Priority.LOW,
    )  # fmt: skip
    assert said(decoder, [], [alarm(274, 0x0001, source=0x0100)]) == []
    [other] = said(decoder, [], [alarm(274, 1, source=0x0100), alarm(310, 4, "SENSOR MALF")])
    assert (other.code, other.priority) == ("philips-intellivue:310", Priority.HIGH)


def test_a_lead_whose_alarm_is_switched_off_is_still_off() -> None:
    """Inhibited (8000), then only silenced (4000), then gone; the patient's alarm that is inhibited
    is none."""
    decoder = intellivue.lan_decoder()

    def change(state: int | None) -> list[tuple[str, Priority, bool]]:
        off = [] if state is None else [alarm(274, 1, "LEADS OFF", state, source=0x0100)]
        high = [] if state is None else [alarm(40, 0x0200, "** HR", state)]
        return [(m.code, m.priority, m.active) for m in said(decoder, high, off)]

    high, off = "MDC_EVT_HI", "MDC_EVT_LEADS_OFF"
    assert change(0) == [(high, Priority.MEDIUM, True), (off, Priority.LOW, True)]
    assert change(0x8000) == [(high, Priority.MEDIUM, False), (off, Priority.NONE, True)]
    assert change(0x4000) == [(high, Priority.MEDIUM, True), (off, Priority.LOW, True)]
    assert change(0x8000)[-1] == (off, Priority.NONE, True)
    assert change(None) == [(off, Priority.NONE, False)]


def test_alarms_that_are_off_or_not_real() -> None:
    decoder = intellivue.lan_decoder()
    assert said(decoder, [alarm(40, 0), alarm(40, 0x0200, state=0x8000)], []) == []
    [demo] = said(decoder, [alarm(3076, 0x0400, "*** ASYSTOLE", state=0x0100)], [])
    assert (demo.kind, demo.priority) == (AlertKind.OTHER, Priority.NONE)


def test_an_alarm_that_becomes_a_test_ends_as_what_it_was() -> None:
    decoder = intellivue.lan_decoder()
    said(decoder, [], [alarm(274, 1, "LEADS OFF", source=0x0100)])
    ended, begun = said(decoder, [], [alarm(274, 1, "LEADS OFF", 0x0400, source=0x0100)])
    assert (ended.kind, ended.active) == (AlertKind.TECHNICAL, False)
    assert (begun.kind, begun.active) == (AlertKind.OTHER, True)


@pytest.mark.parametrize("size", [10, 17, 30])
def test_an_alarm_that_is_cut_is_refused(size: int) -> None:
    decoder = intellivue.lan_decoder()
    assert said(decoder, [alarm(40, 0x0200, "text")[:size]], []) == []
    assert decoder.counters.rejects == {"length": 1}
