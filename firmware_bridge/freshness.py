"""Which values are too old to be shown: each channel against the host's clock, never the device's.

A value that has not come again in its time becomes UNAVAILABLE, once, with a technical alert; when
the link is lost all of them do, the loss being the alert. Old values are never repeated.

How long a channel may be silent: what is declared for it (`limits_s`), else what its first
`LEARNED` intervals show: `FACTOR` times the longest of them, at least `MIN_S`, at most `MAX_S`,
which also holds until they are known. The first and not the last, because a device that slows down
must not teach us patience. Measurements that are taken now and then are declared in `EPISODIC_S`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from firmware_bridge.session import NS_PER_S
from firmware_bridge.types import (
    Alert,
    AlertKind,
    LinkLost,
    Numeric,
    Priority,
    SampleBlock,
    Validity,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from firmware_bridge.types import LinkMessage

LEARNED = 8
FACTOR = 3.0
MIN_S = 2.0
MAX_S = 10.0
STALE = "medge:stale"

MINUTE_S = 60.0
EPISODIC_S = {
    "MDC_PRESS_BLD_NONINV_SYS": 30 * MINUTE_S,
    "MDC_PRESS_BLD_NONINV_DIA": 30 * MINUTE_S,
    "MDC_PRESS_BLD_NONINV_MEAN": 30 * MINUTE_S,
    "MDC_MASS_BODY_ACTUAL": 24 * 60 * MINUTE_S,
}


@dataclass(slots=True)
class _Channel:
    unit: str | None  # of a numeric; None for a feed of samples
    seen_ns: int
    limit_ns: int
    declared: bool
    longest_ns: int = 0
    intervals: int = 0
    stale: bool = False
    away: bool = False  # with the link


class Freshness:
    """Sees what a link says and says what has become too old. `staled` counts that."""

    def __init__(self, limits_s: Mapping[str, float] = EPISODIC_S) -> None:
        self._limits_s = limits_s
        self._channels: dict[str, _Channel] = {}  # by MDC id, of samples by the name of their feed
        self.staled = 0

    def saw(self, message: LinkMessage, now_ns: int) -> list[Numeric | Alert]:
        """Take a message; alerts that end, or values that are no longer to be had."""
        if isinstance(message, Numeric):
            return self._fresh(message.channel, message.unit, now_ns)
        if isinstance(message, SampleBlock):
            return self._fresh(message.feed, None, now_ns)
        return self._lost(now_ns) if isinstance(message, LinkLost) else []

    def due(self, now_ns: int) -> list[Numeric | Alert]:
        """What has become too old by now, each once."""
        out: list[Numeric | Alert] = []
        for name, channel in self._channels.items():
            late = now_ns - channel.seen_ns >= channel.limit_ns
            if late and not channel.stale and not channel.away:
                channel.stale = True
                self.staled += 1
                out += [*_gone(name, channel), _alert(name, channel, True, now_ns)]
        return out

    def next_ns(self) -> int | None:
        """When `due` may have something to say."""
        waiting = [c for c in self._channels.values() if not c.stale and not c.away]
        return min((c.seen_ns + c.limit_ns for c in waiting), default=None)

    def _fresh(self, name: str, unit: str | None, now_ns: int) -> list[Numeric | Alert]:
        channel = self._channels.get(name)
        if channel is None:
            declared_s = self._limits_s.get(name)
            limit_ns = int((MAX_S if declared_s is None else declared_s) * NS_PER_S)
            channel = _Channel(unit, now_ns, limit_ns, declared_s is not None)
            self._channels[name] = channel
            return []
        if not channel.stale and not channel.away:
            _learn(channel, now_ns - channel.seen_ns)
        ended = [_alert(name, channel, False, now_ns)] if channel.stale else []
        channel.seen_ns, channel.stale, channel.away = now_ns, False, False
        return [*ended]

    def _lost(self, now_ns: int) -> list[Numeric | Alert]:
        out: list[Numeric | Alert] = []
        for name, channel in self._channels.items():
            if channel.stale:
                out.append(_alert(name, channel, False, now_ns))
            elif not channel.away:
                out += _gone(name, channel)
            channel.stale, channel.away = False, True
        return out


def _learn(channel: _Channel, interval_ns: int) -> None:
    """Values of one message are one: their interval is none."""
    if channel.declared or interval_ns <= 0 or channel.intervals == LEARNED:
        return
    channel.intervals += 1
    channel.longest_ns = max(channel.longest_ns, interval_ns)
    if channel.intervals == LEARNED:
        limit_ns = int(FACTOR * channel.longest_ns)
        channel.limit_ns = min(max(limit_ns, int(MIN_S * NS_PER_S)), int(MAX_S * NS_PER_S))


def _gone(name: str, channel: _Channel) -> list[Numeric]:
    """The value that replaces the last one; a feed has none, its samples just end."""
    if channel.unit is None:
        return []
    return [Numeric(name, None, channel.unit, Validity.UNAVAILABLE)]


def _alert(name: str, channel: _Channel, active: bool, t_ns: int) -> Alert:
    text = f"nothing for {channel.limit_ns / NS_PER_S:g} s"
    return Alert(STALE, AlertKind.TECHNICAL, Priority.LOW, active, text, name, t_ns=t_ns)
