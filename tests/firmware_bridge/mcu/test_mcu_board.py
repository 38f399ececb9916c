"""The reference firmware as a process on a pty, in real time, with our side at the other end."""

from __future__ import annotations

import select
import time
from typing import TYPE_CHECKING, Any

import pytest

from firmware_bridge.mcu.cable import Cable
from firmware_bridge.mcu.events import Code, Condition, Identified, Rebooted, Samples
from firmware_bridge.mcu.feeds import Feed
from firmware_bridge.mcu.host import Mcu

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.integration

PERIOD_MS = 50


class Host:
    """Runs an Mcu on a port."""

    def __init__(self, board: Any) -> None:
        session = time.monotonic_ns() & 0xFFFFFFFF
        self.mcu = Mcu([Feed(1, 2, 250.0, "uV", 1.0)], session=session, period_ms=PERIOD_MS)
        self.cable = Cable(str(board.port), self.mcu)
        self.events: list[Any] = []
        self.beat_us = 0

    def run(self, until: Callable[[], bool], limit_s: float = 20.0) -> list[Any]:
        """Poll and beat until something holds; return the events of that time."""
        first = len(self.events)
        end_s = time.monotonic() + limit_s
        while not until():
            assert time.monotonic() < end_s, "waited in vain"
            now_ns = time.monotonic_ns()
            if now_ns // 1000 >= self.beat_us + 1000 * PERIOD_MS:
                self.mcu.beat(now_ns)
                self.beat_us = now_ns // 1000
            self.events += self.cable.poll(now_ns)
            port = self.cable.fileno()
            select.select([] if port is None else [port], [], [], 0.005)
        return self.events[first:]

    def run_for(self, seconds: float) -> list[Any]:
        end_s = time.monotonic() + seconds
        return self.run(lambda: time.monotonic() >= end_s)


@pytest.fixture
def on_board(board: Any, make_image: Callable[..., bytes]) -> Iterator[Callable[[], Host]]:
    board.make(make_image((1, 0, 0)))
    board.power_on()
    hosts: list[Host] = []

    def start() -> Host:
        hosts.append(Host(board))
        return hosts[-1]

    yield start
    for host in hosts:
        host.cable.close()


def alarm(board: Any) -> list[str]:
    return board.lines("alarm")[-1][2:]


QUIET = ["off", "silent", "quiet"]
ALARM = ["high", "sounds", "active"]


def test_a_dead_host_is_an_active_line(board: Any, on_board: Callable[[], Host]) -> None:
    host = on_board()
    host.mcu.set_level("OFF", time.monotonic_ns())
    host.run(lambda: alarm(board) == QUIET and not host.mcu.conditions)
    # No heartbeat from here on: a host dead, stopped or hung is all the same.
    deadline_s = time.monotonic() + 10
    while alarm(board) != ALARM:
        assert time.monotonic() < deadline_s
        time.sleep(0.01)
    after_ms = (int(board.lines("alarm")[-1][0]) - host.beat_us) / 1000
    assert 3 * PERIOD_MS <= after_ms < 1000
    host.run(lambda: alarm(board) == QUIET and not host.mcu.conditions)
    assert (Code.UNTRUSTED, False) in [
        (e.code, e.active) for e in host.events if isinstance(e, Condition)
    ]


def test_samples_come_whole_and_dated(on_board: Callable[[], Host]) -> None:
    host = on_board()
    host.run(lambda: any(isinstance(e, Samples) and e.uncertainty_ns for e in host.events))
    samples = [event for event in host.run_for(1.0) if isinstance(event, Samples)]
    assert len(samples) >= 40  # 50 blocks a second
    ends = [s.block.seq + len(s.block.samples) for s in samples]
    assert [s.block.seq for s in samples[1:]] == ends[:-1]
    assert sum(s.block.lost for s in samples) == 0
    assert host.mcu.counters.rejects == {}
    assert host.mcu.counters.lost == 0
    first = samples[0].block
    assert (first.samples[1] - first.samples[0]).tolist() in ([1.0, 2.0], [1.0, -1998.0])
    uncertain_ns = max(s.uncertainty_ns for s in samples)
    assert uncertain_ns < 50_000_000
    span_s = (samples[-1].t_ns - samples[0].t_ns) / 1e9
    assert span_s == pytest.approx((samples[-1].block.seq - samples[0].block.seq) / 250, abs=0.1)


def test_an_update_that_begins_takes_the_trust_away(
    board: Any, on_board: Callable[[], Host]
) -> None:
    packet = pytest.importorskip("smp.packet")
    os_management = pytest.importorskip("smpclient.requests.os_management")
    host = on_board()
    host.mcu.set_level("OFF", time.monotonic_ns())
    host.run(lambda: alarm(board) == QUIET)
    line = b"".join(packet.encode(os_management.EchoWrite(d="hi").BYTES))
    told = host.mcu.to_send
    host.mcu.to_send = lambda: told() + line
    host.run(lambda: alarm(board) == ALARM)  # though our heartbeats go on
    host.mcu.to_send = told
    host.run(lambda: alarm(board) == QUIET)  # nothing came of it: the link is back
    assert host.mcu.counters.rejects.get("crc", 0) == 0


def upload_begins(board: Any, host: Host) -> list[list[str]]:
    """What it tells of alarm and flash from a quiet line to the first piece of an image in flash,
    which is the first that it hears of an update."""
    packet = pytest.importorskip("smp.packet")
    group = pytest.importorskip("smpclient.requests.image_management")
    host.mcu.set_level("OFF", time.monotonic_ns())
    host.run(lambda: alarm(board) == QUIET)
    before = len(board.lines("alarm", "erase", "write"))
    request = group.ImageUploadWrite(off=0, data=b"x" * 300, len=3000, sha=b"s" * 32, image=0)
    told, lines = host.mcu.to_send, [b"".join(packet.encode(request.BYTES))]
    host.mcu.to_send = lambda: told() + (lines.pop() if lines else b"")
    host.run(lambda: bool(board.lines("write")))
    return board.lines("alarm", "erase", "write")[before - 1 :]


WATCHDOG_US = 100_000  # the README of the example: no more than this


def longest_us(board: Any) -> int:
    return int(board.lines("watchdog")[-1][2])


def test_flash_is_touched_under_the_alarm_and_page_by_page(
    board: Any, on_board: Callable[[], Host]
) -> None:
    """With pages that take as long to erase as those of an nRF52 (its data sheet: 85 ms)."""
    board.power_off()
    board.power_on(erase_ms=85)
    quiet, active, *touched = upload_begins(board, on_board())
    assert [quiet[2:], active[2:]] == [QUIET, ALARM]
    assert [row[1] for row in touched] == ["erase"] * 8 + ["write"]
    assert 85_000 <= longest_us(board) < WATCHDOG_US


def test_control_two_pages_between_kicks_are_seen(board: Any, on_board: Callable[[], Host]) -> None:
    """As a page that takes as long as two."""
    board.power_off()
    board.power_on(erase_ms=170)
    upload_begins(board, on_board())
    assert longest_us(board) > WATCHDOG_US


def test_unplugged_and_back_after_a_restart(board: Any, on_board: Callable[[], Host]) -> None:
    host = on_board()
    host.run(lambda: host.mcu.trusted)
    board.power_off()
    events = host.run(lambda: Code.UNPLUGGED in host.mcu.conditions)
    assert not host.mcu.trusted
    assert events[-1].code is Code.UNPLUGGED
    board.power_on()
    events = host.run(lambda: host.mcu.trusted)
    kinds = [type(event) for event in events if isinstance(event, (Rebooted, Identified))]
    assert kinds == [Rebooted, Identified]
    assert Code.UNPLUGGED not in host.mcu.conditions
    host.cable.close()
    assert host.cable.fileno() is None
