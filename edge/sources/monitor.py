"""One channel of a bedside device: what an `Attached` device hears becomes `Waveform`s.

Owns the choice of channel, its clinical name, the stated unit conversion, the rate that the bundle
needs, and sample times. The link's losses become `SourceLost`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import msgspec
import numpy as np

from edge.clock import NS_PER_S
from edge.errors import StartError
from edge.signals.live_resampling import LiveResampler
from edge.sources.attached import Attached, find_device
from edge.types import SourceLost, Waveform
from firmware_bridge.clockmodel import SampleClock
from firmware_bridge.types import Alert, AlertKind, LinkLost, SampleBlock

if TYPE_CHECKING:
    from edge.bundle.manifest import Signal
    from edge.clock import Clock
    from edge.sources.attached import Ports
    from firmware_bridge.clockmodel import ClockState
    from firmware_bridge.types import Device, Feed

CONVERSIONS = {("uV", "mV"): 1e-3, ("mV", "uV"): 1e3}
"""Stated conversions, UCUM: nothing else is ever converted."""

COUNTS = "1"
ECG = "MDC_ECG_ELEC_POTL_"  # and a lead


class MonitorOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`port` is a path or an address as `tcp://host:port`, which may name the device too; `map` a
    file of registers, for the devices that need one. `mdc` is the channel; where the device does
    not know what is wired to it, `channel` says which of its inputs that is, from 1. `unit` is what
    to deliver, and `rate_hz` at which rate (0: the device's own). `offset` and `gain` state what a
    sensor in front of an analogue input does: the value is (reading - offset) / gain, in the
    device's unit. Of a device that gives counts (unit 1), a `gain` is how many of them one `unit`
    is."""

    device: str = ""
    port: str
    map: str = ""
    channel: int = 1
    mdc: str
    unit: str
    rate_hz: Annotated[float, msgspec.Meta(ge=0)] = 0.0
    offset: float = 0.0
    gain: float = 1.0
    name: str = "monitor"


class Monitor:
    """One channel of one device as a source."""

    Options = MonitorOptions
    PATHS = ("map",)

    def __init__(self, options: MonitorOptions, ports: Ports | None = None) -> None:
        self._options = options
        device = find_device(options.device, options.port, options.map)
        self._feed, self._column = channel_of(device, options)
        if options.gain == 0.0:
            raise StartError(f"source '{options.name}' has gain 0", "state the sensor's gain")
        self._scale = _scale(self._feed.unit, options) / options.gain
        rails = (self._feed.rail_low, self._feed.rail_high)
        self._rail = min(abs((r - options.offset) * self._scale) for r in rails) or None
        self._attached = Attached(device, options.port, options.name, ports)
        self._clock: SampleClock | None = None
        self._clock_before: ClockState | None = None
        self._heard_hz = self._feed.rate_hz  # the device's own rate, which it may change
        self._resampler: LiveResampler | None = None
        self._wrong_rate = ""
        self._unfit = ""  # why nothing is given now
        self._needed_hz = self.rate_hz
        if self._heard_hz:
            self._resampler = self._resampling()
        self._spoken_of = names_of(options.mdc, self._feed.channels[self._column])
        self._faults: set[tuple[str, str]] = set()  # those that last: code and channel
        self._received = 0
        self._gaps = 0
        self._first_ns: int | None = None

    @property
    def name(self) -> str:
        return self._options.name

    @property
    def rate_hz(self) -> float:
        """Samples per second that it delivers; 0 where only the device will say."""
        return self._options.rate_hz or self._feed.rate_hz

    @property
    def first_ns(self) -> int | None:
        """Time of the very first sample, None before it came."""
        return self._first_ns

    @property
    def clock(self) -> ClockState | None:
        """What is known of the device's clock, None before samples came; what was, while it is
        away. What is counted is counted since the start."""
        before = self._clock_before
        if self._clock is None:
            return before
        return self._clock.state if before is None else self._clock.state.after(before)

    def serve(self, signal: Signal) -> None:
        """Take what a bundle needs. Raises `StartError` where this channel is something else. A
        rate that only the device will say is compared when it says it: nothing is given before."""
        options = self._options
        signal.require(options.mdc, options.unit, self.rate_hz or signal.rate_hz, self.name)
        self._needed_hz = signal.rate_hz

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

    def poll(self, now_ns: int) -> list[Waveform | SourceLost]:
        """What arrived, in order. Never blocks."""
        out: list[Waveform | SourceLost] = []
        for message in self._attached.poll(now_ns):
            if isinstance(message, SampleBlock):
                out += self._given(message, now_ns)
            elif isinstance(message, Alert):
                self._note(message)
            elif isinstance(message, LinkLost):
                self._end_clock()
                self._faults.clear()
                out.append(self._attached.lost(message))
        return out

    def counters(self) -> dict[str, int]:
        """Samples `received` and `gaps` of this channel, and what the wire did."""
        return {"received": self._received, "gaps": self._gaps, **self._attached.counters()}

    def close(self) -> None:
        self._attached.close()

    def _note(self, alert: Alert) -> None:
        """A fault of this channel that the device reports: its samples are not the patient's."""
        if alert.kind is AlertKind.TECHNICAL and alert.channel in self._spoken_of:
            fault = alert.code, alert.channel
            (self._faults.add if alert.active else self._faults.discard)(fault)

    def _given(self, block: SampleBlock, now_ns: int) -> list[Waveform | SourceLost]:
        if block.feed != self._feed.name:
            return []
        self._received += len(block.samples)
        self._gaps += block.lost > 0
        if block.rate_hz != self._heard_hz:
            self._change_rate(block.rate_hz)
        said, self._unfit = self._unfit, self._wrong_rate or self._wrong_channel(block)
        if not self._unfit:
            return self._waveforms(block, now_ns)
        return [] if self._unfit == said else [SourceLost(now_ns, self.name, self._unfit)]

    def _wrong_channel(self, block: SampleBlock) -> str:
        said = block.channels[self._column] if block.channels else ""
        if said in ("", self._options.mdc):
            return ""
        return f"channel: the device shows {said}; choose {self._options.mdc} on it"

    def _change_rate(self, rate_hz: float) -> None:
        self._heard_hz, self._wrong_rate = rate_hz, ""
        self._end_clock()
        try:
            self._resampler = self._resampling()
        except StartError as error:
            self._wrong_rate = f"rate: {error}"

    def _end_clock(self) -> None:
        self._clock_before, self._clock = self.clock, None

    def _resampling(self) -> LiveResampler | None:
        """What brings the device's rate to the wanted one. Raises `StartError` if nothing can."""
        if self._options.rate_hz not in (0.0, self._heard_hz):
            return LiveResampler(self._heard_hz, self._options.rate_hz)
        if self._needed_hz not in (0.0, self._heard_hz):
            raise StartError(
                f"{self._heard_hz:g} Hz come and {self._needed_hz:g} Hz are needed",
                f"set rate_hz = {self._needed_hz:g}",
            )
        return None

    def _waveforms(self, block: SampleBlock, now_ns: int) -> list[Waveform | SourceLost]:
        reading = block.samples[:, self._column] - np.float32(self._options.offset)
        samples = reading * np.float32(self._scale)
        self._clock = self._clock or SampleClock(block.rate_hz)
        t_ns = self._clock.time_of(block.seq, len(samples), now_ns)
        self._first_ns = t_ns if self._first_ns is None else self._first_ns
        rate_hz, seq = block.rate_hz, block.seq
        if self._resampler is not None:
            rate_hz = self._options.rate_hz
            seq, samples = self._resampler.feed(block.seq, samples)
            offset_s = (self._resampler.position(seq) - block.seq) / block.rate_hz
            t_ns += round(offset_s * NS_PER_S)
        if not len(samples):
            return []
        return [
            Waveform(
                t_ns=t_ns,
                received_ns=now_ns,
                source=self.name,
                channel=self._options.mdc,
                unit=self._options.unit,
                rate_hz=rate_hz,
                seq=seq,
                samples=samples,
                rail=self._rail,
                leads_off=bool(self._faults),
            )
        ]


def channel_of(device: Device, options: MonitorOptions) -> tuple[Feed, int]:
    """The feed and its column that hold the wanted channel. Raises `StartError`.

    One that says less, an ECG without its lead, is what the configuration says that it is.
    """
    for wanted in (options.mdc, options.mdc.rpartition("_")[0]):
        for feed in device.feeds:
            if wanted in feed.channels:
                return feed, feed.channels.index(wanted)
    wired = [f for f in device.feeds if "" in f.channels]
    if not wired:
        known = ", ".join(c for f in device.feeds for c in f.channels) or "values only, no waves"
        raise StartError(f"{device.title} has no channel {options.mdc}", f"it has {known}")
    if not 1 <= options.channel <= len(wired[0].channels):
        raise StartError(
            f"{device.title} has no channel {options.channel}", f"use 1 to {len(wired[0].channels)}"
        )
    return wired[0], options.channel - 1


def names_of(mdc: str, channel: str) -> frozenset[str]:
    """What a device may call a channel in its faults: by its lead, as its feed does, or, an ECG
    whose lead it does not say, without one."""
    names = {mdc, channel}
    return frozenset(names | {n.rpartition("_")[0] for n in names if n.startswith(ECG)})


def _scale(unit: str, options: MonitorOptions) -> float:
    """How many of what is wanted one `unit` is; of counts the gain says it."""
    wanted = options.unit
    if unit == wanted or (unit == COUNTS and options.gain != 1.0):
        return 1.0
    if unit == COUNTS:
        cause = f"{options.mdc} comes in counts of a converter, not in '{wanted}'"
        raise StartError(cause, f"set gain to the counts in one {wanted}")
    if (unit, wanted) not in CONVERSIONS:
        raise StartError(f"the device delivers '{unit}', not '{wanted}'", f'set unit = "{unit}"')
    return CONVERSIONS[unit, wanted]
