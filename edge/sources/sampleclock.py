"""When a sample was taken: device sample counts placed on the host's monotonic clock.

A block's arrival is late by its transport, never early, so the earliest arrivals carry the truth:
the estimate follows the lower envelope of arrivals, rising by at most the drift a crystal can have.
Lateness that lasts means that the device itself paused; then the estimate starts anew.
"""

from __future__ import annotations

from edge.clock import NS_PER_MS, NS_PER_S

DRIFT_PPM = 200
LATE_NS = 250 * NS_PER_MS
LATE_FOR_NS = 2 * NS_PER_S


class SampleClock:
    """Times of one stream's samples at a nominal `rate_hz`."""

    def __init__(self, rate_hz: float) -> None:
        self._period_ns = NS_PER_S / rate_hz
        self._origin_ns: float | None = None
        self._arrived_ns = 0
        self._late_since_ns: int | None = None
        self.restarts = 0

    def time_of(self, seq: int, count: int, arrived_ns: int) -> int:
        """Time of sample `seq`, the first of a block of `count` whose last byte came just now."""
        candidate_ns = arrived_ns - (seq + count - 1) * self._period_ns
        if self._origin_ns is None or candidate_ns <= self._origin_ns:
            self._settle(candidate_ns)
        else:
            self._follow(candidate_ns, arrived_ns)
        self._arrived_ns = arrived_ns
        assert self._origin_ns is not None
        return int(self._origin_ns + seq * self._period_ns)

    def _settle(self, origin_ns: float) -> None:
        self._origin_ns = origin_ns
        self._late_since_ns = None

    def _follow(self, candidate_ns: float, arrived_ns: int) -> None:
        assert self._origin_ns is not None
        late_ns = candidate_ns - self._origin_ns
        if late_ns < LATE_NS:
            self._late_since_ns = None
            slack_ns = (arrived_ns - self._arrived_ns) * DRIFT_PPM * 1e-6
            self._origin_ns += min(late_ns, slack_ns)
        elif self._late_since_ns is None:
            self._late_since_ns = arrived_ns
        elif arrived_ns - self._late_since_ns > LATE_FOR_NS:
            self.restarts += 1
            self._settle(candidate_ns)
