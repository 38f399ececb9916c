"""Which maxima of QRS-band energy are beats: adaptive levels, refractory period, search-back.

Owns the decision, event by event; it never sees a sample, so its results cannot depend on how the
samples were cut. After Pan & Tompkins (1985), with these changes: an absolute floor keeps it silent
on an asystole's noise; a huge maximum counts only as a little more than a usual one; and the beat
level decays while nothing is found, so that an artefact does not deafen it.
"""

from __future__ import annotations

from dataclasses import dataclass

REFRACTORY_S = 0.24
T_WAVE_S = 0.36
T_WAVE_SHARE = 0.5
"""So soon after a beat, a maximum under this share of it is its T wave."""

LEARN_S = 2.0
LEVEL_STEP = 0.125
CAP = 2.0
"""A maximum counts at most this many times the beat level."""

THRESHOLD = 0.38
"""Share of the way from the noise level to the beat level."""

SEARCH_BACK = 0.45
"""A maximum over this share of the threshold is remembered for search-back."""

SEARCH_BACK_RR = 1.6
"""Search-back takes the remembered maximum after this many mean intervals without a beat."""

RR_LOW_S, RR_HIGH_S, RR_START_S = 0.3, 1.25, 0.8
STALE_S = 1.5
HALF_LIFE_S = 0.7
"""After `STALE_S` without a beat the beat level halves in this time."""

LATE_S = max(LEARN_S, SEARCH_BACK_RR * RR_HIGH_S)
"""The longest that a peak waits for learning or search-back after it was seen, s."""


@dataclass(frozen=True, slots=True)
class Peak:
    """An R peak at filtered sample `index`, decided when `decided` samples had come."""

    index: int
    decided: int


@dataclass(frozen=True, slots=True)
class Bump:
    """A maximum of the energy: its R peak's sample, height (mV rms in the QRS band) and steepest
    slope (mV over two samples)."""

    index: int
    height_mv: float
    slope_mv: float


class Levels:
    """Judges maxima in order. `restart` forgets positions and keeps the levels."""

    def __init__(self, rate_hz: float, floor_mv: float) -> None:
        self._rate_hz = rate_hz
        self._floor_mv = floor_mv
        self._refractory = round(REFRACTORY_S * rate_hz)
        self._t_wave = round(T_WAVE_S * rate_hz)
        self._learn = round(LEARN_S * rate_hz)
        self._stale = round(STALE_S * rate_hz)
        self._rr = RR_START_S * rate_hz
        self._beat_mv: float | None = None  # None: not learned yet
        self._noise_mv = 0.0
        self.restart()

    def restart(self) -> None:
        """Samples count from 0 again, and there is no beat before them."""
        self._held: list[Bump] = []  # while learning
        self._last: Bump | None = None
        self._kept: Bump | None = None  # for search-back
        self._wake_at: int | None = None

    @property
    def pending_from(self) -> int | None:
        """The earliest maximum that may still become a beat."""
        if self._held:
            return self._held[0].index
        return self._kept.index if self._kept else None

    def wake(self, now: int) -> list[Peak]:
        """Peaks that the mere passing of time up to `now` samples decides."""
        peaks: list[Peak] = []
        while self._wake_at is not None and self._wake_at <= now:
            due, self._wake_at = self._wake_at, None
            if self._held:
                peaks += self._learned(due)
            elif self._kept is not None:
                peaks.append(self._accept(self._kept, due))
        return peaks

    def judge(self, bump: Bump, now: int) -> list[Peak]:
        """The peaks (none or one) that this maximum, seen at `now` samples, decides."""
        if self._beat_mv is None:
            self._hold(bump, now)
            return []
        since = bump.index - self._last.index if self._last else None
        if since is not None and since < self._refractory:
            return []
        threshold_mv = self._threshold_mv(bump.index)
        if bump.height_mv >= threshold_mv and not self._is_t_wave(bump, since):
            return [self._accept(bump, now)]
        self._note(bump, threshold_mv, since, now)
        return []

    def _hold(self, bump: Bump, now: int) -> None:
        if bump.height_mv >= self._floor_mv:
            if not self._held:
                self._wake_at = now + self._learn
            self._held.append(bump)

    def _learned(self, now: int) -> list[Peak]:
        """Set the beat level from the maxima of the first seconds, then judge them."""
        held, self._held = self._held, []
        heights = sorted((b.height_mv for b in held), reverse=True)
        self._beat_mv = min(heights[0], CAP * heights[min(1, len(heights) - 1)])
        return [peak for bump in held for peak in self.judge(bump, now)]

    def _threshold_mv(self, at: int) -> float:
        level_mv = self._level_mv(at)
        return max(self._floor_mv, self._noise_mv + THRESHOLD * (level_mv - self._noise_mv))

    def _level_mv(self, at: int) -> float:
        """The beat level, decayed by the silence before sample `at`."""
        assert self._beat_mv is not None
        silent = at - (self._last.index if self._last else 0) - self._stale
        if silent <= 0:
            return self._beat_mv
        return float(self._beat_mv * 0.5 ** (silent / (HALF_LIFE_S * self._rate_hz)))

    def _is_t_wave(self, bump: Bump, since: int | None) -> bool:
        if since is None or since >= self._t_wave or self._last is None:
            return False
        return bump.slope_mv < T_WAVE_SHARE * self._last.slope_mv

    def _note(self, bump: Bump, threshold_mv: float, since: int | None, now: int) -> None:
        """Not a beat: it raises the noise level, and the highest is kept for search-back."""
        self._noise_mv += LEVEL_STEP * (min(bump.height_mv, threshold_mv) - self._noise_mv)
        if bump.height_mv < max(self._floor_mv, SEARCH_BACK * threshold_mv):
            return
        if since is None or since < self._t_wave or self._last is None:
            return
        if self._kept is None or bump.height_mv > self._kept.height_mv:
            self._kept = bump
            self._wake_at = max(now, self._last.index + round(SEARCH_BACK_RR * self._rr))

    def _accept(self, bump: Bump, now: int) -> Peak:
        level_mv = self._level_mv(bump.index)
        self._beat_mv = level_mv + LEVEL_STEP * (min(bump.height_mv, CAP * level_mv) - level_mv)
        if self._last is not None:
            rr = bump.index - self._last.index
            if RR_LOW_S <= rr / self._rate_hz <= 2 * RR_HIGH_S:
                rr = min(rr, round(RR_HIGH_S * self._rate_hz))
                self._rr += LEVEL_STEP * (rr - self._rr)
        self._last, self._kept, self._wake_at = bump, None, None
        return Peak(bump.index, now)
