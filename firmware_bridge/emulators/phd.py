"""Emulated personal health devices: agents after IEEE 11073-20601 that associate and report.

The oximeter and the cuff have their standard configurations; the scale reports one of its own, as a
device that is no standard one does.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from firmware_bridge.devices import phd, phd_apdu
from firmware_bridge.devices.big_endian import Reader
from firmware_bridge.devices.phd_apdu import BASIC_NU, COMPOUND_BASIC_NU, Metric
from firmware_bridge.emulators.emulated import Emulator
from firmware_bridge.emulators.faults import Kind
from firmware_bridge.nomenclature import TERMS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from firmware_bridge.emulators.patient import Scene

SWITCHED_ON_S = 1_790_000_000  # in unix time: September 2026
ASK_S = 0.5
PERIOD_S = 1.0
SYSTEM_ID = bytes.fromhex("1122334455667788")
NAN = {2: b"\x07\xff", 4: b"\x00\x7f\xff\xff"}
OWN_CONFIG = 0x4000
SCALE_OBJECTS = {5: phd_apdu.STANDARD[1500][1]}
PLACES = {"/min": 0, "%": 0, "mm[Hg]": 0, "kg": 1}


def oximeter(scene: Scene) -> Agent:
    """Saturation and pulse rate every second."""
    return Agent(scene, 400, phd_apdu.STANDARD[400])


def blood_pressure(scene: Scene) -> Agent:
    """A cuff in a great hurry: pressures and pulse every second."""
    return Agent(scene, 700, phd_apdu.STANDARD[700])


def scale(scene: Scene) -> Agent:
    """Weight every second, under a configuration that the manager has to be told."""
    return Agent(scene, OWN_CONFIG, SCALE_OBJECTS)


class Agent:
    """One device: it asks until it is accepted, then reports, each report confirmed."""

    def __init__(self, scene: Scene, config: int, metrics: Mapping[int, Metric]) -> None:
        self._scene = scene
        self._config = config
        self._metrics = metrics
        self._pending = b""
        self._next_s = ASK_S
        self._invoke = 0
        self.reporting = False

    def hear(self, data: bytes, t_s: float) -> list[bytes]:
        """What the manager answers: an acceptance, that of a configuration, or of a report."""
        self._pending += data
        out: list[bytes] = []
        while len(self._pending) >= 4:
            size = 4 + int.from_bytes(self._pending[2:4], "big")
            if len(self._pending) < size:
                break
            whole, self._pending = self._pending[:size], self._pending[size:]
            out += self._answered(int.from_bytes(whole[:2], "big"), Reader(whole[4:]), t_s)
        return out

    def _answered(self, choice: int, body: Reader, t_s: float) -> list[bytes]:
        if choice == phd_apdu.AARE:
            result = body.u16()
            self._next_s = t_s + PERIOD_S
            self.reporting = result == phd_apdu.ACCEPTED
            if result == phd_apdu.ACCEPTED_UNKNOWN_CONFIG:
                return [self._event(phd_apdu.NOTI_CONFIG, configuration(OWN_CONFIG, self._metrics))]
        elif choice == phd_apdu.PRST:
            self.reporting = True
        elif choice == phd_apdu.ABRT:
            self.reporting = False  # and so associates anew
        return []

    def say(self, t_s: float) -> list[bytes]:
        out = []
        while t_s >= self._next_s:
            at_s, self._next_s = self._next_s, self._next_s + PERIOD_S
            out.append(self._report(at_s) if self.reporting else association(self._config))
        return out

    def next_s(self) -> float:
        return self._next_s

    def _report(self, t_s: float) -> bytes:
        scans = [
            _u16(handle) + _counted(self._value(metric, t_s) + _bcd(self._scene.device_s(t_s)))
            for handle, metric in self._metrics.items()
        ]
        info = b"\xf0\0\0\0" + _list(scans)
        return self._event(phd_apdu.SCAN_FIXED, info)

    def _value(self, metric: Metric, t_s: float) -> bytes:
        attribute = metric.layout[0][0]
        size = 2 if attribute in (BASIC_NU, COMPOUND_BASIC_NU) else 4
        numbers = [self._number(code, size, t_s) for code in metric.physio]
        return _list(numbers) if attribute == COMPOUND_BASIC_NU else b"".join(numbers)

    def _number(self, code: int, size: int, t_s: float) -> bytes:
        if self._scene.during(Kind.LEAD_OFF, t_s):
            return NAN[size]
        channel = phd.CHANNELS[code]
        places = PLACES[TERMS[channel].unit]
        value = self._scene.patient.value(channel, t_s)
        return encoded(round(value * 10**places), -places, size)

    def _event(self, event: int, info: bytes) -> bytes:
        self._invoke = (self._invoke + 1) & 0xFFFF
        said = b"\0\0" + b"\xff\xff\xff\xff" + _u16(event) + _counted(info)
        data = _u16(self._invoke) + _u16(phd_apdu.CONFIRMED_EVENT) + _counted(said)
        return phd_apdu.apdu(phd_apdu.PRST, _counted(data))


def association(config: int, system_id: bytes = SYSTEM_ID) -> bytes:
    """An AARQ of an agent with configuration `config`."""
    info = bytes.fromhex("80000000 a000 80000000 00000000 00800000") + _counted(system_id)
    info += _u16(config) + bytes.fromhex("0001 0101 0000 0000")
    return phd_apdu.apdu(
        phd_apdu.AARQ, bytes.fromhex("80000000") + _list([_u16(0x5079) + _counted(info)])
    )


def configuration(number: int, metrics: Mapping[int, Metric]) -> bytes:
    """The event information of a configuration report for objects of one part each."""
    objects = []
    for handle, metric in metrics.items():
        attributes = [
            _u16(phd_apdu.TYPE) + _counted(_u16(phd_apdu.PARTITION_SCADA) + _u16(metric.physio[0])),
            _u16(phd_apdu.UNIT) + _counted(_u16(metric.unit)),
            _u16(phd_apdu.VALUE_MAP)
            + _counted(_list([_u16(attribute) + _u16(n) for attribute, n in metric.layout])),
        ]
        objects.append(_u16(6) + _u16(handle) + _list(attributes))
    return _u16(number) + _list(objects)


def encoded(mantissa: int, exponent: int, size: int) -> bytes:
    """A FLOAT of 4 or an SFLOAT of 2 bytes."""
    bits = 24 if size == 4 else 12
    raw = (exponent << bits) | (mantissa & ((1 << bits) - 1))
    return (raw & ((1 << 8 * size) - 1)).to_bytes(size, "big")


def _bcd(t_s: float) -> bytes:
    at = time.strftime("%Y%m%d%H%M%S", time.gmtime(SWITCHED_ON_S + int(t_s)))
    return bytes.fromhex(f"{at}{int(t_s % 1 * 100):02d}")


def _u16(value: int) -> bytes:
    return value.to_bytes(2, "big")


def _counted(data: bytes) -> bytes:
    return _u16(len(data)) + data


def _list(elements: list[bytes]) -> bytes:
    return _u16(len(elements)) + _counted(b"".join(elements))


SHOWS = frozenset({Kind.LEAD_OFF, Kind.CLOCK_JUMP})
BLOOD_PRESSURE = Emulator(phd.BLOOD_PRESSURE, blood_pressure, SHOWS)
OXIMETER = Emulator(phd.OXIMETER, oximeter, SHOWS)
SCALE = Emulator(phd.SCALE, scale, SHOWS)
