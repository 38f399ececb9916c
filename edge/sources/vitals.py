"""The values of a bedside device as rows of a course: the mean of each measurement in each step.

Owns which values count, and the steps. Only what the device calls valid is taken; a step without
any gives a row without any, so that the course knows how old its values are. The columns are those
of the bundle whose code is the measurement's MDC reference id, in the same unit: nothing is matched
by likeness, nothing converted. A course begins anew with each start, as nobody knows how long it
was away, or who is in the bed, and with another patient or device that the link tells of. What was
measured long ago, as in the queue that a gateway sends after an outage, is not taken.
"""

from __future__ import annotations

import os
from collections import defaultdict
from typing import TYPE_CHECKING, Annotated

import msgspec

from edge.clock import NS_PER_S
from edge.errors import StartError
from edge.sources.attached import Attached, find_device
from edge.types import Given
from edge.units import require_unit
from firmware_bridge.clockmodel import DeviceClock
from firmware_bridge.freshness import EPISODIC_S
from firmware_bridge.nomenclature import TERMS
from firmware_bridge.session import earliest
from firmware_bridge.types import LinkLost, Loss, Numeric, Validity

if TYPE_CHECKING:
    from edge.bundle.manifest import Features
    from edge.clock import Clock
    from edge.signals.rows import Row
    from edge.sources.attached import Ports
    from edge.types import SourceLost


OLD_S = 60.0
"""Since it was measured; a device that averages or reports seldom is not that slow."""


class VitalsOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`device`, `port` and `map` as those of a monitor. `place` is the bed, as a gateway that
    reports several calls it (HL7: PV1-3). `due_s` is the time between rows; 0 stands for the
    bundle's own step."""

    device: str = ""
    port: str
    map: str = ""
    place: str = ""
    due_s: Annotated[float, msgspec.Meta(ge=0)] = 0.0
    name: str = "vitals"


class Vitals:
    """One device's numerics as a source of rows; `serve` says for which bundle."""

    GIVES = "features"
    Options = VitalsOptions
    PATHS = ("map",)

    def __init__(self, options: VitalsOptions, ports: Ports | None = None) -> None:
        self._options = options
        self._device = find_device(options.device, options.port, options.map, options.place)
        self._attached = Attached(self._device, options.port, options.name, ports)
        self._columns: dict[str, str] = {}
        self._step_ns = 0
        self._end_ns: int | None = None
        self._values: defaultdict[str, list[float]] = defaultdict(list)
        self._clock = DeviceClock()
        self._session = os.urandom(6).hex()
        self._given = 0
        self._waiting: list[Given] = []
        self._open = False
        self._counts = {"received": 0, "unusable": 0, "gaps": 0}

    @property
    def name(self) -> str:
        return self._options.name

    def serve(self, features: Features) -> None:
        """Take the columns and the step of a bundle. Raises `StartError` where the device has none
        of them, or one in another unit."""
        for column in features.columns:
            if column.code in self._device.numerics:
                require_unit(TERMS[column.code].unit, column.unit, f"source '{self.name}'")
                self._columns[column.code] = column.name
        if not self._columns:
            raise StartError(
                f"{self._device.title} measures nothing that the bundle takes",
                f"it measures {', '.join(self._device.numerics) or 'no values'}",
            )
        self._step_ns = round((self._options.due_s or features.step_s) * NS_PER_S)

    def open(self, now_ns: int) -> None:
        """Open the port. Raises `LinkError` when it is not there now; later losses are retried."""
        self._attached.open(now_ns)
        self._open = True

    def reached(self, clock: Clock) -> str:
        """How far its port is, once it is there: see `Attached.reached`."""
        return self._attached.reached(clock)

    def fileno(self) -> int | None:
        return self._attached.fileno()

    def next_deadline_ns(self) -> int | None:
        return earliest(self._attached.next_deadline_ns(), self._end_ns)

    def poll(self, now_ns: int) -> list[Given | SourceLost]:
        """What the device lost, and the next row when the one before is settled."""
        out: list[Given | SourceLost] = []
        if self._end_ns is None:
            self._begin(now_ns)
        for message in self._attached.poll(now_ns):
            if isinstance(message, Numeric):
                self._take(message, now_ns)
            elif isinstance(message, LinkLost):
                self._counts["gaps"] += 1
                out.append(self._attached.lost(message))
                if message.reason is Loss.ANOTHER:
                    self._begin(now_ns)
        while self._end_ns is not None and self._end_ns <= now_ns:
            self._end_step(self._end_ns)
        if self._open and self._waiting:
            self._open = False
            out.append(self._waiting.pop(0))
        return out

    def settle(self, result: str, refused: bool) -> None:
        """The row given last is judged and committed."""
        self._open = True

    def counters(self) -> dict[str, int]:
        """Values `received`, of which some say that there is none, and of those `unusable`; losses
        of the link as `gaps`, and what the wire did."""
        return {**self._attached.counters(), **self._counts}

    def close(self) -> None:
        self._attached.close()

    def _begin(self, now_ns: int) -> None:
        """A course, with nothing of what was before."""
        self._values.clear()
        self._clock = DeviceClock()
        self._end_ns = now_ns + self._step_ns
        self._give(now_ns, begins=True)

    def _take(self, value: Numeric, now_ns: int) -> None:
        self._counts["received"] += 1
        name = self._columns.get(value.channel)
        is_old = self._is_old(value, now_ns)
        if value.value is None or value.validity is not Validity.VALID or is_old:
            self._counts["unusable"] += 1
        elif name is not None:
            self._values[name].append(value.value)

    def _is_old(self, value: Numeric, now_ns: int) -> bool:
        """By the device's own times, the earliest arrivals being of now."""
        if value.device_ns is None or value.channel in EPISODIC_S:
            return False
        return now_ns - self._clock.place(value.device_ns, now_ns) > OLD_S * NS_PER_S

    def _end_step(self, end_ns: int) -> None:
        row: Row = {name: sum(values) / len(values) for name, values in self._values.items()}
        self._values.clear()
        self._end_ns = end_ns + self._step_ns
        self._give(end_ns, row)

    def _give(self, t_ns: int, row: Row | None = None, begins: bool = False) -> None:
        self._given += 1
        identity = f"{self._session}-{self._given}"
        rows = () if row is None else (row,)
        self._waiting.append(Given(t_ns, self.name, identity, rows=rows, begins=begins))
