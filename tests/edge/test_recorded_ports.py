"""A network port's life, kept and played back: refused, connected, heard and hung up at the same
times, with the same messages of the link."""

from __future__ import annotations

import select
import socket
from typing import TYPE_CHECKING, Any

import numpy as np

from edge.recorded_ports import RecordingPorts, ReplayPorts
from firmware_bridge.clockmodel import NS_PER_S
from firmware_bridge.devices import cyton
from firmware_bridge.link import Link
from firmware_bridge.types import LinkLost, LinkUp, Loss, SampleBlock

if TYPE_CHECKING:
    from edge.recording import Record

BANNER = b"OpenBCI V3 8-16 channel\r\n$$$"
PACKETS = cyton.encode(np.zeros((30, 8), np.int32), np.arange(30))
STEP_NS = NS_PER_S // 100


class Kept:
    """Stands for the file: what a `RecordingWriter` is given."""

    def __init__(self) -> None:
        self.records: list[Record] = []

    def write(self, record: Record) -> None:
        self.records.append(record)


class Bed:
    """A link over some ports, its clock going on by one step a poll."""

    def __init__(self, ports: Any, address: str) -> None:
        self._ports = ports
        self._now_ns = 0
        self.link = Link(cyton.DEVICE, address, open_port=ports.open, random01=lambda: 0.0)
        self.told: list[tuple[int, str]] = []

    def poll(self) -> None:
        self._ports.at(self._now_ns)
        first = self._now_ns == 0
        for message in self.link.open(0) if first else self.link.poll(self._now_ns):
            text = f"{message!r}"
            if isinstance(message, SampleBlock):
                text = f"{message.seq} {len(message.samples)}"
            self.told.append((self._now_ns, text))
        self._now_ns += STEP_NS

    def until(self, kind: str) -> None:
        while not any(kind in text for _, text in self.told):
            fd = self.link.fileno()
            select.select([] if fd is None else [fd], [], [], 0.02)
            self.poll()
            assert self._now_ns < 100 * NS_PER_S


def test_what_a_network_port_did_is_done_again() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        at = free.getsockname()
    kept = Kept()
    address = f"tcp://127.0.0.1:{at[1]}"
    bed = Bed(RecordingPorts("bed", kept), address)
    bed.until(Loss.ABSENT.value)
    with socket.create_server(at) as server:
        while not bed.link.counters.opens:
            bed.poll()
        peer, _ = server.accept()
        with peer:
            peer.sendall(BANNER + PACKETS)
            bed.until(LinkUp.__name__)
            peer.sendall(PACKETS)
    bed.until(Loss.UNPLUGGED.value)
    bed.link.close()
    kinds = [record.kind for record in kept.records]
    assert kinds[0] == "refused" and kinds[-1] == "gone" and kinds.count("opened") == 1

    again = Bed(ReplayPorts(kept.records), address)
    while again._now_ns < bed._now_ns:
        again.poll()
    assert again.told == bed.told
    assert any(LinkLost.__name__ in text for _, text in again.told)
