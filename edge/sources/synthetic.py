"""Synthetic ECG: sums of Gaussians on a scripted rhythm, the same for the same seed.

For tests, benchmarks and trying a configuration without a device. The shapes follow McSharry et al.
2003 (P, Q, R, S and T as Gaussians). It looks like an ECG to the trigger and the quality checks; no
claim that it looks like a patient.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Annotated

import msgspec
import numpy as np

from edge.clock import NS_PER_S
from edge.errors import StartError
from edge.types import SourceLost, Waveform

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

# (centre s from the R peak, width s, height mV)
SHAPES = {
    "N": ((-0.18, 0.025, 0.12), (-0.025, 0.010, -0.12), (0.0, 0.011, 1.1), (0.028, 0.010, -0.22),
          (0.26, 0.055, 0.28)),
    "V": ((-0.04, 0.030, 0.3), (0.0, 0.040, 1.5), (0.07, 0.035, -0.6), (0.30, 0.065, -0.45)),
}  # fmt: skip
SHAPES["S"] = SHAPES["N"][1:]
REACH_S = 0.75
"""No shape has anything this far from its R peak."""
TIMING = {"N": (1.0, 1.0), "V": (0.65, 1.35), "S": (0.7, 1.1)}
"""Interval before and after the beat, as a share of the usual one; V: a compensatory pause."""
VARIABILITY = 0.02
WANDER_MV, WANDER_HZ = 0.05, 0.25
NOISE_MV = 0.008
FIRST_BEAT_S = 0.5
BLOCK_S = 0.04

Positive = Annotated[float, msgspec.Meta(gt=0)]


class Rhythm:
    """An endless scripted ECG, made stretch by stretch; where it is cut does not matter."""

    def __init__(
        self, pattern: str, rate_hz: float, seed: int, heart_rate_bpm: float = 72.0,
        noise_mv: float = NOISE_MV, mains_mv: float = 0.0, mains_hz: float = 50.0,
    ) -> None:  # fmt: skip
        beats, noise = np.random.SeedSequence(seed).spawn(2)
        self._beats = _beats(pattern, 60.0 / heart_rate_bpm, np.random.default_rng(beats))
        self._noise = np.random.default_rng(noise)
        self._rate_hz = rate_hz
        self._noise_mv = noise_mv
        self._mains = (mains_mv, mains_hz)
        self._made = 0
        self._ahead: list[tuple[float, str]] = []  # beats that may reach into what comes
        self.placed: list[tuple[float, str]] = []  # R peaks of the last stretch, seconds

    def next(self, count: int) -> NDArray[np.float32]:
        """The next `count` samples `[n]`, mV."""
        t_s = (self._made + np.arange(count)) / self._rate_hz
        from_s, to_s = self._made / self._rate_hz, (self._made + count) / self._rate_hz
        x = self._noise_mv * self._noise.standard_normal(count)
        for height_mv, hz in ((WANDER_MV, WANDER_HZ), self._mains):
            x += height_mv * np.sin(2 * np.pi * hz * t_s)
        self._ahead = [b for b in self._ahead if b[0] > from_s - REACH_S]
        while not self._ahead or self._ahead[-1][0] < to_s + REACH_S:
            self._ahead.append(next(self._beats))
        for at_s, label in self._ahead:
            for centre_s, width_s, height_mv in SHAPES.get(label, ()):
                _add_bump(x, t_s, at_s + centre_s, width_s, height_mv)
        self.placed = [b for b in self._ahead if from_s <= b[0] < to_s and b[1] in SHAPES]
        self._made += count
        return x.astype(np.float32)


def ecg(
    pattern: str, rate_hz: float, seed: int, seconds: float, heart_rate_bpm: float = 72.0,
    noise_mv: float = NOISE_MV, mains_mv: float = 0.0, mains_hz: float = 50.0,
) -> tuple[NDArray[np.float32], NDArray[np.int64], list[str]]:  # fmt: skip
    """(samples `[n]` mV, R sample indices `[k]`, labels): `pattern` repeated, letters N, V, S, -.

    N is sinus, V ventricular (wide, no P, compensatory pause), S premature and narrow; `-` is a
    beat that does not come: one makes a pause, many an asystole, nothing else none at all. Noise is
    one standard deviation. Raises `StartError` for another letter.
    """
    rhythm = Rhythm(pattern, rate_hz, seed, heart_rate_bpm, noise_mv, mains_mv, mains_hz)
    samples = rhythm.next(round(seconds * rate_hz))
    at = np.rint(np.array([at_s for at_s, _ in rhythm.placed]) * rate_hz).astype(np.int64)
    return samples, at, [label for _, label in rhythm.placed]


def _add_bump(
    x: NDArray[np.float64], t_s: NDArray[np.float64], at_s: float, width_s: float, height: float
) -> None:
    near = slice(*np.searchsorted(t_s, (at_s - 6 * width_s, at_s + 6 * width_s)))
    x[near] += height * np.exp(-0.5 * ((t_s[near] - at_s) / width_s) ** 2)


def _beats(
    pattern: str, usual_s: float, random: np.random.Generator
) -> Iterator[tuple[float, str]]:
    """(time s, letter) for ever, `-` included: the time at which the missing beat was due."""
    if not pattern or set(pattern) - {*SHAPES, "-"}:
        raise StartError(f"pattern '{pattern}' is not made of N, V, S and -", "correct it")
    return _timed(pattern, usual_s, random)


def _timed(
    pattern: str, usual_s: float, random: np.random.Generator
) -> Iterator[tuple[float, str]]:
    at_s, share = FIRST_BEAT_S, 1.0
    for i, letter in enumerate(itertools.cycle(pattern)):
        before, after = TIMING.get(letter, (1.0, 1.0))
        if i > 0:
            varied = random.normal(1.0, VARIABILITY)
            at_s += usual_s * varied * (before if before < 1.0 else share)
        share = after
        yield at_s, letter


class SyntheticOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What to play: letters N, V, S and - (see `ecg`). Without `seconds` it never ends."""

    pattern: str = "NNNNV"
    heart_rate_bpm: Positive = 72.0
    rate_hz: Positive = 250.0
    seed: int = 1
    seconds: Positive | None = None
    noise_mv: float = NOISE_MV
    mains_mv: float = 0.0
    mains_hz: Positive = 50.0
    mdc: str = "MDC_ECG_ELEC_POTL_II"
    name: str = "synthetic"


class Synthetic:
    """Plays a rhythm in blocks of 40 ms by the time it is told."""

    Options = SyntheticOptions

    def __init__(self, options: SyntheticOptions) -> None:
        o = self._options = options
        self._rhythm = Rhythm(
            o.pattern, o.rate_hz, o.seed, o.heart_rate_bpm, o.noise_mv, o.mains_mv, o.mains_hz
        )
        self._block = max(1, round(BLOCK_S * o.rate_hz))
        self._total = None if o.seconds is None else round(o.seconds * o.rate_hz)
        self._start_ns: int | None = None
        self._seq = 0

    @property
    def name(self) -> str:
        return self._options.name

    def open(self, now_ns: int) -> None:
        """The first sample's time is `now_ns`."""
        self._start_ns = now_ns

    def fileno(self) -> int | None:
        return None

    def next_deadline_ns(self) -> int | None:
        """When the last sample of the next block has come; None when closed or at the end."""
        if self._start_ns is None:
            return None
        return self._time(self._start_ns, self._seq + max(1, self._next_count()))

    def poll(self, now_ns: int) -> list[Waveform | SourceLost]:
        """Blocks whose last sample's time has come, `SourceLost` after the last of them."""
        out: list[Waveform | SourceLost] = []
        while (due_ns := self.next_deadline_ns()) is not None and due_ns <= now_ns:
            if self._next_count() == 0:
                out.append(SourceLost(now_ns, self.name, "the pattern has ended"))
                self._start_ns = None
            else:
                out.append(self._next_block(now_ns))
        return out

    def counters(self) -> dict[str, int]:
        return {"received": self._seq, "lost": 0, "gaps": 0}

    def close(self) -> None:
        self._start_ns = None

    def _next_count(self) -> int:
        left = self._block if self._total is None else self._total - self._seq
        return min(self._block, left)

    def _next_block(self, now_ns: int) -> Waveform:
        o, seq, count = self._options, self._seq, self._next_count()
        assert self._start_ns is not None
        self._seq += count
        t_ns, samples = self._time(self._start_ns, seq), self._rhythm.next(count)
        return Waveform(t_ns, now_ns, o.name, o.mdc, "mV", o.rate_hz, seq, samples)

    def _time(self, start_ns: int, seq: int) -> int:
        return start_ns + round(seq * NS_PER_S / self._options.rate_hz)
