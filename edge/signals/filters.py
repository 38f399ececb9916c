"""Causal IIR filters: cascades of biquads in plain Python, their design, delay and settling.

Owns the registered filter names of a manifest's `signal.filters`. At 250 Hz a loop over Python
floats costs less than importing a filter library, and its result cannot depend on how the samples
were cut into chunks. Butterworth sections by the bilinear transform with prewarping (Oppenheim &
Schafer, Discrete-Time Signal Processing, section 7.1); notch after Orfanidis, Introduction to
Signal Processing, section 11.3.
"""

from __future__ import annotations

import cmath
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edge.errors import StartError
from edge.registry import resolve

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from edge.bundle.manifest import Step

FILTERS = {
    "bandpass": "edge.signals.filters:bandpass",
    "notch": "edge.signals.filters:notch",
}
"""Registered filter names; a factory takes `rate_hz` and the step's parameters."""


@dataclass(frozen=True, slots=True)
class Biquad:
    """H(z) = (b0 + b1/z + b2/z^2) / (1 + a1/z + a2/z^2)."""

    b0: float
    b1: float
    b2: float
    a1: float
    a2: float

    def response(self, w_rad: float) -> complex:
        """Complex gain at `w_rad` radians per sample."""
        z1 = cmath.exp(-1j * w_rad)
        return (self.b0 + z1 * (self.b1 + z1 * self.b2)) / (1 + z1 * (self.a1 + z1 * self.a2))

    def group_delay(self, w_rad: float) -> float:
        """Samples of delay at `w_rad`: Re(d ln numerator) - Re(d ln denominator) in 1/z."""
        z1 = cmath.exp(-1j * w_rad)
        ahead = _log_slope(self.b0, self.b1, self.b2, z1)
        return ahead - _log_slope(1.0, self.a1, self.a2, z1)

    def dc_gain(self) -> float:
        """Gain for a constant."""
        return (self.b0 + self.b1 + self.b2) / (1 + self.a1 + self.a2)


def _log_slope(c0: float, c1: float, c2: float, z1: complex) -> float:
    value = c0 + z1 * (c1 + z1 * c2)
    return ((z1 * (c1 + 2 * z1 * c2)) / value).real


class Cascade:
    """Biquads in series, with their state. The unit of the samples is unchanged."""

    def __init__(self, sections: Sequence[Biquad], rate_hz: float) -> None:
        self.sections = tuple(sections)
        self.rate_hz = rate_hz
        self._state = [(0.0, 0.0)] * len(self.sections)

    def feed(self, samples: list[float]) -> list[float]:
        """Filter the next samples `[n]`; the same output however they are cut into calls."""
        for i, section in enumerate(self.sections):
            samples, self._state[i] = _run(section, samples, *self._state[i])
        return samples

    def reset(self, level: float = 0.0) -> None:
        """Settle as if the input had been constant at `level` for ever: no transient follows."""
        x = level
        for i, s in enumerate(self.sections):
            y = s.dc_gain() * x
            self._state[i] = ((s.b1 + s.b2) * x - (s.a1 + s.a2) * y, s.b2 * x - s.a2 * y)
            x = y

    def gain(self, at_hz: float) -> float:
        """Magnitude of the response at `at_hz`."""
        w_rad = 2 * math.pi * at_hz / self.rate_hz
        return math.prod(abs(s.response(w_rad)) for s in self.sections)

    def group_delay_ms(self, at_hz: float) -> float:
        """Delay of the envelope at `at_hz`, from the transfer function itself."""
        w_rad = 2 * math.pi * at_hz / self.rate_hz
        return 1e3 / self.rate_hz * sum(s.group_delay(w_rad) for s in self.sections)


def _run(
    section: Biquad, samples: list[float], s1: float, s2: float
) -> tuple[list[float], tuple[float, float]]:
    """Direct form II transposed."""
    b0, b1, b2, a1, a2 = section.b0, section.b1, section.b2, section.a1, section.a2
    out = []
    for x in samples:
        y = b0 * x + s1
        s1 = b1 * x - a1 * y + s2
        s2 = b2 * x - a2 * y
        out.append(y)
    return out, (s1, s2)


def bandpass(rate_hz: float, low_hz: float, high_hz: float, order: float = 2) -> Cascade:
    """Butterworth high-pass at `low_hz` then low-pass at `high_hz`, each of even `order`."""
    if not 0 < low_hz < high_hz < rate_hz / 2:
        raise StartError(
            f"band-pass {low_hz:g} to {high_hz:g} Hz is impossible at {rate_hz:g} Hz",
            f"keep 0 < low_hz < high_hz < {rate_hz / 2:g}",
        )
    if order not in (2, 4, 6, 8):
        raise StartError(f"band-pass order {order:g} is not built", "use 2, 4, 6 or 8")
    dampings = _butterworth_dampings(int(order))
    sections = [_highpass_section(rate_hz, low_hz, d) for d in dampings]
    sections += [_lowpass_section(rate_hz, high_hz, d) for d in dampings]
    return Cascade(sections, rate_hz)


def notch(rate_hz: float, at_hz: float, q: float = 5.0) -> Cascade:
    """Zero at `at_hz`, -3 dB over `at_hz / q`; for mains interference."""
    if not (0 < at_hz < rate_hz / 2 and q > 0):
        raise StartError(
            f"notch at {at_hz:g} Hz with q {q:g} is impossible at {rate_hz:g} Hz",
            f"keep 0 < at_hz < {rate_hz / 2:g} and q positive",
        )
    w_rad = 2 * math.pi * at_hz / rate_hz
    gain = 1 / (1 + math.tan(w_rad / (2 * q)))
    turn = -2 * gain * math.cos(w_rad)
    return Cascade([Biquad(gain, turn, gain, turn, 2 * gain - 1)], rate_hz)


def chain(steps: Iterable[Step], rate_hz: float, known: Mapping[str, str] = FILTERS) -> Cascade:
    """The manifest's filter steps as one cascade. Raises `StartError` for name or parameters."""
    sections: list[Biquad] = []
    for step in steps:
        factory = resolve(known, step.name, "filter")
        try:
            built: Cascade = factory(rate_hz, **step.params)
        except TypeError as error:
            raise StartError(
                f"filter '{step.name}' refuses its parameters ({error})", "correct the manifest"
            ) from None
        sections += built.sections
    return Cascade(sections, rate_hz)


def _butterworth_dampings(order: int) -> list[float]:
    """1/Q of each conjugate pole pair."""
    return [2 * math.sin(math.pi * (2 * i + 1) / (2 * order)) for i in range(order // 2)]


def _lowpass_section(rate_hz: float, at_hz: float, damping: float) -> Biquad:
    k = math.tan(math.pi * at_hz / rate_hz)
    norm = 1 / (1 + damping * k + k * k)
    b = k * k * norm
    return Biquad(b, 2 * b, b, 2 * (k * k - 1) * norm, (1 - damping * k + k * k) * norm)


def _highpass_section(rate_hz: float, at_hz: float, damping: float) -> Biquad:
    k = math.tan(math.pi * at_hz / rate_hz)
    norm = 1 / (1 + damping * k + k * k)
    return Biquad(norm, -2 * norm, norm, 2 * (k * k - 1) * norm, (1 - damping * k + k * k) * norm)
