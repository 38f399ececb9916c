"""MEDIBUS: requests byte for byte those of a foreign client, responses with their meaning."""

from __future__ import annotations

import itertools
import random
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from firmware_bridge.devices import device, medibus
from firmware_bridge.devices import medibus_codes as codes
from firmware_bridge.devices import medibus_frames as frames
from firmware_bridge.devices import medibus_records as records
from firmware_bridge.devices.medibus_frames import command, record, response
from firmware_bridge.emulators.emulated import emulated
from firmware_bridge.emulators.faults import Fault, Kind
from firmware_bridge.emulators.patient import Scene
from firmware_bridge.session import Event, State
from firmware_bridge.types import (
    Alert,
    AlertKind,
    Numeric,
    Priority,
    SampleBlock,
    Send,
    Sign,
    Validity,
)

# What VSCaptureDrgVent, an independent host, sent to a ventilator that was emulated for it.
REQUESTS = {
    "1B 51 36 43 0D": command(medibus.ICC),
    "1B 52 36 44 0D": command(medibus.IDENTITY),
    "1B 53 36 45 0D": command(medibus.REALTIME),
    "1B 54 30 30 30 31 30 31 30 31 30 33 30 31 42 36 0D": command(0x54, b"000101010301"),
    "1B 30 34 42 0D": command(medibus.NOP),
    "1B 24 33 46 0D": command(medibus.MEASURED_CP1),
    "1B 2B 34 36 0D": command(medibus.MEASURED_CP2),
    "1B 29 34 34 0D": command(medibus.SETTINGS),
    "1B 2A 34 35 0D": command(medibus.TEXTS),
    "01 30 33 31 0D": response(medibus.NOP),
    "D0 C1 CF C0 C0": medibus.ENABLE_STREAMS,
    # worked from the layout
    "1B 27 34 32 0D": command(medibus.ALARMS_CP1),
    "1B 55 37 30 0D": command(medibus.STOP),
    "01 51 35 32 0D": response(medibus.ICC),
}
VENTILATING = response(medibus.TEXTS, b"014IPPV\x03")
# PEEP 5.0 and PIP 22 mbar
MEASURED = b"\x01$78 5.07D 22 66\x0d"
# three streams at 20 ms: pressure -50..150 mbar, flow -200..200 L/min, volume 0..2000 mL
CONFIGURATION = b"00   20000  -50  150FFF01   20000 -200  200FFF03   20000    0 2000FFF"
CHOSEN = response(medibus.CONFIGURE_REALTIME)
CONFIGURED = response(medibus.REALTIME, CONFIGURATION) + CHOSEN
UNSURE = record({0: 0, 1: 0, 2: 0}) * (frames.SURE - 1)  # the next record is trusted


def decoder(name: str = "medibus") -> medibus.Decoder:
    return medibus.Decoder(medibus.X if name == "medibus-x" else medibus.CLASSIC)


def values(messages: list[Any]) -> dict[str, tuple[float | None, Validity]]:
    return {m.channel: (m.value, m.validity) for m in messages if isinstance(m, Numeric)}


def alerts(messages: list[Any]) -> list[tuple[str, str, bool]]:
    return [(m.code, m.channel, m.active) for m in messages if isinstance(m, Alert)]


@pytest.mark.parametrize("expected", REQUESTS, ids=str)
def test_requests_are_byte_for_byte_those_of_a_foreign_host(expected: str) -> None:
    assert REQUESTS[expected] == bytes.fromhex(expected)


def test_a_worked_response() -> None:
    """1 mbar is 1.0197 cmH2O."""
    found = values(decoder().feed(VENTILATING + MEASURED))
    assert found["MDC_PRESS_AWAY_END_EXP_POS"] == (pytest.approx(5.0986, abs=1e-4), Validity.VALID)
    assert found["MDC_PRESS_AWAY_INSP_PEAK"][0] == pytest.approx(22.4338, abs=1e-4)


@pytest.mark.parametrize(
    "text",
    [" 9:33 7-OCT-14", " 9:33:00 7-OKT-14", " 9:33 07-OCT-14", "09:33 7-OKT-14",
     "09:33:00 07-OKT-14", "09:33:0007-OKT-14"],
)  # fmt: skip
def test_dates_as_real_devices_wrote_them(text: str) -> None:
    """2014-10-07 09:33:00, with and without seconds, in German and in English."""
    assert records.clock_ns(text.encode()) == 1_412_674_380_000_000_000


@pytest.mark.parametrize("text", ["9:33", "24:00 7-OCT-14", "9:33 31-FEB-14", "9:33 7-XXX-14", ""])
def test_dates_that_are_none(text: str) -> None:
    assert records.clock_ns(text.encode()) is None


def test_the_clock_is_the_time_of_what_follows() -> None:
    messages = decoder().feed(response(medibus.CLOCK, b"09:33:00 07-OKT-14") + MEASURED)
    assert {m.device_ns for m in messages if isinstance(m, Numeric)} == {1_412_674_380_000_000_000}


@pytest.mark.parametrize(
    ("text", "value"),
    [(" 5.0", 5.0), ("22  ", 22.0), ("-  8", -8.0), ("-0.5", -0.5), ("    ", None), ("----", None),
     ("1.2.", None), ("****", None), (".5  ", 0.5)],
)  # fmt: skip
def test_numbers_are_padded_and_anything_else_is_not_available(
    text: str, value: float | None
) -> None:
    assert records.number(text) == value


@given(st.lists(st.tuples(st.integers(0, 255), st.integers(-999, 9999))))
def test_readings_round_trip(pairs: list[tuple[int, int]]) -> None:
    data = "".join(f"{code:02X}{value:4d}" for code, value in pairs).encode()
    assert records.readings(data) == [(code, float(value)) for code, value in pairs]


def test_settings_texts_identity_and_limits() -> None:
    settings_of = records.readings(b"01 21.004  0.5", records.SETTING_CHARS)
    assert settings_of == [(1, 21.0), (4, 0.5)]
    assert records.texts(b"014IPPV\x0322:CO2 in mmH\x03") == {1: "IPPV", 0x22: "CO2 in mmH"}
    assert records.identity(b"0161'Evita 4'01.00:04.03") == ("0161", "Evita 4", "01.00:04.03")
    assert records.readings(b"7D 40 ") == [(0x7D, 40.0)]


@pytest.mark.parametrize("data", [b"0", b"01", b"014IPP\x03", b"01\x20", b"0G0\x03", b"014IPPV"])
def test_texts_that_are_torn(data: bytes) -> None:
    assert records.texts(data) is None


def test_a_command_inside_a_response_is_taken_out_and_answered() -> None:
    inside = MEASURED[:8] + command(medibus.NOP) + MEASURED[8:]
    found = decoder()
    messages = found.feed(inside)
    assert messages[:2] == [Send(response(medibus.NOP)), Sign(Event.ALIVE)]
    assert values(messages) == values(decoder().feed(MEASURED))
    assert found.counters.frames == 2 and not found.counters.skipped_bytes


def test_both_channels_alternate_byte_by_byte() -> None:
    found = decoder()
    found.feed(CONFIGURED + UNSURE)
    fast = record({0: 2048, 1: 1024, 2: 4095}) * 3
    mixed = b"".join(bytes(pair) for pair in zip(MEASURED, fast)) + fast[len(MEASURED) :] + b"\x11"
    messages = found.feed(mixed + b"\xd7")
    assert "MDC_PRESS_AWAY_END_EXP_POS" in values(messages)
    blocks = {m.feed: m for m in messages if isinstance(m, SampleBlock)}
    assert set(blocks) == {"paw", "flow", "volume"}
    assert all(len(block.samples) == 3 for block in blocks.values())


def test_realtime_values_are_those_that_a_foreign_host_wrote() -> None:
    """VSCaptureDrgVent: pressure 50.0244 mbar for 2048, flow -99.9756 for 1024, 2000 for 4095."""
    found = decoder()
    found.feed(VENTILATING + CONFIGURED + UNSURE)
    messages = found.feed(record({0: 2048, 1: 1024, 2: 4095}) + b"\xd7")
    paw, flow, volume = (m for m in messages if isinstance(m, SampleBlock))
    assert paw.samples[0, 0] == pytest.approx(50.0244 * codes.CM_H2O_PER_MBAR, abs=1e-3)
    assert flow.samples[0, 0] == pytest.approx(-99.9756, abs=1e-3)
    assert volume.samples[0, 0] == 2000.0
    assert (paw.rate_hz, paw.unit, flow.unit, volume.unit) == (50.0, "cm[H2O]", "L/min", "mL")


def test_the_way_up() -> None:
    """Identity, configuration, streams chosen, streams enabled."""
    found = decoder()
    assert found.feed(response(medibus.ICC)) == [Sign(Event.READY)]
    [ready] = found.feed(response(medibus.IDENTITY, b"0161'Evita'01.00:04.03"))
    assert ready == Sign(Event.READY, "Evita")
    [chosen] = found.feed(response(medibus.REALTIME, CONFIGURATION))
    assert chosen == Send(bytes.fromhex("1B 54 30 30 30 31 30 31 30 31 30 33 30 31 42 36 0D"))
    assert found.feed(response(medibus.CONFIGURE_REALTIME)) == [Send(medibus.ENABLE_STREAMS)]
    assert found.feed(response(medibus.ICC)) == [Sign(Event.ALIVE)]  # of a second question


def test_streams_are_set_up_again_where_no_records_came() -> None:
    found = decoder()
    ask = response(medibus.REALTIME, CONFIGURATION)
    assert isinstance(found.feed(ask)[0], Send)
    assert isinstance(found.feed(ask)[0], Send)
    found.feed(CHOSEN + UNSURE + record({0: 1, 1: 1, 2: 1}) + b"\xd7")
    assert found.feed(ask) == [Sign(Event.ALIVE)]
    assert isinstance(found.feed(ask)[0], Send)


@pytest.mark.parametrize(
    ("sent", "answer", "sign"),
    [
        (command(medibus.ICC), response(medibus.ICC), Event.READY),
        (command(medibus.NOP), response(medibus.NOP), Event.ALIVE),
        (command(medibus.STOP), response(medibus.STOP), Event.REFUSED),
        (command(medibus.TIME_CHANGED), response(medibus.TIME_CHANGED), Event.ALIVE),
        (command(medibus.IDENTITY), response(medibus.IDENTITY, medibus.OUR_IDENTITY), Event.ALIVE),
    ],
)
def test_commands_of_the_device_are_answered(sent: bytes, answer: bytes, sign: Event) -> None:
    first, second = decoder().feed(sent)
    assert first == Send(answer)
    assert isinstance(second, Sign) and second.event is sign


def test_a_device_that_begins_anew_is_not_taken_to_ventilate() -> None:
    found = decoder()

    def peak() -> Validity:
        return next(m for m in found.feed(MEASURED) if isinstance(m, Numeric)).validity

    found.feed(response(medibus.TEXTS))
    assert peak() is Validity.VALID
    found.feed(command(medibus.ICC))
    assert peak() is Validity.QUESTIONABLE
    found.feed(response(medibus.TEXTS))
    assert peak() is Validity.VALID


def test_a_new_realtime_configuration_is_fetched() -> None:
    messages = decoder().feed(command(medibus.REALTIME_CHANGED))
    assert [m.data for m in messages if isinstance(m, Send)] == [
        response(medibus.REALTIME_CHANGED), command(medibus.REALTIME)]  # fmt: skip


def test_a_damaged_command_is_answered_with_nak() -> None:
    found = decoder()
    assert found.feed(b"\x1b\x30\x34\x43\x0d") == [Send(bytes.fromhex("01 15 31 36 0D"))]
    assert found.counters.rejects == {"checksum": 1}


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (MEASURED.replace(b"5.0", b"6.0"), "checksum"),
        (b"\x01$78 5.0" + MEASURED, "torn"),
        (b"\x1b\x30\x34" + command(medibus.NOP), "torn"),
        (b"\x01$78\x00" + MEASURED, "byte"),
        (b"\x01$" + b"7" * 5000, "length"),
        (response(medibus.MEASURED_CP1, b"78 5.0 "), "reading"),
        (response(medibus.MEASURED_CP1, b"xx 5.0"), "reading"),
        (response(medibus.MEASURED_CP1, b"17 5.0"), "code"),
        (response(medibus.ALARMS_CP1, b"1"), "alarm"),
        (response(medibus.TEXTS, b"1"), "text"),
        (response(medibus.CLOCK, b"noon"), "clock"),
        (response(medibus.REALTIME, b"00"), "stream"),
        (response(medibus.SETTINGS, b"01"), "setting"),
        (response(medibus.LOW_CP1, b"01"), "reading"),
    ],
    ids=lambda case: case if isinstance(case, str) else "",
)
def test_what_is_not_right_is_counted_by_its_reason(data: bytes, reason: str) -> None:
    found = decoder()
    found.feed(data)
    assert found.counters.rejects == {reason: 1}


@pytest.mark.parametrize(
    "bad",
    [b"\xd7" + b"\x80\x80" * 2, b"\xd7" + b"\x80\x80" * 4, b"\xd3" + b"\x80\x80" * 3,
     b"\xd7\x80\x80\x80\x80\x80", b"\xd7\xcf\xc0" + b"\x80\x80" * 3, b"\xd7" + b"\x80\xc0" * 3,
     b"\xd7" + b"\x80" * 64],
    ids=["short", "long", "mask", "odd", "corrupt", "mixed", "endless"],
)  # fmt: skip
def test_damaged_records_are_lost_samples(bad: bytes) -> None:
    found = decoder()
    found.feed(CONFIGURED + UNSURE)
    good = record({0: 2048, 1: 2048, 2: 0})
    messages = found.feed(good * 2 + bad + UNSURE + good * 2 + b"\xd7")
    paw = [(m.seq, m.lost, len(m.samples)) for m in messages
           if isinstance(m, SampleBlock) and m.feed == "paw"]  # fmt: skip
    assert paw == [(0, 0, 2), (2 + frames.SURE, frames.SURE, 2)]
    assert found.counters.lost == 3 * frames.SURE


def test_a_whole_record_of_a_stream_that_was_not_chosen_is_one_lost_sample() -> None:
    found = decoder()
    found.feed(CONFIGURED + UNSURE)
    good = record({0: 2048, 1: 2048, 2: 0})
    messages = found.feed(good * 2 + record({0: 1, 1: 1, 2: 1, 3: 1}) + good * 2 + b"\xd7")
    paw = [(m.seq, m.lost, len(m.samples)) for m in messages
           if isinstance(m, SampleBlock) and m.feed == "paw"]  # fmt: skip
    assert paw == [(0, 0, 2), (3, 1, 2)]
    assert found.counters.lost == 3


def test_a_record_alone_in_noise_is_not_trusted() -> None:
    """What noise makes: good ones, but not in a row. Nor do records without readings prove any."""
    found = decoder()
    found.feed(CONFIGURED)
    good, empty = record({0: 2048, 1: 2048, 2: 0}), b"\xd0"
    for noise in ((good * 2 + b"\xd7\x80") * 50, (good + empty * 9) * 2 + b"\xd7\x80"):
        assert not [m for m in found.feed(noise) if isinstance(m, SampleBlock)]
    assert [m for m in found.feed(good * 4) if isinstance(m, SampleBlock)]  # control


def test_cycle_marks_stand_between_sync_byte_and_data() -> None:
    found = decoder()
    found.feed(CONFIGURED + UNSURE)
    good = record({0: 2048, 1: 2048, 2: 0})
    messages = found.feed(good[:1] + b"\xc6\xc0" + good[1:] + b"\xd7")
    assert sum(isinstance(m, SampleBlock) for m in messages) == 3


def test_a_reading_above_the_range_is_no_number() -> None:
    found = decoder()
    found.feed(response(medibus.REALTIME, b"00   20000  -50  150400") + CHOSEN)
    found.feed(VENTILATING)
    [block] = found.feed(record({0: 0x401}) * frames.SURE + b"\xd1")
    assert isinstance(block, SampleBlock) and np.isnan(block.samples).all()
    [block] = found.feed(record({0: 0x400})[1:] + b"\xd1")  # control
    assert isinstance(block, SampleBlock) and np.isfinite(block.samples).all()


def test_records_of_the_streams_before_are_not_those_chosen_now() -> None:
    """What still runs when others are chosen (by us, or by the host before us) is of another order:
    until the device says that it has changed, nothing of it is taken."""
    found = decoder()
    found.feed(VENTILATING + response(medibus.REALTIME, CONFIGURATION))
    of_before = record({0: 1, 1: 2, 2: 3})
    found.feed(UNSURE)
    assert not [m for m in found.feed(of_before + b"\xd7") if isinstance(m, SampleBlock)]
    found.feed(CHOSEN)
    blocks = [m for m in found.feed(of_before[1:] + b"\xd7") if isinstance(m, SampleBlock)]
    assert len(blocks) == 3
    other = CONFIGURATION.replace(b"-200  200", b" -20   20")  # the flow of an infant
    found.feed(of_before[1:] + response(medibus.REALTIME, other))
    assert not [m for m in found.feed(of_before * 2) if isinstance(m, SampleBlock)]
    found.feed(CHOSEN)
    flow = [m for m in found.feed(of_before) if isinstance(m, SampleBlock) and m.feed == "flow"]
    assert flow and abs(float(flow[0].samples[0, 0])) < 20.0 and flow[0].lost > 0


def test_waves_of_standby_or_a_test_are_not_the_patients() -> None:
    found = decoder()
    found.feed(
        CONFIGURED + UNSURE + response(medibus.TEXTS, b"53;LEAK TEST\x03".replace(b";", b"9"))
    )
    during = [m for m in found.feed(record({0: 1, 1: 2, 2: 3}) + b"\xd7")
              if isinstance(m, SampleBlock)]  # fmt: skip
    assert during and all(np.isnan(m.samples).all() for m in during)
    found.feed(VENTILATING)
    after = [m for m in found.feed(record({0: 1, 1: 2, 2: 3})[1:] + b"\xd7")
             if isinstance(m, SampleBlock)]  # fmt: skip
    assert after and not any(np.isnan(m.samples).any() for m in after)


@pytest.mark.parametrize(
    ("texts", "samples"),
    [(b"", True), (b"014IPPV\x03", True), (b"1E7STANDBY\x03", False), (b"1E7STAND", False),
     (None, False)],
)  # fmt: skip
def test_waves_are_not_the_patients_before_the_texts_have_said_so(
    texts: bytes | None, samples: bool
) -> None:
    """A machine in standby says it on a page that is not the first to come; one that is torn says
    nothing."""
    found = decoder()
    of_test_lung = record({0: 1, 1: 2, 2: 3})
    before = found.feed(CONFIGURED + UNSURE + of_test_lung * 2 + b"\xd7")
    assert all(np.isnan(m.samples).all() for m in before if isinstance(m, SampleBlock))
    assert sum(isinstance(m, SampleBlock) for m in before) == 3
    found.feed(b"" if texts is None else response(medibus.TEXTS, texts))
    after = found.feed(of_test_lung[1:] + b"\xd7")
    finite = [bool(np.isfinite(m.samples).all()) for m in after if isinstance(m, SampleBlock)]
    assert finite == [samples] * 3


@pytest.mark.parametrize("name", ["medibus", "medibus-x"])
def test_the_texts_are_read_in_the_first_second(name: str, wire: Any) -> None:
    messages = wire(name).run(4.0)
    paw = [m.samples for m in messages if isinstance(m, SampleBlock) and m.feed == "paw"]
    begun = np.isfinite(np.concatenate(paw)[:, 0])
    unread = int(np.argmax(begun))
    assert begun[unread:].all() and 0 < unread <= 1.05 * 50


def test_what_is_not_measured_any_more_is_unavailable() -> None:
    found = decoder()
    found.feed(response(medibus.MEASURED_CP1, b"EB  97E1  72"))
    gone = found.feed(response(medibus.MEASURED_CP1, b"E1  72"))
    assert values(gone)["MDC_PULS_OXIM_SAT_O2"] == (None, Validity.UNAVAILABLE)
    assert "MDC_PULS_OXIM_SAT_O2" not in values(found.feed(response(0x24, b"E1  72")))
    blank = found.feed(response(medibus.MEASURED_CP1, b"EB    E1 140"))
    assert values(blank)["MDC_PULS_OXIM_SAT_O2"] == (None, Validity.UNAVAILABLE)
    impossible = found.feed(response(medibus.MEASURED_CP1, b"EB 140"))
    assert values(impossible)["MDC_PULS_OXIM_SAT_O2"] == (None, Validity.INVALID)


def test_what_is_measured_in_standby_is_invalid_and_before_any_text_questionable() -> None:
    found = decoder()
    peak = values(found.feed(MEASURED))["MDC_PRESS_AWAY_INSP_PEAK"]
    assert peak == (pytest.approx(22.4338, abs=1e-4), Validity.QUESTIONABLE)
    begun = found.feed(response(medibus.TEXTS, b"1E7STANDBY\x03"))
    assert alerts(begun) == [("medibus:text-1E", "", True)]
    assert values(found.feed(MEASURED))["MDC_PRESS_AWAY_INSP_PEAK"] == (None, Validity.INVALID)
    assert alerts(found.feed(VENTILATING)) == [
        ("medibus:text-1E", "", False)]  # fmt: skip
    assert values(found.feed(MEASURED))["MDC_PRESS_AWAY_INSP_PEAK"][1] is Validity.VALID


def test_alarms_are_told_on_change() -> None:
    """Pressure high as a warning (31), the oximeter's sensor as an advisory with tone (8)."""
    found = decoder()
    pressure, sensor = bytes([0x4F]) + b"10PAW HIGH    ", b"835SPO2 SENSOR "
    begun = found.feed(response(medibus.ALARMS_CP1, pressure + sensor))
    high, fault = (m for m in begun if isinstance(m, Alert))
    assert (high.code, high.channel, high.kind, high.priority, high.text) == (
        "MDC_EVT_HI", "MDC_PRESS_AWAY_INSP_PEAK", AlertKind.PHYSIOLOGICAL, Priority.HIGH,
        "PAW HIGH")  # fmt: skip
    assert (fault.code, fault.kind, fault.priority) == (
        "medibus:cp1-35", AlertKind.TECHNICAL, Priority.LOW)  # fmt: skip
    assert alerts(found.feed(response(medibus.ALARMS_CP1, sensor + pressure))) == []
    assert alerts(found.feed(response(medibus.ALARMS_CP2))) == []  # another page
    assert alerts(found.feed(response(medibus.ALARMS_CP1, sensor))) == [
        ("MDC_EVT_HI", "MDC_PRESS_AWAY_INSP_PEAK", False)]  # fmt: skip
    louder = found.feed(response(medibus.ALARMS_CP1, b"\x4a" + sensor[1:]))
    assert [m.priority for m in louder if isinstance(m, Alert)] == [Priority.HIGH]


def test_two_alarms_of_one_condition_end_together() -> None:
    found = decoder()
    found.feed(response(medibus.ALARMS_CP1, b"808O2 LOW      8C0O2 LOW      "))
    assert alerts(found.feed(response(medibus.ALARMS_CP1, b"808O2 LOW      "))) == []
    assert alerts(found.feed(response(medibus.ALARMS_CP1))) == [
        ("MDC_EVT_LO", "MDC_CONC_AWAY_O2_INSP", False)]  # fmt: skip


@pytest.mark.parametrize("page", ["cp1", "cp2", "cp3"])
def test_every_alarm_code_has_a_kind_and_an_unknown_one_keeps_its_own_code(page: str) -> None:
    for code in range(256):
        event, kind, _ = codes.alert_of(page, code)
        assert kind in AlertKind and (
            event in (codes.HIGH, codes.LOW) or event.endswith(f"{code:02X}")
        )
    assert codes.alert_of("cp1", 0xBF)[1] is AlertKind.OTHER  # where the public tables differ


@pytest.mark.parametrize(
    ("step", "priority"),
    [(0, "none"), (6, "none"), (7, "low"), (10, "low"), (11, "medium"), (24, "medium"),
     (25, "high"), (31, "high")],
)  # fmt: skip
def test_priorities(step: int, priority: str) -> None:
    assert codes.priority_of(step).value == priority


@pytest.mark.parametrize("name", ["medibus", "medibus-x"])
def test_a_sensor_off_an_alarm_and_a_jumping_clock(name: str, wire: Any) -> None:
    faults = (Fault(3.0, 3.0, Kind.LEAD_OFF), Fault(8.0, 2.0, Kind.ALARM),
              Fault(11.0, 9.0, Kind.CLOCK_JUMP, jump_s=3600.0))  # fmt: skip
    messages = wire(name, Scene(faults=faults)).run(14.0)
    assert alerts(messages) == [
        ("medibus:cp1-35", "MDC_PULS_OXIM_SAT_O2", True),
        ("medibus:cp1-35", "MDC_PULS_OXIM_SAT_O2", False),
        ("MDC_EVT_HI", "MDC_PRESS_AWAY_INSP_PEAK", True),
        ("MDC_EVT_HI", "MDC_PRESS_AWAY_INSP_PEAK", False),
    ]
    oximeter = [m.validity for m in messages
                if isinstance(m, Numeric) and m.channel == "MDC_PULS_OXIM_SAT_O2"]  # fmt: skip
    assert oximeter.count(Validity.UNAVAILABLE) == 1 and oximeter[-1] is Validity.VALID
    times_ns = [m.device_ns for m in messages if isinstance(m, Numeric) and m.device_ns]
    assert max(np.diff(times_ns)) >= 3600e9


def test_streams_are_fed_without_a_gap_and_nop_is_answered(wire: Any) -> None:
    wired = wire("medibus")
    messages = wired.run(10.0)
    paw = [m for m in messages if isinstance(m, SampleBlock) and m.feed == "paw"]
    assert sum(len(m.samples) for m in paw) > 450
    assert wired.cable.heard.count(response(medibus.NOP)) >= 4
    assert wired.cable.heard.count(medibus.ENABLE_STREAMS) == 1


def test_a_silent_device_is_lost_after_three_seconds(wire: Any) -> None:
    wired = wire("medibus")
    wired.run(5.0)
    wired.cable._emulated.hear = lambda data, t_s: []
    wired.cable._emulated.say = lambda t_s: []
    losses = [m for m in wired.run(4.0) if type(m).__name__ == "LinkLost"]
    assert losses and 7.9e9 <= losses[0].t_ns <= 8.1e9


OPEN = (State.ASSOCIATING, State.CONFIGURING, State.STARTING, State.STREAMING)
EXPECTED = {
    **{
        (state, event): (state, b"")
        for state in OPEN
        for event in (Event.FRAMES, Event.READY, Event.ALIVE)
    },
    (State.CLOSED, Event.OPENED): (State.ASSOCIATING, command(medibus.ICC)),
    (State.CLOSED, Event.JOINED): (State.ASSOCIATING, command(medibus.ICC)),
    (State.ASSOCIATING, Event.READY): (State.CONFIGURING, command(medibus.IDENTITY)),
    (State.ASSOCIATING, Event.TIMEOUT): (State.LOST, b""),
    (State.CONFIGURING, Event.READY): (State.STARTING, command(medibus.REALTIME)),
    (State.CONFIGURING, Event.TIMEOUT): (State.STARTING, command(medibus.REALTIME)),
    (State.STARTING, Event.FRAMES): (State.STREAMING, b""),
    (State.STARTING, Event.TIMEOUT): (State.LOST, b""),
    (State.STREAMING, Event.READY): (State.CONFIGURING, command(medibus.IDENTITY)),
    (State.STREAMING, Event.TIMEOUT): (State.LOST, b""),
    **{(state, Event.REFUSED): (State.LOST, b"") for state in OPEN},
}


@pytest.mark.parametrize(("state", "event"), list(itertools.product(State, Event)))
def test_every_pair(state: State, event: Event, check_pair: Any) -> None:
    check_pair(medibus.DEVICE.dialogue, EXPECTED, state, event)


def corrupted(n: int) -> tuple[int, int]:
    """Of `n` responses with flipped bits: how many the checksum rejects, and how many of those
    gave a value."""
    rng = random.Random(7)
    rejected = passed = 0
    for _ in range(n):
        dirty = bytearray(MEASURED)
        for _ in range(rng.randint(1, 3)):
            dirty[rng.randrange(2, len(dirty) - 1)] ^= 1 << rng.randrange(7)
        body = bytes(dirty[:-1])
        if f"{sum(body[:-2]) & 0xFF:02X}".encode() == body[-2:]:
            continue
        rejected += 1
        passed += any(isinstance(m, Numeric) for m in decoder().feed(bytes(dirty)))
    return rejected, passed


def test_no_response_is_accepted_that_its_checksum_rejects() -> None:
    rejected, passed = corrupted(20_000)
    assert rejected > 15_000 and passed == 0


def test_control_without_the_checksum_bad_responses_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    def end(self: Any, body: bytes) -> None:
        self._out.append(frames.Frame(body[0] == frames.ESC, body[1], body[2:-2]))

    monkeypatch.setattr(frames.Splitter, "_end", end)
    assert corrupted(500)[1] > 200


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=120), st.lists(st.integers(0, 500), max_size=8))
def test_cuts_change_nothing(noise: bytes, cuts: list[int]) -> None:
    data = CONFIGURED + record({0: 1, 1: 2, 2: 3}) * 4
    data += MEASURED + noise + MEASURED + record({0: 1, 1: 2, 2: 3}) * 4
    edges = [0, *sorted(min(c, len(data)) for c in cuts), len(data)]
    whole, other = decoder(), decoder()
    found = [m for a, b in itertools.pairwise(edges) for m in other.feed(data[a:b])]
    expected = whole.feed(data)
    assert other.counters == whole.counters
    assert values(found) == values(expected)
    sends = [[m for m in ms if isinstance(m, (Send, Sign))] for ms in (found, expected)]
    assert sends[0] == sends[1]


@pytest.mark.parametrize("name", ["medibus", "medibus-x"])
def test_the_capability_list_is_what_the_tables_can_say(name: str) -> None:
    found = device(name)
    assert "MDC_PRESS_AWAY_INSP_PEAK" in found.numerics
    assert ("MDC_ECG_HEART_RATE" in found.numerics) == (name == "medibus-x")
    assert {feed.channels for feed in found.feeds} == {
        ("MDC_PRESS_AWAY",), ("MDC_FLOW_AWAY",), ("MDC_VOL_AWAY",), ("MDC_AWAY_CO2",)}  # fmt: skip


@pytest.mark.benchmark
def test_decodes_at_fifty_times_the_link_rate(times_the_link: Any) -> None:
    ventilator = emulated("medibus", Scene())
    data = b"".join(ventilator.hear(command(medibus.ICC) + command(0x53), 0.0))
    data += b"".join(ventilator.hear(command(0x54, b"0001010103010601"), 0.0))
    ventilator.hear(medibus.ENABLE_STREAMS, 0.0)
    for second in range(1, 200):
        for poll in medibus.CLASSIC.polls[:4]:
            data += b"".join(ventilator.hear(command(poll), float(second)))
        data += b"".join(ventilator.say(float(second)))
    whole = decoder()
    whole.feed(data)
    assert whole.counters.frames > 10_000
    assert times_the_link(decoder, medibus.WIRE, data, 32, whole.counters.frames) >= 50


@pytest.mark.parametrize(
    ("highest", "known"),
    [("FFF", True), (" FF", True), ("FF ", True), ("F F", False), ("G00", False)],
)
def test_a_highest_count_with_a_hole_is_no_stream(highest: str, known: bool) -> None:
    """Found by fuzzing: the digits of a number are together."""
    data = f"00   20000  -50  150{highest}".encode()
    assert (records.streams(data) is not None) == known


@pytest.mark.parametrize(
    ("interval", "known"),
    [("   20000", True), ("20000   ", True), ("       1", True), ("       0", False),
     ("     0.5", False), ("   -4000", False), (" 20000.0", False), ("        ", False),
     ("20  000 ", False)],
)  # fmt: skip
def test_an_interval_is_a_whole_number_of_microseconds(interval: str, known: bool) -> None:
    """Anything else has no rate: it is refused with its configuration, and no record is taken."""
    found = decoder("medibus-x")
    messages = found.feed(response(medibus.REALTIME, f"00{interval}  -50  150FFF".encode()))
    messages += found.feed(CHOSEN + record({0: 2048}) * (frames.SURE + 3))
    rates_hz = {m.rate_hz for m in messages if isinstance(m, SampleBlock)}
    assert rates_hz == ({1e6 / int(interval)} if known else set())
    assert found.counters.rejects == ({} if known else {"stream": 1})
