"""The port comes and goes, in virtual time over real pseudo-terminals: nothing leaks."""

from __future__ import annotations

import itertools
import os
import threading
import tty
from typing import TYPE_CHECKING

import pytest

from firmware_bridge.mcu import framing, protocol
from firmware_bridge.mcu.cable import Cable
from firmware_bridge.mcu.events import Code, Condition, Identified
from firmware_bridge.mcu.host import Mcu

if TYPE_CHECKING:
    from pathlib import Path

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
    assert after[0] <= before[0] and after[1] <= before[1]  # a thread of another test may end


def test_an_absent_port_is_tried_with_growing_pauses_and_told_once(tmp_path: Path) -> None:
    mcu = Mcu([], session=1)
    cable = Cable(str(tmp_path / "nowhere"), mcu, random01=lambda: 0.0)
    events, tries_ns = [], [0]
    for step in range(6000):
        now_ns = step * 10 * MS
        mcu.beat(now_ns)
        events += cable.poll(now_ns)
        assert cable.fileno() is None
        assert cable.next_deadline_ns() > now_ns
        if cable.next_deadline_ns() != tries_ns[-1]:
            tries_ns.append(cable.next_deadline_ns())
    assert [(e.t_ns, e.code, e.active) for e in events if isinstance(e, Condition)] == [
        (0, Code.UNPLUGGED, True)
    ]
    assert len(events) == 1
    pauses_ms = [(after - before) // MS for before, after in itertools.pairwise(tries_ns)]
    assert pauses_ms[:4] == [100, 200, 400, 800]
    assert set(pauses_ms[6:]) == {5000}
    assert mcu.to_send() == b""


def test_a_loss_in_the_middle_of_a_frame_joins_nothing(tmp_path: Path) -> None:
    socket = Socket(tmp_path / "port")
    socket.plug()
    mcu = Mcu([], session=1)
    cable = Cable(str(socket.link), mcu, random01=lambda: 0.0)
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
