"""A device's clock on the host's monotonic time: offset, drift and uncertainty, from arrivals.

What a device says arrives late by its transport, never early, so the earliest arrivals carry the
truth: the offset follows the lower envelope of (arrival - device time), rising by at most the drift
that a crystal can have. A delay that is always there (the line, a converter, the device's own
averaging) cannot be seen in arrivals and is in none of the figures.

What happens to clocks and lines, and what is made of it:
- set forward, or the host was late before: an arrival earlier than the envelope; taken at once;
- a stall and its burst: late for a while, device time then runs faster than ours; old times kept;
- set back, or the device paused: late for `LATE_FOR_NS` while device time keeps step with ours;
  the estimate starts anew, so that nothing freezes longer than that;
- old data sent again: device time far behind, but faster than ours. It keeps its old times, so
  that no old value comes back as a new one.

Implements nothing but this; the lower envelope as in Moon, Skelly and Towsley, "Estimation and
removal of clock skew from network delay measurements" (INFOCOM 1999).
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, replace

from firmware_bridge.session import NS_PER_MS, NS_PER_S

DRIFT_PPM = 200  # more than any crystal's
LATE_NS = 250 * NS_PER_MS
LATE_FOR_NS = 2 * NS_PER_S
IN_STEP = (0.5, 1.5)  # device seconds per host second of a clock that was set, not caught up
WINDOW_NS = 10 * NS_PER_S
WINDOWS = 60
MIN_WINDOWS = 6


@dataclass(frozen=True, slots=True)
class ClockState:
    """What is known of one device's clock.

    `offset_ns` is host minus device time; `drift_ppm` how much faster than the host's the device's
    clock runs, None until a minute was seen. `uncertainty_ns` is how far a placed time may be
    from the best that the transport allows, never said to be below 1 ms. `jumps` were set forward,
    `restarts` back or paused, `bursts` caught up. Of a clock that counts samples, `gaps` and
    `duplicates` are blocks that began later or earlier than the one before had ended.
    """

    offset_ns: int
    drift_ppm: float | None
    uncertainty_ns: int
    jumps: int
    restarts: int
    bursts: int
    gaps: int = 0
    duplicates: int = 0

    def after(self, before: ClockState) -> ClockState:
        """With what had been counted before this clock began anew."""
        return replace(
            self,
            jumps=self.jumps + before.jumps,
            restarts=self.restarts + before.restarts,
            bursts=self.bursts + before.bursts,
            gaps=self.gaps + before.gaps,
            duplicates=self.duplicates + before.duplicates,
        )


class DeviceClock:
    """One clock of one source. Times of the device are ns of its own epoch, those of the host
    monotonic ns."""

    def __init__(self) -> None:
        self._epoch_ns: float | None = None  # device times count from its first: floats stay exact
        self._offset_ns: float | None = None
        self._arrived_ns = 0
        self._device_ns = 0.0
        self._late_since: tuple[int, float] | None = None  # host and device time
        self._envelope = _Envelope()
        self.jumps = self.restarts = self.bursts = 0

    def place(self, device_ns: float, arrived_ns: int) -> float:
        """Host time of what the device stamped `device_ns` and that came just now."""
        if self._epoch_ns is None:
            self._epoch_ns = device_ns
        device_ns = device_ns - self._epoch_ns
        candidate_ns = arrived_ns - device_ns
        if self._offset_ns is None:
            self._settle(candidate_ns)
        elif candidate_ns <= self._offset_ns:
            self._advance(candidate_ns)
        else:
            self._follow(candidate_ns, device_ns, arrived_ns)
        self._device_ns, self._arrived_ns = device_ns, arrived_ns
        if self._late_since is None:
            self._envelope.add(device_ns, candidate_ns)
        assert self._offset_ns is not None
        return self._offset_ns + device_ns

    @property
    def state(self) -> ClockState:
        """As of the last arrival; an offset of 0 before the first."""
        offset_ns, line = self._offset_ns or 0.0, self._envelope.line
        drift_ppm, uncertainty_ns = None, float(LATE_NS)
        if line is not None:
            # One ppm fast makes (host - device) fall by 1e-6.
            drift_ppm = -line.slope * 1e6
            uncertainty_ns = abs(offset_ns - line.at(self._device_ns)) + 3 * line.scatter_ns
        return ClockState(
            offset_ns=int(offset_ns) - int(self._epoch_ns or 0),
            drift_ppm=drift_ppm,
            uncertainty_ns=max(int(uncertainty_ns), NS_PER_MS),
            jumps=self.jumps,
            restarts=self.restarts,
            bursts=self.bursts,
        )

    def _settle(self, offset_ns: float) -> None:
        self._offset_ns = offset_ns
        self._late_since = None

    def _advance(self, candidate_ns: float) -> None:
        """Earlier than the envelope: it was too high, or the device's clock was set forward."""
        assert self._offset_ns is not None
        if self._offset_ns - candidate_ns > LATE_NS:
            self.jumps += 1
            self._envelope.clear()
        self._caught_up()
        self._settle(candidate_ns)

    def _follow(self, candidate_ns: float, device_ns: float, arrived_ns: int) -> None:
        assert self._offset_ns is not None
        late_ns = candidate_ns - self._offset_ns
        if late_ns < LATE_NS:
            self._caught_up()
            slack_ns = (arrived_ns - self._arrived_ns) * DRIFT_PPM * 1e-6
            self._offset_ns += min(late_ns, slack_ns)
        elif self._late_since is None or not self._in_step(device_ns, arrived_ns):
            self._late_since = arrived_ns, device_ns
        elif arrived_ns - self._late_since[0] > LATE_FOR_NS:
            self.restarts += 1
            self._envelope.clear()
            self._settle(candidate_ns)

    def _in_step(self, device_ns: float, arrived_ns: int) -> bool:
        """Whether device time has kept step with ours since it became late."""
        assert self._late_since is not None
        passed_ns = arrived_ns - self._late_since[0]
        if passed_ns < LATE_FOR_NS:
            return True
        low, high = IN_STEP
        return low * passed_ns <= device_ns - self._late_since[1] <= high * passed_ns

    def _caught_up(self) -> None:
        self.bursts += self._late_since is not None
        self._late_since = None


@dataclass(frozen=True, slots=True)
class _Line:
    """Offset at `device_ns`, its slope, and how far the lowest arrivals lie from it."""

    device_ns: float
    offset_ns: float
    slope: float
    scatter_ns: float

    def at(self, device_ns: float) -> float:
        return self.offset_ns + self.slope * (device_ns - self.device_ns)


class _Envelope:
    """The earliest arrival of each of the last `WINDOWS` windows, and the line through them."""

    def __init__(self) -> None:
        self._lowest: deque[tuple[float, float]] = deque(maxlen=WINDOWS)
        self._began_ns: float | None = None
        self._low: tuple[float, float] | None = None
        self.line: _Line | None = None

    def add(self, device_ns: float, candidate_ns: float) -> None:
        if self._began_ns is None or device_ns < self._began_ns:
            self._began_ns = device_ns
        if self._low is None or candidate_ns < self._low[1]:
            self._low = device_ns, candidate_ns
        if device_ns - self._began_ns >= WINDOW_NS:
            self._lowest.append(self._low)
            self._began_ns, self._low = device_ns, None
            self.line = _fitted(list(self._lowest))

    def clear(self) -> None:
        self._lowest.clear()
        self._began_ns = self._low = self.line = None


def _fitted(points: list[tuple[float, float]]) -> _Line | None:
    """Least squares."""
    n = len(points)
    if n < MIN_WINDOWS:
        return None
    mean_x, mean_y = sum(x for x, _ in points) / n, sum(y for _, y in points) / n
    spread = sum((x - mean_x) ** 2 for x, _ in points)
    slope = sum((x - mean_x) * (y - mean_y) for x, y in points) / spread
    off_ns = [abs(y - mean_y - slope * (x - mean_x)) for x, y in points]
    # Few points lie on a line by chance.
    return _Line(mean_x, mean_y, slope, max(off_ns) * (1 + MIN_WINDOWS / n))


class SampleClock:
    """Times of one stream's samples at a nominal `rate_hz`; its clock is the count of samples."""

    def __init__(self, rate_hz: float) -> None:
        self._period_ns = NS_PER_S / rate_hz
        self._clock = DeviceClock()
        self._end: int | None = None
        self._gaps = self._duplicates = 0

    @property
    def state(self) -> ClockState:
        return replace(self._clock.state, gaps=self._gaps, duplicates=self._duplicates)

    def time_of(self, seq: int, count: int, arrived_ns: int) -> int:
        """Time of sample `seq`, the first of a block of `count` whose last byte came just now."""
        if self._end is not None:
            self._gaps += seq > self._end
            self._duplicates += seq < self._end
        self._end = seq + count
        last_ns = self._clock.place((seq + count - 1) * self._period_ns, arrived_ns)
        return int(last_ns - (count - 1) * self._period_ns)


def alignment_error_ns(states: list[ClockState]) -> int:
    """How far times of the same instant may lie apart when they come from two of these sources."""
    return sum(sorted((state.uncertainty_ns for state in states), reverse=True)[:2])
