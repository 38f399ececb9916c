"""A bedside device attached to a port, for the sources that hear it.

Owns finding the device, its link, and that what goes wrong is a technical condition: a lost link, a
value that no longer comes, a fault that the device reports. Each is logged when it begins and when
it ends, with its code, and handed on as an `Alert`; so are the alarms that the device raises about
the patient. Of what the device itself reported no end is told when the link is lost: nobody knows
it.
"""

from __future__ import annotations

import select
from typing import TYPE_CHECKING, Protocol

from edge.clock import NS_PER_S
from edge.errors import LinkError, StartError
from edge.log import log
from edge.registry import load
from edge.types import SourceLost
from firmware_bridge.address import parse
from firmware_bridge.conditions import LinkCondition
from firmware_bridge.devices import device as registered
from firmware_bridge.devices import require_map
from firmware_bridge.errors import BridgeError
from firmware_bridge.freshness import Freshness
from firmware_bridge.link import Link
from firmware_bridge.ports import open_port
from firmware_bridge.session import State, earliest
from firmware_bridge.types import Alert, AlertKind, LinkLost, Loss

if TYPE_CHECKING:
    from edge.clock import Clock
    from firmware_bridge.ports import Connecting, Port
    from firmware_bridge.types import Device, LinkMessage, Wire


REACHED = {"tcp": "connected", "tcp-listen": "listening", "udp": "open, no answer awaited"}
"""How far a port is by its scheme when it is there; another is ready."""


class Ports(Protocol):
    """Opens ports; a recorder or a replayer stands in for the real one and is told the time."""

    def at(self, now_ns: int) -> None: ...

    def open(self, address: str, wire: Wire) -> Port | Connecting: ...


class RealPorts:
    """Ports as they are."""

    def at(self, now_ns: int) -> None:
        pass

    def open(self, address: str, wire: Wire) -> Port | Connecting:
        return open_port(address, wire)


class Attached:
    """One device; `source` names it in logs and losses."""

    def __init__(self, device: Device, port: str, source: str, ports: Ports | None = None) -> None:
        self._source = source
        self._port = port
        self._ports = ports or RealPorts()
        joins = port.startswith("file://")  # a capture answers nothing
        self._link = Link(device, port, join=joins, open_port=self._ports.open)
        self._freshness = Freshness()
        self._condition = LinkCondition()

    def open(self, now_ns: int) -> None:
        """Open the port. Raises `StartError` for one that cannot be, `LinkError` when it is not
        there now; later losses are retried."""
        self._ports.at(now_ns)
        try:
            messages = self._link.open(now_ns)
        except BridgeError as error:
            raise StartError(error.cause, error.fix) from None
        self._require_present(messages)

    def reached(self, clock: Clock) -> str:
        """Wait until the port that was opened is there, which a network may take `link.CONNECT_S`
        for; how far it is then. Raises `LinkError` when it cannot be reached."""
        while self._link.state is State.CLOSED:
            fd, due_ns = self._link.fileno(), self._link.next_deadline_ns()
            if fd is None or due_ns is None:
                raise LinkError(f"{self._port} was lost as it was opened", "check the cable")
            select.select([fd], [], [], max(0.0, (due_ns - clock.now_ns()) / NS_PER_S))
            self._require_present(self._link.poll(clock.now_ns()))
        return REACHED.get(parse(self._port).scheme, "ready")

    def _require_present(self, messages: list[LinkMessage]) -> None:
        for message in messages:
            if isinstance(message, LinkLost) and message.reason is Loss.ABSENT:
                self._link.close()
                raise LinkError.of(message.detail)

    def fileno(self) -> int | None:
        return self._link.fileno()

    def next_deadline_ns(self) -> int | None:
        """When `poll` has something to do even if nothing arrives."""
        return earliest(self._link.next_deadline_ns(), self._freshness.next_ns())

    def poll(self, now_ns: int) -> list[LinkMessage]:
        """What the device said and what became of it, in order. Never blocks."""
        self._ports.at(now_ns)
        out: list[LinkMessage] = []
        for message in self._link.poll(now_ns):
            out += [message, *self._condition.on(message), *self._freshness.saw(message, now_ns)]
        out += self._freshness.due(now_ns)
        for message in out:
            if isinstance(message, Alert):
                _say(self._source, message)
        return out

    def counters(self) -> dict[str, int]:
        """What the wire did (`lost` and `duplicates` are of all that the device sends, `losses` of
        the link), and how often a value became too old."""
        wire = self._link.counters
        return {
            "lost": wire.stream.lost,
            "duplicates": wire.stream.duplicates,
            "rejected": sum(wire.stream.rejects.values()),
            "skipped_bytes": wire.stream.skipped_bytes,
            "losses": sum(wire.losses.values()),
            "reconnects": wire.reconnects,
            "staled": self._freshness.staled,
        }

    def lost(self, message: LinkLost) -> SourceLost:
        """A loss of the link as one of its source."""
        return SourceLost(message.t_ns, self._source, message.text)

    def close(self) -> None:
        self._link.close()


def _say(source: str, alert: Alert) -> None:
    """Its code and never its text, which is for people and may say anything. A device without codes
    (ge-s5) has the words of the alarm for one."""
    code, channel, priority = alert.code, alert.channel, alert.priority.value
    technical = alert.kind is AlertKind.TECHNICAL
    if technical and alert.active:
        log("condition_began", source=source, code=code, channel=channel, priority=priority)
    elif technical:
        log("condition_ended", source=source, code=code, channel=channel, priority=priority)
    elif alert.active:
        log("device_alarm_began", source=source, code=code, channel=channel, priority=priority)
    else:
        log("device_alarm_ended", source=source, code=code, channel=channel, priority=priority)


def find_device(name: str, port: str = "", map_path: str = "", place: str = "") -> Device:
    """A device's description: by registered name, as the `"module:attr"` of an operator's own, or
    as the address `port` names it; of one `place`, where several report together. Raises
    `StartError` naming the known ones.
    """
    found = _known_device(name, port, map_path)
    if not place:
        return found
    if found.at is None:
        raise StartError(f"{found.title} reports of one place only", "leave `place` out")
    return found.at(place)


def _known_device(name: str, port: str, map_path: str) -> Device:
    try:
        name = name or parse(port).device
        if ":" in name:
            require_map(name, map_path)
            own: Device = load(name, f"device '{name}'")
            return own
        return registered(name, map_path)
    except BridgeError as error:
        raise StartError(error.cause, error.fix) from None
