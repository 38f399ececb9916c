"""Philips IntelliVue Data Export: attributes of polled objects as measurements, samples and alarms.

Implements "IntelliVue Data Export Interface Programming Guide" (4535 642 59271): numeric, wave and
alert monitor objects. Physiological ids are the lower 16 bits of the MDC codes of the nomenclature,
labels are whole codes; the one exception is said at `PLETH_PULSE`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from firmware_bridge.devices import philips_messages as wire
from firmware_bridge.devices.big_endian import Malformed, Reader, absolute_ns
from firmware_bridge.devices.philips_messages import float_value, items_of
from firmware_bridge.nomenclature import TERMS, numeric
from firmware_bridge.types import AlertKind, Feed, Numeric, Priority, Validity

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

PATIENT_ALARMS, TECHNICAL_ALARMS = 0x0902, 0x0904
HANDLE, LABEL = 0x0921, 0x0924
VALUE, VALUE_LIST = 0x0950, 0x094B
WAVE, WAVE_LIST = 0x096E, 0x0967
WAVE_SPEC, WAVE_SCALE, WAVE_FIXED = 0x096D, 0x096F, 0x0A16
WAVE_PERIOD, UNIT = 0x098D, 0x0996
TIME_STAMP = 0x0990
STATIC = (LABEL, WAVE_SPEC, WAVE_SCALE, WAVE_FIXED, WAVE_PERIOD, UNIT)
"""Attributes that need not come again with each value."""

MEDICAL = 0x0002  # the partition of labels that are nomenclature codes
PLETH_PULSE = 0x4822  # Philips' id of the pulse by oximetry, 481A in the nomenclature
TEMPERATURE, BODY_TEMPERATURE = 0x4B48, 0x4B5C  # the latter only as a label of the former

NUMERICS = {
    0x4182: "MDC_ECG_HEART_RATE",
    0x480A: "MDC_PULS_RATE",
    PLETH_PULSE: "MDC_PULS_OXIM_PULS_RATE",
    0x4BB8: "MDC_PULS_OXIM_SAT_O2",
    0x4B3C: "MDC_SAT_O2_VEN",
    0x0301: "MDC_ECG_AMPL_ST_I",
    0x0302: "MDC_ECG_AMPL_ST_II",
    0x0343: "MDC_ECG_AMPL_ST_V",
    0x4A05: "MDC_PRESS_BLD_NONINV_SYS",
    0x4A06: "MDC_PRESS_BLD_NONINV_DIA",
    0x4A07: "MDC_PRESS_BLD_NONINV_MEAN",
    0x4A11: "MDC_PRESS_BLD_ART_SYS",
    0x4A12: "MDC_PRESS_BLD_ART_DIA",
    0x4A13: "MDC_PRESS_BLD_ART_MEAN",
    0x4A15: "MDC_PRESS_BLD_ART_ABP_SYS",
    0x4A16: "MDC_PRESS_BLD_ART_ABP_DIA",
    0x4A17: "MDC_PRESS_BLD_ART_ABP_MEAN",
    0x4A1D: "MDC_PRESS_BLD_ART_PULM_SYS",
    0x4A1E: "MDC_PRESS_BLD_ART_PULM_DIA",
    0x4A1F: "MDC_PRESS_BLD_ART_PULM_MEAN",
    0x4A47: "MDC_PRESS_BLD_VEN_CENT_MEAN",
    0x580B: "MDC_PRESS_INTRA_CRAN_MEAN",
    TEMPERATURE: "MDC_TEMP",
    0x500A: "MDC_RESP_RATE",
    0x50B0: "MDC_AWAY_CO2_ET",
}
CHANNELS = (*NUMERICS.values(), "MDC_TEMP_BODY")
MEASURED_ONCE = frozenset(c for c in CHANNELS if "NONINV" in c)
"""A value of these stays on the screen; it is said once for each measurement. Its time is the one
that it was stamped with, never that of the poll."""

UNITS = {  # unit code: UCUM, and what one of the monitor's is in it
    0x0200: ("1", 1.0),
    0x0220: ("%", 1.0),
    0x0512: ("mm", 1.0),
    0x0AA0: ("/min", 1.0),  # beats
    0x0AC0: ("/min", 1.0),  # pulses
    0x0AE0: ("/min", 1.0),  # breaths
    0x0F20: ("mm[Hg]", 1.0),
    0x0F03: ("mm[Hg]", 7.500617),  # kPa
    0x10B2: ("mV", 1.0),
    0x10C0: ("1", 1.0),  # ohm: of the chest's impedance only the course matters
    0x17A0: ("Cel", 1.0),
}

MAX_ABSOLUTE = 1e6  # of a scale: beyond are no units that a wave can have
MAX_SAMPLES = 1024  # in one message; an ECG has 128
# Samples have no mark of doubt: questionable ones are kept, those of a demonstration are not.
NO_SAMPLES = wire.INVALID | wire.UNAVAILABLE | wire.CALIBRATING | wire.TEST | wire.DEMO
FIXED_INVALID = 1  # a fixed value that marks what is no measurement


def _feed(name: str, channel: str, rate_hz: float) -> Feed:
    return Feed(name, (channel,), rate_hz, TERMS[channel].unit, 0.0, -math.inf, math.inf)


ECG_LEAD_II = 0x0102
WAVES = {
    ECG_LEAD_II: _feed("ecg", "MDC_ECG_ELEC_POTL_II", 500),
    0x4BB4: _feed("pleth", "MDC_PULS_OXIM_PLETH", 125),
    0x4A14: _feed("abp", "MDC_PRESS_BLD_ART_ABP", 125),
    0x5000: _feed("resp", "MDC_RESP", 62.5),
}
SOURCES = {
    0x0100: "MDC_ECG_ELEC_POTL",  # of whichever lead
    **{physio: feed.channels[0] for physio, feed in WAVES.items()},
    **NUMERICS,
}
"""What an alarm is about."""
WAVE_LABELS = tuple(MEDICAL << 16 | physio for physio in WAVES)

# The lower 16 bits of MDC event codes. Only those whose name is certain.
EVENTS = {
    40: "MDC_EVT_HI",
    62: "MDC_EVT_LO",
    274: "MDC_EVT_LEADS_OFF",
    3072: "MDC_EVT_APNEA",
    3076: "MDC_EVT_ECG_ASYSTOLE",
}
TECHNICAL_TYPES = {1: Priority.LOW, 2: Priority.MEDIUM, 4: Priority.HIGH}
PATIENT_TYPES = {bits << 8: priority for bits, priority in TECHNICAL_TYPES.items()}
ALARM_INHIBITED = 0x8000
ALARM_NOT_REAL = 0x0400 | 0x0100  # test and demonstration
TEXT_INFO = 516
GENERAL_INFO_BYTES = 10


class Unusable(Exception):
    """Why samples that are well formed cannot be given in their unit; stays inside the codec."""


@dataclass(frozen=True, slots=True)
class Wave:
    """Samples of one wave, `[n]` in the unit of its feed, NaN where they are no measurement."""

    feed: Feed
    period_ticks: int
    samples: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Alarm:
    """One alarm of one of the monitor's lists."""

    code: str
    channel: str
    handle: int
    kind: AlertKind
    priority: Priority
    text: str

    @property
    def key(self) -> tuple[str, str, int, AlertKind]:
        """The same for the same alarm, whatever its priority and text. A test is another one: what
        it is a test of has ended."""
        return self.code, self.channel, self.handle, self.kind


def validity(state: int) -> Validity:
    """How far the monitor trusts a value. Test data is no measurement; what a demonstration shows
    is never taken for a real one either, but can be looked at."""
    if state & (wire.INVALID | wire.TEST):
        return Validity.INVALID
    if state & (wire.UNAVAILABLE | wire.CALIBRATING):
        return Validity.UNAVAILABLE
    return Validity.QUESTIONABLE if state & (wire.QUESTIONABLE | wire.DEMO) else Validity.VALID


def numerics(known: Mapping[int, bytes], clock_ns: int | None) -> list[Numeric]:
    """Measurements among the attributes of a numeric object, at their own time or, of what is
    measured all the time, at `clock_ns`. Raises `Malformed`."""
    values: list[Reader] = []
    if VALUE in known:
        values.append(Reader(known[VALUE]))
    if VALUE_LIST in known:
        values += [item.part(10) for item in items_of(known[VALUE_LIST])]
    stamp = known.get(TIME_STAMP)
    at_ns = absolute_ns(stamp) if stamp else None
    found = (_numeric(reader, _label(known), at_ns, clock_ns) for reader in values)
    return [one for one in found if one is not None]


def _numeric(
    reader: Reader, label: int | None, at_ns: int | None, clock_ns: int | None
) -> Numeric | None:
    physio, state, unit_code = reader.u16(), reader.u16(), reader.u16()
    value, special = float_value(reader.take(4))
    reader.end()
    channel = _channel(physio, label)
    if channel is None:
        return None
    trust = validity(state)
    if trust in (Validity.VALID, Validity.QUESTIONABLE) and value is None:
        trust = special
    unit, factor = UNITS.get(unit_code, ("", 1.0))
    if value is not None and unit != TERMS[channel].unit:
        value = None  # in a unit that is not known it is no number
    device_ns = at_ns or (None if channel in MEASURED_ONCE else clock_ns)
    return numeric(channel, None if value is None else value * factor, trust, device_ns)


def _label(known: Mapping[int, bytes]) -> int | None:
    return int.from_bytes(known[LABEL], "big") if len(known.get(LABEL, b"")) == 4 else None


def _channel(physio: int, label: int | None) -> str | None:
    """What a value is. A label outside the nomenclature is a variant (a pulse by a pressure line,
    a saturation of the left hand): not what the plain name means."""
    if label is not None and label >> 16 != MEDICAL:
        return None
    if physio == TEMPERATURE and label is not None and label & 0xFFFF == BODY_TEMPERATURE:
        return "MDC_TEMP_BODY"
    return NUMERICS.get(physio)


def waves(known: Mapping[int, bytes]) -> list[Wave]:
    """Samples among the attributes of a wave object. Raises `Malformed` and `Unusable`."""
    values: list[Reader] = []
    if WAVE in known:
        values.append(Reader(known[WAVE]))
    if WAVE_LIST in known:
        values += list(_wave_parts(known[WAVE_LIST]))
    found = (_wave(known, reader) for reader in values)
    return [one for one in found if one is not None]


def _wave_parts(data: bytes) -> list[Reader]:
    parts = []
    for item in items_of(data):
        head = item.take(4)
        size = item.take(2)
        parts.append(Reader(head + size + item.take(int.from_bytes(size, "big"))))
    return parts


def _wave(known: Mapping[int, bytes], reader: Reader) -> Wave | None:
    physio, state = reader.u16(), reader.u16()
    raw = reader.take(reader.u16())
    reader.end()
    label = _label(known)
    if physio not in WAVES or (label is not None and label >> 16 != MEDICAL):
        return None
    if any(code not in known for code in (WAVE_SPEC, WAVE_SCALE, WAVE_PERIOD, UNIT)):
        raise Unusable("wave without its scale")
    feed = WAVES[physio]
    period_ticks = Reader(known[WAVE_PERIOD]).u32()
    if period_ticks * feed.rate_hz != wire.TICKS_PER_S:
        raise Unusable("wave rate")
    samples = _scaled(known, _counts(known, raw), feed)
    if state & NO_SAMPLES:
        samples[:] = np.nan
    return Wave(feed, period_ticks, samples)


def _counts(known: Mapping[int, bytes], raw: bytes) -> NDArray[np.float64]:
    """Converter counts, NaN where a fixed value marks that there is none."""
    spec = Reader(known[WAVE_SPEC])
    spec.u16()  # how many samples are usual
    size_bits, significant_bits = spec.u8(), spec.u8()
    if size_bits not in (8, 16) or not 0 < significant_bits <= size_bits:
        raise Malformed("wave sample size")
    if len(raw) % (size_bits // 8) or not 0 < len(raw) * 8 // size_bits <= MAX_SAMPLES:
        raise Malformed("wave length")
    words = np.frombuffer(raw, ">u2" if size_bits == 16 else "u1").astype(np.int64)
    counts = (words & (1 << significant_bits) - 1).astype(np.float64)
    for item in items_of(known.get(WAVE_FIXED, bytes(4))):
        fixed_id, mask = item.u16(), item.u16()
        if fixed_id == FIXED_INVALID and mask:
            counts[words & mask == mask] = np.nan
    return counts


def _scaled(
    known: Mapping[int, bytes], counts: NDArray[np.float64], feed: Feed
) -> NDArray[np.float64]:
    """Counts in the feed's unit; a wave without absolute values is where it is in its range."""
    scale = Reader(known[WAVE_SCALE])
    low, high = (float_value(scale.take(4))[0] for _ in range(2))
    low_count, high_count = scale.u16(), scale.u16()
    unit, factor = UNITS.get(Reader(known[UNIT]).u16(), ("", 1.0))
    if low is None or high is None:
        low, high, unit = 0.0, 1.0, "1"
    if unit != feed.unit:
        raise Unusable("wave unit")
    if low_count >= high_count or not abs(low) < MAX_ABSOLUTE > abs(high):
        raise Unusable("wave scale")
    return (low + (counts - low_count) * ((high - low) / (high_count - low_count))) * factor


def alarms(data: bytes, technical: bool) -> list[Alarm]:
    """The active alarms of one of the monitor's two lists. One that was switched off is none; but a
    technical one is still true, only nobody is called: a lead that is off stays off. Raises
    `Malformed`."""
    found = (_alarm(item, technical) for item in items_of(data))
    return [one for one in found if one is not None]


def _alarm(item: Reader, technical: bool) -> Alarm | None:
    source, code, kind, state = (item.u16() for _ in range(4))
    _, _, handle, info_id = (item.u16() for _ in range(4))
    info = item.part(item.u16())
    types = TECHNICAL_TYPES if technical else PATIENT_TYPES
    priority = next((types[bits] for bits in reversed(types) if kind & bits), None)
    if priority is None or (state & ALARM_INHIBITED and not technical):
        return None
    if state & ALARM_INHIBITED:
        priority = Priority.NONE
    text = _text(info) if info_id == TEXT_INFO else ""
    name = EVENTS.get(code & ~1, f"philips-intellivue:{code}")  # the last bit words the text
    channel = SOURCES.get(source, "")
    what = AlertKind.TECHNICAL if technical else AlertKind.PHYSIOLOGICAL
    if state & ALARM_NOT_REAL:
        what, priority = AlertKind.OTHER, Priority.NONE
    return Alarm(name, channel, handle, what, priority, text or f"alarm {code}")


def _text(info: Reader) -> str:
    info.take(GENERAL_INFO_BYTES)
    raw = info.take(info.u16()).decode("utf-16-be", "replace")
    return " ".join("".join(c if c.isprintable() else " " for c in raw).split())
