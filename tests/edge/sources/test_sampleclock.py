"""Sample times follow the earliest arrivals; jitter does not move them, a pause is noticed."""

from __future__ import annotations

import random

from edge.clock import NS_PER_MS, NS_PER_S
from edge.sources.sampleclock import LATE_FOR_NS, SampleClock

PERIOD_NS = 4 * NS_PER_MS


def test_jitter_is_absorbed() -> None:
    clock, jitter = SampleClock(250.0), random.Random(1)
    errors_ns = []
    for seq in range(0, 10_000, 5):
        true_ns = NS_PER_S + seq * PERIOD_NS
        arrived_ns = true_ns + 4 * PERIOD_NS + int(jitter.expovariate(1 / (3 * NS_PER_MS)))
        errors_ns.append(clock.time_of(seq, 5, arrived_ns) - true_ns)
    assert max(map(abs, errors_ns[200:])) < NS_PER_MS
    assert clock.restarts == 0


def test_a_burst_after_a_stall_keeps_its_old_times() -> None:
    clock = SampleClock(250.0)
    for seq in range(500):
        clock.time_of(seq, 1, seq * PERIOD_NS)
    late_ns = 500 * PERIOD_NS + NS_PER_S
    assert clock.time_of(500, 1, late_ns) < 501 * PERIOD_NS


def test_a_device_that_paused_starts_anew() -> None:
    clock = SampleClock(250.0)
    for seq in range(500):
        clock.time_of(seq, 1, seq * PERIOD_NS)
    shift_ns = 3 * NS_PER_S
    end = 501 + LATE_FOR_NS // PERIOD_NS + 2
    for seq in range(500, end):
        at_ns = clock.time_of(seq, 1, seq * PERIOD_NS + shift_ns)
    assert clock.restarts == 1
    assert at_ns == (end - 1) * PERIOD_NS + shift_ns
