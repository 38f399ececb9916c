"""Who an emulated device is fastened to: a synthetic patient, or a recording of a real one.

Owns values and waves over time, all deterministic: the same time gives the same reading. Units are
those of `nomenclature`. What the patient, the electrodes or the device's clock do wrong is the
script's (`faults`); `Scene` puts both together for the emulators.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from firmware_bridge.emulators.faults import Kind

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from firmware_bridge.emulators.faults import Fault

HEART_BPM = 72.0
BREATHS_BPM = 15.0

VALUES = {  # mean, and how far it swings in a minute
    "MDC_ECG_HEART_RATE": (HEART_BPM, 0.0),
    "MDC_PULS_OXIM_PULS_RATE": (HEART_BPM, 0.0),
    "MDC_PULS_RATE": (HEART_BPM, 0.0),
    "MDC_PULS_RATE_NON_INV": (HEART_BPM, 0.0),
    "MDC_RESP_RATE": (BREATHS_BPM, 0.0),
    "MDC_PULS_OXIM_SAT_O2": (97.0, 1.0),
    "MDC_BLD_PERF_INDEX": (2.5, 0.5),
    "MDC_SAT_O2_VEN": (72.0, 1.0),
    "MDC_PRESS_BLD_NONINV_SYS": (122.0, 4.0),
    "MDC_PRESS_BLD_NONINV_DIA": (78.0, 3.0),
    "MDC_PRESS_BLD_NONINV_MEAN": (93.0, 3.0),
    "MDC_PRESS_BLD_ART_ABP_SYS": (120.0, 4.0),
    "MDC_PRESS_BLD_ART_ABP_DIA": (76.0, 3.0),
    "MDC_PRESS_BLD_ART_ABP_MEAN": (91.0, 3.0),
    "MDC_PRESS_BLD_ART_SYS": (120.0, 4.0),
    "MDC_PRESS_BLD_ART_DIA": (76.0, 3.0),
    "MDC_PRESS_BLD_ART_MEAN": (91.0, 3.0),
    "MDC_PRESS_BLD_VEN_CENT_MEAN": (6.0, 1.0),
    "MDC_PRESS_BLD_ART_PULM_SYS": (24.0, 2.0),
    "MDC_PRESS_BLD_ART_PULM_DIA": (10.0, 1.0),
    "MDC_PRESS_BLD_ART_PULM_MEAN": (15.0, 1.0),
    "MDC_PRESS_INTRA_CRAN_MEAN": (9.0, 1.0),
    "MDC_TEMP": (36.8, 0.1),
    "MDC_TEMP_BODY": (36.8, 0.1),
    "MDC_AWAY_CO2_ET": (38.0, 1.0),
    "MDC_CONC_AWAY_CO2_ET": (5.0, 0.1),
    "MDC_CONC_AWAY_CO2_INSP": (0.0, 0.0),
    "MDC_CONC_AWAY_O2_INSP": (40.0, 0.5),
    "MDC_CONC_AWAY_O2_ET": (35.0, 0.5),
    "MDC_CONC_AWAY_O2": (40.0, 0.5),
    "MDC_PRESS_AWAY_INSP_PEAK": (22.0, 1.0),
    "MDC_PRESS_AWAY_INSP_MEAN": (9.0, 0.5),
    "MDC_PRESS_RESP_PLAT": (18.0, 1.0),
    "MDC_PRESS_AWAY_END_EXP_POS": (5.0, 0.0),
    "MDC_VOL_AWAY_TIDAL": (480.0, 10.0),
    "MDC_VOL_AWAY_TIDAL_EXP": (470.0, 10.0),
    "MDC_VOL_MINUTE_AWAY": (7.2, 0.2),
    "MDC_COMPL_LUNG": (45.0, 1.0),
    "MDC_PRESS_AIR_AMBIENT": (755.0, 0.0),
    "MDC_MASS_BODY_ACTUAL": (71.5, 0.0),
}

# Waves as bumps on one heart beat or breath: (place 0..1, width, height); then base level.
_ECG = ((0.20, 0.025, 0.12), (0.29, 0.008, -0.10), (0.31, 0.010, 1.10), (0.335, 0.009, -0.22),
        (0.55, 0.050, 0.28))  # fmt: skip
_PULSE = ((0.25, 0.10, 1.0), (0.50, 0.12, 0.4))
WAVES = {  # bumps, base, per breath (else per beat)
    "MDC_ECG_ELEC_POTL": (_ECG, 0.0, False),
    "MDC_ECG_ELEC_POTL_I": (tuple((p, w, 0.6 * h) for p, w, h in _ECG), 0.0, False),
    "MDC_ECG_ELEC_POTL_II": (_ECG, 0.0, False),
    "MDC_ECG_ELEC_POTL_III": (tuple((p, w, 0.4 * h) for p, w, h in _ECG), 0.0, False),
    "MDC_ECG_ELEC_POTL_V": (tuple((p, w, 0.8 * h) for p, w, h in _ECG), 0.0, False),
    "MDC_PULS_OXIM_PLETH": (_PULSE, 0.0, False),
    "MDC_PRESS_BLD_ART": (tuple((p, w, 44.0 * h) for p, w, h in _PULSE), 76.0, False),
    "MDC_PRESS_BLD_ART_ABP": (tuple((p, w, 44.0 * h) for p, w, h in _PULSE), 76.0, False),
    "MDC_PRESS_BLD": (tuple((p, w, 44.0 * h) for p, w, h in _PULSE), 76.0, False),
    "MDC_PRESS_BLD_VEN_CENT": (((0.3, 0.1, 3.0),), 5.0, False),
    "MDC_RESP": (((0.35, 0.15, 1.0),), 0.0, True),
    "MDC_CONC_AWAY_CO2": (((0.70, 0.12, 5.0),), 0.0, True),
    "MDC_CONC_AWAY_O2": (((0.70, 0.12, -5.0),), 40.0, True),
    "MDC_PRESS_AWAY": (((0.25, 0.12, 17.0),), 5.0, True),
    "MDC_FLOW_AWAY": (((0.20, 0.10, 40.0), (0.60, 0.12, -35.0)), 0.0, True),
    "MDC_VOL_AWAY": (((0.35, 0.14, 480.0),), 0.0, True),
}


@dataclass(frozen=True, slots=True)
class Recording:
    """A real signal of one channel, played again and again: `samples` float64 `[n]` in the unit of
    `nomenclature` at `rate_hz`."""

    rate_hz: float
    samples: NDArray[np.float64]

    def at(self, index: NDArray[np.int64], rate_hz: float) -> NDArray[np.float64]:
        """The samples of these numbers at `rate_hz`: exactly at its own rate, else interpolated."""
        whole = len(self.samples)
        place = index * (self.rate_hz / rate_hz)
        before = np.floor(place).astype(np.int64)
        share = place - before
        left, right = self.samples[before % whole], self.samples[(before + 1) % whole]
        return np.asarray(left + share * (right - left))


@dataclass(frozen=True, slots=True)
class Patient:
    """Values and waves by MDC reference id. `recordings` stand in for the synthetic waves of their
    channels."""

    recordings: Mapping[str, Recording] = field(default_factory=dict)

    def value(self, channel: str, t_s: float) -> float:
        """The reading of a measurement at `t_s`."""
        mean, swing = VALUES[channel]
        return float(mean + swing * np.sin(2 * np.pi * t_s / 60.0))

    def wave(self, channel: str, first: int, n: int, rate_hz: float) -> NDArray[np.float64]:
        """Samples `first..first + n` at `rate_hz`."""
        index = first + np.arange(n)
        if channel in self.recordings:
            return self.recordings[channel].at(index, rate_hz)
        t_s = index / rate_hz
        bumps, base, breath = WAVES[channel]
        phase = t_s * (BREATHS_BPM if breath else HEART_BPM) / 60.0 % 1.0
        out = np.full(n, base)
        for place, width, height in bumps:
            out += height * np.exp(-0.5 * ((phase - place) / width) ** 2)
        return out


@dataclass(frozen=True, slots=True)
class Scene:
    """The patient and the script of one emulation; `t_s` is seconds since the device was on."""

    patient: Patient = field(default_factory=Patient)
    faults: tuple[Fault, ...] = ()

    def during(self, kind: Kind, t_s: float) -> bool:
        """Whether a fault of `kind` is on."""
        return any(f.on(kind, t_s) for f in self.faults)

    def device_s(self, t_s: float) -> float:
        """The device's own clock, in seconds since it was on."""
        return t_s + sum(f.jump_s for f in self.faults if f.on(Kind.CLOCK_JUMP, t_s))
