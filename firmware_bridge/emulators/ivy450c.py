"""An emulated Ivy 450C: one message a second, as in the capture.

What the capture does not hold is made up, to have something to test with: the label `LEAD OFF` and
the alarm `HR HIGH`. It has no clock to tell, so the script's cannot show here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from firmware_bridge.devices import ivy450c
from firmware_bridge.emulators.electrodes import WORN, worn_wave
from firmware_bridge.emulators.emulated import Emulator
from firmware_bridge.emulators.faults import Kind

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from firmware_bridge.emulators.patient import Scene

WAVES = (  # channel, counts per unit, counts of zero, rate
    ("MDC_ECG_ELEC_POTL", 50.0, 100.0, ivy450c.ECG_HZ),
    ("MDC_RESP", 200.0, 20.0, ivy450c.SLOW_HZ),
    ("MDC_PULS_OXIM_PLETH", 40.0, 117.0, ivy450c.SLOW_HZ),
    ("MDC_PRESS_BLD", 1.0, 0.0, ivy450c.SLOW_HZ),
)


class _Monitor:
    def __init__(self, scene: Scene) -> None:
        self._scene = scene
        self._next_s = 1.0

    def hear(self, data: bytes, t_s: float) -> list[bytes]:
        return []

    def say(self, t_s: float) -> list[bytes]:
        out: list[bytes] = []
        while t_s >= self._next_s:
            out.append(self._message(self._next_s))
            self._next_s += 1.0
        return out

    def next_s(self) -> float | None:
        return self._next_s

    def _message(self, t_s: float) -> bytes:
        off, alarm = self._scene.during(Kind.LEAD_OFF, t_s), self._scene.during(Kind.ALARM, t_s)
        lines = {
            "HR": (self._values("HR", t_s), "LEAD OFF" if off else "ECG-II-DIAG",
                   "HR HIGH" if alarm else ""),
            "RR": (self._values("RR", t_s), "APNEA: 20 SEC", ""),
            "ETCO2": ([""], "", ""),
            "SPO2": (self._values("SPO2", t_s), f"PR={self._number(ivy450c.PULSE, t_s)} ", ""),
            "NIBP": (self._values("NIBP", 0.0), "", ""),
            "P1": (self._values("P1", t_s), "", ""),
            "P2": (["", "", ""], "NO TRANSDUCER", ""),
            "T1": ([""], "", ""),
            "T2": ([""], "", ""),
        }  # fmt: skip
        if off:
            lines["HR"] = ([""], *lines["HR"][1:])
        return ivy450c.encode(self._waves(t_s, off), lines)

    def _values(self, name: str, t_s: float) -> list[str]:
        return [str(self._number(channel, t_s)) for channel in ivy450c.CHANNELS[name]]

    def _number(self, channel: str, t_s: float) -> int:
        """P1 is fastened to the artery."""
        wanted = channel.replace("MDC_PRESS_BLD_", "MDC_PRESS_BLD_ART_")
        known = wanted if channel in ivy450c.CHANNELS["P1"] else channel
        return round(self._scene.patient.value(known, t_s))

    def _waves(self, t_s: float, off: bool) -> NDArray[np.uint8]:
        parts = []
        for channel, per_unit, zero, rate_hz in WAVES:
            n = int(rate_hz)
            wave = worn_wave(self._scene, channel, round((t_s - 1) * rate_hz), n, rate_hz, rail=0.0)
            parts.append(np.clip(np.rint(wave * per_unit + zero), 0, 250))
        parts.append(np.full(ivy450c.SLOW_BYTES, ivy450c.NO_SENSOR))
        if off:
            parts[0][:] = ivy450c.NO_SENSOR
        return np.concatenate(parts).astype(np.uint8)


EMULATOR = Emulator(ivy450c.DEVICE, _Monitor, WORN | {Kind.ALARM})
