"""What pulse oximeters have in common, whoever made them: channels, readings, levels to changes.

No oximeter measures a saturation or a rate of 0: a device that says 0 has no value.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from firmware_bridge.nomenclature import numeric
from firmware_bridge.types import Alert, AlertKind, Numeric, Priority, SampleBlock, Validity

if TYPE_CHECKING:
    from collections.abc import Iterable

SPO2 = "MDC_PULS_OXIM_SAT_O2"
PULSE = "MDC_PULS_OXIM_PULS_RATE"
PERFUSION = "MDC_BLD_PERF_INDEX"
PLETH = "MDC_PULS_OXIM_PLETH"


def reading(
    channel: str,
    value: float | None,
    *,
    sensor_on: bool = True,
    sure: bool = True,
    device_ns: int | None = None,
) -> Numeric:
    """One value of an oximeter: UNAVAILABLE where there is none (None, 0) or the sensor is off,
    QUESTIONABLE unless `sure`."""
    if not sensor_on or not value:
        return numeric(channel, None, Validity.UNAVAILABLE, device_ns)
    validity = Validity.VALID if sure else Validity.QUESTIONABLE
    return numeric(channel, value, validity, device_ns)


def split9(value: int) -> tuple[int, int]:
    """A rate of 9 bits as its two bytes of 2 and 7 bits."""
    return value >> 7 & 0x03, value & 0x7F


def join9(msb: int, lsb: int) -> int:
    """The 9 bits of a rate: the low byte has 7 of them."""
    return (msb & 0x03) << 7 | lsb & 0x7F


def fault(code: str, text: str, priority: Priority = Priority.MEDIUM) -> Alert:
    """A technical condition while it lasts."""
    return Alert(code, AlertKind.TECHNICAL, priority, True, text)


def crossing(code: str, text: str, channel: str, priority: Priority = Priority.MEDIUM) -> Alert:
    """A physiological condition of `channel` while it lasts."""
    return Alert(code, AlertKind.PHYSIOLOGICAL, priority, True, text, channel)


def lasting(levels: Iterable[tuple[object, Alert]]) -> list[Alert]:
    """The alerts whose level, a bit or a bool, is set."""
    return [alert for on, alert in levels if on]


class Levels:
    """Remembers which conditions last, and says what changed."""

    def __init__(self) -> None:
        self._lasting: dict[tuple[str, str], Alert] = {}

    def changed(self, lasting: Iterable[Alert], device_ns: int | None = None) -> list[Alert]:
        """The conditions that began and ended, given those that last now."""
        now = {(a.code, a.channel): replace(a, device_ns=device_ns) for a in lasting}
        began = [alert for key, alert in now.items() if key not in self._lasting]
        ended = [
            replace(alert, active=False, device_ns=device_ns)
            for key, alert in self._lasting.items()
            if key not in now
        ]
        self._lasting = now
        return began + ended


class PlethRun:
    """The samples of a plethysmogram since its last gap, NaN where there is none."""

    def __init__(self, rate_hz: float, feed: str) -> None:
        self._rate_hz, self._feed = rate_hz, feed
        self._samples: list[float] = []
        self._lost = 0
        self._seq = 0

    def add(self, sample: float) -> None:
        self._samples.append(sample)

    def lose(self, samples: int) -> list[SampleBlock]:
        """A gap of `samples`; what came before it."""
        out = self.end()
        self._lost += samples
        return out

    def end(self) -> list[SampleBlock]:
        """What was added since, as one block, if anything was."""
        if not self._samples:
            return []
        samples = np.array(self._samples, np.float32)[:, None]
        seq, lost = self._seq + self._lost, self._lost
        self._seq, self._lost, self._samples = seq + len(samples), 0, []
        return [SampleBlock(seq, lost, self._rate_hz, "1", samples, self._feed)]
