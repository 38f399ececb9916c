"""Emulated ProtoCentral boards: they talk from the first moment and hear nothing.

Layouts are those of `devices.openview`. An electrode that is off makes the ADS1292R send zeros, as
its sketch does; the ADS1293 goes to its rail; a finger that is off leaves the MAX30102 little
light. They have no clock and no alarm of their own to tell, so the script's cannot show here.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from firmware_bridge.devices import openview
from firmware_bridge.emulators.electrodes import WORN, worn_wave
from firmware_bridge.emulators.emulated import Emulator
from firmware_bridge.emulators.faults import Kind

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from firmware_bridge.devices.openview import Layout
    from firmware_bridge.emulators.patient import Scene

    Values = Callable[[Scene, int, int], NDArray[np.int64]]

DARK = 400  # counts of light without a finger
ECG_COUNTS_PER_MV = {"openview-ads1292r": 81.0, "openview-ads1293": 20_000.0}


class _Board:
    def __init__(self, scene: Scene, layout: Layout, values: Values) -> None:
        self._scene = scene
        self._layout = layout
        self._values = values
        self._next = 0

    def hear(self, data: bytes, t_s: float) -> list[bytes]:
        return []

    def say(self, t_s: float) -> list[bytes]:
        first, end = self._next, int(t_s * self._layout.feed.rate_hz + 1e-6)
        if end <= first:
            return []
        self._next = end
        return openview.encode(self._layout, self._values(self._scene, first, end - first))

    def next_s(self) -> float | None:
        return (self._next + 1) / self._layout.feed.rate_hz


def _off(scene: Scene, first: int, n: int, rate_hz: float) -> NDArray[np.bool_]:
    return np.array([scene.during(Kind.LEAD_OFF, (first + i) / rate_hz) for i in range(n)])


def _light(scene: Scene, first: int, n: int) -> NDArray[np.int64]:
    rate_hz = openview.MAX30102.feed.rate_hz
    pulse = worn_wave(scene, "MDC_PULS_OXIM_PLETH", first, n, rate_hz, rail=0.0)
    counts = np.stack([110_000 - 900 * pulse, 130_000 - 1800 * pulse], axis=1)
    counts[_off(scene, first, n, rate_hz)] = DARK
    return np.rint(counts).astype(np.int64)


def _one_lead(scene: Scene, first: int, n: int) -> NDArray[np.int64]:
    rate_hz = openview.ADS1292R.feed.rate_hz
    out = np.zeros((n, 4))
    ecg_mv = worn_wave(scene, "MDC_ECG_ELEC_POTL", first, n, rate_hz, rail=0.0)
    out[:, 0] = ecg_mv * ECG_COUNTS_PER_MV["openview-ads1292r"]
    out[:, 1] = 1000 * worn_wave(scene, "MDC_RESP", first, n, rate_hz, rail=0.0)
    t_s = first / rate_hz
    for column, channel in enumerate(openview.ADS1292R.numerics, 2):
        out[:, column] = scene.patient.value(channel, t_s)
    out[_off(scene, first, n, rate_hz)] = 0.0
    return np.rint(out).astype(np.int64)


def _three_leads(scene: Scene, first: int, n: int) -> NDArray[np.int64]:
    layout = openview.ADS1293
    per_mv = ECG_COUNTS_PER_MV["openview-ads1293"]
    waves = [
        worn_wave(scene, channel, first, n, layout.feed.rate_hz, rail=layout.high / per_mv)
        for channel in layout.feed.channels
    ]
    counts = np.rint(np.stack(waves, axis=1) * per_mv).astype(np.int64)
    return np.clip(counts, layout.low, layout.high)


EMULATOR_MAX30102 = Emulator(
    openview.DEVICE_MAX30102,
    partial(_Board, layout=openview.MAX30102, values=_light),
    frozenset({Kind.FLAT, Kind.LEAD_OFF}),
)
EMULATOR_ADS1292R = Emulator(
    openview.DEVICE_ADS1292R, partial(_Board, layout=openview.ADS1292R, values=_one_lead), WORN
)
EMULATOR_ADS1293 = Emulator(
    openview.DEVICE_ADS1293, partial(_Board, layout=openview.ADS1293, values=_three_leads), WORN
)
