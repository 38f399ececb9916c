"""An emulated Puritan-Bennett 840: answers SNDF, and sends breaths on its waveform port.

Layouts are those of `devices.pb840` and `devices.pb840_waves`. A sensor that is off is a tube that
is: the disconnect alarm, blank measurements and a flat wave.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from firmware_bridge.devices import pb840, pb840_waves
from firmware_bridge.emulators.electrodes import worn_wave
from firmware_bridge.emulators.emulated import Emulator
from firmware_bridge.emulators.faults import Kind
from firmware_bridge.emulators.patient import BREATHS_BPM

if TYPE_CHECKING:
    from firmware_bridge.emulators.patient import Scene

ON_SINCE_S = 1_767_225_600  # 2026-01-01
HIGH_PRESSURE, DISCONNECT = 110, 124
TEXTS = {6: "840 3510012345", 8: "INVASIVE", 9: "A/C", 10: "VC", 11: "NONE", 12: "V-Trig",
         53: "HME", 55: "Enabled", 66: "ADULT", 105: "OFF"}  # fmt: skip
SETTINGS = {13: 15.0, 14: 0.48, 16: 40.0, 18: 5.0}
SAMPLES_PER_BREATH = round(pb840_waves.RATE_HZ * 60.0 / BREATHS_BPM)


class _Parameters:
    def __init__(self, scene: Scene) -> None:
        self._scene = scene
        self._line = b""

    def hear(self, data: bytes, t_s: float) -> list[bytes]:
        *lines, self._line = (self._line[-64:] + data).split(b"\r")
        return [self._report(t_s) for line in lines if line.strip() == b"SNDF"]

    def say(self, t_s: float) -> list[bytes]:
        return []

    def next_s(self) -> float | None:
        return None

    def _report(self, t_s: float) -> bytes:
        scene = self._scene
        now = time.gmtime(ON_SINCE_S + scene.device_s(t_s))
        fields = TEXTS | {field: f"{value:g}" for field, value in SETTINGS.items()}
        fields |= {pb840.TIME: time.strftime("%H:%M", now),
                   pb840.DATE: time.strftime("%b %d %Y", now).upper()}  # fmt: skip
        alarms = (*pb840.LIMITS, *pb840.PHYSIOLOGICAL, *pb840.TECHNICAL)
        fields |= {field: "NORMAL" for field in alarms if field != 95}
        for field, (channel, factor) in pb840.VALUES.items():
            fields[field] = f"{scene.patient.value(channel, t_s) / factor:.3f}"[:6]
        if scene.during(Kind.ALARM, t_s):
            fields[HIGH_PRESSURE] = "HIGH"
        if scene.during(Kind.LEAD_OFF, t_s):
            fields |= dict.fromkeys(pb840.VALUES, "") | {DISCONNECT: "HIGH"}
        last = pb840.FIRST_FIELD + pb840.FIELDS
        return pb840.encode(fields.get(n, "") for n in range(pb840.FIRST_FIELD, last))


class _Waves:
    def __init__(self, scene: Scene) -> None:
        self._scene = scene
        self._next = 0

    def hear(self, data: bytes, t_s: float) -> list[bytes]:
        return []

    def say(self, t_s: float) -> list[bytes]:
        first, end = self._next, int(t_s * pb840_waves.RATE_HZ + 1e-6)
        if end <= first:
            return []
        self._next = end
        flow, pressure = (
            worn_wave(self._scene, feed.channels[0], first, end - first, feed.rate_hz, rail=0.0)
            for feed in (pb840_waves.FLOW, pb840_waves.PRESSURE)
        )
        out = []
        for i in range(end - first):
            breath, at = divmod(first + i, SAMPLES_PER_BREATH)
            if at == 0:
                out += [pb840_waves.END] * (breath > 0) + [pb840_waves.begin(breath + 1)]
            out.append(pb840_waves.sample(flow[i], pressure[i]))
        return out

    def next_s(self) -> float | None:
        return (self._next + 1) / pb840_waves.RATE_HZ


EMULATOR = Emulator(
    pb840.DEVICE, _Parameters, frozenset({Kind.LEAD_OFF, Kind.ALARM, Kind.CLOCK_JUMP})
)
EMULATOR_WAVES = Emulator(pb840_waves.DEVICE, _Waves, frozenset({Kind.FLAT, Kind.LEAD_OFF}))
