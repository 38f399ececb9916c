"""What happened at a port happens again in a replay: who called, and what each of them said."""

from __future__ import annotations

import select
import socket
from typing import Any

from edge.recorded_ports import CALLED, DATA, OPENED, RecordingPorts, ReplayPorts
from edge.recording import Record
from firmware_bridge.ports import Connecting, Port, peers_of
from firmware_bridge.types import Wire


class Kept:
    """A recording in memory."""

    def __init__(self) -> None:
        self.records: list[Record] = []

    def write(self, record: Record) -> None:
        self.records.append(record)


def heard(port: Port, wanted: bytes) -> bytes:
    found = b""
    while found != wanted:
        assert select.select([port.fileno()], [], [], 5.0)[0]
        found += port.read()
    return found


def test_a_second_caller_is_a_second_caller_again() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        number = free.getsockname()[1]
    kept: Any = Kept()
    port = RecordingPorts("gateway", kept).open(f"tcp-listen://127.0.0.1:{number}", Wire(9600))
    assert not isinstance(port, Connecting)
    for n, said in enumerate((b"first", b"second"), 1):
        with socket.create_connection(("127.0.0.1", number), 5) as caller:
            caller.send(said)
            assert heard(port, said) == said
            assert peers_of(port) == n
    port.close()
    assert [r.kind for r in kept.records] == [OPENED, DATA, CALLED, DATA]
    again = ReplayPorts(kept.records).open("", Wire(9600))
    assert isinstance(again, Connecting)
    replayed = again.settled()
    assert replayed is not None
    assert (replayed.read(), peers_of(replayed)) == (b"first", 1)
    assert (replayed.read(), peers_of(replayed)) == (b"second", 2)
