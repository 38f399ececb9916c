"""What is said of clocks, and when: news within a look, the rest every ten minutes."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import Any

import pytest

from edge.daemon.clocks import AGAIN_NS, LOOK_NS, ClockReport
from firmware_bridge.clockmodel import ClockState
from firmware_bridge.session import NS_PER_MS

NEW = ClockState(0, None, 250 * NS_PER_MS, 0, 0, 0)
KNOWN = replace(NEW, drift_ppm=-12.34, uncertainty_ns=3 * NS_PER_MS)


@dataclass
class Bed:
    name: str
    clock: ClockState | None = None


class Rig:
    """Two beds whose log is read after each look; the names differ in each test, as the log holds
    back what one source repeats."""

    def __init__(self, capsys: pytest.CaptureFixture[str], prefix: str) -> None:
        self.a, self.b = Bed(f"{prefix} a"), Bed(f"{prefix} b")
        self.report = ClockReport([self.a, self.b])
        self._capsys = capsys

    def look(self, now_ns: int) -> list[dict[str, Any]]:
        self.report.look(now_ns)
        return self.said()

    def said(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self._capsys.readouterr().err.splitlines()]


def test_a_clock_is_said_when_it_is_known_and_then_every_ten_minutes(
    capsys: pytest.CaptureFixture[str],
) -> None:
    rig = Rig(capsys, "known")
    assert rig.look(0) == []
    rig.a.clock = rig.b.clock = NEW
    assert rig.look(LOOK_NS) == []
    rig.a.clock = KNOWN
    assert rig.look(2 * LOOK_NS - 1) == []
    clock, drift, aligned = rig.look(2 * LOOK_NS)
    assert (clock["event"], clock["source"], clock["uncertainty_ms"]) == (
        "source_clock",
        "known a",
        3.0,
    )
    assert (drift["event"], drift["source"], drift["drift_ppm"]) == (
        "source_drift",
        "known a",
        -12.3,
    )
    assert (aligned["event"], aligned["count"], aligned["uncertainty_ms"]) == (
        "sources_aligned",
        2,
        253.0,
    )
    told = [(t, line["source"]) for t in range(3 * LOOK_NS, 2 * AGAIN_NS, LOOK_NS)
            for line in rig.look(t) if line["event"] == "source_clock"]  # fmt: skip
    assert told == [(LOOK_NS + AGAIN_NS, "known b"), (2 * LOOK_NS + AGAIN_NS, "known a")]


@pytest.mark.parametrize("what", ["jumps", "restarts", "bursts"])
def test_what_happens_to_a_clock_is_said_once(
    what: str, capsys: pytest.CaptureFixture[str]
) -> None:
    rig = Rig(capsys, what)
    rig.a.clock = NEW
    assert rig.look(0) == []
    rig.a.clock = replace(NEW, **{what: 2, "gaps": 7, "duplicates": 1})
    (line,) = rig.look(LOOK_NS)
    assert (line[what], line["gaps"], line["duplicates"]) == (2, 7, 1)
    assert rig.look(2 * LOOK_NS) == []


def test_all_are_said_in_the_end(capsys: pytest.CaptureFixture[str]) -> None:
    rig = Rig(capsys, "end")
    rig.report.say()
    assert rig.said() == []
    rig.a.clock, rig.b.clock = KNOWN, NEW
    rig.report.say()
    assert [line["event"] for line in rig.said()] == [
        "source_clock",
        "source_drift",
        "source_clock",
        "sources_aligned",
    ]
