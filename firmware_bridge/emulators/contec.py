"""An emulated Contec CMS50, new or old, with a finger in it.

The new one is silent until told to start, and again when the keep-alive is not heard any more.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from firmware_bridge.devices import contec
from firmware_bridge.devices.contec import Packet
from firmware_bridge.devices.oximetry import PERFUSION, PULSE, SPO2
from firmware_bridge.emulators.emulated import Emulator
from firmware_bridge.emulators.faults import Kind
from firmware_bridge.emulators.pleth import LIGHT, pleth

if TYPE_CHECKING:
    from collections.abc import Callable

    from firmware_bridge.emulators.patient import Scene

COMMAND_BYTES = 9
PATIENCE_S = 3 * contec.KEEP_ALIVE_S
SIGNAL = 6
BEEP_PACKETS = 4  # of 50


class Oximeter:
    """One device; `encode` is that of its protocol. `asked`: it waits for the command to start."""

    def __init__(self, scene: Scene, encode: Callable[[Packet], bytes], asked: bool) -> None:
        self._scene = scene
        self._encode = encode
        self._asked = asked
        self._until_s = 0.0 if asked else float("inf")
        self._n = 0
        self._heard = b""

    def hear(self, data: bytes, t_s: float) -> list[bytes]:
        """Obey start, stop and keep-alive; the old device hears nothing."""
        self._heard += data if self._asked else b""
        while len(self._heard) >= COMMAND_BYTES:
            said, self._heard = self._heard[:COMMAND_BYTES], self._heard[COMMAND_BYTES:]
            if said == contec.command(contec.START):
                self._until_s = t_s + PATIENCE_S
            elif said == contec.command(contec.STOP):
                self._until_s = 0.0
            elif said == contec.command(contec.KEEP_ALIVE) and self._until_s > t_s:
                self._until_s = t_s + PATIENCE_S
        return []

    def say(self, t_s: float) -> list[bytes]:
        out = []
        while self._n / contec.RATE_HZ <= t_s:
            if self._n / contec.RATE_HZ < self._until_s:
                out.append(self._encode(self._packet(self._n)))
            self._n += 1
        return out

    def next_s(self) -> float | None:
        due_s = self._n / contec.RATE_HZ
        return due_s if due_s < self._until_s else None

    def _packet(self, n: int) -> Packet:
        t_s = n // contec.REPEAT_PACKETS * contec.REPEAT_PACKETS / contec.RATE_HZ
        patient = self._scene.patient
        light = pleth(self._scene, n, contec.RATE_HZ, contec.PLETH_TOP)
        if self._scene.during(Kind.LEAD_OFF, n / contec.RATE_HZ):
            return self._nothing()
        return Packet(
            signal=SIGNAL,
            pleth=light,
            bar=light >> 3,
            pulse=round(patient.value(PULSE, t_s)),
            spo2=round(patient.value(SPO2, t_s)),
            perfusion=round(100 * patient.value(PERFUSION, t_s)),
            low=self._scene.during(Kind.ALARM, n / contec.RATE_HZ),
            beep=n % 50 < BEEP_PACKETS,
        )

    def _nothing(self) -> Packet:
        """No finger: the old device says that it searches for too long."""
        return Packet(
            signal=0,
            pleth=0,
            bar=0,
            pulse=contec.PULSE_INVALID if self._asked else 0,
            spo2=contec.SPO2_INVALID,
            perfusion=contec.PERFUSION_INVALID,
            probe_error=self._asked,
            searching=True,
            too_long=not self._asked,
        )


SHOWS = LIGHT | {Kind.LEAD_OFF, Kind.ALARM}
EMULATOR = Emulator(contec.DEVICE, partial(Oximeter, encode=contec.encode, asked=True), SHOWS)
EMULATOR_OLD = Emulator(
    contec.DEVICE_OLD, partial(Oximeter, encode=contec.encode_old, asked=False), SHOWS
)
