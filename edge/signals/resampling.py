"""Offline change of sample rate by a ratio of whole numbers: a windowed-sinc polyphase filter.

For recordings (an emulator playing 360 Hz data as a 250 Hz device, a recipe's training data). It
looks both ways, so it has no delay and no place on a live path. Method: Crochiere & Rabiner,
Multirate Digital Signal Processing, 1983, section 3.3; Kaiser window.
"""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np

from edge.errors import StartError

if TYPE_CHECKING:
    from numpy.typing import NDArray

HALF_PERIODS = 16
"""Zero crossings of the sinc on each side, at the lower of the two rates."""

KAISER_BETA = 8.0
"""About 80 dB of stop band."""

CUTOFF = 0.92
"""Pass-band edge as a share of the lower Nyquist rate; the rest is the transition."""

MAX_FACTOR = 10_000


def resample(
    samples: NDArray[np.float64], rate_in_hz: float, rate_out_hz: float
) -> NDArray[np.float64]:
    """`samples [n]` at `rate_in_hz` as `[ceil(n * out / in)]` at `rate_out_hz`, same start time.

    Outside the recording the signal is taken as held at its first and last value. Raises
    `StartError` where the rates have no ratio of small whole numbers.
    """
    up, down = ratio(rate_in_hz, rate_out_hz)
    x = np.asarray(samples, np.float64)
    if up == down or not len(x):
        return x.copy()
    taps, reach = polyphase_taps(up, down, HALF_PERIODS, CUTOFF, KAISER_BETA)
    padded = np.pad(x, reach, mode="edge")
    n = np.arange(-(-len(x) * up // down), dtype=np.int64)
    first = n * down // up  # the input sample at or before each output
    phase = n * down % up
    out = np.empty(len(n))
    for p in np.unique(phase):
        at = np.flatnonzero(phase == p)
        out[at] = _windows(padded, 2 * reach)[first[at] + 1] @ taps[p]
    return out


def ratio(rate_in_hz: float, rate_out_hz: float) -> tuple[int, int]:
    """(up, down), whole numbers. Raises `StartError` where there are no small ones."""
    if not (rate_in_hz > 0 and rate_out_hz > 0):
        raise StartError(f"cannot resample {rate_in_hz:g} to {rate_out_hz:g} Hz", "give both rates")
    exact = Fraction(rate_out_hz) / Fraction(rate_in_hz)
    found = exact.limit_denominator(MAX_FACTOR)
    if abs(found / exact - 1) > 1e-9 or found.numerator > MAX_FACTOR:
        raise StartError(
            f"{rate_in_hz:g} to {rate_out_hz:g} Hz is no ratio of small whole numbers",
            "round the rates",
        )
    return found.numerator, found.denominator


def polyphase_taps(
    up: int, down: int, half_periods: int, edge: float, beta: float
) -> tuple[NDArray[np.float64], int]:
    """Taps `[up, 2 * reach]` per phase, each summing to 1: phase p lies p/up after sample 0.

    `half_periods` zero crossings on each side at the lower rate, `edge` of the pass band as a share
    of its Nyquist rate, `beta` of the Kaiser window.
    """
    cutoff = edge * min(1.0, up / down)
    reach = int(np.ceil(half_periods / cutoff))
    offset = np.arange(1 - reach, reach + 1)[None, :] - np.arange(up)[:, None] / up
    inside = np.sqrt(np.maximum(0.0, 1 - (offset / reach) ** 2))
    taps = np.sinc(cutoff * offset) * np.i0(beta * inside) / np.i0(beta)
    taps[np.abs(offset) > reach] = 0.0
    return taps / taps.sum(axis=1, keepdims=True), reach


def _windows(x: NDArray[np.float64], width: int) -> NDArray[np.float64]:
    return np.lib.stride_tricks.sliding_window_view(x, width)
