"""ORU^R01 in: what a row means, what is refused, and what is answered."""

from __future__ import annotations

import sys
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firmware_bridge.devices import hl7_oru
from firmware_bridge.devices.hl7_oru import Decoder, time_ns
from firmware_bridge.emulators.faults import Fault, Kind
from firmware_bridge.emulators.hl7_oru import report
from firmware_bridge.emulators.patient import Scene
from firmware_bridge.mllp import Unframer, framed
from firmware_bridge.nomenclature import WITH_NUMBER
from firmware_bridge.session import Event
from firmware_bridge.types import Another, Message, Numeric, Send, Sign, Validity

HEAD = (
    "MSH|^~\\&|MINDRAY_EGATEWAY^00A037EB2175780F^EUI-64|MINDRAY|MEDGE|ICU|20261128120000.250+0100||"
    "ORU^R01^ORU_R01|{control}|P|2.6|||NE|AL||UNICODE UTF-8"
)
OBR = "OBR|1|1^G|1^G|182777000^monitoring of patient^SCT|||20261128115959+0100"
HR = "OBX|1|NM|147842^MDC_ECG_HEART_RATE^MDC|1.7.4.147842|72|264864^MDC_DIM_BEAT_PER_MIN^MDC|||||F"
NOON_NS = 1_795_863_600 * 10**9  # 2026-11-28 12:00:00 at +0100


def message(*rows: str, control: str = "1") -> bytes:
    return framed("\r".join([HEAD.format(control=control), *rows, ""]).encode())


def decode(data: bytes) -> tuple[list[Message], Decoder]:
    decoder = Decoder()
    return decoder.feed(data), decoder


def numerics(*rows: str) -> list[Numeric]:
    return [m for m in decode(message(*rows))[0] if isinstance(m, Numeric)]


def answer(found: list[Message]) -> list[str]:
    (sent,) = [m.data for m in found if isinstance(m, Send)]
    (text,) = Unframer().feed(sent)
    return text.decode().split("\r")


def test_a_value_its_unit_and_the_time_of_its_observation() -> None:
    (hr,) = numerics(OBR, HR)
    assert (hr.channel, hr.value, hr.unit) == ("MDC_ECG_HEART_RATE", 72.0, "/min")
    assert hr.validity is Validity.VALID
    assert hr.device_ns == NOON_NS - 10**9


@pytest.mark.parametrize(
    ("text", "ns"),
    [
        ("20261128120000.250+0100", NOON_NS + 250_000_000),
        ("20261128110000", NOON_NS),  # without a zone: as if UTC
        ("202611281100", NOON_NS),
        ("20261128050000-0600", NOON_NS),
        ("20261328110000", None),
        ("2026", None),
        ("", None),
        ("20261128110000+01", None),
        ("00000101000000", None),
    ],
)
def test_times(text: str, ns: int | None) -> None:
    assert time_ns(text) == ns


@pytest.mark.parametrize(
    ("field5", "status", "validity", "value"),
    [
        ("72", "R", Validity.VALID, 72.0),
        ("72", "P", Validity.QUESTIONABLE, 72.0),
        ("", "X", Validity.UNAVAILABLE, None),
        ("72", "X", Validity.UNAVAILABLE, None),
        ("72", "D", Validity.UNAVAILABLE, None),
        ("", "R", Validity.UNAVAILABLE, None),
        ("8388607", "R", Validity.UNAVAILABLE, None),
        ("900", "R", Validity.INVALID, None),
        ("72 bpm", "R", Validity.INVALID, None),
        ("nan", "R", Validity.INVALID, None),
        ("1e3", "R", Validity.INVALID, None),
    ],
)
def test_status_and_sentinels(
    field5: str, status: str, validity: Validity, value: float | None
) -> None:
    (found,) = numerics(HR.replace("|72|", f"|{field5}|").removesuffix("F") + status)
    assert (found.validity, found.value) == (validity, value)


@pytest.mark.parametrize(
    ("flags", "validity"),
    [
        ("", Validity.VALID),
        ("N", Validity.VALID),
        ("HH", Validity.VALID),
        ("A~PM~SA", Validity.VALID),
        ("QUES", Validity.QUESTIONABLE),
        ("H~QUES^questionable", Validity.QUESTIONABLE),
        ("DEMO", Validity.QUESTIONABLE),
        ("whatever", Validity.QUESTIONABLE),
        ("INV", Validity.INVALID),
        ("H~INV", Validity.INVALID),
        ("TEST", Validity.INVALID),
        ("NAV", Validity.UNAVAILABLE),
        (">", Validity.OVER),
        ("<", Validity.UNDER),
    ],
)
def test_what_the_sender_doubts_is_not_valid(flags: str, validity: Validity) -> None:
    """OBX-8, in whatever order and company."""
    (found,) = numerics(HR.replace("^MDC|||||F", f"^MDC||{flags}|||F"))
    assert found.validity is validity
    assert (found.value == 72.0) == (validity in WITH_NUMBER)


@pytest.mark.parametrize(
    ("mode", "validity"),
    [
        ("P", Validity.VALID),
        ("P^T", Validity.VALID),  # current processing
        ("D", Validity.QUESTIONABLE),  # debugging: demonstration, service
        ("T", Validity.QUESTIONABLE),  # training
        ("P^A", Validity.QUESTIONABLE),  # archive
        ("P^R", Validity.QUESTIONABLE),  # restored from it
        ("", Validity.QUESTIONABLE),
    ],
)
def test_training_and_archives_are_not_the_patient_of_now(mode: str, validity: Validity) -> None:
    data = message(HR).replace(b"|1|P|2.6", f"|1|{mode}|2.6".encode())
    (found,) = [m for m in Decoder().feed(data) if isinstance(m, Numeric)]
    assert found.validity is validity


@pytest.mark.parametrize(
    ("observed", "validity"),
    [
        ("20261128115930+0100", Validity.VALID),
        ("20261128115930", Validity.VALID),  # in the zone of the message
        ("20261128110000+0000", Validity.VALID),
        ("20261128113000+0100", Validity.QUESTIONABLE),  # from a queue, half an hour later
        ("20261128113000", Validity.QUESTIONABLE),
    ],
)
def test_what_was_observed_long_before_it_was_sent_is_not_of_now(
    observed: str, validity: Validity
) -> None:
    (found,) = numerics(HR + f"|||{observed}")
    assert found.validity is validity
    cuff = "OBX|1|NM|150021^MDC_PRESS_BLD_NONINV_SYS^MDC|1|120|266016^MDC_DIM_MMHG^MDC|||||R|||"
    (found,) = numerics(cuff + "20261128113500+0100")
    assert found.validity is Validity.VALID


def bed(control: int, patient: str, place: str, rate: int) -> bytes:
    who = f"PID|||{patient}^^^H^MR||Nobody^Nobody", f"PV1||I|{place}"
    return message(*who, HR.replace("|72|", f"|{rate}|"), control=str(control))


def test_values_of_another_bed_are_not_taken() -> None:
    """A gateway that reports twenty beds in turn over one connection."""
    decoder = Decoder()
    found = [
        m
        for n in range(40)
        for m in decoder.feed(bed(n, f"P{n % 20}", f"ICU^{n % 20}", 60 + n % 20))
    ]
    assert [m.value for m in found if isinstance(m, Numeric)] == [60.0, 60.0]
    assert decoder.counters.rejects == {"another patient": 38}
    assert not [m for m in found if isinstance(m, Sign) and m.event is Event.REFUSED]
    assert len([m for m in found if isinstance(m, Send)]) == 40


def test_a_new_patient_begins_anew() -> None:
    """The bed is the same, its patient another: after some messages without a word of the first."""
    decoder = Decoder()
    decoder.feed(bed(0, "P0", "ICU^1", 60))
    found = [m for n in range(1, 8) for m in decoder.feed(bed(n, "P1", "ICU^1", 80))]
    assert not [m for m in found if isinstance(m, (Numeric, Another))]
    assert [m.event for m in found if isinstance(m, Sign)] == [Event.ALIVE] * 7
    another, value, _ = decoder.feed(bed(8, "P1", "ICU^1", 80))
    assert another == Another("another patient")
    assert isinstance(value, Numeric) and value.value == 80.0
    assert not measured(decoder.feed(bed(9, "P0", "ICU^1", 60)))


def measured(messages: list[Any]) -> list[float | None]:
    return [m.value for m in messages if isinstance(m, Numeric)]


@pytest.mark.parametrize("place", ["ICU^2", ""])
def test_a_bed_that_falls_silent_is_not_followed_by_another_one(place: str) -> None:
    """Nor by whoever, where no bed is named: nobody can tell a new patient from another's."""
    decoder = Decoder()
    decoder.feed(bed(0, "P0", "ICU^1" if place else "", 60))
    found = [m for n in range(1, 99) for m in decoder.feed(bed(n, "P1", place, 80))]
    assert not [m for m in found if isinstance(m, (Numeric, Another))]
    assert measured(decoder.feed(bed(99, "P0", "ICU^1" if place else "", 60))) == [60.0]


def test_whose_a_value_is_must_be_said_and_be_one() -> None:
    """Several patients in one message, another bed without a patient, nobody: nothing is taken."""
    decoder = Decoder()
    assert measured(decoder.feed(bed(0, "P0", "ICU^1", 60))) == [60.0]
    first, second = "PID|||P0^^^H^MR", "PID|||P1^^^H^MR"
    for n, rows in enumerate(
        (
            (first, HR, second, HR), (second, HR, first, HR), ("PID|||", "PV1||I|ICU^2", HR),
            ("PV1||I|ICU^1", HR), (HR,),
        ),
        1,
    ):  # fmt: skip
        assert measured(decoder.feed(message(*rows, control=str(n)))) == []
    assert decoder.counters.rejects == {"another patient": 5}
    assert measured(decoder.feed(message(first, HR, control="9"))) == [72.0]


def test_a_bed_outlives_a_loss_and_can_be_named() -> None:
    decoder = Decoder()
    decoder.feed(bed(0, "P0", "ICU^1", 60))
    after = decoder.after_loss()
    assert measured(after.feed(bed(1, "P1", "ICU^2", 80))) == []
    assert measured(after.feed(bed(2, "P0", "ICU^1", 60))) == [60.0]
    assert hl7_oru.DEVICE.at is not None
    named = hl7_oru.DEVICE.at("ICU^2").decoder()
    assert measured(named.feed(bed(1, "P0", "ICU^1", 60))) == []
    assert measured(named.feed(bed(2, "P1", "ICU^2", 80))) == [80.0]


def test_a_gateway_that_counts_from_one_again_is_heard() -> None:
    """It was switched off: its control ids come again, at another time."""
    later = message(HR).replace(b"|20261128120000.250+0100|", b"|20261128120500.250+0100|")
    found, decoder = decode(message(HR) + later)
    assert sum(isinstance(m, Numeric) for m in found) == 2
    assert decoder.counters.duplicates == 0


def test_saturation_of_140_is_no_number() -> None:
    row = "OBX|1|NM|150456^MDC_PULS_OXIM_SAT_O2^MDC|1.3.1|140|262688^MDC_DIM_PERCENT^MDC|||||R"
    (found,) = numerics(row)
    assert (found.value, found.validity) == (None, Validity.INVALID)


@pytest.mark.parametrize(
    ("row", "why"),
    [
        (HR.replace("264864^MDC_DIM_BEAT_PER_MIN^MDC", "266016^MDC_DIM_MMHG^MDC"), "unit"),
        (HR.replace("264864^MDC_DIM_BEAT_PER_MIN^MDC", ""), "unit"),
        (HR.replace("147842^MDC_ECG_HEART_RATE^MDC", "101^HR^99MNDRY"), "unknown code"),
        (
            HR.replace("147842^MDC_ECG_HEART_RATE^MDC", "147842^MDC_ECG_HEART_RATE^L"),
            "unknown code",
        ),
        (HR.replace("MDC_ECG_HEART_RATE", "MDC_PULS_OXIM_PULS_RATE"), "code and name differ"),
    ],
)
def test_what_is_not_certain_is_not_taken(row: str, why: str) -> None:
    found, decoder = decode(message(row))
    assert not [m for m in found if isinstance(m, Numeric)]
    assert decoder.counters.rejects == {why: 1}
    assert answer(found)[1] == "MSA|AA|1"


def test_a_ucum_unit_is_understood() -> None:
    (hr,) = numerics(HR.replace("264864^MDC_DIM_BEAT_PER_MIN^MDC", "/min^/min^UCUM"))
    assert hr.value == 72.0


def test_texts_and_wave_arrays_are_passed_over() -> None:
    assert not numerics(HR.replace("|NM|", "|ST|"), HR.replace("|NM|", "|NA|"), "OBX")


def test_the_same_control_id_is_acknowledged_and_not_taken_twice() -> None:
    found, decoder = decode(message(HR) + message(HR) + message(HR, control="2"))
    assert sum(isinstance(m, Numeric) for m in found) == 2
    assert sum(isinstance(m, Send) for m in found) == 3
    assert decoder.counters.duplicates == 1


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (framed(HEAD.format(control="7").replace("ORU^R01", "ORU^R40").encode()), "AR"),
        (framed(HEAD.format(control="").encode()), "AR"),
        (framed(b"GET / HTTP/1.1\r\n\r\n"), "AE"),
        (framed(b"MSH"), "AE"),
        (framed(b"MSH|||||ORU^R01"), "AE"),
        (framed(b""), "AE"),
    ],
)
def test_what_cannot_be_taken_is_refused(data: bytes, code: str) -> None:
    found, decoder = decode(data)
    assert answer(found)[1].startswith(f"MSA|{code}|")
    assert sum(decoder.counters.rejects.values()) == 1
    assert decoder.counters.frames == 0


def test_an_acknowledgement_goes_back_to_its_sender() -> None:
    head = answer(decode(message(HR))[0])[0].split("|")
    assert head[2:6] == ["MEDGE", "ICU", "MINDRAY_EGATEWAY^00A037EB2175780F^EUI-64", "MINDRAY"]
    assert head[8:] == ["ACK", "1", "P", "2.6"]


@given(st.text(max_size=60))
def test_no_field_opens_a_segment_in_the_answer(hostile: str) -> None:
    """Whatever stands in the header, the answer has its two segments and one block."""
    row = HEAD.format(control=hostile).replace("MINDRAY|", f"{hostile}|")
    found, _ = decode(framed(row.encode("utf-8", "surrogatepass")))
    for sent in (m.data for m in found if isinstance(m, Send)):
        assert sent.count(b"\x0b") == sent.count(b"\x1c") == 1
        assert sent.count(b"\r") == 3  # two segments, and the end of the block
        assert sent[1:].startswith(b"MSH|") and b"\rMSA|A" in sent


def test_an_enormous_control_id_is_neither_kept_nor_repeated() -> None:
    found, decoder = decode(b"".join(message(control="9" * 500_000 + str(n)) for n in range(3)))
    assert max(len(m.data) for m in found if isinstance(m, Send)) < 1000
    assert sys.getsizeof(decoder._seen) + sum(map(sys.getsizeof, decoder._seen)) < 10_000


def test_lead_off_is_unavailable_at_once(wire: Any) -> None:
    wired = wire("hl7-oru", Scene(faults=(Fault(3.0, 3.0, Kind.LEAD_OFF),)))
    found = [m for m in wired.run(9.0) if isinstance(m, Numeric)]
    spo2 = [m.validity.value for m in found if m.channel == "MDC_PULS_OXIM_SAT_O2"]
    assert spo2 == ["valid"] * 2 + ["unavailable"] * 3 + ["valid"] * 4
    heart = [m.validity.value for m in found if m.channel == "MDC_ECG_HEART_RATE"]
    assert heart == ["valid"] * 9


def test_every_report_is_acknowledged(wire: Any) -> None:
    wired = wire("hl7-oru")
    wired.run(5.0)
    answers = [a.split(b"\r")[1] for a in wired.cable._emulated.answers]
    assert answers == [f"MSA|AA|G{n}".encode() for n in range(1, 6)]


def test_a_message_of_one_sign_of_life_keeps_the_link() -> None:
    found, _ = decode(message())
    assert [m for m in found if isinstance(m, Sign)]


@pytest.mark.benchmark
def test_decodes_fifty_times_what_a_ward_sends() -> None:
    """TCP has no rate of its own: 20 beds that report every second are the measure."""
    data = b"".join(framed(report(Scene(), float(n), n)) for n in range(2000))
    decoder, began_s = Decoder(), time.process_time()
    decoder.feed(data)
    assert decoder.counters.frames == 2000
    assert 2000 / (time.process_time() - began_s) > 50 * 20
