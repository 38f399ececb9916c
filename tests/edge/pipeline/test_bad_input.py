"""Bad input on the wire: counted, withheld with the reason, and recovered from without a restart.

Every case plays ten good seconds, a fault, and ten good seconds; the control plays no fault.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from edge.types import Diagnosis, Result, Withheld
from firmware_bridge.devices import cyton

GOOD_S, FAULT_S, RATE_HZ = 10, 5, 250
Run = Callable[..., list[Result]]
FULL_UV = cyton.RAIL_HIGH_UV


def beats(results: list[Result], t0_s: float, t1_s: float) -> int:
    return sum(
        isinstance(r, Diagnosis) and r.findings[0].probability is not None
        and t0_s * 1e9 <= r.t_ns < t1_s * 1e9
        for r in results
    )  # fmt: skip


def withheld(results: list[Result]) -> dict[str, float]:
    """Reason to the time it was first said, s."""
    first: dict[str, float] = {}
    for r in results:
        if isinstance(r, Withheld):
            first.setdefault(r.reason.value, r.t_ns / 1e9)
    return first


def play(wire: Any, run: Run, rhythm_uv: Any, fault: Callable[[Any], None] | None) -> list[Result]:
    wire.send(rhythm_uv(GOOD_S))
    if fault is not None:
        fault(wire)
    wire.send(rhythm_uv(GOOD_S))
    return run(wire)


def level(uv: np.ndarray) -> Callable[[Any], None]:
    return lambda wire: wire.send(uv)


N = FAULT_S * RATE_HZ
NOISE = np.random.default_rng(5)
FAULTS = {
    "leads_off": (level(np.full(N, FULL_UV)), "leads_off", 0.35),
    "leads_off_low": (level(np.full(N, cyton.RAIL_LOW_UV)), "leads_off", 0.35),
    "flat": (level(np.full(N, 400.0)), "flat", 1.0),
    "saturated": (level(np.where(np.arange(N) // 40 % 2, FULL_UV, -3000.0)), "saturated", 0.5),
    "noise": (level(NOISE.normal(0, 3000, N)), "noise", 1.0),
    "gap": (lambda wire: wire.skip(30), "gap", 0.2),
    "silent": (lambda wire: (wire.pause(FAULT_S), wire.plug_in()), "stale", 2.0),
}


@pytest.mark.parametrize("name", FAULTS)
def test_fault_is_said_in_time_and_recovered_from(
    name: str, wire: Any, run: Run, rhythm_uv: Any
) -> None:
    fault, reason, within_s = FAULTS[name]
    before_ns = wire.t_ns
    results = play(wire, run, rhythm_uv, fault)
    said = withheld(results)
    began_s = before_ns / 1e9 + GOOD_S
    assert reason in said, said
    assert began_s <= said[reason] <= began_s + within_s
    end_s = wire.t_ns / 1e9
    assert beats(results, end_s - 6, end_s) >= 5


def test_control_nothing_is_withheld_on_good_signal(wire: Any, run: Run, rhythm_uv: Any) -> None:
    results = play(wire, run, rhythm_uv, None)
    assert not set(withheld(results)) - {"low_confidence", "unclassifiable"}
    assert beats(results, 0, 20) >= 18


@pytest.mark.parametrize("name", ["leads_off", "flat", "saturated", "noise"])
def test_no_diagnosis_rests_on_the_fault(name: str, wire: Any, run: Run, rhythm_uv: Any) -> None:
    fault, _, within_s = FAULTS[name]
    results = play(wire, run, rhythm_uv, fault)
    assert beats(results, GOOD_S + within_s, GOOD_S + FAULT_S - 0.1) == 0


def test_unplug_and_replug(wire: Any, run: Run, rhythm_uv: Any) -> None:
    def fault(wire: Any) -> None:
        wire.unplug()
        wire.pause(3)
        wire.plug_in()

    results = play(wire, run, rhythm_uv, fault)
    lost = next(r for r in results if isinstance(r, Withheld) and r.reason.value == "stale")
    assert "unplugged" in lost.detail
    end_s = wire.t_ns / 1e9
    assert beats(results, end_s - 6, end_s) >= 5


def test_asystole_is_found_not_withheld(wire: Any, run: Run, rhythm_uv: Any) -> None:
    quiet = NOISE.normal(0, 20, 10 * RATE_HZ)
    results = play(wire, run, rhythm_uv, level(quiet))
    names = [f.name for r in results if isinstance(r, Diagnosis) for f in r.findings]
    assert names.count("pause") == 1
    assert names.count("asystole") >= 2
    assert beats(results, GOOD_S + 0.5, GOOD_S + 9.5) == 0


def test_garbage_between_packets_costs_only_what_it_hit(
    wire: Any, run: Run, rhythm_uv: Any
) -> None:
    garbage = np.random.default_rng(9)

    def damage(chunk: int, data: bytes) -> bytes:
        return garbage.bytes(40) + data if chunk % 50 == 25 else data

    wire.send(rhythm_uv(20), damage)
    results = run(wire)
    assert beats(results, 0, 20) >= 12
    assert not set(withheld(results)) - {"gap", "low_confidence", "unclassifiable"}


def test_wrong_baud_is_never_a_diagnosis(wire: Any, run: Run, rhythm_uv: Any) -> None:
    wire.send(rhythm_uv(GOOD_S))
    noise = np.random.default_rng(2)
    for _ in range(60):
        wire.pause(0.1)
        wire.noise(noise.bytes(1000))
    results = run(wire)
    assert beats(results, GOOD_S + 1, 1e6) == 0
    assert "stale" in withheld(results)
