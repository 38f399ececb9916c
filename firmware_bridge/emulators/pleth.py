"""The light that an emulated oximeter sees: the patient's pulse wave as counts of its converter."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from firmware_bridge.devices.oximetry import PLETH
from firmware_bridge.emulators.faults import Kind

if TYPE_CHECKING:
    from firmware_bridge.emulators.patient import Scene

BASE = 0.2
SWING = 0.5  # of the converter's range, for a wave of height 1
NOISE = 0.01
DRIVE = 4.0  # times the usual light, when it saturates
LIGHT = frozenset({Kind.ASYSTOLE, Kind.FLAT, Kind.SATURATE})
"""What shows in it; a finger that is off is the device's to tell."""


def pleth(scene: Scene, n: int, rate_hz: float, top: int) -> int:
    """Sample number `n` at `rate_hz` as a count, 0..`top`."""
    t_s = n / rate_hz
    frozen = [f for f in scene.faults if f.on(Kind.FLAT, t_s)]
    at = max(0, frozen[0].span(rate_hz)[0] - 1) if frozen else n
    level = BASE + SWING * float(scene.patient.wave(PLETH, at, 1, rate_hz)[0])
    if scene.during(Kind.ASYSTOLE, t_s):
        level = BASE + NOISE * float(np.sin(12.9898 * n))
    if scene.during(Kind.SATURATE, t_s):
        level *= DRIVE
    return int(np.clip(round(level * top), 0, top))
