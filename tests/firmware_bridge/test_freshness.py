"""Losses and stale values as conditions, each told once, on the host's clock alone.

Never stale too late: no value is older than its limit without having been said to be unavailable.
Never stale in vain: a channel that keeps its own pace never is.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from firmware_bridge.conditions import CODES, LinkCondition
from firmware_bridge.freshness import EPISODIC_S, LEARNED, MAX_S, MIN_S, STALE, Freshness
from firmware_bridge.nomenclature import numeric
from firmware_bridge.session import NS_PER_S
from firmware_bridge.types import (
    Alert,
    AlertKind,
    LinkLost,
    LinkUp,
    Loss,
    Numeric,
    Priority,
    SampleBlock,
    Text,
    Validity,
)

if TYPE_CHECKING:
    from firmware_bridge.types import LinkMessage

SPO2 = "MDC_PULS_OXIM_SAT_O2"
NIBP = "MDC_PRESS_BLD_NONINV_SYS"


def ns(seconds: float) -> int:
    return int(seconds * NS_PER_S)


def spo2(value: float = 97.0) -> Numeric:
    return numeric(SPO2, value)


def lost(reason: Loss, t_s: float = 0.0) -> LinkLost:
    return LinkLost(ns(t_s), reason, "why")


def regular(fresh: Freshness, period_s: float, n: int = 20, start_s: float = 0.0) -> float:
    """`n` values at a pace; when the last one came."""
    for i in range(n):
        assert fresh.due(ns(start_s + i * period_s)) == []
        assert fresh.saw(spo2(), ns(start_s + i * period_s)) == []
    return start_s + (n - 1) * period_s


@pytest.mark.parametrize(
    ("period_s", "limit_s"), [(0.1, MIN_S), (1.0, 3.0), (2.5, 7.5), (9.0, MAX_S)]
)
def test_a_silent_channel_is_unavailable_once_at_its_learned_limit(
    period_s: float, limit_s: float
) -> None:
    fresh = Freshness()
    last_s = regular(fresh, period_s)
    assert fresh.next_ns() == pytest.approx(ns(last_s + limit_s), abs=10)
    assert fresh.due(ns(last_s + limit_s) - 10) == []
    due_ns = ns(last_s + limit_s) + 10
    gone, alert = fresh.due(due_ns)
    assert gone == Numeric(SPO2, None, "%", Validity.UNAVAILABLE)
    assert isinstance(alert, Alert)
    assert (alert.code, alert.kind, alert.active) == (STALE, AlertKind.TECHNICAL, True)
    assert (alert.channel, alert.t_ns) == (SPO2, due_ns)
    assert fresh.due(ns(last_s + 100)) == []
    [ended] = fresh.saw(spo2(), ns(last_s + 200))
    assert isinstance(ended, Alert) and not ended.active
    assert ended.t_ns == ns(last_s + 200)
    assert fresh.staled == 1


def test_until_its_pace_is_known_a_channel_has_the_longest_limit() -> None:
    fresh = Freshness()
    for i in range(LEARNED):
        fresh.saw(spo2(), ns(i))
    assert fresh.due(ns(LEARNED - 1 + MAX_S) - 1) == []
    assert len(fresh.due(ns(LEARNED - 1 + MAX_S))) == 2


def test_a_device_that_slows_down_teaches_no_patience() -> None:
    fresh, now_s = Freshness(), 0.0
    regular(fresh, 1.0)
    now_s, period_s = 19.0, 1.0
    while not fresh.due(ns(now_s)):
        period_s *= 1.2
        for _ in range(20):
            now_s += period_s / 20
            if fresh.next_ns() is not None and fresh.due(ns(now_s)):
                assert period_s < 4
                return
        fresh.saw(spo2(), ns(now_s))
    pytest.fail("never stale")


def test_a_blood_pressure_is_good_for_its_half_hour() -> None:
    fresh = Freshness()
    fresh.saw(numeric(NIBP, 120.0), 0)
    assert fresh.due(ns(EPISODIC_S[NIBP]) - 1) == []
    assert len(fresh.due(ns(EPISODIC_S[NIBP]))) == 2


def test_what_is_declared_is_never_learned_over() -> None:
    fresh = Freshness({SPO2: 60.0})
    last_s = regular(fresh, 0.1)
    assert fresh.due(ns(last_s + 59.9)) == []
    assert len(fresh.due(ns(last_s + 60.1))) == 2


def test_samples_that_stop_are_told_once_and_have_no_value() -> None:
    fresh = Freshness()
    block = SampleBlock(0, 0, 250.0, "uV", np.zeros((1, 1), np.float32), "exg")
    for i in range(20):
        fresh.saw(block, ns(i * 0.1))
    [alert] = fresh.due(ns(5))
    assert isinstance(alert, Alert) and alert.channel == "exg"


def test_a_lost_link_takes_every_value_with_it_at_once() -> None:
    fresh = Freshness()
    fresh.saw(spo2(), 0)
    fresh.saw(numeric(NIBP, 120.0), 0)
    gone = fresh.saw(lost(Loss.UNPLUGGED), 1)
    assert [g.channel for g in gone] == [SPO2, NIBP]
    assert all(isinstance(g, Numeric) and g.value is None for g in gone)
    assert fresh.saw(lost(Loss.ABSENT), 2) == []
    assert (fresh.due(ns(10_000)), fresh.next_ns()) == ([], None)
    assert fresh.saw(spo2(), ns(10_001)) == []
    assert fresh.next_ns() == ns(10_001 + MAX_S)


def test_a_stale_channel_ends_its_alert_when_the_link_goes() -> None:
    fresh = Freshness()
    fresh.saw(spo2(), 0)
    fresh.due(ns(MAX_S))
    [ended] = fresh.saw(lost(Loss.SILENT), ns(MAX_S) + 1)
    assert isinstance(ended, Alert) and not ended.active
    assert ended.t_ns == ns(MAX_S) + 1


@settings(max_examples=80, deadline=None)
@given(st.lists(st.floats(0.01, 30.0), min_size=1, max_size=60))
def test_no_value_outlives_its_limit_and_alerts_alternate(intervals_s: list[float]) -> None:
    """Values at any times, looked after when `next_ns` says: the last is shown, or nothing."""
    fresh, now_ns, alerts = Freshness(), 0, []
    fresh.saw(spo2(), 0)
    for interval_s in intervals_s:
        value_ns = now_ns + ns(interval_s)
        due_ns = fresh.next_ns()
        if due_ns is not None and due_ns < value_ns:
            assert due_ns - now_ns <= ns(MAX_S)
            gone, alert = fresh.due(due_ns)
            assert isinstance(gone, Numeric) and gone.value is None
            alerts.append(alert)
        elif due_ns is not None:
            assert value_ns - now_ns <= ns(MAX_S)
        alerts += fresh.saw(spo2(), value_ns)
        now_ns = value_ns
    states = [a.active for a in alerts if isinstance(a, Alert)]
    assert states == [i % 2 == 0 for i in range(len(states))]


def told(*messages: LinkMessage) -> list[tuple[str, bool]]:
    condition = LinkCondition()
    alerts = list(itertools.chain.from_iterable(map(condition.on, messages)))
    assert all(a.kind is AlertKind.TECHNICAL for a in alerts)
    assert all(a.priority in (Priority.HIGH, Priority.MEDIUM) for a in alerts)
    return [(a.code.removeprefix("medge:device-"), a.active) for a in alerts]


def test_every_loss_has_a_code() -> None:
    assert set(CODES) == set(Loss)


def test_an_outage_is_one_condition_until_the_link_is_up() -> None:
    outage = [lost(Loss.UNPLUGGED), lost(Loss.ABSENT), Text("x"), LinkUp(9)]
    assert told(*outage) == [("absent", True), ("absent", False)]
    assert told(*outage, *outage) == [("absent", True), ("absent", False)] * 2
    assert told(LinkUp(0)) == []


def test_a_condition_has_the_time_of_its_loss_and_ends_at_that_of_the_link() -> None:
    condition = LinkCondition()
    messages = [lost(Loss.SILENT, 1.0), lost(Loss.GARBAGE, 2.0), LinkUp(ns(3.0))]
    alerts = [a for message in messages for a in condition.on(message)]
    assert [a.t_ns for a in alerts] == [ns(1.0), ns(2.0), ns(2.0), ns(3.0)]


def test_another_cause_is_another_condition() -> None:
    assert told(lost(Loss.SILENT), lost(Loss.GARBAGE), LinkUp(0)) == [
        ("silent", True),
        ("silent", False),
        ("unintelligible", True),
        ("unintelligible", False),
    ]
