"""The daemon as a user meets it: real processes, a real pty, real kills."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable
from typing import Any

import pytest

from firmware_bridge.emulators.faults import Fault, Kind

pytestmark = pytest.mark.integration

KILLS = 4


def beats(lines: list[dict[str, Any]]) -> int:
    return sum(any(f.get("probability") for f in line.get("findings", [])) for line in lines)


def test_runs_until_told_to_stop(bedside: Any) -> None:
    daemon = bedside.start()
    bedside.until(lambda: beats(bedside.lines()) >= 5, 20, "five beats")
    assert bedside.stop(daemon) == 0
    assert [line["id"] for line in bedside.lines()] == [i for _, i in bedside.journal()]


def test_kill_9_loses_nothing_committed_and_repeats_nothing(bedside: Any) -> None:
    dice, seen = random.Random(11), set()
    for _ in range(KILLS):
        before = len(bedside.lines())
        daemon = bedside.start()
        bedside.until(lambda n=before: len(bedside.lines()) > n + 2, 20, "results")
        time.sleep(dice.random())
        daemon.kill()
        daemon.wait()
        seen |= {line["id"] for line in bedside.lines()}
    daemon = bedside.start()
    bedside.until(lambda: len(bedside.journal()) > len(seen), 20, "results")
    bedside.stop(daemon)
    ids = [i for _, i in bedside.journal()]
    assert len(ids) == len(set(ids))
    assert seen <= set(ids)
    assert [line["id"] for line in bedside.lines()] == ids


@pytest.mark.parametrize("kill", [signal.SIGKILL, signal.SIGSTOP])
def test_engine_child_killed_or_hung_is_replaced(
    bedside: Any, children_of: Callable[[int], list[int]], kill: int
) -> None:
    daemon = bedside.start()
    bedside.until(lambda: beats(bedside.lines()) >= 3, 20, "beats")
    (child,) = children_of(daemon.pid)
    os.kill(child, kill)
    killed_at = len(bedside.lines())
    bedside.until(lambda: beats(bedside.lines()[killed_at:]) >= 3, 10, "beats from a new engine")
    if kill == signal.SIGSTOP:  # a killed one may have owed nothing at that moment
        assert any(line.get("reason") == "backend_lost" for line in bedside.lines())
    assert children_of(daemon.pid) != [child]
    assert bedside.stop(daemon) == 0


UNPLUG = (Fault(at_s=6.0, duration_s=2.0, kind=Kind.UNPLUG),)


@pytest.mark.parametrize("bedside", [UNPLUG], indirect=True)
def test_unplugged_and_plugged_in_again(bedside: Any) -> None:
    daemon = bedside.start()
    bedside.until(
        lambda: any("unplugged" in line.get("detail", "") for line in bedside.lines()),
        20,
        "the loss is said",
    )
    lost_at = len(bedside.lines())
    bedside.until(lambda: beats(bedside.lines()[lost_at:]) >= 3, 20, "beats after the replug")
    assert bedside.stop(daemon) == 0


def test_a_second_daemon_on_the_same_state_is_refused(bedside: Any) -> None:
    daemon = bedside.start()
    bedside.until(lambda: len(bedside.lines()) > 0, 20, "results")
    second = bedside.start()
    assert second.wait(10) == 2
    assert "another medge runs" in second.stderr.read()
    assert bedside.stop(daemon) == 0
