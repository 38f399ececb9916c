"""A bedside device on a port: `firmware_bridge` speaks to it, this makes its samples `Waveform`s.

Owns the choice of channel, its clinical name, the stated unit conversion, and sample times. The
link's losses become `SourceLost`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import msgspec
import numpy as np

from edge.errors import LinkError, StartError
from edge.registry import load, resolve
from edge.types import SourceLost, Waveform
from firmware_bridge.clockmodel import SampleClock
from firmware_bridge.link import Link
from firmware_bridge.ports import open_port
from firmware_bridge.types import LinkLost, Loss, SampleBlock

if TYPE_CHECKING:
    from firmware_bridge.ports import Connecting, Port
    from firmware_bridge.types import Device, Wire

CONVERSIONS = {("uV", "mV"): 1e-3, ("mV", "uV"): 1e3}
"""Stated conversions, UCUM: nothing else is ever converted."""


class MonitorOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`channel` counts from 1; `mdc` is what is wired to it; `unit` is what to deliver."""

    device: str
    port: str
    channel: int = 1
    mdc: str
    unit: str
    name: str = "monitor"


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


class Monitor:
    """One channel of one device as a source."""

    Options = MonitorOptions

    def __init__(self, options: MonitorOptions, ports: Ports | None = None) -> None:
        device = find_device(options.device)
        feed = device.feeds[0]
        if not 1 <= options.channel <= len(feed.channels):
            raise StartError(
                f"{device.title} has no channel {options.channel}", f"use 1 to {len(feed.channels)}"
            )
        self._options = options
        self._device = device
        self._feed = feed
        self._scale = _scale(feed.unit, options.unit)
        self._rail = min(abs(feed.rail_low), abs(feed.rail_high)) * self._scale
        self._ports = ports or RealPorts()
        self._link = Link(device, options.port, open_port=self._ports.open)
        self._clock = SampleClock(feed.rate_hz)
        self._received = 0
        self._gaps = 0
        self._first_ns: int | None = None

    @property
    def name(self) -> str:
        return self._options.name

    @property
    def rate_hz(self) -> float:
        """Samples per second of the channel."""
        return self._feed.rate_hz

    @property
    def first_ns(self) -> int | None:
        """Time of the very first sample, None before it came."""
        return self._first_ns

    def open(self, now_ns: int) -> None:
        """Open the port. Raises `LinkError` when it is not there now; later losses are retried."""
        self._ports.at(now_ns)
        for message in self._link.open(now_ns):
            if isinstance(message, LinkLost) and message.reason is Loss.ABSENT:
                self._link.close()
                raise LinkError(*message.detail.split("; ", 1))

    def fileno(self) -> int | None:
        return self._link.fileno()

    def next_deadline_ns(self) -> int | None:
        return self._link.next_deadline_ns()

    def poll(self, now_ns: int) -> list[Waveform | SourceLost]:
        """What arrived, in order. Never blocks."""
        self._ports.at(now_ns)
        out: list[Waveform | SourceLost] = []
        for message in self._link.poll(now_ns):
            if isinstance(message, SampleBlock):
                out.append(self._waveform(message, now_ns))
            elif isinstance(message, LinkLost):
                self._clock = SampleClock(self._feed.rate_hz)
                out.append(
                    SourceLost(now_ns, self.name, f"{message.reason.value}: {message.detail}")
                )
        return out

    def counters(self) -> dict[str, int]:
        """Samples received and lost, gaps, and what the wire did."""
        wire = self._link.counters
        return {
            "received": self._received,
            "lost": wire.stream.lost,
            "gaps": self._gaps,
            "duplicates": wire.stream.duplicates,
            "rejected": sum(wire.stream.rejects.values()),
            "skipped_bytes": wire.stream.skipped_bytes,
            "losses": sum(wire.losses.values()),
            "reconnects": wire.reconnects,
        }

    def close(self) -> None:
        self._link.close()

    def _waveform(self, block: SampleBlock, now_ns: int) -> Waveform:
        samples = block.samples[:, self._options.channel - 1] * np.float32(self._scale)
        self._received += len(samples)
        self._gaps += block.lost > 0
        t_ns = self._clock.time_of(block.seq, len(samples), now_ns)
        self._first_ns = t_ns if self._first_ns is None else self._first_ns
        return Waveform(
            t_ns=t_ns,
            received_ns=now_ns,
            source=self.name,
            channel=self._options.mdc,
            unit=self._options.unit,
            rate_hz=block.rate_hz,
            seq=block.seq,
            samples=samples,
            rail=self._rail,
        )


def find_device(name: str) -> Device:
    """A device's description, by registered name or as the `"module:attr"` of an operator's own.

    Raises `StartError` naming the known ones.
    """
    if ":" in name:
        own: Device = load(name, f"device '{name}'")
        return own
    devices: dict[str, str] = load("firmware_bridge.devices:DEVICES", "registry of devices")
    device: Device = resolve(devices, name, "device")
    return device


def _scale(unit: str, wanted: str) -> float:
    if unit == wanted:
        return 1.0
    if (unit, wanted) not in CONVERSIONS:
        raise StartError(f"the device delivers '{unit}', not '{wanted}'", f'set unit = "{unit}"')
    return CONVERSIONS[unit, wanted]
