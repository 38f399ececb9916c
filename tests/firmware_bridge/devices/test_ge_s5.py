"""GE S/5 values, waves, alarms and dialogue, of a real record, of made ones and of the emulator."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from firmware_bridge.devices import ge_s5, ge_s5_phdb, ge_s5_records
from firmware_bridge.devices.ge_s5_numerics import NUMERICS
from firmware_bridge.devices.ge_s5_phdb import Group, Phdb
from firmware_bridge.emulators.faults import Fault, Kind
from firmware_bridge.emulators.patient import Scene
from firmware_bridge.session import Event, State
from firmware_bridge.types import Alert, Numeric, Priority, SampleBlock, Send, Validity

if TYPE_CHECKING:
    pass

ON = ge_s5_phdb.EXISTS | ge_s5_phdb.ACTIVE
ECG = 1 << 3  # heart rate source
TIME_S = 1251973827  # 2009-09-03 10:30:27 UTC


def values(data_class: int = ge_s5_phdb.BASIC, number: int = 1, **groups: Group) -> bytes:
    """A framed record of displayed values."""
    part = ge_s5_phdb.encode(Phdb(TIME_S, data_class, 0, groups))
    record = ge_s5_records.encode(ge_s5_records.PHDB, [(1, part)], number=number, time_s=TIME_S)
    return ge_s5_records.frame(record)


def waves(number: int, *parts: tuple[int, bytes], time_s: int = TIME_S) -> bytes:
    record = ge_s5_records.encode(ge_s5_records.WAVE, parts, number=number, level=10, time_s=time_s)
    return ge_s5_records.frame(record)


def alarms(number: int, *shown: tuple[str, int]) -> bytes:
    part = ge_s5.encode_alarms(shown)
    record = ge_s5_records.encode(ge_s5_records.ALARM, [(1, part)], number=number, time_s=TIME_S)
    return ge_s5_records.frame(record)


def heard(data: bytes) -> dict[str, Numeric]:
    return {m.channel: m for m in ge_s5.Decoder().feed(data) if isinstance(m, Numeric)}


# --- a real record ------------------------------------------------------------------------------


def test_measurements_of_the_record_of_2009(trend_2009: bytes) -> None:
    """No heart rate: the monitor shows 0 while it learns the beats. No breath: apnea is flagged."""
    found = heard(ge_s5_records.frame(trend_2009))
    assert set(found) == set(NUMERICS)
    assert found["MDC_ECG_HEART_RATE"].validity is Validity.UNAVAILABLE
    assert found["MDC_PULS_RATE"].validity is Validity.INVALID
    assert found["MDC_PRESS_BLD_ART_SYS"].value == 9.0
    assert found["MDC_PRESS_BLD_ART_DIA"].value == 0.9
    assert found["MDC_PRESS_BLD_ART_MEAN"].value == 4.86
    assert found["MDC_PRESS_BLD_VEN_CENT_MEAN"].value == 2.21
    assert found["MDC_TEMP_BODY"].value == 18.0
    assert found["MDC_TEMP"].validity is Validity.UNDER
    assert found["MDC_CONC_AWAY_O2_INSP"].value == 29.43
    assert found["MDC_PRESS_AIR_AMBIENT"].value == 755.1
    et_mmhg = found["MDC_AWAY_CO2_ET"]
    assert (et_mmhg.value, et_mmhg.validity) == (0.0, Validity.QUESTIONABLE)
    assert found["MDC_PULS_OXIM_SAT_O2"].validity is Validity.UNAVAILABLE
    assert found["MDC_PRESS_BLD_NONINV_SYS"].validity is Validity.UNAVAILABLE
    assert found["MDC_PULS_OXIM_SAT_O2"].device_ns == TIME_S * 1_000_000_000
    said = ge_s5.Decoder().feed(ge_s5_records.frame(trend_2009))
    assert [m.code for m in said if isinstance(m, Alert)] == ["MDC_EVT_APNEA"]


# --- values -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("raw", "validity"),
    [
        (-32767, Validity.UNAVAILABLE),
        (-32766, Validity.UNAVAILABLE),
        (-32765, Validity.INVALID),
        (-32764, Validity.UNDER),
        (-32763, Validity.OVER),
        (-32762, Validity.INVALID),
        (-32001, Validity.INVALID),
        (-32768, Validity.INVALID),
        (14000, Validity.INVALID),  # a saturation of 140 %
        (-100, Validity.INVALID),
    ],
)
def test_what_is_no_saturation_is_no_number(raw: int, validity: Validity) -> None:
    found = heard(values(spo2=Group(ON, 0, {"spo2": raw, "pr": 72})))["MDC_PULS_OXIM_SAT_O2"]
    assert (found.value, found.validity) == (None, validity)


@pytest.mark.parametrize(
    ("status", "hr", "expected"),
    [
        (ON | ECG, 72, (72.0, Validity.VALID)),
        (ON | 9 << 3, 72, (72.0, Validity.VALID)),
        (ON | ECG, 0, (None, Validity.INVALID)),  # nobody says asystole
        (ON | ECG | 1 << 2, 0, (0.0, Validity.VALID)),  # the monitor says asystole
        (ON | ECG | 1 << 9, 0, (None, Validity.UNAVAILABLE)),  # learning
        (ON | ECG | 1 << 9, 70, (70.0, Validity.QUESTIONABLE)),
        (ON | ECG | 1 << 7, 70, (70.0, Validity.QUESTIONABLE)),  # noise
        (ON | ECG | 1 << 8, 70, (70.0, Validity.QUESTIONABLE)),  # artifact
        (ON | 6 << 3, 70, (None, Validity.UNAVAILABLE)),  # that of the pleth
        (ge_s5_phdb.EXISTS | ECG, 70, (None, Validity.UNAVAILABLE)),  # not active
        (0, 70, (None, Validity.UNAVAILABLE)),  # no module
    ],
)
def test_heart_rate_by_its_status(status: int, hr: int, expected: tuple[Any, Any]) -> None:
    found = heard(values(ecg=Group(status, 0x0271, {"hr": hr})))["MDC_ECG_HEART_RATE"]
    assert (found.value, found.validity) == expected


def test_partial_pressure_of_carbon_dioxide() -> None:
    """5.07 % of 755.1 mmHg; without the ambient pressure there is none."""
    group = Group(ON, 1, {"et": 507, "fi": 0, "rr": 15, "amb_press": 7551})
    found = heard(values(co2=group))
    assert found["MDC_AWAY_CO2_ET"].value == pytest.approx(38.28, abs=0.01)
    assert found["MDC_CONC_AWAY_CO2_ET"].value == 5.07
    assert found["MDC_RESP_RATE"].value == 15.0
    without = heard(values(co2=Group(ON, 1, {**group.raw, "amb_press": -32767})))
    assert without["MDC_AWAY_CO2_ET"].validity is Validity.UNAVAILABLE
    assert without["MDC_CONC_AWAY_CO2_ET"].value == 5.07


def test_rate_of_breathing_is_that_of_the_first_source_that_measures() -> None:
    ecg = Group(ON | ECG, 0, {"hr": 70, "imp_rr": 12})
    assert heard(values(ecg=ecg))["MDC_RESP_RATE"].value == 12.0
    flow = Group(ON, 0, {"rr": 14})
    assert heard(values(ecg=ecg, flow_vol=flow))["MDC_RESP_RATE"].value == 14.0
    co2 = Group(ON, 1, {"rr": 15})
    assert heard(values(ecg=ecg, flow_vol=flow, co2=co2))["MDC_RESP_RATE"].value == 15.0


def test_a_pressure_is_where_its_label_says_and_not_while_zeroing() -> None:
    raw = {"sys": 12000, "dia": 7600, "mean": 9100, "hr": 72}
    found = heard(values(p3=Group(ON, 8, raw), p1=Group(ON | 1 << 2, 1, raw)))
    assert found["MDC_PRESS_BLD_ART_ABP_SYS"].value == 120.0
    assert found["MDC_PULS_RATE"].value == 72.0
    assert found["MDC_PRESS_BLD_ART_SYS"].validity is Validity.UNAVAILABLE
    unknown = heard(values(p1=Group(ON, 77, raw)))
    assert not any(m.value for m in unknown.values())


@pytest.mark.parametrize("label", [1 << 8, 1 << 5])
def test_an_old_cuff_pressure_is_not_repeated(label: int) -> None:
    raw = {"sys": 12000, "dia": 7600, "mean": 9100}
    assert heard(values(nibp=Group(ON, 0, raw)))["MDC_PRESS_BLD_NONINV_SYS"].value == 120.0
    assert not any("NONINV" in channel for channel in heard(values(nibp=Group(ON, label, raw))))


# --- waves --------------------------------------------------------------------------------------


def blocks(messages: list[Any]) -> list[SampleBlock]:
    return [m for m in messages if isinstance(m, SampleBlock)]


def ecg(counts: Any, status: int = 0) -> tuple[int, bytes]:
    return 1, ge_s5.encode_wave(np.asarray(counts), status, 2)


def test_one_count_of_an_ecg_is_a_microvolt() -> None:
    """8005313 table 5-3 and LNhealth; ten times as much in VSCaptureWave."""
    lead = values(ecg=Group(ON | ECG, 2 << 8, {}))
    [block] = blocks(ge_s5.Decoder().feed(lead + waves(2, ecg([-177, 1000, -32000, -32767]))))
    assert (block.feed, block.unit, block.rate_hz) == ("ecg1", "mV", 300)
    np.testing.assert_allclose(block.samples[:2, 0], [-0.177, 1.0])
    assert np.isnan(block.samples[2:]).all()


def test_other_waves_in_their_units() -> None:
    parts = ((4, [9150]), (8, [1234]), (9, [507]), (29, [3]))
    record = waves(1, *((k, ge_s5.encode_wave(np.array(c))) for k, c in parts))
    found = {b.feed: (float(b.samples[0, 0]), b.unit) for b in blocks(ge_s5.Decoder().feed(record))}
    assert {k: (round(v, 4), u) for k, (v, u) in found.items()} == {
        "invp1": (91.5, "mm[Hg]"),
        "pleth": (0.1234, "1"),
        "co2": (5.07, "%"),
    }


def test_samples_of_lost_records_are_counted() -> None:
    decoder = ge_s5.Decoder()
    found = blocks(decoder.feed(b"".join(waves(n, ecg(range(60))) for n in (254, 255, 0, 3))))
    assert [(b.seq, b.lost) for b in found] == [(0, 0), (60, 0), (120, 0), (300, 120)]
    assert decoder.counters.lost == 120


def test_kinds_numbered_for_themselves_lose_nothing() -> None:
    """Values have a number of their own, or none at all: neither is a loss of waves."""
    for numbers in ((1, 2), (200, 201), (7, 7)):
        decoder = ge_s5.Decoder()
        data = waves(10, ecg(range(60))) + values(number=numbers[0])
        data += waves(11, ecg(range(60))) + values(number=numbers[1]) + waves(12, ecg(range(60)))
        assert [b.lost for b in blocks(decoder.feed(data))] == [0, 0, 0]
    decoder = ge_s5.Decoder()
    data = b"".join(waves(0, ecg([i] * 60)) for i in range(5))
    assert [b.lost for b in blocks(decoder.feed(data))] == [0] * 5


def test_a_gap_of_unknown_length_is_seen() -> None:
    decoder = ge_s5.Decoder()
    data = waves(1, ecg([0] * 60, ge_s5.WAVE_GAP)) + waves(2, ecg([0] * 60, ge_s5.WAVE_GAP))
    assert [(b.seq, b.lost) for b in blocks(decoder.feed(data))] == [(0, 0), (61, 1)]


def test_a_record_that_comes_twice_counts_once() -> None:
    decoder = ge_s5.Decoder()
    data = waves(1, ecg(range(60)))
    assert len(blocks(decoder.feed(data + data + waves(2, ecg(range(60)))))) == 2
    assert decoder.counters.duplicates == 1


# --- alerts -------------------------------------------------------------------------------------


def test_alarms_are_said_on_change() -> None:
    decoder = ge_s5.Decoder()
    data = alarms(1) + alarms(2, ("HR HIGH", 2)) + alarms(3, ("HR HIGH", 2))
    data += alarms(4, ("ASYSTOLE", 3), ("HR HIGH", 1)) + alarms(5, ("ASYSTOLE", 3)) + alarms(6)
    found = [(m.code, m.priority, m.active) for m in decoder.feed(data) if isinstance(m, Alert)]
    assert found == [
        ("ge-s5:HR HIGH", Priority.MEDIUM, True),
        ("ge-s5:ASYSTOLE", Priority.HIGH, True),
        ("ge-s5:HR HIGH", Priority.LOW, True),
        ("ge-s5:HR HIGH", Priority.LOW, False),
        ("ge-s5:ASYSTOLE", Priority.HIGH, False),
    ]


def test_a_change_that_was_lost_is_known_within_seconds(wire: Any) -> None:
    """In differential mode the monitor says a change once; the record is damaged on the line."""
    wired = wire("ge-s5", Scene(faults=(Fault(3.0, 100.0, Kind.ALARM),)))
    inbox = wired.cable._take

    def damaged(frames: list[bytes]) -> None:
        inbox([f.replace(b"HR HIGH", b"HR HYGH") if wired._t_s < 10 else f for f in frames])

    wired.cable._take = damaged
    assert not [m for m in wired.run(10.0) if isinstance(m, Alert)]
    assert set(wired.link.counters.stream.rejects) == {"checksum"}
    messages = wired.run(ge_s5.ALARMS_EVERY_S)
    assert [m.code for m in messages if isinstance(m, Alert)] == ["ge-s5:HR HIGH"]


@pytest.mark.parametrize("damage", ["lost", "damaged"])
def test_after_a_record_that_was_lost_alarms_are_asked_for_anew(damage: str) -> None:
    """It may have been the end of the alarm, which is said only once."""
    decoder = ge_s5.Decoder()
    assert len(decoder.feed(alarms(1, ("HR HIGH", 2)))) == 1
    assert not [m for m in decoder.feed(waves(2, ecg([0] * 60))) if isinstance(m, Send)]
    end = bytearray(alarms(3))
    end[20] ^= 0xFF
    found = decoder.feed(b"" if damage == "lost" else bytes(end))
    found += decoder.feed(waves(4, ecg([0] * 60)) + waves(5, ecg([0] * 60)))
    assert [m for m in found if isinstance(m, Send)] == [Send(ge_s5.ASK_ALARMS)]
    [ended] = [m for m in decoder.feed(alarms(6)) if isinstance(m, Alert)]
    assert not ended.active


def test_an_alarm_text_is_made_printable() -> None:
    [alert] = ge_s5.Decoder().feed(alarms(1, ("Pulse\n\x07 low ", 2)))
    assert isinstance(alert, Alert)
    assert alert.text == "Pulse low"


def test_leads_off_is_said_once_by_whoever_sees_it_first() -> None:
    decoder = ge_s5.Decoder()
    off = Group(ON | ECG | 1 << 11, 0x0271, {})
    on = Group(ON | ECG, 0x0271, {"hr": 72})
    first = decoder.feed(waves(1, ecg([5] * 60, ge_s5.WAVE_LEAD_OFF)))
    assert np.isnan(blocks(first)[0].samples).all()
    assert [(m.code, m.active) for m in first if isinstance(m, Alert)] == [
        ("MDC_EVT_LEADS_OFF", True)
    ]
    rate = [m for m in first if isinstance(m, Numeric)]
    assert [(m.channel, m.validity) for m in rate] == [("MDC_ECG_HEART_RATE", Validity.UNAVAILABLE)]
    more = decoder.feed(values(ecg=off, number=2) + waves(3, ecg([5] * 60)))
    assert not [m for m in more if isinstance(m, Alert)]
    last = decoder.feed(values(ecg=on, number=4))
    assert [m.active for m in last if isinstance(m, Alert)] == [False]


def test_ecg1_is_the_lead_that_the_monitor_shows() -> None:
    """It is in doubt before the first values, and with a new label until the next."""
    decoder, i, ii = ge_s5.Decoder(), Group(ON | ECG, 1 << 8, {}), Group(ON | ECG, 2 << 8, {})

    def wave(number: int, label: int) -> tuple[tuple[str, ...], bool]:
        part = (ge_s5.ECG1, ge_s5.encode_wave(np.full(60, 5), 0, label))
        (block,) = blocks(decoder.feed(waves(number, part)))
        return block.channels, bool(np.isnan(block.samples).all())

    assert wave(1, 2) == (("",), True)
    decoder.feed(values(ecg=ii, number=2))
    assert wave(3, 2) == (("MDC_ECG_ELEC_POTL_II",), False)
    assert wave(4, 1) == (("MDC_ECG_ELEC_POTL_II",), True)
    assert wave(5, 1)[1]
    decoder.feed(values(ecg=i, number=6))
    assert wave(7, 1) == (("MDC_ECG_ELEC_POTL_I",), False)
    decoder.feed(values(ecg=Group(ON | ECG, 0, {}), number=8))
    assert wave(9, 1) == (("",), False)  # none is selected: what it is, is not known


def test_waves_alone_are_an_ecg_without_a_sample() -> None:
    """Values that do not come leave the lead unsaid: the wave is there, and no signal is in it.
    Other waves need no lead."""
    part = (8, ge_s5.encode_wave(np.array([1234] * 20)))
    data = b"".join(waves(n, ecg([5] * 60), part, time_s=TIME_S + n) for n in range(30))
    found = blocks(ge_s5.Decoder().feed(data + values(data_class=ge_s5_phdb.EXT1, number=30)))
    leads = [b for b in found if b.feed == "ecg1"]
    assert len(leads) == 30 and all(np.isnan(b.samples).all() for b in leads)
    assert [b.seq for b in leads] == [60 * n for n in range(30)]
    assert all(np.isfinite(b.samples).all() for b in found if b.feed == "pleth")


# --- dialogue -----------------------------------------------------------------------------------

OPEN = (State.LISTENING, State.STARTING, State.STREAMING)
EXPECTED = {
    (State.CLOSED, Event.OPENED): (State.STARTING, ge_s5.ASK),
    (State.CLOSED, Event.JOINED): (State.LISTENING, b""),
    **{(state, Event.FRAMES): (State.STREAMING, b"") for state in OPEN},
    **{(state, Event.READY): (state, b"") for state in OPEN},
    **{(state, Event.ALIVE): (state, b"") for state in OPEN},
    **{(state, Event.REFUSED): (State.LOST, b"") for state in OPEN},
    (State.LISTENING, Event.TIMEOUT): (State.STARTING, ge_s5.ASK),
    (State.STARTING, Event.TIMEOUT): (State.LOST, b""),
    (State.STREAMING, Event.TIMEOUT): (State.LOST, b""),
}


@pytest.mark.parametrize(("state", "event"), list(itertools.product(State, Event)))
def test_every_pair(state: State, event: Event, check_pair: Any) -> None:
    check_pair(ge_s5.DEVICE.dialogue, EXPECTED, state, event)


def test_what_falls_silent_is_asked_for_again() -> None:
    """Values go on, waves do not (the line was held up for 2 s): asked once in 12 s."""
    decoder = ge_s5.Decoder()
    part = ge_s5_phdb.encode(Phdb(TIME_S, 0, 0, {}))
    sent = []
    for i, after_s in enumerate((0, 5, 10, 15, 20, 25, 30)):
        record = ge_s5_records.encode(
            ge_s5_records.PHDB, [(1, part)], number=i, time_s=TIME_S + after_s
        )
        messages = decoder.feed(ge_s5_records.frame(record))
        sent += [(after_s, m.data) for m in messages if isinstance(m, Send)]
    assert sent == [(15, ge_s5.ASK_WAVES), (30, ge_s5.ASK_WAVES)]


def test_closing_stops_the_monitor(wire: Any) -> None:
    wired = wire("ge-s5")
    wired.run(2.0)
    wired.link.close()
    assert wired.cable.heard.endswith(ge_s5.STOP_ALL)
    said = len(wired.cable.said)
    wired.cable.advance(20.0)
    assert len(wired.cable.said) == said


# --- with its emulator --------------------------------------------------------------------------


def test_the_emulated_line_is_not_overfilled(wire: Any) -> None:
    wired = wire("ge-s5")
    wired.run(20.0)
    assert len(wired.cable.said) / 20.0 < 0.97 * ge_s5.WIRE.bytes_per_s


def test_leads_off_alarm_and_asystole_of_a_scene(wire: Any) -> None:
    scene = Scene(
        faults=(
            Fault(4.0, 4.0, Kind.LEAD_OFF),
            Fault(12.0, 4.0, Kind.ALARM),
            Fault(18.0, 8.0, Kind.ASYSTOLE),
        )
    )
    messages = wire("ge-s5", scene).run(32.0)
    found = [(m.code, m.active) for m in messages if isinstance(m, Alert)]
    assert found == [
        ("MDC_EVT_LEADS_OFF", True),
        ("MDC_EVT_LEADS_OFF", False),
        ("ge-s5:HR HIGH", True),
        ("ge-s5:HR HIGH", False),
        ("MDC_EVT_ECG_ASYSTOLE", True),
        ("MDC_EVT_ECG_ASYSTOLE", False),
    ]
    rates = [m for m in messages if isinstance(m, Numeric) and m.channel == "MDC_ECG_HEART_RATE"]
    assert [m.value for m in rates if m.validity is Validity.VALID] == [72, 72, 72, 0, 0, 72]
    assert Validity.UNAVAILABLE in {m.validity for m in rates}


def test_a_wave_of_a_scene_saturates_and_freezes(wire: Any) -> None:
    faults = (Fault(2.0, 2.0, Kind.SATURATE, clip_mv=0.5), Fault(6.0, 2.0, Kind.FLAT))
    found = [
        m for m in wire("ge-s5", Scene(faults=faults)).run(9.0) if getattr(m, "feed", "") == "ecg1"
    ]
    ecg_mv = np.concatenate([m.samples[:, 0] for m in found])
    begun_s = 9.0 - len(ecg_mv) / 300

    def during(from_s: float, to_s: float) -> Any:
        return ecg_mv[round((from_s - begun_s) * 300) : round((to_s - begun_s) * 300)]

    assert np.ptp(during(6.5, 7.5)) == 0
    assert during(2.5, 3.5).max() == pytest.approx(0.5, abs=0.01)
    assert during(4.5, 5.5).max() > 1.0


def test_a_jump_of_the_clock_is_seen_and_loses_nothing(wire: Any) -> None:
    wired = wire("ge-s5", Scene(faults=(Fault(6.0, 100.0, Kind.CLOCK_JUMP),)))
    messages = wired.run(20.0)
    times_ns = [m.device_ns for m in messages if isinstance(m, Numeric)]
    assert times_ns[-1] - times_ns[0] == 3_615_000_000_000
    assert wired.link.counters.stream.lost == 0
    assert not wired.link.counters.losses


@pytest.mark.benchmark
def test_decodes_at_fifty_times_the_link_rate(wire: Any, times_the_link: Any) -> None:
    wired = wire("ge-s5")
    wired.run(20.0)
    frames = wired.link.counters.stream.frames
    assert times_the_link(ge_s5.Decoder, ge_s5.WIRE, wired.cable.said, 64, frames) >= 50
