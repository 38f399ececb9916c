"""Is the raw signal usable, sample by sample, and if not, why.

Owns the judgement of one channel's signal; gaps and silence of the source are the front's. Every
test is a recursion over samples, so the answer does not depend on how they were cut. The thresholds
let real ambulatory ECG pass (MIT-BIH DS1) and are stated beside their names.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

from edge.errors import StartError
from edge.types import Reason

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from edge.bundle.manifest import Signal

MV_PER_UNIT = {"mV": 1.0, "uV": 1e-3, "V": 1e3}
"""UCUM units of an ECG channel."""

FLAT_MV, FLAT_S = 0.005, 0.4
"""Peak to peak, below any real amplifier's noise; an asystole's baseline has about 20 uV rms."""

RAIL_SHARE = 0.999
"""At this share of the converter's range a sample counts as clipped."""

CLIPPED_SAMPLES, CLIPPED_LEAK = 3.0, 0.02
"""So many clipped samples saturate; each sample in between takes back this much of one."""

LEADS_OFF_S = 0.2
"""A lead that came off drives the converter to its rail and keeps it there."""

NOISE_MV, NOISE_S, NOISE_CAP_MV, NOISE_STEP_S = 0.32, 0.6, 0.6, 0.008
"""Mean magnitude, over about `NOISE_S`, of the second difference over `NOISE_STEP_S` steps, each
capped so that QRS complexes and pacing spikes count little. White noise of 0.2 mV rms does it."""

BASELINE_S = 1.0
"""Time constant of the baseline (electrode offset) that the channel's range is counted from."""

RECOVERY_S = 0.5
"""The signal is usable again after this long without any fault."""


class Stretch(NamedTuple):
    """Samples `start` to `end` (exclusive) of one block that share a verdict; None: usable."""

    start: int
    end: int
    reason: Reason | None


class Quality:
    """Judges one channel, declared by `signal`, from its first sample on."""

    def __init__(self, signal: Signal) -> None:
        rate_hz = signal.rate_hz
        self._mv = mv_per_unit(signal.channel.unit)
        self._low_mv = signal.channel.low * self._mv
        self._high_mv = signal.channel.high * self._mv
        self._flat = round(FLAT_S * rate_hz)
        self._leads_off = round(LEADS_OFF_S * rate_hz)
        self._recovery = round(RECOVERY_S * rate_hz)
        self._step = max(1, round(NOISE_STEP_S * rate_hz))
        self._noise_gain = 1 / (NOISE_S * rate_hz)
        self._baseline_gain = 1 / (BASELINE_S * rate_hz)
        self.reset()

    def reset(self) -> None:
        """Start anew, as after a gap: nothing is held against the samples to come."""
        self._reason: Reason | None = None
        self._good_left = 0
        self._baseline_mv: float | None = None
        self._forget_shape()
        self._clipped = 0.0
        self._railed = 0

    def _forget_shape(self) -> None:
        self._run = 0
        self._run_low_mv = math.inf
        self._run_high_mv = -math.inf
        self._before: list[float] = []
        self._bend_mv = 0.0

    @property
    def reason(self) -> Reason | None:
        """The state after the last sample: None is usable."""
        return self._reason

    def feed(
        self, samples: NDArray[np.float32], rail: float | None = None, leads_off: bool = False
    ) -> list[Stretch]:
        """Verdicts on one block `[n]`, in order and without holes.

        `rail`: where the converter saturates, in the channel's unit. `leads_off`: the source's own
        flag for this block.
        """
        rail_mv = math.inf if rail is None else RAIL_SHARE * rail * self._mv
        stretches: list[Stretch] = []
        start, held = 0, self._reason
        for i, x in enumerate(samples.tolist()):
            reason = self._judge(x * self._mv, rail_mv, leads_off)
            if reason is not held:
                if i > start:
                    stretches.append(Stretch(start, i, held))
                start, held = i, reason
        if len(samples) > start:
            stretches.append(Stretch(start, len(samples), held))
        return stretches

    def _judge(self, x_mv: float, rail_mv: float, leads_off: bool) -> Reason | None:
        fault = self._fault(x_mv, rail_mv, leads_off)
        if fault is not None:
            self._reason, self._good_left = fault, self._recovery
        elif self._reason is not None:
            self._good_left -= 1
            if self._good_left <= 0:
                self._reason = None
        return self._reason

    def _fault(self, x_mv: float, rail_mv: float, leads_off: bool) -> Reason | None:
        """The worst thing true at this sample."""
        if not math.isfinite(x_mv):
            self._forget_shape()
            return Reason.LEADS_OFF if leads_off else Reason.OUT_OF_RANGE
        beyond = self._is_beyond(x_mv)
        clipped = self._is_clipped(x_mv, rail_mv)
        noisy, flat = self._is_noisy(x_mv), self._is_flat(x_mv)
        if leads_off or self._railed >= self._leads_off:
            return Reason.LEADS_OFF
        if clipped:
            return Reason.SATURATED
        if beyond and not self._railed:  # at the rail the next samples tell which it is
            return Reason.OUT_OF_RANGE
        if flat:
            return Reason.FLAT
        return Reason.NOISE if noisy else None

    def _is_clipped(self, x_mv: float, rail_mv: float) -> bool:
        if -rail_mv < x_mv < rail_mv:
            self._railed = 0
            self._clipped = max(0.0, self._clipped - CLIPPED_LEAK)
        else:
            self._railed += 1
            self._baseline_mv = None  # a clipped sample says nothing about it
            self._clipped = min(2 * CLIPPED_SAMPLES, self._clipped + 1)
        return self._clipped >= CLIPPED_SAMPLES

    def _is_flat(self, x_mv: float) -> bool:
        """A stretch ends where a sample would widen it to `FLAT_MV`; the next starts there."""
        low_mv, high_mv = min(self._run_low_mv, x_mv), max(self._run_high_mv, x_mv)
        if high_mv - low_mv < FLAT_MV:
            self._run_low_mv, self._run_high_mv = low_mv, high_mv
            self._run += 1
        else:
            self._run_low_mv = self._run_high_mv = x_mv
            self._run = 1
        return self._run >= self._flat

    def _is_noisy(self, x_mv: float) -> bool:
        before = self._before
        if len(before) == 2 * self._step:
            bend_mv = abs(x_mv - 2 * before[self._step] + before[0])
            self._bend_mv += self._noise_gain * (min(bend_mv, NOISE_CAP_MV) - self._bend_mv)
            del before[0]
        before.append(x_mv)
        return self._bend_mv >= NOISE_MV

    def _is_beyond(self, x_mv: float) -> bool:
        if self._baseline_mv is None:
            self._baseline_mv = x_mv
        self._baseline_mv += self._baseline_gain * (x_mv - self._baseline_mv)
        return not self._low_mv <= x_mv - self._baseline_mv <= self._high_mv


def mv_per_unit(unit: str) -> float:
    """Millivolts in one `unit`. Raises `StartError` for a unit that no ECG has."""
    if unit not in MV_PER_UNIT:
        raise StartError(f"'{unit}' is not a unit of an ECG", f"use {', '.join(MV_PER_UNIT)}")
    return MV_PER_UNIT[unit]
