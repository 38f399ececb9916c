"""GE S/5 displayed values as measurements: which field is which, how far it may be trusted, and
what the status bits say about the sensors.

Implements "Datex-Ohmeda Record Specification" (8005313), 3.5 (basic class) and 3.8.2 (flow and
volume group 2): units, status and label fields. Rules that are ours are said where they are.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from firmware_bridge.devices import ge_s5_phdb as phdb
from firmware_bridge.nomenclature import numeric
from firmware_bridge.session import NS_PER_S
from firmware_bridge.types import AlertKind, Numeric, Priority, Validity

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from firmware_bridge.devices.ge_s5_phdb import Group, Phdb

Reading = tuple["float | None", Validity]

GONE: Reading = (None, Validity.UNAVAILABLE)

# ecg: bits of the status field (table 3-10), heart rate sources that are the ECG (3-11)
ASYSTOLE, NOISE, ARTIFACT, LEARNING, CHANNEL_1_OFF = (1 << bit for bit in (2, 7, 8, 9, 11))
ECG_SOURCES = (0, 1, 9)
# p: zeroing (3-15). nibp, in the label: measuring, calibrating, older than 60 s (3-18)
ZEROING = 1 << 2
NIBP_MEASURING, NIBP_CALIBRATING, NIBP_OLD = (1 << bit for bit in (5, 7, 8))
# co2 (3-25), gases (3-30), flow and volume (3-37), svo2 (3-45)
CO2_APNEA, CO2_OCCLUSION, CO2_LEAK = (1 << bit for bit in (2, 5, 6))
CO2_CALIBRATING = 1 << 3 | 1 << 4
GAS_OFF = 1 << 2 | 1 << 3
FLOW_DISCONNECTED, FLOW_OBSTRUCTED, FLOW_LEAK = (1 << bit for bit in (2, 5, 6))
FLOW_OFF = FLOW_DISCONNECTED | 1 << 3 | 1 << 4 | 1 << 7
SVO2_OFF = 1 << 3 | 1 << 4 | 1 << 7
SVO2_ARTERIAL = 1  # in the label (3-46)
SVO2_DOUBTED = 1 << 2 | 1 << 5 | 1 << 8 | 1 << 9

PRESSURES = {  # label: systolic, diastolic, mean
    "ART": ("MDC_PRESS_BLD_ART_SYS", "MDC_PRESS_BLD_ART_DIA", "MDC_PRESS_BLD_ART_MEAN"),
    "ABP": ("MDC_PRESS_BLD_ART_ABP_SYS", "MDC_PRESS_BLD_ART_ABP_DIA", "MDC_PRESS_BLD_ART_ABP_MEAN"),
    "PA": ("MDC_PRESS_BLD_ART_PULM_SYS", "MDC_PRESS_BLD_ART_PULM_DIA",
           "MDC_PRESS_BLD_ART_PULM_MEAN"),
    "CVP": ("", "", "MDC_PRESS_BLD_VEN_CENT_MEAN"),
    "ICP": ("", "", "MDC_PRESS_INTRA_CRAN_MEAN"),
}  # fmt: skip
BODY_SITES = ("ESO", "NASO", "TYMP", "RECT", "BLAD", "AXIL", "CORE")
OTHER_SITES = ("T1", "T2", "T3", "T4", "T5", "T6")
ST_CHANNELS = {
    "I": "MDC_ECG_AMPL_ST_I",
    "II": "MDC_ECG_AMPL_ST_II",
    "V": "MDC_ECG_AMPL_ST_V",
}
NIBP = ("MDC_PRESS_BLD_NONINV_SYS", "MDC_PRESS_BLD_NONINV_DIA", "MDC_PRESS_BLD_NONINV_MEAN")
VENTILATION = (  # field of flow_vol, counts in one unit
    ("MDC_PRESS_AWAY_INSP_PEAK", "ppeak", 100),
    ("MDC_PRESS_AWAY_END_EXP_POS", "peep", 100),
    ("MDC_PRESS_RESP_PLAT", "pplat", 100),
    ("MDC_VOL_AWAY_TIDAL", "tv_insp", 10),
    ("MDC_VOL_AWAY_TIDAL_EXP", "tv_exp", 10),
    ("MDC_COMPL_LUNG", "compliance", 100),
    ("MDC_VOL_MINUTE_AWAY", "mv_exp", 100),
)
CHANNELS = {
    phdb.BASIC: (
        "MDC_ECG_HEART_RATE", "MDC_PULS_RATE", *ST_CHANNELS.values(), "MDC_PULS_OXIM_SAT_O2",
        "MDC_PULS_OXIM_PULS_RATE", "MDC_SAT_O2_VEN", *NIBP,
        *(channel for three in PRESSURES.values() for channel in three if channel),
        "MDC_TEMP", "MDC_TEMP_BODY", "MDC_RESP_RATE", "MDC_AWAY_CO2_ET", "MDC_CONC_AWAY_CO2_ET",
        "MDC_CONC_AWAY_CO2_INSP", "MDC_PRESS_AIR_AMBIENT", "MDC_CONC_AWAY_O2_ET",
        "MDC_CONC_AWAY_O2_INSP", *(channel for channel, _, _ in VENTILATION),
    ),
    phdb.EXT3: ("MDC_PRESS_AWAY_INSP_MEAN",),
}  # fmt: skip
NUMERICS = tuple(channel for channels in CHANNELS.values() for channel in channels)


@dataclass(frozen=True, slots=True)
class Condition:
    """What a status bit says about a sensor or the patient, while its group is active."""

    group: str
    bits: int
    code: str
    kind: AlertKind
    priority: Priority
    text: str
    channel: str


CONDITIONS = (
    Condition("ecg", ASYSTOLE, "MDC_EVT_ECG_ASYSTOLE", AlertKind.PHYSIOLOGICAL, Priority.HIGH,
              "asystole", "MDC_ECG_HEART_RATE"),
    Condition("ecg", CHANNEL_1_OFF, "MDC_EVT_LEADS_OFF", AlertKind.TECHNICAL, Priority.LOW,
              "ECG channel 1 off", "MDC_ECG_ELEC_POTL"),
    Condition("co2", CO2_APNEA, "MDC_EVT_APNEA", AlertKind.PHYSIOLOGICAL, Priority.HIGH,
              "apnea (CO2)", "MDC_RESP_RATE"),
    Condition("co2", CO2_OCCLUSION, "ge-s5:co2-occlusion", AlertKind.TECHNICAL, Priority.LOW,
              "CO2 sample line occluded", "MDC_AWAY_CO2_ET"),
    Condition("co2", CO2_LEAK, "ge-s5:co2-air-leak", AlertKind.TECHNICAL, Priority.LOW,
              "CO2 air leak", "MDC_AWAY_CO2_ET"),
    Condition("flow_vol", FLOW_DISCONNECTED, "ge-s5:circuit-disconnected", AlertKind.TECHNICAL,
              Priority.MEDIUM, "breathing circuit disconnected", "MDC_VOL_MINUTE_AWAY"),
    Condition("flow_vol", FLOW_OBSTRUCTED, "ge-s5:circuit-obstructed", AlertKind.TECHNICAL,
              Priority.MEDIUM, "breathing circuit obstructed", "MDC_VOL_MINUTE_AWAY"),
    Condition("flow_vol", FLOW_LEAK, "ge-s5:circuit-leak", AlertKind.TECHNICAL,
              Priority.LOW, "breathing circuit leaks", "MDC_VOL_MINUTE_AWAY"),
)  # fmt: skip
LEADS_OFF = CONDITIONS[1]


def numerics(data: Phdb) -> list[Numeric]:
    """All measurements of one subrecord. Those of a class that are not measured are said to be
    unavailable, but for a blood pressure by cuff that is older than a minute: it is not repeated,
    so that its age is known here."""
    found: dict[str, Reading] = dict.fromkeys(CHANNELS.get(data.data_class, ()), GONE)
    if data.data_class == phdb.BASIC:
        for channel, reading in _basic(data.groups):
            if reading is None:
                found.pop(channel, None)
            elif found[channel] == GONE:  # of several sources the first that measures counts
                found[channel] = reading
    elif data.data_class == phdb.EXT3:
        found["MDC_PRESS_AWAY_INSP_MEAN"] = data.groups["flow_vol2"].reading("pmean", 100)
    device_ns = data.time_s * NS_PER_S
    return [numeric(channel, *reading, device_ns) for channel, reading in found.items()]


def conditions(data: Phdb) -> list[tuple[Condition, bool]]:
    """What the status bits of a basic subrecord say, condition by condition."""
    if data.data_class != phdb.BASIC:
        return []
    return [
        (c, data.groups[c.group].active and bool(data.groups[c.group].status & c.bits))
        for c in CONDITIONS
    ]


def _basic(groups: Mapping[str, Group]) -> Iterator[tuple[str, Reading | None]]:
    yield from _ecg(groups["ecg"])
    yield from _pressures([groups[name] for name in ("p1", "p2", "p3", "p4", "p5", "p6")])
    yield from _nibp(groups["nibp"])
    yield from _temperatures([groups[name] for name in ("t1", "t2", "t3", "t4")])
    yield from _saturation(groups["spo2"], groups["svo2"])
    yield from _co2(groups["co2"])
    yield from _oxygen(groups["o2"])
    yield from _ventilation(groups["flow_vol"])
    # The rate of breathing comes from CO2, then spirometry, then the impedance of the ECG leads.
    yield "MDC_RESP_RATE", groups["ecg"].reading("imp_rr")


def _doubted(reading: Reading, doubt: int) -> Reading:
    value, validity = reading
    return (value, Validity.QUESTIONABLE) if doubt and validity is Validity.VALID else reading


def _rate(reading: Reading) -> Reading:
    """A pulse of 0 means that none was found; the specification has no value of its own for it."""
    return (None, Validity.INVALID) if reading[0] == 0 else reading


def _ecg(group: Group) -> Iterator[tuple[str, Reading]]:
    """Heart rate (3-14): it comes from the source that the monitor has selected, and is 0 while the
    monitor learns the beats (as in the record of 2009). Only with the asystole bit is 0 a rate."""
    reading = group.reading("hr")
    learning = group.status & LEARNING and reading[0] == 0
    if learning or group.status >> 3 & 0xF not in ECG_SOURCES:
        reading = GONE
    elif not group.status & ASYSTOLE:
        reading = _rate(reading)
    yield "MDC_ECG_HEART_RATE", _doubted(reading, group.status & (NOISE | ARTIFACT | LEARNING))
    for channel in (1, 2, 3):
        lead = phdb.ecg_lead(group.label, channel)
        if lead in ST_CHANNELS:
            yield ST_CHANNELS[lead], group.reading(f"st{channel}", 100)


def _pressures(groups: list[Group]) -> Iterator[tuple[str, Reading]]:
    for group in groups:
        label = phdb.label_text(phdb.PRESSURE_LABELS, group.label)
        off = group.status & ZEROING
        for channel, field in zip(PRESSURES.get(label, ()), ("sys", "dia", "mean")):
            if channel:
                yield channel, GONE if off else group.reading(field, 100)
        if label in ("ART", "ABP"):
            yield "MDC_PULS_RATE", GONE if off else _rate(group.reading("hr"))


def _nibp(group: Group) -> Iterator[tuple[str, Reading | None]]:
    held = group.active and group.label & (NIBP_MEASURING | NIBP_OLD)
    for channel, field in zip(NIBP, ("sys", "dia", "mean")):
        reading = GONE if group.label & NIBP_CALIBRATING else group.reading(field, 100)
        yield channel, None if held and reading[0] is not None else reading


def _temperatures(groups: list[Group]) -> Iterator[tuple[str, Reading]]:
    for group in groups:
        label = phdb.label_text(phdb.TEMPERATURE_LABELS, group.label)
        if label in BODY_SITES:
            yield "MDC_TEMP_BODY", group.reading("temp", 100)
        elif label in OTHER_SITES:
            yield "MDC_TEMP", group.reading("temp", 100)


def _saturation(spo2: Group, svo2: Group) -> Iterator[tuple[str, Reading]]:
    yield "MDC_PULS_OXIM_SAT_O2", spo2.reading("spo2", 100)
    yield "MDC_PULS_OXIM_PULS_RATE", _rate(spo2.reading("pr"))
    off = svo2.status & SVO2_OFF or svo2.label == SVO2_ARTERIAL
    reading = GONE if off else svo2.reading("svo2", 100)
    yield "MDC_SAT_O2_VEN", _doubted(reading, svo2.status & SVO2_DOUBTED)


def _co2(group: Group) -> Iterator[tuple[str, Reading]]:
    """In apnea there is no end of an expiration: what is shown then is doubted."""
    off = group.status & CO2_CALIBRATING
    doubt = group.status & (CO2_APNEA | CO2_OCCLUSION | CO2_LEAK)
    et = GONE if off else _doubted(group.reading("et", 100), doubt)
    ambient = group.reading("amb_press", 10)
    yield "MDC_CONC_AWAY_CO2_ET", et
    yield "MDC_CONC_AWAY_CO2_INSP", GONE if off else _doubted(group.reading("fi", 100), doubt)
    yield "MDC_PRESS_AIR_AMBIENT", ambient
    yield "MDC_RESP_RATE", GONE if off else _doubted(group.reading("rr"), doubt)
    yield "MDC_AWAY_CO2_ET", _partial_pressure(et, ambient)


def _partial_pressure(percent: Reading, ambient: Reading) -> Reading:
    """mmHg of a share of the ambient pressure, as doubtful as the share."""
    if percent[0] is None or ambient[0] is None:
        return None, percent[1] if percent[0] is None else ambient[1]
    return percent[0] / 100 * ambient[0], percent[1]


def _oxygen(group: Group) -> Iterator[tuple[str, Reading]]:
    off = group.status & GAS_OFF
    yield "MDC_CONC_AWAY_O2_ET", GONE if off else group.reading("et", 100)
    yield "MDC_CONC_AWAY_O2_INSP", GONE if off else group.reading("fi", 100)


def _ventilation(group: Group) -> Iterator[tuple[str, Reading]]:
    off = group.status & FLOW_OFF
    doubt = group.status & (FLOW_OBSTRUCTED | FLOW_LEAK)
    for channel, field, per_unit in VENTILATION:
        yield channel, GONE if off else _doubted(group.reading(field, per_unit), doubt)
    yield "MDC_RESP_RATE", GONE if off else _doubted(group.reading("rr"), doubt)
