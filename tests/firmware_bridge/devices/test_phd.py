"""20601 agents: the standard's own APDUs and those of another manager decode to what they say."""

from __future__ import annotations

import calendar
import random
import time
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firmware_bridge.devices import phd_apdu
from firmware_bridge.devices.phd import Decoder
from firmware_bridge.devices.phd_apdu import number
from firmware_bridge.emulators import phd as emulator
from firmware_bridge.emulators.faults import Fault, Kind
from firmware_bridge.emulators.patient import Scene
from firmware_bridge.types import Message, Numeric, Send, Validity

if TYPE_CHECKING:
    from collections.abc import Mapping

NOON_NS = calendar.timegm((2007, 12, 6, 12, 10, 0)) * 10**9
ACCEPTED = bytes.fromhex(
    "e300002c0000507900268000000080008000000000000000800000000008"
    + phd_apdu.OUR_SYSTEM_ID.hex()
    + "00000000000000000000"
)


@pytest.fixture
def vector(real_bytes: Any) -> Any:
    return lambda name: real_bytes(f"../vectors/ieee11073_20601_antidote/{name}")


def heard(*apdus: bytes) -> tuple[list[Message], Decoder]:
    decoder = Decoder()
    return [m for apdu in apdus for m in decoder.feed(apdu)], decoder


def told(messages: list[Message]) -> list[tuple[str, float | None, str]]:
    return [(m.channel, m.value, m.unit) for m in messages if isinstance(m, Numeric)]


def sent(messages: list[Message]) -> list[bytes]:
    return [m.data for m in messages if isinstance(m, Send)]


def test_an_oximeter_of_the_standard_configuration(vector: Any) -> None:
    """H211: AARQ, configuration 400. H241: SpO2 98 %, pulse 72 /min at 2007-12-06 12:10:00."""
    found, _ = heard(vector("H211_ID_0190"), vector("H241_ID_0190"))
    assert told(found) == [
        ("MDC_PULS_OXIM_SAT_O2", 98.0, "%"),
        ("MDC_PULS_OXIM_PULS_RATE", 72.0, "/min"),
    ]
    assert {m.device_ns for m in found if isinstance(m, Numeric)} == {NOON_NS}
    assert sent(found)[0] == ACCEPTED
    # The answer of Annex H (H242) to the report, with this report's invoke id 1238.
    assert sent(found)[1] == vector("H242").replace(bytes.fromhex("4321"), b"\x12\x38")


def test_a_blood_pressure_monitor_of_the_standard_configuration(vector: Any) -> None:
    """120/80, mean 100 mmHg, and 60.0 /min as an SFLOAT with an exponent."""
    found, _ = heard(vector("H211_ID_02BC"), vector("H241_ID_02BC"))
    assert told(found) == [
        ("MDC_PRESS_BLD_NONINV_SYS", 120.0, "mm[Hg]"),
        ("MDC_PRESS_BLD_NONINV_DIA", 80.0, "mm[Hg]"),
        ("MDC_PRESS_BLD_NONINV_MEAN", 100.0, "mm[Hg]"),
        ("MDC_PULS_RATE_NON_INV", 60.0, "/min"),
    ]


def test_a_blood_pressure_monitor_that_says_its_configuration(vector: Any) -> None:
    """The same report after H221. As published, six bytes stand in that twice, which its lengths
    show; without them it is whole."""
    config = vector("H221_ID_02BC").replace(bytes.fromhex("0a730002f040"), b"", 1)
    found, _ = heard(vector("H211"), config, vector("H241_ID_02BC"))
    assert [value for _, value, _ in told(found)] == [120.0, 80.0, 100.0, 60.0]


def test_a_scale_whose_report_needs_its_configuration(vector: Any) -> None:
    """H241: 76.2 kg at 2007-12-06 12:10:00, 76.0 kg at 20:05:00, and a body mass index each time,
    which is left out. That object is in the configuration that goes before (H221) alone: without
    it nothing of the report is taken."""
    found, decoder = heard(vector("H211"), vector("H221_ID_05DC"), vector("H241_ID_05DC"))
    assert told(found) == [("MDC_MASS_BODY_ACTUAL", weight, "kg") for weight in (76.2, 76.0)]
    evening_ns = calendar.timegm((2007, 12, 6, 20, 5, 0)) * 10**9
    assert [m.device_ns for m in found if isinstance(m, Numeric)] == [NOON_NS, evening_ns]
    assert decoder.counters.rejects == {"unknown measurement": 2}
    found, decoder = heard(vector("H211_ID_05DC"), vector("H241_ID_05DC"))
    assert told(found) == []
    assert decoder.counters.rejects == {"lengths": 1}


def test_the_standard_configuration_of_a_scale_is_as_it_says_itself(vector: Any) -> None:
    _, decoder = heard(vector("H211_ID_05DC"), vector("weighing_scale/std_config_05DC"))
    assert decoder._metrics == phd_apdu.STANDARD[1500]


def test_a_pedometer_is_heard_and_nothing_of_it_taken(vector: Any) -> None:
    """Its configuration 4001 is answered; 56 bytes lie behind its end, where the next APDU is."""
    request, config = (
        vector(f"pedometer/pedometer_{name}") for name in ("association_request", "noti_config")
    )
    found, decoder = heard(request, config, vector("H211_ID_0190"), vector("H241_ID_0190"))
    assert sent(found)[1][-4:] == bytes.fromhex("40010000")
    assert [v for _, v, _ in told(found)] == [98.0, 72.0]
    assert decoder.counters.rejects == {"no APDU": 1}
    assert decoder.counters.skipped_bytes == 56


@pytest.mark.parametrize(
    "name",
    ["H233", "H233_ID_0190", "H233_ID_02BC", "H233_ID_05DC", "H232", "H212", "rx_aare_example_one"],
)
def test_what_is_no_word_of_an_agent_to_us_changes_nothing(vector: Any, name: str) -> None:
    """Answers to a question that is never asked (who made it, its number), and a manager's own
    words."""
    found, decoder = heard(vector("H211_ID_0190"), vector(name), vector("H241_ID_0190"))
    assert [v for _, v, _ in told(found)] == [98.0, 72.0]
    assert len(sent(found)) == 2
    assert not decoder.counters.rejects


def test_the_answers_to_associations_are_those_of_the_standard(vector: Any) -> None:
    """H212 (configuration unknown) and the accepted one of another manager, but for who we are."""
    for asked, answered, system_id in (
        ("H211", "H212", "1122334455667788"),
        ("H211_ID_0190", "rx_aare_example_one", "8877665544332211"),
    ):
        due = vector(answered).replace(bytes.fromhex(system_id), phd_apdu.OUR_SYSTEM_ID)
        assert sent(heard(vector(asked))[0]) == [due]


def test_a_configuration_of_its_own_and_stored_weights_of_one_person(vector: Any) -> None:
    """A body composition scale: 79.6 kg at 2010-07-21 09:40 for person 52; nine other objects,
    of a partition or a kind that is not known, are left out and counted."""
    folder = "weighing_scale/"
    request, config, report = (
        vector(folder + name)
        for name in ("association_request", "roiv_mdc_noti_config", "data_report")
    )
    found, decoder = heard(request, config, report)
    weights = [m for m in found if isinstance(m, Numeric)]
    assert told(found)[0] == ("MDC_MASS_BODY_ACTUAL", 79.6, "kg")
    assert len(weights) == 1
    assert weights[0].device_ns == calendar.timegm((2010, 7, 21, 9, 40, 0)) * 10**9
    assert sent(found)[0] == ACCEPTED[:4] + b"\0\3" + ACCEPTED[6:]  # accepted, unknown config
    # The answer to a configuration, as in H222: accepted-config for 4000.
    assert sent(found)[1] == bytes.fromhex("e7000016001400010201000e0000000000000d1c000440000000")
    assert decoder.counters.rejects.keys() == {"unknown measurement"}


def test_the_answer_to_a_configuration_is_that_of_the_standard(vector: Any) -> None:
    """H221 is answered by H222, byte for byte."""
    found, _ = heard(vector("H211"), vector("H221"))
    assert sent(found)[1] == vector("H222")


def test_a_second_saturation_of_another_kind_is_not_the_first(vector: Any) -> None:
    """H221_ID_0190, whose object 3 is SpO2 with a supplemental type: it must not pass for object 1.
    As published, six bytes stand in it twice, which its lengths show; without them it is whole."""
    published = vector("H221_ID_0190")
    twice = bytes.fromhex("092f00040024")
    assert not heard(vector("H211"), published)[1]._metrics
    _, decoder = heard(vector("H211"), published.replace(twice, b"", 1))
    assert decoder._metrics[3].special
    assert not decoder._metrics[1].special


def test_an_apdu_whose_lengths_do_not_fit_is_not_taken(vector: Any) -> None:
    """This one's lists say 8 bytes and hold 26; with true lengths it says 120/80, 100."""
    decoder = Decoder()
    decoder.feed(vector("H211_ID_02BC"))
    assert not told(decoder.feed(vector("scan_report_info_var")))
    assert decoder.counters.rejects == {"lengths": 1}
    body = bytes.fromhex(
        "0f000000 0002 0038"
        "0001 0002 001a 0a75000a 0003 0006 0078 0050 0064 0990 0008 2007120612100000"
        "0002 0002 0012 0a4c0002 f258 0990 0008 2007120612100000"
    )
    said = bytes.fromhex("0000 00490050 0d1e") + len(body).to_bytes(2, "big") + body
    data = bytes.fromhex("0054 0101") + len(said).to_bytes(2, "big") + said
    whole = phd_apdu.apdu(phd_apdu.PRST, len(data).to_bytes(2, "big") + data)
    assert [v for _, v, _ in told(decoder.feed(whole))] == [120.0, 80.0, 100.0, 60.0]


@pytest.mark.parametrize(
    "noise",
    [b"\xe7\x00\xf0\x00", b"\xe7\x00\xf0\x00\xef\xfe", b"\xe2\x00\x40\x00", b"\xe6\x00\xf0\x00"],
    ids=["data", "data in data", "association", "abort"],
)
def test_a_length_that_is_damaged_does_not_swallow_what_follows(vector: Any, noise: bytes) -> None:
    """60 kB at an oximeter's pace would be a quarter of an hour without a value."""
    decoder = Decoder()
    found = decoder.feed(noise + vector("H211_ID_0190") + vector("H241_ID_0190") + bytes(8))
    assert [v for _, v, _ in told(found)] == [98.0, 72.0]


@pytest.mark.parametrize(
    "name",
    [
        "rx_rlrq_normal",
        "rx_rlre_normal",
        "rx_abrt_undefined",
        "rx_abrt_buffer_overflow",
        "rx_abrt_config_timeout",
        "rx_abrt_response_timeout",
    ],
)
def test_the_end_of_an_association_forgets_it(vector: Any, name: str) -> None:
    found, decoder = heard(vector("H211_ID_0190"), vector(name), vector("H241_ID_0190"))
    if "rlre" in name:  # an answer to what was never asked changes nothing
        assert told(found)
        return
    assert not told(found)
    assert sent(found)[-1][:2] == b"\xe6\0"  # what comes without association is aborted
    assert not decoder.counters.rejects


@pytest.mark.parametrize(
    ("raw", "bits", "value"),
    [
        (0x0062, 12, 98.0),
        (0xF258, 12, 60.0),
        (0xFF0002FA, 24, 76.2),
        (0x1140, 12, 3200.0),
        (0x07FF, 12, None),  # NaN
        (0x0800, 12, None),  # not at this resolution
        (0x07FE, 12, None),
        (0x0802, 12, None),
        (0x0801, 12, None),
        (0x007FFFFF, 24, None),
        (0x00800000, 24, None),
        (0x00800002, 24, None),
        (0x0FFF, 12, -1.0),
    ],
)
def test_numbers(raw: int, bits: int, value: float | None) -> None:
    assert number(raw, bits) == value


@given(st.integers(-2045, 2045), st.integers(-8, 7))
def test_numbers_come_back(mantissa: int, exponent: int) -> None:
    raw = int.from_bytes(emulator.encoded(mantissa, exponent, 2), "big")
    assert number(raw, 12) == pytest.approx(mantissa * 10.0**exponent)


def test_persons_are_not_mixed_up(vector: Any) -> None:
    folder = "weighing_scale/"
    names = ("association_request", "roiv_mdc_noti_config", "data_report")
    request, config, report = (vector(folder + name) for name in names)
    other = report.replace(bytes.fromhex("0034000a00a6"), bytes.fromhex("0035000a00a6"))
    assert other != report
    found, decoder = heard(request, config, report, other)
    assert len(told(found)) == 1
    assert decoder.counters.rejects["another person"] == 1


@pytest.mark.parametrize(
    ("bits", "validity"),
    [
        ("8000", Validity.INVALID),
        ("4000", Validity.QUESTIONABLE),
        ("2000", Validity.UNAVAILABLE),
        ("1000", Validity.INVALID),
        ("0800", Validity.INVALID),
        ("0400", Validity.QUESTIONABLE),
        ("c000", Validity.INVALID),
        ("0000", Validity.VALID),
    ],
)
def test_measurement_status(bits: str, validity: Validity) -> None:
    body = bytes.fromhex(f"00000000 0001 0010 0001 0002 000a 0a4c0002 0062 09470002{bits}")
    body = body.replace(bytes.fromhex("00010010"), bytes.fromhex("00010012"))
    body = body.replace(bytes.fromhex("0002000a"), bytes.fromhex("0002000c"))
    said = bytes.fromhex("0000 00000000 0d1e") + len(body).to_bytes(2, "big") + body
    data = bytes.fromhex("0001 0100") + len(said).to_bytes(2, "big") + said
    whole = phd_apdu.apdu(phd_apdu.PRST, len(data).to_bytes(2, "big") + data)
    found, _ = heard(emulator.association(400), whole)
    (value,) = [m for m in found if isinstance(m, Numeric)]
    assert value.validity is validity
    assert (value.value is None) == (validity not in (Validity.VALID, Validity.QUESTIONABLE))


@pytest.mark.parametrize(
    ("request_", "result"),
    [
        ("e2000032 40000000 0001002a 50790026", 8),  # another association version
        ("e2000032 80000000 0001002a ffff0026", 4),  # another data protocol
    ],
)
def test_an_agent_that_speaks_something_else_is_refused(request_: str, result: int) -> None:
    rest = emulator.association(400)[16:]
    found, _ = heard(bytes.fromhex(request_) + rest)
    assert sent(found)[0][:6] == b"\xe3\0\0\6" + result.to_bytes(2, "big")


POUNDS, KILOGRAMS = bytes.fromhex("06e0"), bytes.fromhex("06c3")


def weighed(*weights: tuple[float, Mapping[int, bytes]]) -> bytes:
    """A report of a scale's object 1, an observation for each weight and what else is said."""
    objects = b""
    for weight, more in weights:
        said = {phd_apdu.SIMPLE_NU: emulator.encoded(round(weight * 10), -1, 4), **more}
        attributes = b"".join(
            k.to_bytes(2, "big") + len(v).to_bytes(2, "big") + v for k, v in said.items()
        )
        head = (1, len(said), len(attributes))
        objects += b"".join(n.to_bytes(2, "big") for n in head) + attributes
    info = bytes(4) + len(weights).to_bytes(2, "big") + len(objects).to_bytes(2, "big") + objects
    said = bytes.fromhex("0000 00000000 0d1e") + len(info).to_bytes(2, "big") + info
    data = bytes.fromhex("0001 0100") + len(said).to_bytes(2, "big") + said
    return phd_apdu.apdu(phd_apdu.PRST, len(data).to_bytes(2, "big") + data)


def test_a_report_in_another_unit_is_not_in_that_of_the_configuration() -> None:
    """154 lb on a scale that was configured in kg are no 154 kg, nor is what comes after in that
    unit without a word; the configuration's own unit, said once more, changes nothing."""
    scale = emulator.association(1500)
    plain, pounds = weighed((154.0, {})), weighed((154.0, {phd_apdu.UNIT: POUNDS}))
    same = weighed((70.0, {phd_apdu.UNIT: KILOGRAMS}))
    found, decoder = heard(scale, plain, same)
    assert [v for _, v, _ in told(found)] == [154.0, 70.0]
    assert not decoder.counters.rejects
    found, decoder = heard(scale, pounds, plain, same, plain)
    assert [v for _, v, _ in told(found)] == [70.0, 154.0]
    assert decoder.counters.rejects == {"unit": 2}
    both = weighed((154.0, {phd_apdu.UNIT: POUNDS}), (70.0, {}), (70.0, {phd_apdu.UNIT: KILOGRAMS}))
    found, decoder = heard(scale, both)
    assert [v for _, v, _ in told(found)] == [70.0]
    assert decoder.counters.rejects == {"unit": 2}
    assert [v for _, v, _ in told(heard(scale, pounds, scale, plain)[0])] == [154.0]


@pytest.mark.parametrize("torn", [b"", b"\x06", b"\x06\xe0\x00"])
def test_a_unit_that_is_none_takes_its_report_with_it(torn: bytes) -> None:
    """Nothing of such an APDU is remembered either."""
    pounds_first = weighed((1.0, {phd_apdu.UNIT: POUNDS}), (70.0, {phd_apdu.UNIT: torn}))
    found, decoder = heard(emulator.association(1500), pounds_first, weighed((70.0, {})))
    assert [v for _, v, _ in told(found)] == [70.0]
    assert decoder.counters.rejects == {"unit": 1, "lengths": 1}


@pytest.mark.parametrize(
    ("attribute", "value"),
    [
        (phd_apdu.TYPE, "0002e144"),  # now a body's fat
        (0x092B, "e144"),
        (0x0A5F, "0080"),
        (phd_apdu.METRIC_IDS, "00010002e144"),
        (phd_apdu.SUPPLEMENTAL_TYPES, "000100040002e144"),
        (phd_apdu.VALUE_MAP, "000100040a4c0002"),
    ],
)
def test_a_report_that_says_that_its_object_is_another_is_refused(
    attribute: int, value: str
) -> None:
    """With all that follows of that object, until it is configured anew."""
    scale = emulator.association(1500)
    other = weighed((15.4, {attribute: bytes.fromhex(value)}))
    found, decoder = heard(scale, other, weighed((15.4, {})))
    assert told(found) == []
    assert decoder.counters.rejects == {"unknown measurement": 2}
    assert [v for _, v, _ in told(heard(scale, other, scale, weighed((70.0, {})))[0])] == [70.0]


def test_an_object_that_is_configured_under_another_id_is_not_its_type() -> None:
    """Metric-Id stands in the place of the type's code."""
    attributes = bytes.fromhex("092f0004 0002e140 0996000206c3 092b0002e144")
    described = bytes.fromhex("0006 0001 0003") + len(attributes).to_bytes(2, "big") + attributes
    info = bytes.fromhex("4000 0001") + len(described).to_bytes(2, "big") + described
    _, metrics = phd_apdu.configuration(info)
    assert metrics[1].special


def test_lead_off_is_unavailable_at_once(wire: Any) -> None:
    wired = wire("phd-oximeter", Scene(faults=(Fault(4.0, 3.0, Kind.LEAD_OFF),)))
    found = [m for m in wired.run(10.0) if isinstance(m, Numeric)]
    spo2 = [m.validity.value for m in found if m.channel == "MDC_PULS_OXIM_SAT_O2"]
    assert spo2.count("unavailable") == 3
    assert spo2[0] == spo2[-1] == "valid"


def reports(n: int) -> bytes:
    agent = emulator.oximeter(Scene())
    agent.reporting = True
    return emulator.association(400) + b"".join(agent.say(float(n)))


def test_damage_is_found_where_lengths_can_find_it() -> None:
    """20,000 reports, each with a length field damaged: none is taken. The control takes the
    numbers as they lie and lets them through."""
    rng = random.Random(3)
    one = reports(1)[len(emulator.association(400)) :]
    assert len(told(heard(emulator.association(400), one)[0])) == 2
    lengths = (4, 10, 20, 26, 28, 32)  # PRST, report, event, count and size of list, first value
    taken = 0
    for _ in range(20_000):
        dirty = bytearray(one)
        at = rng.choice(lengths) + rng.randrange(2)
        dirty[at] ^= 1 << rng.randrange(8)
        decoder = Decoder()
        decoder.feed(emulator.association(400))
        taken += bool(told(decoder.feed(bytes(dirty))))
    assert taken == 0


def test_control_without_the_check_of_lengths_damage_passes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(phd_apdu.Reader, "end", lambda self: None)
    decoder = Decoder()
    decoder.feed(emulator.association(400))
    dirty = bytearray(reports(1)[len(emulator.association(400)) :])
    dirty[27] -= 1  # one object instead of two
    assert len(told(decoder.feed(bytes(dirty)))) == 1


@pytest.mark.benchmark
def test_decodes_fifty_times_what_agents_send() -> None:
    """The transport has no rate of its own: ten reports a second are the measure."""
    data = reports(5000)
    decoder, began_s = Decoder(), time.process_time()
    decoder.feed(data)
    assert decoder.counters.frames > 4000
    assert 5000 / (time.process_time() - began_s) > 50 * 10
