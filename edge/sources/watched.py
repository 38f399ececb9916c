"""A bedside device that no bundle judges: that it is there, what is wrong with it, what it alarms.

Owns nothing but its counters: conditions and alarms are logged by `Attached`, as those of every
device are. What it measures is heard, so that silence and garbage are noticed, and goes nowhere.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from edge.log import log
from edge.sources.attached import Attached, find_device
from firmware_bridge.types import LinkUp, Numeric, SampleBlock

if TYPE_CHECKING:
    from edge.clock import Clock
    from edge.sources.attached import Ports


class WatchedOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`device`, `port` and `map` as those of a monitor, `place` as that of vitals."""

    device: str = ""
    port: str
    map: str = ""
    place: str = ""
    name: str = "device"


class Watched:
    """One device as a source that feeds no bundle."""

    GIVES = None
    Options = WatchedOptions
    PATHS = ("map",)

    def __init__(self, options: WatchedOptions, ports: Ports | None = None) -> None:
        self._options = options
        device = find_device(options.device, options.port, options.map, options.place)
        self._attached = Attached(device, options.port, options.name, ports)
        self._received = 0

    @property
    def name(self) -> str:
        return self._options.name

    def open(self, now_ns: int) -> None:
        """Open the port. Raises `LinkError` when it is not there now; later losses are retried."""
        self._attached.open(now_ns)

    def reached(self, clock: Clock) -> str:
        """How far its port is, once it is there: see `Attached.reached`."""
        return self._attached.reached(clock)

    def fileno(self) -> int | None:
        return self._attached.fileno()

    def next_deadline_ns(self) -> int | None:
        return self._attached.next_deadline_ns()

    def poll(self, now_ns: int) -> None:
        """Hear what it says. Never blocks."""
        for message in self._attached.poll(now_ns):
            if isinstance(message, LinkUp):
                log("device_heard", source=self.name)
            elif isinstance(message, SampleBlock):
                self._received += len(message.samples)
            elif isinstance(message, Numeric):
                self._received += 1

    def counters(self) -> dict[str, int]:
        """Values and samples `received`, and what the wire did."""
        return {"received": self._received, **self._attached.counters()}

    def close(self) -> None:
        self._attached.close()
