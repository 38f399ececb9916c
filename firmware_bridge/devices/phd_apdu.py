"""ISO/IEEE 11073-20601 APDUs: what they hold, and how a manager answers. No state in here.

Implements: IEEE 11073-20601 Annex A (ASN.1) in Medical Device Encoding Rules: big-endian, every
choice and list with its length. A length that does not fit what it encloses makes the whole APDU
invalid. Specialisations' standard configurations: 11073-10404 (oximeter, 400), -10407 (blood
pressure, 700), -10415 (weighing scale, 1500).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from firmware_bridge.devices.big_endian import Malformed, Reader

if TYPE_CHECKING:
    from collections.abc import Mapping

AARQ, AARE, RLRQ, RLRE, ABRT, PRST = 0xE200, 0xE300, 0xE400, 0xE500, 0xE600, 0xE700
CHOICES = (AARQ, AARE, RLRQ, RLRE, ABRT, PRST)
PROTOCOL_20601 = 0x5079

EVENT, CONFIRMED_EVENT, EVENT_RESPONSE = 0x0100, 0x0101, 0x0201
NOTI_CONFIG = 0x0D1C
SCAN_FIXED, SCAN_VAR, SCAN_MP_FIXED = 0x0D1D, 0x0D1E, 0x0D1F

ACCEPTED, ACCEPTED_UNKNOWN_CONFIG = 0, 3
NO_COMMON_PROTOCOL, UNSUPPORTED_VERSION = 4, 8
VERSION_1 = 0x8000_0000

TYPE, UNIT, VALUE_MAP, METRIC_IDS = 0x092F, 0x0996, 0x0A55, 0x0A76
METRIC_ID, METRIC_PARTITION = 0x092B, 0x0A5F
SIMPLE_NU, BASIC_NU, COMPOUND_BASIC_NU = 0x0A56, 0x0A4C, 0x0A75
ABSOLUTE_TIME, MEASUREMENT_STATUS = 0x0990, 0x0947
SUPPLEMENTAL_TYPES = 0x0A61
OTHER_IDS = (SUPPLEMENTAL_TYPES, METRIC_ID, METRIC_PARTITION)
"""With one of these, an object is not simply what its type says."""
REDEFINING = (TYPE, METRIC_IDS, VALUE_MAP, *OTHER_IDS)
"""With one of these in a report, it is not what it was configured as."""
PARTITION_SCADA = 2

OUR_SYSTEM_ID = b"medge\0\0\1"


@dataclass(frozen=True, slots=True)
class Association:
    """What an agent says of itself. `config` is its configuration's number."""

    version: int
    protocol: int
    system_id: bytes
    config: int


@dataclass(frozen=True, slots=True)
class Metric:
    """One object of a configuration. `physio` are its codes in the SCADA partition, one or, where
    compound, several; `layout` is (attribute, length) of a fixed report's value, in order.
    `special` objects (a second SpO2 of another modality) are not what their codes say."""

    physio: tuple[int, ...]
    unit: int
    layout: tuple[tuple[int, int], ...]
    special: bool = False


_TIMED = ((ABSOLUTE_TIME, 8),)
STANDARD: Mapping[int, Mapping[int, Metric]] = {
    400: {
        1: Metric((0x4BB8,), 0x0220, ((BASIC_NU, 2), *_TIMED)),
        10: Metric((0x481A,), 0x0AA0, ((BASIC_NU, 2), *_TIMED)),
    },
    700: {
        1: Metric((0x4A05, 0x4A06, 0x4A07), 0x0F20, ((COMPOUND_BASIC_NU, 10), *_TIMED)),
        2: Metric((0x482A,), 0x0AA0, ((BASIC_NU, 2), *_TIMED)),
    },
    1500: {1: Metric((0xE140,), 0x06C3, ((SIMPLE_NU, 4), *_TIMED))},
}


@dataclass(frozen=True, slots=True)
class Observation:
    """The attributes of one object in a report, by id. `person` None: of nobody in particular."""

    handle: int
    values: Mapping[int, bytes]
    person: int | None = None


def association(body: bytes) -> Association:
    """Of an AARQ's body. Raises `Malformed`."""
    reader = Reader(body)
    version = reader.u32()
    for offer in reader.counted():
        protocol, inside = offer.u16(), offer.inner()
        if protocol == PROTOCOL_20601:
            inside.take(4 + 2 + 4 + 4 + 4)  # versions, encoding, nomenclature, units, system type
            return Association(version, protocol, inside.octets(), inside.u16())
    return Association(version, 0, b"", 0)


def accept(result: int) -> bytes:
    """An AARE with `result`, from a manager that takes what agents report."""
    info = (
        b"\x80\0\0\0" b"\x80\0" b"\x80\0\0\0" b"\0\0\0\0" b"\x80\0\0\0"
        + len(OUR_SYSTEM_ID).to_bytes(2, "big") + OUR_SYSTEM_ID + bytes(10)
    )  # fmt: skip
    protocol = PROTOCOL_20601 if result in (ACCEPTED, ACCEPTED_UNKNOWN_CONFIG) else 0
    said = info if protocol else b""
    return apdu(AARE, _u16(result) + _u16(protocol) + _u16(len(said)) + said)


def apdu(choice: int, body: bytes) -> bytes:
    """A whole APDU."""
    return _u16(choice) + _u16(len(body)) + body


def response(invoke: int, handle: int, event: int, info: bytes) -> bytes:
    """The answer to a confirmed event report, as an APDU."""
    said = _u16(handle) + bytes(4) + _u16(event) + _u16(len(info)) + info
    data = _u16(invoke) + _u16(EVENT_RESPONSE) + _u16(len(said)) + said
    return apdu(PRST, _u16(len(data)) + data)


def configuration(info: bytes) -> tuple[int, dict[int, Metric]]:
    """The number and the objects of a configuration report. Raises `Malformed`."""
    reader, metrics = Reader(info), {}
    number = reader.u16()
    for described in reader.counted():
        described.u16()  # class
        handle = described.u16()
        values = {a.u16(): a.octets() for a in described.counted()}
        metrics[handle] = _metric(values)
    reader.end()
    return number, metrics


def _metric(values: Mapping[int, bytes]) -> Metric:
    kind = Reader(values.get(TYPE, bytes(4)))
    partition, code = kind.u16(), kind.u16()
    physio: tuple[int, ...] = (code,)
    if METRIC_IDS in values:
        physio = tuple(m.u16() for m in Reader(values[METRIC_IDS]).counted())
    layout: tuple[tuple[int, int], ...] = ()
    if VALUE_MAP in values:
        layout = tuple((m.u16(), m.u16()) for m in Reader(values[VALUE_MAP]).counted())
    unit = Reader(values.get(UNIT, b"\0\0")).u16()
    if partition != PARTITION_SCADA:
        physio = ()
    return Metric(physio, unit, layout, any(a in values for a in OTHER_IDS))


def as_reported(metric: Metric, values: Mapping[int, bytes]) -> Metric:
    """The object from a report with these attributes on: in the unit that it says, and `special`
    where it says that it is another one. Raises `Malformed`."""
    unit = metric.unit
    if UNIT in values:
        reader = Reader(values[UNIT])
        unit = reader.u16()
        reader.end()
    return replace(
        metric, unit=unit, special=metric.special or any(a in values for a in REDEFINING)
    )


def observations(event: int, info: bytes, metrics: Mapping[int, Metric]) -> list[Observation]:
    """Everything in a scan report of kind `event`. Raises `Malformed`."""
    reader = Reader(info)
    reader.take(4)  # request and report numbers
    found: list[Observation] = []
    if event in (SCAN_FIXED, SCAN_VAR):
        found += [_observation(o, event == SCAN_FIXED, metrics) for o in reader.counted()]
    else:
        for person in reader.counted():
            number = person.u16()
            found += [
                _observation(o, event == SCAN_MP_FIXED, metrics, number) for o in person.counted()
            ]
    reader.end()
    return found


def _observation(
    reader: Reader, fixed: bool, metrics: Mapping[int, Metric], person: int | None = None
) -> Observation:
    handle = reader.u16()
    if not fixed:
        return Observation(handle, {a.u16(): a.octets() for a in reader.counted()}, person)
    value, metric = reader.inner(), metrics.get(handle)
    if metric is None:
        raise Malformed("unknown object")
    values = {attribute: value.take(length) for attribute, length in metric.layout}
    value.end()
    return Observation(handle, values, person)


def floats(attribute: int, data: bytes) -> list[float | None]:
    """The numbers of a value attribute; None for what is not a number at this resolution, an
    infinity, or a reserved value. Raises `Malformed`."""
    reader = Reader(data)
    if attribute == SIMPLE_NU:
        return [number(reader.u32(), 24)]
    if attribute == BASIC_NU:
        return [number(reader.u16(), 12)]
    return [number(each.u16(), 12) for each in reader.counted()]


def number(raw: int, mantissa_bits: int) -> float | None:
    """A FLOAT (24) or SFLOAT (12): exponent above the mantissa, both in two's complement."""
    half = 1 << (mantissa_bits - 1)
    mantissa = (raw & (2 * half - 1)) - (2 * half if raw & half else 0)
    exponent_bits = 8 if mantissa_bits == 24 else 4
    exponent = raw >> mantissa_bits
    exponent -= 1 << exponent_bits if exponent >> (exponent_bits - 1) else 0
    if not -half + 2 < mantissa < half - 2:  # NaN, NRes, both infinities, reserved
        return None
    value = mantissa * 10.0**exponent if exponent >= 0 else mantissa / 10.0**-exponent
    return value if math.isfinite(value) else None


def _u16(value: int) -> bytes:
    return value.to_bytes(2, "big")
