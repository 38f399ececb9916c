"""What electrodes and sensors do to a wave: the script's faults of the patient, sample by sample.

Owns asystole, lead off, a frozen and a clipped channel, for emulators that make their waves from a
`Scene`. What a device itself says about it (a flag, a sentinel) is the device's emulator's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from firmware_bridge.emulators.faults import Kind

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from firmware_bridge.emulators.patient import Scene

NOISE_MV = np.random.default_rng(0).normal(0.0, 0.02, 4096)  # of a heart that stands still
ECG = "MDC_ECG_ELEC_POTL"
WORN = frozenset({Kind.ASYSTOLE, Kind.FLAT, Kind.SATURATE, Kind.LEAD_OFF})
"""What shows where an electrocardiogram is among the waves."""


def worn_wave(
    scene: Scene, channel: str, first: int, n: int, rate_hz: float, *, rail: float | None
) -> NDArray[np.float64]:
    """Samples `first..first + n` of a channel as the device gets them, in its unit.

    A lead that is off reads `rail`; None: the lead is not this wave's. Asystole and clipping are
    the electrocardiogram's.
    """
    out = scene.patient.wave(channel, first, n, rate_hz)
    at = first + np.arange(n)
    for fault in scene.faults:
        start, end = fault.span(rate_hz)
        hit = (at >= start) & (at < end)
        if not hit.any():
            continue
        of_heart = channel.startswith(ECG)
        if fault.kind is Kind.ASYSTOLE and of_heart:
            out[hit] = NOISE_MV[at[hit] % len(NOISE_MV)]
        elif fault.kind is Kind.FLAT:
            out[hit] = scene.patient.wave(channel, max(0, start - 1), 1, rate_hz)[0]
        elif fault.kind is Kind.SATURATE and of_heart:
            out[hit] = np.clip(out[hit], -fault.clip_mv, fault.clip_mv)
        elif fault.kind is Kind.LEAD_OFF and rail is not None:
            out[hit] = rail
    return out
