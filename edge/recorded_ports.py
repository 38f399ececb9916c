"""Ports that keep what they read, and ports that play it back: both stand in for serial ports.

Every event of a port is kept with the poll time at which it happened, refused openings and
unplugging included, so that the link, the codec and all after them do the same again.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from edge.recording import Record
from edge.sources.attached import RealPorts
from firmware_bridge.errors import LinkError
from firmware_bridge.ports import Connecting, is_once, look_every_s, peers_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from edge.recording import RecordingWriter
    from firmware_bridge.ports import Port
    from firmware_bridge.types import Wire

RECORDED = "monitor"
"""The kind of source whose port is recorded; others run beside it."""

OPENED, REFUSED, DATA, GONE = "opened", "refused", "data", "gone"
CALLED = "called"  # another one than before, whose data follow


class RecordingPorts:
    """Real ports whose events go to `writer` under the source's name."""

    def __init__(self, source: str, writer: RecordingWriter) -> None:
        self._source = source
        self._writer = writer
        self._real = RealPorts()
        self._now_ns = 0

    def at(self, now_ns: int) -> None:
        self._now_ns = now_ns

    def open(self, address: str, wire: Wire) -> Port | Connecting:
        try:
            opened = self._real.open(address, wire)
        except LinkError as error:
            self.note(REFUSED, str(error).encode())
            raise
        if isinstance(opened, Connecting):
            return _RecordingConnecting(opened, self)
        return self.opened(opened)

    def opened(self, port: Port) -> Port:
        """The port that came to be, its events kept from now on."""
        self.note(OPENED)
        return _RecordingPort(port, self)

    def note(self, kind: str, data: bytes = b"") -> None:
        """Keep one event at the time of this poll."""
        self._writer.write(Record(self._now_ns, self._source, kind, data))


class _RecordingConnecting:
    def __init__(self, connecting: Connecting, ports: RecordingPorts) -> None:
        self._connecting = connecting
        self._ports = ports
        self.fileno = connecting.fileno
        self.close = connecting.close

    def settled(self) -> Port | None:
        try:
            port = self._connecting.settled()
        except LinkError as error:
            self._ports.note(REFUSED, str(error).encode())
            raise
        return None if port is None else self._ports.opened(port)


class _RecordingPort:
    def __init__(self, port: Port, ports: RecordingPorts) -> None:
        self._port = port
        self._ports = ports
        self.peers = 1
        self.look_every_s = look_every_s(port)
        self.once = is_once(port)
        self.fileno = port.fileno
        self.write = port.write
        self.close = port.close

    def read(self) -> bytes:
        try:
            data = self._port.read()
        except LinkError as error:
            self._ports.note(GONE, str(error).encode())
            raise
        if data:
            if peers_of(self._port) > self.peers:
                self.peers = peers_of(self._port)
                self._ports.note(CALLED)
            self._ports.note(DATA, data)
        return data


class ReplayPorts:
    """Plays one source's records; time is told by `at`."""

    def __init__(self, records: Iterable[Record]) -> None:
        self._records = deque(records)
        self._now_ns = 0

    def at(self, now_ns: int) -> None:
        self._now_ns = now_ns

    def next_ns(self) -> int | None:
        """When the next record happened, None at the end."""
        return self._records[0].t_ns if self._records else None

    def open(self, address: str, wire: Wire) -> Port | Connecting:
        if not self._records or self._records[0].kind not in (OPENED, REFUSED):
            raise LinkError("nothing more was recorded", "")
        return _ReplayConnecting(self)

    def pass_over_unheard(self) -> None:
        """Drop records whose time came and that nobody took."""
        while self._records and self._records[0].t_ns <= self._now_ns:
            self._records.popleft()

    def take(self, *kinds: str) -> Record | None:
        """The next record if it is due and of one of `kinds`."""
        if not self._records or self._records[0].t_ns > self._now_ns:
            return None
        return self._records.popleft() if self._records[0].kind in kinds else None


class _ReplayConnecting:
    def __init__(self, ports: ReplayPorts) -> None:
        self._ports = ports

    def fileno(self) -> int:
        return -1

    def settled(self) -> Port | None:
        record = self._ports.take(OPENED, REFUSED)
        if record is not None and record.kind == REFUSED:
            raise LinkError.of(record.data.decode())
        return None if record is None else _ReplayPort(self._ports)

    def close(self) -> None:
        pass


class _ReplayPort:
    def __init__(self, ports: ReplayPorts) -> None:
        self._ports = ports
        self.peers = 1

    def fileno(self) -> int:
        return -1

    def read(self) -> bytes:
        record = self._ports.take(DATA, GONE, CALLED)
        if record is not None and record.kind == CALLED:
            self.peers += 1
            record = self._ports.take(DATA, GONE)
        if record is not None and record.kind == GONE:
            raise LinkError.of(record.data.decode())
        return record.data if record else b""

    def write(self, data: bytes) -> None:
        """The device's answers are in the recording."""

    def close(self) -> None:
        pass
