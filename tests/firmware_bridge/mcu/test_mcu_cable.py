"""The port comes and goes, in virtual time over real pseudo-terminals: nothing leaks."""

from __future__ import annotations

import os
import threading
import tty
from typing import TYPE_CHECKING

import pytest

from firmware_bridge.errors import LinkError
from firmware_bridge.mcu import framing, protocol
from firmware_bridge.mcu.cable import Cable
from firmware_bridge.mcu.events import Code, Condition, Identified
from firmware_bridge.mcu.host import Mcu
from firmware_bridge.ports import open_serial

if TYPE_CHECKING:
    from pathlib import Path

    from firmware_bridge.ports import Port

MS = 1_000_000


class Socket:
    """A place at `link` where a device can be plugged in and pulled out."""

    def __init__(self, link: Path) -> None:
        self.link = link
        self.ours = -1

    def plug(self) -> None:
        self.ours, theirs = os.openpty()
        tty.setraw(theirs)
        self.link.unlink(missing_ok=True)
        self.link.symlink_to(os.ttyname(theirs))
        self._theirs = theirs

    def pull(self) -> None:
        os.close(self._theirs)
        os.close(self.ours)


def hello(session: int) -> bytes:
    wire = protocol.wire()
    layout = wire.to_host[1]
    body = dict.fromkeys(layout.fields, 0) | {"layout": wire.layout_hash}
    header = {"seq": 0, "session": session, "t_us": 0}
    return framing.encode(wire, layout, header, layout.pack(body))


@pytest.mark.integration
def test_a_thousand_losses_leak_nothing(tmp_path: Path) -> None:
    socket = Socket(tmp_path / "port")
    mcu = Mcu([], session=1)
    cable = Cable(str(socket.link), mcu, random01=lambda: 0.0)
    now_ns, found, lost = 0, 0, 0
    before: tuple[int, int] | None = None
    for cycle in range(1000):
        socket.plug()
        now_ns += 10_000 * MS
        cable.poll(now_ns)
        os.write(socket.ours, hello(session=cycle))
        found += sum(isinstance(e, Identified) for e in cable.poll(now_ns + MS))
        socket.pull()
        events = cable.poll(now_ns + 2 * MS)
        lost += sum(isinstance(e, Condition) and e.code is Code.UNPLUGGED for e in events)
        after = (len(os.listdir("/proc/self/fd")), threading.active_count())
        before = before or after
    assert (found, lost) == (1000, 1000)
    assert after == before


class Absent:
    """Counts how often a port that is not there is tried."""

    def __init__(self) -> None:
        self.tried_ns: list[int] = []
        self.now_ns = 0

    def open(self, path: str, baud: int) -> Port:
        self.tried_ns.append(self.now_ns)
        raise LinkError(f"port {path} cannot be opened", "plug it in")


def test_an_absent_port_is_tried_with_growing_pauses_and_told_once() -> None:
    absent = Absent()
    mcu = Mcu([], session=1)
    cable = Cable("nowhere", mcu, open_port=absent.open, random01=lambda: 0.0)
    events = []
    for step in range(6000):
        absent.now_ns = step * 10 * MS
        mcu.beat(absent.now_ns)
        events += cable.poll(absent.now_ns)
        assert cable.fileno() is None
        assert cable.next_deadline_ns() > absent.now_ns
    detail = "port nowhere cannot be opened; plug it in"
    assert events == [Condition(0, Code.UNPLUGGED, True, detail)]
    pauses_ms = [(b - a) // MS for a, b in zip(absent.tried_ns, absent.tried_ns[1:])]
    assert pauses_ms[:4] == [100, 200, 400, 800]
    assert set(pauses_ms[6:]) == {5000}
    assert mcu.to_send() == b""


def test_a_loss_in_the_middle_of_a_frame_joins_nothing(tmp_path: Path) -> None:
    socket = Socket(tmp_path / "port")
    socket.plug()
    mcu = Mcu([], session=1)
    cable = Cable(str(socket.link), mcu, open_port=open_serial, random01=lambda: 0.0)
    cable.poll(0)
    os.write(socket.ours, hello(1)[:10])
    assert cable.poll(MS) == []
    socket.pull()
    cable.poll(2 * MS)
    socket.plug()
    cable.poll(1000 * MS)
    os.write(socket.ours, hello(1)[10:] + hello(2))
    assert [type(e) for e in cable.poll(1001 * MS)] == [Identified]
    assert mcu.counters.frames == 1
    cable.close()
    socket.pull()
