"""An emulated BITalino of version 5.2: version, rate, start and stop, and frames while it runs.

Plays an electrocardiogram on A1 (sensor gain 1100), a pulse wave on A2 and breathing on A3; A4 to
A6 rest at half the supply. Layout and constants are those of `devices.bitalino`. It has no clock
and no alarm of its own to tell, so the script's cannot show here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from firmware_bridge.devices import bitalino
from firmware_bridge.emulators.electrodes import WORN, worn_wave
from firmware_bridge.emulators.emulated import Emulator

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from firmware_bridge.emulators.patient import Scene

VERSION_TEXT = b"BITalino_v5.2\n"
RATES_HZ = (1.0, 10.0, 100.0, 1000.0)
INPUTS = (  # channel, fraction of the supply per unit of the wave
    ("MDC_ECG_ELEC_POTL", 1100.0 / bitalino.SUPPLY_MV),
    ("MDC_PULS_OXIM_PLETH", 0.3),
    ("MDC_RESP", 0.3),
)


class _Board:
    def __init__(self, scene: Scene) -> None:
        self._scene = scene
        self._rate_hz = RATES_HZ[-1]
        self._inputs: list[int] = []
        self._started_s: float | None = None
        self._next = 0

    def hear(self, data: bytes, t_s: float) -> list[bytes]:
        out: list[bytes] = []
        for command in data:
            if command == bitalino.STOP[0]:
                self._started_s = None
            elif command == bitalino.VERSION[0] and self._started_s is None:
                out.append(VERSION_TEXT)
            elif command & 0x3F == 3:
                self._rate_hz = RATES_HZ[command >> 6]
            elif command & 3 == 1 and command >> 2:
                self._inputs = [i for i in range(bitalino.CHANNELS) if command >> 2 >> i & 1]
                self._started_s, self._next = t_s, 0
        return out

    def say(self, t_s: float) -> list[bytes]:
        if self._started_s is None:
            return []
        first, end = self._next, int((t_s - self._started_s) * self._rate_hz + 1e-6)
        self._next = max(first, end)
        if end <= first:
            return []
        since_on = round(self._started_s * self._rate_hz)
        counts = self._counts(since_on + first, end - first)
        return bitalino.encode(counts, np.arange(first, end))

    def next_s(self) -> float | None:
        if self._started_s is None:
            return None
        return self._started_s + (self._next + 1) / self._rate_hz

    def _counts(self, first: int, n: int) -> NDArray[np.int64]:
        out = np.zeros((n, len(self._inputs)), np.int64)
        for column, source in enumerate(self._inputs):
            share = np.full(n, 0.5)
            if source < len(INPUTS):
                channel, per_unit = INPUTS[source]
                rail = 0.5 / per_unit
                share += per_unit * worn_wave(
                    self._scene, channel, first, n, self._rate_hz, rail=rail
                )
            full = 2 ** bitalino.BITS[column]
            out[:, column] = np.clip(np.rint(share * full), 0, full - 1)
        return out


EMULATOR = Emulator(bitalino.DEVICE, _Board, WORN)
