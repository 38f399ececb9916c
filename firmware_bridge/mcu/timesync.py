"""Where a device's clock stands against ours, from questions and answers on the wire.

A reply's device time lies between our sending and our hearing: offset and a bound of its error
follow without any assumption about the way there and back (Cristian 1989). With age the bound
grows by what two quartz clocks may drift apart. Owns no clock: times are given, in nanoseconds.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

DRIFT_PPM = 100  # both quartzes at their worst, 50 ppm each
KEPT = 16


@dataclass(frozen=True, slots=True)
class Offset:
    """Host time minus device time is `offset_ns`, give or take `uncertainty_ns`."""

    offset_ns: int
    uncertainty_ns: int


@dataclass(frozen=True, slots=True)
class _Exchange:
    t_ns: int
    offset_ns: int
    half_ns: int

    def uncertainty_ns(self, now_ns: int) -> int:
        return self.half_ns + abs(now_ns - self.t_ns) * DRIFT_PPM // 1_000_000


class TimeSync:
    """The last exchanges with one device since it started."""

    def __init__(self) -> None:
        self._exchanges: deque[_Exchange] = deque(maxlen=KEPT)

    def add(self, sent_ns: int, device_us: int, heard_ns: int) -> None:
        """One exchange: `device_us` was read between `sent_ns` and `heard_ns`."""
        middle_ns = (sent_ns + heard_ns) // 2
        half_ns = (heard_ns - sent_ns + 1) // 2
        self._exchanges.append(_Exchange(middle_ns, middle_ns - device_us * 1000, half_ns))

    def offset(self, now_ns: int) -> Offset | None:
        """The best known offset at `now_ns`, or None before the first exchange."""
        if not self._exchanges:
            return None
        best = min(self._exchanges, key=lambda exchange: exchange.uncertainty_ns(now_ns))
        return Offset(best.offset_ns, best.uncertainty_ns(now_ns))
