"""Emulated oximeters that print lines of text: Masimo ASCII 1, Nellcor."""

from __future__ import annotations

from datetime import datetime, timezone
from functools import partial
from typing import TYPE_CHECKING

from firmware_bridge.devices import masimo, nellcor
from firmware_bridge.devices.oximetry import PERFUSION, PULSE, SPO2
from firmware_bridge.emulators.emulated import Emulator
from firmware_bridge.emulators.faults import Kind
from firmware_bridge.session import NS_PER_S

if TYPE_CHECKING:
    from collections.abc import Callable

    from firmware_bridge.emulators.patient import Scene

SWITCHED_ON_S = int(datetime(2026, 1, 1, tzinfo=timezone.utc).timestamp())
LOW_SPO2_PCT = 84
AMPLITUDE = 60

HEADING = (
    b"N-560    VERSION 1.61.00    CRC:XXXX  SpO2 Limit: 85-100%    PR Limit: 40-170BPM\r\n",
    b"                             ADULT            0SAT-S \r\n",
    b"TIME                 %SpO2   BPM     PA     Status\r\n",
)


class Printer:
    """One device: `heading` when switched on, then a line every `every_s`. It hears nothing."""

    def __init__(
        self,
        scene: Scene,
        line: Callable[[Scene, float], bytes],
        every_s: int,
        heading: tuple[bytes, ...] = (),
    ) -> None:
        self._scene = scene
        self._line = line
        self._every_s = every_s
        self._heading = list(heading)
        self._n = 0

    def hear(self, data: bytes, t_s: float) -> list[bytes]:
        """Nothing is understood."""
        return []

    def say(self, t_s: float) -> list[bytes]:
        out, self._heading = self._heading, []
        while self._n * self._every_s <= t_s:
            out.append(self._line(self._scene, float(self._n * self._every_s)))
            self._n += 1
        return out

    def next_s(self) -> float | None:
        return float(self._n * self._every_s)


def _device_ns(scene: Scene, t_s: float) -> int:
    return (SWITCHED_ON_S + int(scene.device_s(t_s))) * NS_PER_S


def _spo2_pct(scene: Scene, t_s: float) -> int:
    low = scene.during(Kind.ALARM, t_s)
    return LOW_SPO2_PCT if low else round(scene.patient.value(SPO2, t_s))


def _masimo_line(scene: Scene, t_s: float) -> bytes:
    device_ns = _device_ns(scene, t_s)
    if scene.during(Kind.LEAD_OFF, t_s):
        off = masimo.SET | masimo.SENSOR_OFF
        return masimo.encode(masimo.Line(device_ns, None, None, None, 0, off))
    pulse = round(scene.patient.value(PULSE, t_s))
    index = scene.patient.value(PERFUSION, t_s)
    alarm = 0x12 if scene.during(Kind.ALARM, t_s) else 0  # SpO2 low, audible
    spo2 = _spo2_pct(scene, t_s)
    return masimo.encode(masimo.Line(device_ns, spo2, pulse, index, alarm, masimo.SET))


def _nellcor_line(scene: Scene, t_s: float) -> bytes:
    device_ns = _device_ns(scene, t_s)
    if scene.during(Kind.LEAD_OFF, t_s):
        return nellcor.encode(nellcor.Line(device_ns, None, None, None, ("SO",)))
    pulse, spo2 = round(scene.patient.value(PULSE, t_s)), _spo2_pct(scene, t_s)
    low = scene.during(Kind.ALARM, t_s)
    status, marked = (("SL",), (SPO2,)) if low else ((), ())
    return nellcor.encode(nellcor.Line(device_ns, spo2, pulse, AMPLITUDE, status, marked))


SHOWS = frozenset({Kind.LEAD_OFF, Kind.ALARM, Kind.CLOCK_JUMP})
MASIMO = Emulator(masimo.DEVICE, partial(Printer, line=_masimo_line, every_s=1), SHOWS)
NELLCOR = Emulator(
    nellcor.DEVICE, partial(Printer, line=_nellcor_line, every_s=2, heading=HEADING), SHOWS
)
