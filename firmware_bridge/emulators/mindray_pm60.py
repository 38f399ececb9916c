"""An emulated Mindray PM-60: a packet a second. It has no alarm of its own on the wire."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from firmware_bridge.devices.mindray_pm60 import DEVICE, HR_MISSING, SPO2_MISSING, Packet, encode
from firmware_bridge.devices.oximetry import PULSE, SPO2
from firmware_bridge.emulators.emulated import Emulator
from firmware_bridge.emulators.faults import Kind
from firmware_bridge.emulators.oximeter_lines import Printer

if TYPE_CHECKING:
    from firmware_bridge.emulators.patient import Scene


def _packet(scene: Scene, t_s: float) -> bytes:
    if scene.during(Kind.LEAD_OFF, t_s):
        return encode(Packet(HR_MISSING, SPO2_MISSING, searching=True))
    patient = scene.patient
    return encode(Packet(round(patient.value(PULSE, t_s)), round(patient.value(SPO2, t_s))))


EMULATOR = Emulator(DEVICE, partial(Printer, line=_packet, every_s=1), frozenset({Kind.LEAD_OFF}))
