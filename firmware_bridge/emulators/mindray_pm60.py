"""An emulated Mindray PM-60: a packet a second. It has no alarm of its own on the wire."""

from __future__ import annotations

from typing import TYPE_CHECKING

from firmware_bridge.devices.mindray_pm60 import HR_MISSING, SPO2_MISSING, Packet, encode
from firmware_bridge.devices.oximetry import PULSE, SPO2
from firmware_bridge.emulators.faults import Kind

if TYPE_CHECKING:
    from firmware_bridge.emulators.patient import Scene


class Oximeter:
    """One device; it hears nothing."""

    def __init__(self, scene: Scene) -> None:
        self._scene = scene
        self._n = 0

    def hear(self, data: bytes, t_s: float) -> list[bytes]:
        """Nothing is understood."""
        return []

    def say(self, t_s: float) -> list[bytes]:
        out = []
        while self._n <= t_s:
            out.append(encode(self._packet(float(self._n))))
            self._n += 1
        return out

    def next_s(self) -> float | None:
        return float(self._n)

    def _packet(self, t_s: float) -> Packet:
        if self._scene.during(Kind.LEAD_OFF, t_s):
            return Packet(HR_MISSING, SPO2_MISSING, searching=True)
        patient = self._scene.patient
        return Packet(round(patient.value(PULSE, t_s)), round(patient.value(SPO2, t_s)))


def make(scene: Scene) -> Oximeter:
    """The device with a finger in it."""
    return Oximeter(scene)
