"""One channel of what a microcontroller samples, over the link of `medge_link.h`, as `Waveform`s.

Owns what a stream is said to be (its shape, and what a count stands for), and that what goes wrong
is told: conditions of the link as they begin and end, a sensor's fault as a lead that is off.
Nobody's heartbeat is sent: what drives the alarm line is not here, and so the alarm stays on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import msgspec

from edge.errors import LinkError, StartError
from edge.log import log
from edge.types import SourceLost, Waveform
from firmware_bridge.mcu.cable import Cable
from firmware_bridge.mcu.events import Code, Condition, Samples
from firmware_bridge.mcu.feeds import Feed
from firmware_bridge.mcu.host import Mcu, new_session

if TYPE_CHECKING:
    from edge.bundle.manifest import Signal

LOSSES = {Code.UNPLUGGED, Code.SILENT, Code.REFUSED}


class McuOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`stream` of the firmware has `channels` columns at `rate_hz`; `channel`, from 1, is `mdc`.
    One count of its converter of `bits` is `count` in `unit`. A stream of another shape than this
    is refused."""

    port: str
    stream: int = 1
    channels: Annotated[int, msgspec.Meta(ge=1)]
    channel: Annotated[int, msgspec.Meta(ge=1)] = 1
    rate_hz: Annotated[float, msgspec.Meta(gt=0)]
    mdc: str
    unit: str
    count: float
    bits: Annotated[int, msgspec.Meta(ge=2, le=32)] = 24
    name: str = "mcu"


class Microcontroller:
    """One channel of one microcontroller as a source."""

    Options = McuOptions

    def __init__(self, options: McuOptions) -> None:
        if options.channel > options.channels:
            raise StartError(
                f"source '{options.name}' has no channel {options.channel}",
                f"use 1 to {options.channels}",
            )
        if not options.count:
            raise StartError(f"source '{options.name}' has count 0", "state what one count is")
        self._options = options
        self._rail = (2 ** (options.bits - 1) - 1) * abs(options.count)
        feed = Feed(
            options.stream, options.channels, options.rate_hz, options.unit, options.count
        )  # fmt: skip
        self._mcu = Mcu([feed], session=new_session())
        self._cable = Cable(options.port, self._mcu)
        self._counts = {"received": 0, "lost": 0, "gaps": 0, "losses": 0}

    @property
    def name(self) -> str:
        return self._options.name

    def serve(self, signal: Signal) -> None:
        """Raises `StartError` where this channel is not what a bundle needs."""
        options = self._options
        signal.require(options.mdc, options.unit, options.rate_hz, options.name)

    def open(self, now_ns: int) -> None:
        """Open the port. Raises `LinkError` when it is not there now; later losses are retried."""
        self._cable.poll(now_ns)
        if Code.UNPLUGGED in self._mcu.conditions:
            self._cable.close()
            raise LinkError.of(self._mcu.conditions[Code.UNPLUGGED])

    def fileno(self) -> int | None:
        return self._cable.fileno()

    def next_deadline_ns(self) -> int | None:
        return self._cable.next_deadline_ns()

    def poll(self, now_ns: int) -> list[Waveform | SourceLost]:
        """What arrived, in order. Never blocks."""
        out: list[Waveform | SourceLost] = []
        for event in self._cable.poll(now_ns):
            if isinstance(event, Samples):
                out.append(self._waveform(event, now_ns))
            elif isinstance(event, Condition):
                out += self._told(event)
        return out

    def counters(self) -> dict[str, int]:
        """Samples received and lost, gaps, losses of the link, and blocks and frames refused."""
        frames = sum(self._mcu.counters.rejects.values())
        blocks = sum(n for reasons in self._mcu.sample_rejects.values() for n in reasons.values())
        return {**self._counts, "rejected": frames + blocks}

    def close(self) -> None:
        self._cable.close()

    def _waveform(self, event: Samples, now_ns: int) -> Waveform:
        block = event.block
        self._counts["received"] += len(block.samples)
        self._counts["lost"] += block.lost
        self._counts["gaps"] += block.lost > 0
        return Waveform(
            t_ns=event.t_ns,
            received_ns=now_ns,
            source=self.name,
            channel=self._options.mdc,
            unit=block.unit,
            rate_hz=block.rate_hz,
            seq=block.seq,
            samples=block.samples[:, self._options.channel - 1],
            rail=self._rail,
            leads_off=bool(event.faults),
        )

    def _told(self, event: Condition) -> list[SourceLost]:
        """Log a condition; one that ends the samples is a loss besides."""
        if event.active:
            log("condition_began", source=self.name, code=event.code.value)
        else:
            log("condition_ended", source=self.name, code=event.code.value)
        if not event.active or event.code not in LOSSES:
            return []
        self._counts["losses"] += 1
        return [SourceLost(event.t_ns, self.name, f"{event.code.value}: {event.detail}")]
