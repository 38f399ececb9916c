"""Fail safe: whatever happens, only a host proved alive and its sound command make the line quiet.

The state machine is driven through its bytes: every state, every event, every path of events of
length six against a model of the rules. Corrupted frames are in test_mcu_fuzz.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import pytest

from firmware_bridge.crc import crc_x25
from firmware_bridge.mcu import framing, protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

STATES = ("BOOT", "SAFE", "TRUST_1", "TRUST_2", "RUN")
# The rules: three heartbeats of one host in a row lead to RUN, every doubt leads out of it.
EXPECTED = {
    ("BOOT", "new"): "TRUST_1",
    ("BOOT", "late"): "BOOT",
    ("BOOT", "halt"): "SAFE",
    ("SAFE", "new"): "TRUST_1",
    ("SAFE", "same"): "TRUST_1",
    ("SAFE", "late"): "SAFE",
    ("SAFE", "halt"): "SAFE",
    ("TRUST_1", "new"): "TRUST_1",
    ("TRUST_1", "same"): "TRUST_2",
    ("TRUST_1", "late"): "SAFE",
    ("TRUST_1", "halt"): "SAFE",
    ("TRUST_2", "new"): "TRUST_1",
    ("TRUST_2", "same"): "RUN",
    ("TRUST_2", "late"): "SAFE",
    ("TRUST_2", "halt"): "SAFE",
    ("RUN", "new"): "TRUST_1",
    ("RUN", "same"): "RUN",
    ("RUN", "late"): "SAFE",
    ("RUN", "halt"): "SAFE",
}


def path_lines(path: Sequence[str], make_host: Callable[[int], Any]) -> list[str]:
    """Driver lines for events from boot; each event ends in one line that shows its outcome."""
    session, host, beat, t_us = 0, None, 0, 4_000_000
    lines = ["i 1", f"t {t_us}"]
    for event in path:
        if event == "late":
            t_us += 4_000_000
            lines.append(f"t {t_us}")
        elif event == "halt":
            lines.append("h")
        else:
            if event == "new" or host is None:
                session += 1
                host = make_host(session)
            beat += 1
            lines.append(host.beat(beat))
    return lines


def test_every_path_of_six_events_obeys_the_table(driver: Any, host: Any) -> None:
    paths = [("new", *rest) for n in range(6) for rest in itertools.product(EVENTS, repeat=n)]
    paths += [
        (first, "new", *rest)
        for first in ("late", "halt")
        for rest in itertools.product(EVENTS, repeat=3)
    ]
    lines, expected = [], []
    for path in paths:
        lines += path_lines(path, type(host))
        state = "BOOT"
        outcomes = ["BOOT", "BOOT"]
        for event in path:
            state = EXPECTED[state, event]
            outcomes.append(state)
        expected += outcomes
    shown = driver.show(lines)
    assert [s.state for s in shown] == expected
    assert {(s.level, s.sound, s.line) for s in shown} == {("HIGH", True, "ACTIVE")}


EVENTS = ("new", "same", "late", "halt")


def test_the_paths_reach_every_pair() -> None:
    reached = {("BOOT", "late"), ("BOOT", "halt")}
    for path in itertools.product(EVENTS, repeat=4):
        state = "BOOT"
        for event in ("new", *path):
            reached.add((state, event))
            state = EXPECTED[state, event]
    assert reached == set(EXPECTED)


def running(host: Any, period_ms: int = 100) -> list[str]:
    """Lines that lead from boot to RUN at 1 s."""
    beats = [host.beat(n, period_ms) for n in (1, 2, 3)]
    return ["i 1", "t 1000000", *beats]


def quiet(host: Any, period_ms: int = 100) -> list[str]:
    return [*running(host, period_ms), host.command(1, "SET_LEVEL", 0)]


def last(driver: Any, lines: list[str]) -> Any:
    return driver.show(lines)[-1]


def acked(sent: bytes) -> dict[str, int]:
    decoder = framing.FrameDecoder(protocol.wire())
    (frame,) = decoder.feed(sent)
    assert isinstance(frame, framing.Frame)
    assert frame.name == "ACK"
    return dict(frame.fields)


def test_the_alarm_stays_on_until_the_host_says_otherwise(driver: Any, host: Any) -> None:
    entered = last(driver, running(host))
    assert (entered.state, entered.level, entered.line) == ("RUN", "HIGH", "ACTIVE")
    off = last(driver, quiet(host))
    assert (off.level, off.sound, off.line) == ("OFF", False, "QUIET")
    status = protocol.wire().code("STATUS_DONE")
    assert acked(off.sent) == {"id": 1, "action": 1, "status": status, "level": 0, "state": 4}


@pytest.mark.parametrize("period_ms", [20, 100, 1000])
def test_three_missed_heartbeats_mean_alarm(driver: Any, host: Any, period_ms: int) -> None:
    at_us = 1_000_000 + 3000 * period_ms
    before, after = driver.show([*quiet(host, period_ms), f"t {at_us}", f"t {at_us + 1}"])[-2:]
    assert (before.state, before.line) == ("RUN", "QUIET")
    assert (after.state, after.level, after.sound, after.line) == ("SAFE", "HIGH", True, "ACTIVE")


def test_a_clock_that_runs_backwards_means_alarm(driver: Any, host: Any) -> None:
    assert last(driver, [*quiet(host), "t 999999"]).line == "ACTIVE"


def test_a_late_heartbeat_does_not_hide_the_gap(driver: Any, host: Any) -> None:
    """Even if nothing ticked in between, the frame that comes late finds trust gone."""
    lines = [*quiet(host), "t 1000000", host.beat(4)]
    assert last(driver, lines).state == "RUN"
    late = [*quiet(host), "n 1400000", host.beat(4)]
    assert last(driver, late).state == "TRUST_1"


@pytest.mark.parametrize(
    ("fields", "period_ms"),
    [({"layout": 1}, 100), ({}, 19), ({}, 1001), ({}, 0), ({}, 65535)],
)
def test_a_heartbeat_that_breaks_the_rules_does_not_count(
    driver: Any, host: Any, fields: dict[str, int], period_ms: int
) -> None:
    shown = last(driver, ["t 0", host.beat(1, period_ms, **fields)])
    assert (shown.state, shown.rejects) == ("BOOT", 1)


@pytest.mark.parametrize("number", [3, 2, 3 + 0x80000000])
def test_a_stuck_or_older_heartbeat_does_not_count(driver: Any, host: Any, number: int) -> None:
    shown = driver.show([*quiet(host), "t 1250000", host.beat(number), "t 1350000"])
    assert shown[-2].rejects == 1
    assert (shown[-1].state, shown[-1].line) == ("SAFE", "ACTIVE")


def test_heartbeat_numbers_wrap(driver: Any, host: Any) -> None:
    lines = ["t 0", *(host.beat(n) for n in (0xFFFFFFFE, 0xFFFFFFFF, 0))]
    assert last(driver, lines).state == "RUN"


def test_a_host_of_another_layout_is_answered_and_not_trusted(driver: Any, host: Any) -> None:
    ours = last(driver, [*quiet(host), "r " + host.frame("HELLO_REQUEST").hex()])
    assert (ours.state, ours.line) == ("RUN", "QUIET")
    theirs = last(driver, [*quiet(host), "r " + host.frame("HELLO_REQUEST", layout=5).hex()])
    assert (theirs.state, theirs.line) == ("SAFE", "ACTIVE")
    (hello,) = framing.FrameDecoder(protocol.wire()).feed(theirs.sent)
    assert isinstance(hello, framing.Frame)
    assert hello.fields["layout"] == protocol.wire().layout_hash
    assert hello.fields["device_id"] == 0x1122334455667788


@pytest.mark.parametrize("action", ["SET_LEVEL", "PAUSE_SOUND"])
@pytest.mark.parametrize("path", list(itertools.product(EVENTS, repeat=3)))
def test_no_command_acts_outside_run(
    driver: Any, host: Any, path: tuple[str, ...], action: str
) -> None:
    lines = path_lines(("new", *path), type(host))
    commander = type(host)(1 + path.count("new"))
    shown = last(driver, [*lines, commander.command(1, action, 0)])
    status = protocol.wire().names["STATUSES"][acked(shown.sent)["status"]]
    assert (shown.line == "ACTIVE") == (shown.state != "RUN" or action == "PAUSE_SOUND")
    assert (status == "STATUS_NOT_RUNNING") == (shown.state != "RUN")


def test_another_hosts_command_does_not_act(driver: Any, host: Any, another_host: Any) -> None:
    shown = last(driver, [*running(host), another_host.command(1, "SET_LEVEL", 0)])
    assert shown.line == "ACTIVE"
    assert acked(shown.sent)["status"] == protocol.wire().code("STATUS_NOT_RUNNING")


def test_another_host_starts_from_nothing(driver: Any, host: Any, another_host: Any) -> None:
    """Its heartbeat ends the trust in the one before, and its command ids start anew."""
    beats = [another_host.beat(n) for n in (1, 2, 3)]
    shown = driver.show([*quiet(host), *beats, another_host.command(1, "SET_LEVEL", 1)])
    assert [(s.state, s.level) for s in shown[-4:]] == [
        ("TRUST_1", "HIGH"),
        ("TRUST_2", "HIGH"),
        ("RUN", "HIGH"),
        ("RUN", "LOW"),
    ]


@pytest.mark.parametrize(
    ("action", "argument", "status"),
    [
        (1, 4, "STATUS_BAD_ARGUMENT"),
        (1, 0xFFFFFFFF, "STATUS_BAD_ARGUMENT"),
        (1, 0x100, "STATUS_BAD_ARGUMENT"),
        (2, 120_001, "STATUS_BAD_ARGUMENT"),
        (0, 0, "STATUS_UNKNOWN_ACTION"),
        (3, 0, "STATUS_UNKNOWN_ACTION"),
        (255, 0, "STATUS_UNKNOWN_ACTION"),
    ],
)
def test_a_command_out_of_range_changes_nothing(
    driver: Any, host: Any, action: int, argument: int, status: str
) -> None:
    frame = host.frame("COMMAND", id=1, action=action, argument=argument)
    before, after = driver.show([*running(host), "r " + frame.hex()])[-2:]
    assert (after.level, after.sound, after.line) == (before.level, before.sound, before.line)
    assert acked(after.sent)["status"] == protocol.wire().code(status)


def test_a_repeated_command_acts_once_and_an_older_one_never(driver: Any, host: Any) -> None:
    commands = [
        host.command(5, "SET_LEVEL", 0),
        host.command(6, "SET_LEVEL", 2),
        host.command(6, "SET_LEVEL", 0),  # the id decides: it has been done
        host.command(5, "SET_LEVEL", 0),
        host.command(6 + 0x8000, "SET_LEVEL", 0),
        host.command(5 + 0x8000, "SET_LEVEL", 1),
    ]
    shown = driver.show([*running(host), *commands])[-6:]
    names = protocol.wire().names["STATUSES"]
    got = [(s.level, names[acked(s.sent)["status"]].removeprefix("STATUS_")) for s in shown]
    assert got == [
        ("OFF", "DONE"),
        ("MEDIUM", "DONE"),
        ("MEDIUM", "DONE"),
        ("MEDIUM", "STALE"),
        ("MEDIUM", "STALE"),
        ("LOW", "DONE"),
    ]


def test_a_pause_silences_the_sound_and_ends(driver: Any, host: Any) -> None:
    beats = [
        line for n in range(4, 14) for line in (f"t {1_000_000 + 100_000 * (n - 3)}", host.beat(n))
    ]
    lines = [*running(host), host.command(1, "PAUSE_SOUND", 700), *beats]
    shown = driver.show(lines)[5:]
    assert {(s.state, s.level, s.line) for s in shown} == {("RUN", "HIGH", "ACTIVE")}
    assert [s.sound for s in shown] == [False] * 13 + [True] * 8


@pytest.mark.parametrize(
    ("event", "sounds"),
    [
        ("level up", True),
        ("level same", False),
        ("level down", False),
        ("end", True),
        ("late", True),
    ],
)
def test_what_ends_a_pause(driver: Any, host: Any, event: str, sounds: bool) -> None:
    low = host.command(1, "SET_LEVEL", 2)
    paused = [*running(host), low, host.command(2, "PAUSE_SOUND", 120_000)]
    then = {
        "level up": lambda: host.command(3, "SET_LEVEL", 3),
        "level same": lambda: host.command(3, "SET_LEVEL", 2),
        "level down": lambda: host.command(3, "SET_LEVEL", 1),
        "end": lambda: host.command(3, "PAUSE_SOUND", 0),
        "late": lambda: "t 9000000",
    }[event]()
    before, after = driver.show([*paused, then])[-2:]
    assert not before.sound
    assert (after.sound, after.line) == (sounds, "ACTIVE")


def test_time_is_answered(driver: Any, host: Any) -> None:
    shown = last(driver, ["t 123456789", "r " + host.frame("TIME_REQUEST", token=77).hex()])
    (reply,) = framing.FrameDecoder(protocol.wire()).feed(shown.sent)
    assert isinstance(reply, framing.Frame)
    assert (reply.name, reply.t_us, reply.fields) == ("TIME_REPLY", 123456789, {"token": 77})


@pytest.mark.parametrize("change", ["version", "type", "length", "check"])
def test_a_frame_that_is_not_ours_does_nothing(driver: Any, host: Any, change: str) -> None:
    """A command for OFF, sound but for one thing."""
    frame = host.frame("COMMAND", id=1, action=1, argument=0)
    raw = bytearray((framing.cobs_decode(frame[:-1]) or b"")[:-2])
    if change == "version":
        raw[0] = 2
    if change == "type":
        raw[1] = 0x85
    if change == "length":
        raw.append(0)
    check = crc_x25(raw) ^ (0x8000 if change == "check" else 0)
    sealed = framing.cobs_encode(bytes(raw) + check.to_bytes(2, "little")) + b"\0"
    before, after = driver.show([*running(host), "r " + sealed.hex()])[-2:]
    assert (after.line, after.sent) == ("ACTIVE", b"")
    assert after.rejects == before.rejects + 1
