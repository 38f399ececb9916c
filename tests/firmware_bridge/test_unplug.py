"""Plugs pulled again and again: how soon it is a technical condition, that nothing leaks, where the
link finds its device again, and that nothing of before is heard then."""

from __future__ import annotations

import fcntl
import gc
import os
import random
import select
import socket
import termios
import threading
import time
import tracemalloc
from array import array
from typing import TYPE_CHECKING, Protocol

import numpy as np
import pytest

from firmware_bridge.conditions import LinkCondition
from firmware_bridge.devices import cyton, masimo
from firmware_bridge.emulators.pty import Pty
from firmware_bridge.link import Link
from firmware_bridge.session import NS_PER_S
from firmware_bridge.types import Alert, AlertKind, LinkLost, Numeric, SampleBlock

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from firmware_bridge.types import LinkMessage

BANNER = b"OpenBCI V3 8-16 channel\r\n$$$"
PACKETS = cyton.encode(np.zeros((30, 8), np.int32), np.arange(30))
CYCLES = 1000
WARM = 100
FREE_BYTES = 64 * 1024  # what caches of the interpreter may still take on


class Place(Protocol):
    address: str

    def plug(self) -> None: ...

    def unplug(self) -> None: ...

    def hear(self) -> bytes: ...

    def say(self, data: bytes) -> None: ...


class OnPty:
    def __init__(self, folder: Path) -> None:
        self.address = str(folder / "port")
        self._pty = Pty(self.address)

    def plug(self) -> None:
        self._pty.plug()

    def unplug(self) -> None:
        self._pty.unplug()

    def hear(self) -> bytes:
        return self._pty.wait(5)

    def heard_by_now(self) -> bytes:
        return self._pty.wait(0)

    def say(self, data: bytes) -> None:
        assert self._pty.write(data) == len(data)


class OnTcp:
    def __init__(self, folder: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self._at = free.getsockname()
        self.address = f"tcp://127.0.0.1:{self._at[1]}"
        self._listener: socket.socket | None = None
        self._peer: socket.socket | None = None

    def plug(self) -> None:
        self._listener = socket.create_server(self._at)

    def unplug(self) -> None:
        for end in (self._peer, self._listener):
            if end is not None:
                end.close()

    def hear(self) -> bytes:
        assert self._listener is not None
        self._peer, _ = self._listener.accept()
        return self._peer.recv(100)

    def say(self, data: bytes) -> None:
        assert self._peer is not None
        self._peer.sendall(data)


class ByIdentity:
    """An adapter that is another tty each time, under the one name that udev gives to what it is
    (/dev/serial/by-id). `tty` is the one that it is now."""

    def __init__(self, folder: Path) -> None:
        self.address = str(folder / "usb-OpenBCI-if00")
        self._folder = folder
        self._plugs = 0

    def plug(self) -> None:
        folder = self._folder / str(self._plugs)
        folder.mkdir()
        self._plugs += 1
        self.tty = OnPty(folder)
        self.tty.plug()
        os.symlink(self.tty.address, self.address)

    def unplug(self) -> None:
        os.unlink(self.address)
        self.tty.unplug()

    def hear(self) -> bytes:
        return self.tty.hear()

    def say(self, data: bytes) -> None:
        self.tty.say(data)


class Bench:
    """A link that never waits to try again: its clock jumps there."""

    def __init__(self, place: Place, address: str = "") -> None:
        self.place = place
        self.link = Link(cyton.DEVICE, address or place.address, random01=lambda: 0.0)
        self.condition = LinkCondition()
        self.seen: list[type] = []
        self._now_ns = 0

    def until(self, done: Callable[[], bool]) -> None:
        self.seen, limit_s = [], time.monotonic() + 5
        while not done():
            assert time.monotonic() < limit_s
            for message in self._step():
                self.condition.on(message)
                self.seen.append(type(message))

    def _step(self) -> list[LinkMessage]:
        fd, due_ns = self.link.fileno(), self.link.next_deadline_ns()
        if due_ns is None:
            return self.link.open(self._now_ns)
        if fd is None:
            self._now_ns = due_ns
        else:
            select.select([fd], [], [], 1)
        return self.link.poll(self._now_ns)

    def opened(self) -> None:
        """Plug in, and let the port be opened or called."""
        opens = self.link.counters.opens
        self.place.plug()
        self.until(lambda: self.link.counters.opens > opens)

    def cycle(self) -> None:
        self.opened()
        assert self.place.hear() == b"v"
        self.place.say(BANNER)
        self.place.say(PACKETS)
        self.until(lambda: SampleBlock in self.seen)
        self.place.unplug()
        self.until(lambda: LinkLost in self.seen)


@pytest.mark.slow
@pytest.mark.parametrize("kind", [OnPty, OnTcp])
def test_a_thousand_plugs_pulled_leak_nothing(
    kind: Callable[[Path], Place], tmp_path: Path
) -> None:
    bench = Bench(kind(tmp_path))
    before = measured()
    for i in range(CYCLES):
        bench.cycle()
        if i == WARM:
            before = measured()
    after = measured()
    assert bench.link.counters.losses["unplugged"] == CYCLES
    assert bench.link.counters.reconnects == CYCLES - 1
    bench.link.close()
    tracemalloc.stop()
    assert after[:2] == before[:2]
    assert after[2] - before[2] < FREE_BYTES


def test_control_a_link_that_is_kept_open_is_seen(tmp_path: Path) -> None:
    """The same cycles, each with a link of its own that nobody closes."""
    before, kept = measured(), []
    for i in range(3):
        folder = tmp_path / str(i)
        folder.mkdir()
        bench = Bench(OnPty(folder))
        bench.opened()
        kept.append(bench)
    after = measured()
    tracemalloc.stop()
    for bench in kept:
        bench.link.close()
        bench.place.unplug()
    assert after[0] >= before[0] + 3


def test_an_adapter_that_comes_back_as_another_tty_is_followed(tmp_path: Path) -> None:
    """And where it was, something else sits now, which hears nothing."""
    place = ByIdentity(tmp_path)
    bench = Bench(place)
    bench.cycle()
    stranger = place.tty
    stranger.plug()
    bench.cycle()
    assert place.tty.address != stranger.address
    assert bench.link.counters.reconnects == 1
    assert stranger.heard_by_now() == b""
    bench.link.close()
    stranger.unplug()


def test_control_the_name_of_a_tty_leads_to_a_stranger(tmp_path: Path) -> None:
    place = ByIdentity(tmp_path)
    bench = Bench(place, address=str(tmp_path / "0" / "port"))
    bench.cycle()
    stranger = place.tty
    stranger.plug()
    bench.opened()
    assert stranger.hear() == b"v"
    bench.link.close()
    stranger.unplug()
    place.unplug()


def line(spo2_pct: int) -> bytes:
    return masimo.encode(masimo.Line(0, spo2_pct, 72, 4.5, 0, 0x800))


class Printed:
    """A link to an oximeter that prints lines on a pty, and the saturations that it gave."""

    def __init__(self, folder: Path) -> None:
        self._pty = Pty(folder / "port")
        self._pty.plug()
        self.link = Link(masimo.DEVICE, str(folder / "port"), random01=lambda: 0.0)
        self.spo2_pct: list[float | None] = []

    def leave(self, data: bytes) -> None:
        """What nobody reads: it waits in the tty."""
        assert self._pty._fds is not None
        self._pty.write(data)
        limit_s = time.monotonic() + 5
        while array("i", fcntl.ioctl(self._pty._fds[1], termios.FIONREAD, bytes(4)))[0] < len(data):
            assert time.monotonic() < limit_s

    def take(self, data: bytes, now_ns: int) -> None:
        """What the link reads."""
        fd, before = self.link.fileno(), len(self.spo2_pct)
        assert fd is not None
        self._pty.write(data)
        while len(self.spo2_pct) == before:
            assert select.select([fd], [], [], 5)[0]
            self.spo2_pct += [
                m.value for m in self.link.poll(now_ns)
                if isinstance(m, Numeric) and m.channel == "MDC_PULS_OXIM_SAT_O2"
            ]  # fmt: skip

    def close(self) -> None:
        self.link.close()
        self._pty.unplug()


def taken_after_old_bytes(folder: Path) -> Printed:
    """Lines, and the beginning of one, lie in the tty before it is opened, at first and again
    after a loss."""
    printed = Printed(folder)
    printed.leave(line(85) + line(86)[:40])
    printed.link.open(0)
    printed.take(line(98), 0)
    lost_ns = 3600 * NS_PER_S
    assert any(isinstance(m, LinkLost) for m in printed.link.poll(lost_ns))
    printed.leave(line(87) + line(88)[:40])
    again_ns = printed.link.next_deadline_ns()
    assert again_ns is not None and printed.link.fileno() is None
    printed.link.poll(again_ns)
    printed.take(line(97), again_ns)
    printed.close()
    return printed


def test_what_waited_before_the_port_was_opened_is_never_taken(tmp_path: Path) -> None:
    printed = taken_after_old_bytes(tmp_path)
    assert printed.spo2_pct == [98.0, 97.0]
    assert printed.link.counters.stream.received_bytes == len(line(98) + line(97))


def test_control_a_port_that_is_not_emptied_gives_old_values(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(termios, "tcflush", lambda fd, queue: None)
    printed = taken_after_old_bytes(tmp_path)
    assert printed.spo2_pct[0] == 85.0
    assert 87.0 in printed.spo2_pct


def measured() -> tuple[int, int, int]:
    """Descriptors, threads, and bytes that Python holds."""
    if not tracemalloc.is_tracing():
        tracemalloc.start()
    gc.collect()
    held, _ = tracemalloc.get_traced_memory()
    return len(os.listdir("/proc/self/fd")), threading.active_count(), held


@pytest.mark.slow
@pytest.mark.integration
def test_a_pulled_adapter_is_a_condition_at_once(tmp_path: Path) -> None:
    """200 plugs pulled at any moment of a stream; the loop waits as the daemon's does."""
    rng, late_s = random.Random(1), []
    for i in range(200):
        (tmp_path / str(i)).mkdir()
        place = OnPty(tmp_path / str(i))
        link, condition = Link(cyton.DEVICE, place.address), LinkCondition()
        pulled_ns: list[int] = []
        place.plug()
        link.open(time.monotonic_ns())

        def device(place: OnPty = place, pulled_ns: list[int] = pulled_ns) -> None:
            assert place.hear() == b"v"
            place.say(BANNER + PACKETS)
            time.sleep(rng.uniform(0, 0.02))
            pulled_ns.append(time.monotonic_ns())
            place.unplug()

        thread = threading.Thread(target=device)
        thread.start()
        alerts: list[Alert] = []
        while not alerts:
            fd, due_ns = link.fileno(), link.next_deadline_ns()
            assert due_ns is not None
            pause_s = max(0.0, (due_ns - time.monotonic_ns()) / NS_PER_S)
            select.select([] if fd is None else [fd], [], [], pause_s)
            now_ns = time.monotonic_ns()
            alerts = [a for m in link.poll(now_ns) for a in condition.on(m)]
        thread.join()
        link.close()
        (alert,) = alerts
        assert (alert.code, alert.kind, alert.active) == (
            "medge:device-absent",
            AlertKind.TECHNICAL,
            True,
        )
        late_s.append((now_ns - pulled_ns[0]) / NS_PER_S)
    late_s.sort()
    print(f"p50 {late_s[100] * 1e3:.2f} ms, p99 {late_s[197] * 1e3:.2f} ms")
    assert late_s[197] < 2.0
