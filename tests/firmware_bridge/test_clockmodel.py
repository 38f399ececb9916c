"""The clock model against simulated devices whose truth is known.

Placed: a placed time is off by no more than the stated uncertainty, whatever drift and jitter are.
Jumps: a clock that is set never freezes a value for longer than `LATE_FOR_NS` and one interval, and
never makes an old one new.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from firmware_bridge.clockmodel import LATE_FOR_NS, DeviceClock, SampleClock, alignment_error_ns
from firmware_bridge.session import NS_PER_MS, NS_PER_S

if TYPE_CHECKING:
    from collections.abc import Callable

PERIOD_NS = 4 * NS_PER_MS
EPOCH_NS = 1_800_000_000 * NS_PER_S  # a device that knows the calendar
DELAY_NS = 3 * NS_PER_MS


@dataclass
class Device:
    """A device that drifts, on a line with exponential jitter; `set_by_ns(t_s)` is what its clock
    was set by until then."""

    drift_ppm: float = 0.0
    jitter_ms: float = 1.0
    interval_s: float = 0.1
    set_by_ns: Callable[[float], float] = lambda t_s: 0.0
    held_until_s: Callable[[float], float] = lambda t_s: t_s
    seed: int = 1

    def run(self, clock: DeviceClock, seconds: float) -> list[tuple[float, float, float]]:
        """(true time s, error ms, stated uncertainty ms) of each value placed."""
        rng, out = random.Random(self.seed), []
        for i in range(int(seconds / self.interval_s)):
            t_s = i * self.interval_s
            true_ns = t_s * NS_PER_S
            device_ns = EPOCH_NS + int(true_ns * (1 + self.drift_ppm * 1e-6) + self.set_by_ns(t_s))
            jitter_ns = rng.expovariate(1 / self.jitter_ms) * NS_PER_MS if self.jitter_ms else 0
            arrived_ns = int(max(true_ns, self.held_until_s(t_s) * NS_PER_S) + DELAY_NS + jitter_ns)
            error_ns = clock.place(device_ns, arrived_ns) - true_ns - DELAY_NS
            out.append((t_s, error_ns / NS_PER_MS, clock.state.uncertainty_ns / NS_PER_MS))
        return out


@settings(max_examples=40, deadline=None)
@given(
    st.floats(-150, 150), st.floats(0, 8), st.sampled_from([0.02, 0.1, 1.0]), st.integers(0, 999)
)
def test_errors_stay_inside_the_stated_uncertainty(
    drift_ppm: float, jitter_ms: float, interval_s: float, seed: int
) -> None:
    clock = DeviceClock()
    seconds = 90.0 if interval_s < 0.1 else 200.0
    placed = Device(drift_ppm, jitter_ms, interval_s, seed=seed).run(clock, seconds)
    outside = [p for p in placed if abs(p[1]) > p[2]]
    assert len(outside) <= 0.05 * len(placed)
    assert (clock.jumps, clock.restarts) == (0, 0)


def test_the_uncertainty_is_kept_and_worth_stating() -> None:
    outside, wide, rng = [], [], random.Random(5)
    for seed in range(200):
        jitter_ms = rng.uniform(0, 8)
        device = Device(rng.uniform(-150, 150), jitter_ms, 1.0, seed=seed)
        placed = device.run(DeviceClock(), 200)
        outside += [abs(p[1]) > p[2] for p in placed]
        wide.append(placed[-1][2] > 10 + jitter_ms)
    assert sum(outside) <= 0.001 * len(outside)
    assert sum(wide) <= 0.02 * len(wide)


@pytest.mark.parametrize("drift_ppm", [-80.0, 0.0, 45.0])
def test_drift_is_found(drift_ppm: float) -> None:
    clock = DeviceClock()
    assert clock.state.drift_ppm is None
    Device(drift_ppm, jitter_ms=2.0).run(clock, 300)
    assert clock.state.drift_ppm == pytest.approx(drift_ppm, abs=2.0)


def test_a_clock_set_forward_is_followed_at_once() -> None:
    clock = DeviceClock()
    placed = Device(set_by_ns=lambda t_s: 3600e9 if t_s >= 60 else 0).run(clock, 120)
    assert max(abs(error_ms) for _, error_ms, _ in placed) < 10
    assert (clock.jumps, clock.restarts) == (1, 0)


@pytest.mark.parametrize("interval_s", [0.1, 1.0, 3.0])
@pytest.mark.parametrize("back_s", [0.5, 60.0, 3600.0])
def test_a_clock_set_back_freezes_nothing_for_long(back_s: float, interval_s: float) -> None:
    """The recall: values must not stay old because the clock went backwards."""
    clock = DeviceClock()
    device = Device(
        interval_s=interval_s, set_by_ns=lambda t_s: -back_s * 1e9 if t_s >= 60 else 0.0
    )
    placed = device.run(clock, 200)
    wrong_s = [t_s for t_s, error_ms, _ in placed if abs(error_ms) > 15]
    assert wrong_s, "for a moment it could as well be old data"
    assert min(wrong_s) >= 60
    assert max(wrong_s) <= 60 + LATE_FOR_NS / NS_PER_S + 2 * interval_s
    assert clock.restarts == 1


def test_a_clock_that_is_set_again_and_again_is_survived() -> None:
    clock = DeviceClock()
    placed = Device(set_by_ns=lambda t_s: 3600e9 * (int(t_s / 20) % 2)).run(clock, 200)
    wrong = [t_s for t_s, error_ms, _ in placed if abs(error_ms) > 15]
    assert len(wrong) <= 5 * (LATE_FOR_NS / NS_PER_S + 0.2) * 10
    assert (clock.jumps, clock.restarts) == (5, 4)


def test_a_stall_and_its_burst_keep_their_own_times() -> None:
    """Five seconds held up and delivered at once: late, and never placed as new."""
    clock = DeviceClock()
    placed = Device(held_until_s=lambda t_s: 65.0 if 60 <= t_s < 65 else t_s).run(clock, 120)
    assert max(abs(error_ms) for _, error_ms, _ in placed) < 10
    assert (clock.jumps, clock.restarts, clock.bursts) == (0, 0, 1)


def test_an_hour_sent_again_in_ten_seconds_is_old_to_its_end() -> None:
    """A gateway empties its queue: what was measured an hour ago is an hour old."""
    clock = DeviceClock()
    Device().run(clock, 60)
    start_ns = 60 * NS_PER_S
    for i in range(1000):
        device_ns = EPOCH_NS + start_ns - 3600 * NS_PER_S + int(3.6 * i * NS_PER_S)
        arrived_ns = start_ns + int(i * 10 * NS_PER_MS) + DELAY_NS
        age_s = (arrived_ns - clock.place(device_ns, arrived_ns)) / NS_PER_S
        assert age_s > 0.95 * (3600 - 3.6 * i) - 15
    assert clock.restarts == 0


def test_a_calendar_clock_in_whole_seconds_is_good_to_its_ticks() -> None:
    clock, rng = DeviceClock(), random.Random(1)
    for i in range(2000):
        true_ns = i * 130 * NS_PER_MS
        arrived_ns = true_ns + DELAY_NS + int(rng.expovariate(1 / NS_PER_MS))
        stamp_ns = EPOCH_NS + true_ns // NS_PER_S * NS_PER_S
        placed_ns = clock.place(stamp_ns, arrived_ns)
    tick_ns = true_ns // NS_PER_S * NS_PER_S + DELAY_NS
    assert abs(placed_ns - tick_ns) < 20 * NS_PER_MS
    assert (clock.jumps, clock.restarts) == (0, 0)


def test_two_sources_are_aligned_as_well_as_is_said() -> None:
    """The same instants through two devices: their times differ by no more than is stated."""
    a, b = DeviceClock(), DeviceClock()
    first = Device(drift_ppm=60, jitter_ms=4, seed=2).run(a, 200)
    second = Device(drift_ppm=-60, jitter_ms=1, seed=3).run(b, 200)
    apart = [abs(x[1] - y[1]) for x, y in zip(first, second)]
    stated = [x[2] + y[2] for x, y in zip(first, second)]
    assert sum(d > s for d, s in zip(apart, stated)) <= 0.01 * len(apart)
    assert alignment_error_ns([a.state, b.state]) / NS_PER_MS == pytest.approx(stated[-1], abs=0.01)
    assert alignment_error_ns([a.state]) == a.state.uncertainty_ns


def test_samples_lost_and_sent_twice_are_counted() -> None:
    clock = SampleClock(250.0)
    for seq, count in ((0, 5), (5, 5), (20, 5), (20, 5), (25, 5)):
        clock.time_of(seq, count, (seq + count) * PERIOD_NS)
    assert (clock.state.gaps, clock.state.duplicates) == (1, 1)


def test_jitter_is_absorbed() -> None:
    clock, jitter = SampleClock(250.0), random.Random(1)
    errors_ns = []
    for seq in range(0, 10_000, 5):
        true_ns = NS_PER_S + seq * PERIOD_NS
        arrived_ns = true_ns + 4 * PERIOD_NS + int(jitter.expovariate(1 / (3 * NS_PER_MS)))
        errors_ns.append(clock.time_of(seq, 5, arrived_ns) - true_ns)
    assert max(map(abs, errors_ns[200:])) < NS_PER_MS
    assert clock.state.restarts == 0


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
    assert clock.state.restarts == 1
    assert at_ns == (end - 1) * PERIOD_NS + shift_ns
