"""Change of sample rate on a live signal: the same method as `resampling`, shorter and streaming.

An output sample stands for the same instant as in the input: what the filter needs after it is
waited for (`reach`), so times stay true. Kept to half of the lower Nyquist rate within 0.1 %,
which for 250 Hz is 62 Hz: the band of a monitored ECG. How the samples were cut into blocks changes
no bit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from edge.signals.resampling import polyphase_taps, ratio

if TYPE_CHECKING:
    from numpy.typing import NDArray

HALF_PERIODS = 6
CUTOFF = 0.75
KAISER_BETA = 6.0


class LiveResampler:
    """One stream from `rate_in_hz` to `rate_out_hz`. Raises `StartError` for a ratio that is none.

    Positions are sample numbers from the stream's beginning, as in `Waveform.seq`; number n of the
    output lies at n * rate_in / rate_out of the input.
    """

    def __init__(self, rate_in_hz: float, rate_out_hz: float) -> None:
        self._up, self._down = ratio(rate_in_hz, rate_out_hz)
        self._taps, self._reach = polyphase_taps(
            self._up, self._down, HALF_PERIODS, CUTOFF, KAISER_BETA
        )
        self._held: NDArray[np.float64] = np.empty(0)
        self._held_from = 0  # the input position of its first sample
        self._next_in: int | None = None
        self._next_out = 0

    @property
    def reach(self) -> int:
        """Input samples that an output sample waits for."""
        return self._reach

    def position(self, n: int) -> float:
        """Where output sample `n` lies, in input samples."""
        return n * self._down / self._up

    def feed(self, seq: int, samples: NDArray[np.float32]) -> tuple[int, NDArray[np.float32]]:
        """The output samples that `samples [n]`, from input position `seq`, complete, and the
        number of the first. A jump of `seq` begins anew: nothing reaches over a gap. Before its
        beginning the signal is taken as held at its first sample.
        """
        if seq != self._next_in:
            self._held = np.full(self._reach - 1, samples[0], np.float64)
            self._held_from = seq - (self._reach - 1)
            self._next_out = -(-seq * self._up // self._down)
        self._next_in = seq + len(samples)
        held = np.concatenate((self._held, samples), dtype=np.float64)
        first, end = self._next_out, -(-(self._next_in - self._reach) * self._up // self._down)
        n = np.arange(first, max(first, end), dtype=np.int64)
        at = n * self._down // self._up + 1 - self._reach - self._held_from
        windows = held[at[:, None] + np.arange(2 * self._reach)]
        out = (windows * self._taps[n * self._down % self._up]).sum(axis=1)
        self._next_out = first + len(n)
        keep = self._next_out * self._down // self._up + 1 - self._reach - self._held_from
        self._held, self._held_from = held[keep:], self._held_from + keep
        return first, out.astype(np.float32)
