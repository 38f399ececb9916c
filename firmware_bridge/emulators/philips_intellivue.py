"""An emulated Philips IntelliVue monitor with Data Export, on its serial port or on the network.

Layouts and constants are those of `devices.philips_*`. It accepts one association, introduces
itself until it is answered, polls out values every second, waves every 256 ms and alarms every
second for as long as each was asked for, and ends an association from which it hears nothing for
10 s. Static attributes come with the first result of each poll only, and results that are too long
for the agreed message come linked.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from firmware_bridge.devices import philips_association as association
from firmware_bridge.devices import philips_intellivue
from firmware_bridge.devices import philips_messages as wire
from firmware_bridge.devices import philips_values as values
from firmware_bridge.devices.big_endian import Malformed, Reader
from firmware_bridge.devices.philips_frames import Datagrams, Deframer, frame
from firmware_bridge.devices.philips_messages import PolledObject, PollResult, counted
from firmware_bridge.emulators.electrodes import WORN, worn_wave
from firmware_bridge.emulators.emulated import Emulator
from firmware_bridge.emulators.faults import Kind

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from firmware_bridge.devices.philips_messages import Operation
    from firmware_bridge.emulators.patient import Scene

EPOCH_NS = 1_600_000_000_000_000_000  # the monitor's clock when it is switched on
EVERY_S = {wire.VALUES: 1.0, wire.WAVES: 0.256, wire.ALARM_MONITOR: 1.0}
IDLE_S = 10.0
INTRODUCE_EVERY_S = 1.0
CONTEXT = 1
MEASURED_EVERY_S = 300.0  # blood pressure by cuff
OBJECT_BYTES = 1000  # of one message

# Of each object: its label, the unit code and the decimals of its values, and their channels.
BPM, PERCENT, MMHG, BREATHS, MM, CELSIUS = 0x0AA0, 0x0220, 0x0F20, 0x0AE0, 0x0512, 0x17A0
OBJECTS = (
    (0x4182, BPM, 0, ("MDC_ECG_HEART_RATE",)),
    (0x480A, BPM, 0, ("MDC_PULS_RATE",)),
    (0x4822, BPM, 0, ("MDC_PULS_OXIM_PULS_RATE",)),
    (0x4BB8, PERCENT, 1, ("MDC_PULS_OXIM_SAT_O2",)),
    (0x4B3C, PERCENT, 0, ("MDC_SAT_O2_VEN",)),
    (0x0300, MM, 1, ("MDC_ECG_AMPL_ST_I", "MDC_ECG_AMPL_ST_II", "MDC_ECG_AMPL_ST_V")),
    (0x4A04, MMHG, 0, ("MDC_PRESS_BLD_NONINV_SYS", "MDC_PRESS_BLD_NONINV_DIA",
                       "MDC_PRESS_BLD_NONINV_MEAN")),
    (0x4A10, MMHG, 0, ("MDC_PRESS_BLD_ART_SYS", "MDC_PRESS_BLD_ART_DIA",
                       "MDC_PRESS_BLD_ART_MEAN")),
    (0x4A14, MMHG, 0, ("MDC_PRESS_BLD_ART_ABP_SYS", "MDC_PRESS_BLD_ART_ABP_DIA",
                       "MDC_PRESS_BLD_ART_ABP_MEAN")),
    (0x4A1C, MMHG, 0, ("MDC_PRESS_BLD_ART_PULM_SYS", "MDC_PRESS_BLD_ART_PULM_DIA",
                       "MDC_PRESS_BLD_ART_PULM_MEAN")),
    (0x4A44, MMHG, 0, ("MDC_PRESS_BLD_VEN_CENT_MEAN",)),
    (0x5808, MMHG, 0, ("MDC_PRESS_INTRA_CRAN_MEAN",)),
    (0x4B48, CELSIUS, 1, ("MDC_TEMP",)),
    (0x4B5C, CELSIUS, 1, ("MDC_TEMP_BODY",)),
    (0x500A, BREATHS, 0, ("MDC_RESP_RATE",)),
    (0x50AC, MMHG, 0, ("MDC_AWAY_CO2_ET",)),
)  # fmt: skip
PHYSIO = {channel: code for code, channel in values.NUMERICS.items()}
PHYSIO["MDC_TEMP_BODY"] = values.TEMPERATURE
ST_MM = 0.3

# Of each wave: significant bits, unit code, low and high value, their decimals and their counts.
MV, DIMENSIONLESS, OHM = 0x10B2, 0x0200, 0x10C0
SCALES = {
    values.ECG_LEAD_II: (14, MV, -40.96, 40.955, 3, 0, 16383),
    0x4BB4: (12, DIMENSIONLESS, None, None, 0, 0, 4095),
    0x4A14: (14, MMHG, -40.0, 520.0, 1, 160, 9120),
    0x5000: (12, OHM, -0.6, 1.9, 1, 0, 4095),
}
FIXED = counted([struct.pack(">HH", values.FIXED_INVALID, 0x8000)])
NAN_FLOAT = b"\x00\x7f\xff\xff"
LEADS_OFF = (274, 0x0100, 0x0001, "!! ECG LEADS OFF")
HIGH_RATE = (40, 0x4182, 0x0200, "** HR 130 > 120")


@dataclass
class Polling:
    """One poll that goes on: until when, which slot is next, and what it is called."""

    until_s: float
    slot: int
    invoke: int
    number: int
    group: int
    fresh: bool = True
    sequence: int = 0


class Monitor:
    """A monitor without its cable."""

    def __init__(self, scene: Scene, *, serial: bool) -> None:
        self._scene = scene
        self._messages: Deframer[bytes] | Datagrams[bytes]
        self._messages = Deframer(bytes) if serial else Datagrams(bytes)
        self._wrap: Callable[[bytes], bytes] = frame if serial else bytes
        self._heard_s: float | None = None  # None without an association
        self._introduce_s: float | None = None
        self._polls: dict[int, Polling] = {}

    def hear(self, data: bytes, t_s: float) -> list[bytes]:
        """The answers to what the host sends."""
        out: list[bytes] = []
        for message in self._messages.feed(data):
            try:
                out += self._answers(message, t_s)
            except Malformed:
                continue
        return [self._wrap(message) for message in out]

    def next_s(self) -> float | None:
        """When the next message is due."""
        if self._heard_s is None:
            return None
        due = [self._heard_s + IDLE_S]
        due += [self._introduce_s] if self._introduce_s is not None else []
        due += [poll.slot * EVERY_S[kind] for kind, poll in self._polls.items()]
        return min(due)

    def say(self, t_s: float) -> list[bytes]:
        """The messages due by `t_s`, in order."""
        out: list[bytes] = []
        while (at_s := self.next_s()) is not None and at_s <= t_s:
            out += self._due(at_s)
        return [self._wrap(message) for message in out]

    def _due(self, at_s: float) -> list[bytes]:
        if self._heard_s is not None and at_s == self._heard_s + IDLE_S:
            self._end()
            return [association.ABORTED]
        if at_s == self._introduce_s:
            self._introduce_s = at_s + INTRODUCE_EVERY_S
            return [self._introduction(at_s)]
        kind = next(k for k, p in self._polls.items() if p.slot * EVERY_S[k] == at_s)
        if self._polls[kind].until_s < at_s:
            del self._polls[kind]
            return []
        return self._result(kind, at_s)

    def _end(self) -> None:
        self._heard_s = self._introduce_s = None
        self._polls.clear()

    def _answers(self, message: bytes, t_s: float) -> list[bytes]:
        kind = association.kind_of(message)
        if kind == association.CONNECT:
            if self._heard_s is not None:
                self._end()
                return [association.ABORTED]
            self._heard_s, self._introduce_s = t_s, t_s + 0.1
            return [association.accept()]
        if self._heard_s is None:
            return []
        self._heard_s = t_s
        if kind == association.FINISH:
            self._end()
            return [association.RELEASED]
        return self._operation(wire.parse_message(message), t_s)

    def _operation(self, operation: Operation, t_s: float) -> list[bytes]:
        if operation.kind == wire.RORS and operation.operation == wire.MDS_CREATED:
            self._introduce_s = None
        elif operation.command == wire.CONFIRMED_SET:
            done = struct.pack(">HHH", *operation.target) + operation.body[8:]
            return [wire.message(wire.RORS, operation.invoke, wire.CONFIRMED_SET, done)]
        elif operation.operation == wire.EXTENDED_POLL:
            self._start(operation, t_s)
        return []

    def _start(self, operation: Operation, t_s: float) -> None:
        number, _, kind, group = struct.unpack_from(">HHHH", operation.body)
        asked = wire.attributes(Reader(operation.body[8:]))
        if kind in EVERY_S and wire.POLL_DURATION in asked:
            ticks = int.from_bytes(asked[wire.POLL_DURATION], "big")
            slot = int(t_s / EVERY_S[kind]) + 1
            until_s = t_s + ticks / wire.TICKS_PER_S
            self._polls[kind] = Polling(until_s, slot, operation.invoke, number, group)

    def _introduction(self, t_s: float) -> bytes:
        introduced = struct.pack(">HHH", *wire.MONITOR_ID) + wire.attribute_list({})
        body = struct.pack(">HHHIHH", *wire.MONITOR_ID, self._ticks(t_s), wire.MDS_CREATED,
                           len(introduced))  # fmt: skip
        return wire.message(wire.ROIV, 1, wire.CONFIRMED_EVENT, body + introduced)

    def _ticks(self, t_s: float) -> int:
        return round(t_s * wire.TICKS_PER_S)

    def _clock_ns(self, t_s: float) -> int:
        return EPOCH_NS + round(self._scene.device_s(t_s) * 100) * 10_000_000

    def _result(self, kind: int, t_s: float) -> list[bytes]:
        poll = self._polls[kind]
        objects = {
            wire.VALUES: self._values,
            wire.WAVES: self._waves,
            wire.ALARM_MONITOR: self._alarms,
        }[kind](poll, t_s)
        parts = _split(objects)
        out = []
        for i, part in enumerate(parts):
            result = PollResult(poll.number, self._ticks(t_s), self._clock_ns(t_s), kind, part)
            link = wire.LAST if i == len(parts) - 1 else wire.MIDDLE if i else wire.FIRST
            link = link if len(parts) > 1 else 0
            out.append(wire.encode_poll(result, poll.invoke, poll.sequence, poll.group, link))
            poll.sequence += 1
        poll.slot += 1
        poll.fresh = False
        return out

    def _values(self, poll: Polling, t_s: float) -> list[PolledObject]:
        out = []
        for handle, (label, unit, decimals, channels) in enumerate(OBJECTS, 1):
            observed = [self._observed(channel, unit, decimals, t_s) for channel in channels]
            found = {values.HANDLE: struct.pack(">H", handle)} if poll.fresh else {}
            if poll.fresh:
                found[values.LABEL] = struct.pack(">HH", values.MEDICAL, label)
            if len(observed) == 1:
                found[values.VALUE] = observed[0]
            else:
                found[values.VALUE_LIST] = counted(observed)
            if channels[0] in values.MEASURED_ONCE:
                at_s = t_s - t_s % MEASURED_EVERY_S
                found[values.TIME_STAMP] = wire.calendar(self._clock_ns(at_s))
            out.append(PolledObject(CONTEXT, handle, found))
        return out

    def _observed(self, channel: str, unit: int, decimals: int, t_s: float) -> bytes:
        state = 0
        once = channel in values.MEASURED_ONCE
        value = self._value(channel, t_s - t_s % MEASURED_EVERY_S if once else t_s)
        number = wire.encode_float(value, decimals)
        of_ecg = channel == "MDC_ECG_HEART_RATE" or "_AMPL_ST_" in channel
        if of_ecg and self._scene.during(Kind.LEAD_OFF, t_s):
            state, number = wire.INVALID, NAN_FLOAT
        return struct.pack(">HHH", PHYSIO[channel], state, unit) + number

    def _value(self, channel: str, t_s: float) -> float:
        if channel == "MDC_ECG_HEART_RATE" and self._scene.during(Kind.ASYSTOLE, t_s):
            return 0.0
        return ST_MM if "_AMPL_ST_" in channel else self._scene.patient.value(channel, t_s)

    def _waves(self, poll: Polling, t_s: float) -> list[PolledObject]:
        out = []
        for handle, (physio, feed) in enumerate(values.WAVES.items(), 101):
            n = round(feed.rate_hz * EVERY_S[wire.WAVES])
            static = _static(physio, n, feed.rate_hz) if poll.fresh else {}
            off = physio == values.ECG_LEAD_II and self._scene.during(Kind.LEAD_OFF, t_s)
            counts = self._counts(physio, (poll.slot - 1) * n, n)
            words = (counts | 0x8000 if off else counts).astype(">u2").tobytes()
            state = wire.INVALID if off else 0
            observed = struct.pack(">HHH", physio, state, len(words)) + words
            out.append(PolledObject(CONTEXT, handle, {**static, values.WAVE: observed}))
        return out

    def _counts(self, physio: int, first: int, n: int) -> NDArray[np.int64]:
        feed = values.WAVES[physio]
        wave = worn_wave(self._scene, feed.channels[0], first, n, feed.rate_hz, rail=None)
        _, _, low, high, _, low_count, high_count = SCALES[physio]
        low, high = (0.0, 1.0) if low is None or high is None else (low, high)
        counts = low_count + (wave - low) * ((high_count - low_count) / (high - low))
        return np.clip(np.rint(counts), low_count, high_count).astype(np.int64)

    def _alarms(self, poll: Polling, t_s: float) -> list[PolledObject]:
        patient = [_alarm(*HIGH_RATE)] if self._scene.during(Kind.ALARM, t_s) else []
        technical = [_alarm(*LEADS_OFF)] if self._scene.during(Kind.LEAD_OFF, t_s) else []
        found = {
            values.PATIENT_ALARMS: counted(patient),
            values.TECHNICAL_ALARMS: counted(technical),
        }
        return [PolledObject(CONTEXT, 201, found)]


def _split(objects: list[PolledObject]) -> list[tuple[PolledObject, ...]]:
    parts: list[list[PolledObject]] = [[]]
    size = 0
    for polled in objects:
        own = sum(4 + len(value) for value in polled.attributes.values()) + 6
        if size + own > OBJECT_BYTES and parts[-1]:
            parts.append([])
            size = 0
        parts[-1].append(polled)
        size += own
    return [tuple(part) for part in parts]


def _static(physio: int, n: int, rate_hz: float) -> dict[int, bytes]:
    bits, unit, low, high, decimals, low_count, high_count = SCALES[physio]
    if low is None or high is None:
        ends = NAN_FLOAT * 2
    else:
        ends = wire.encode_float(low, decimals) + wire.encode_float(high, decimals)
    period = round(wire.TICKS_PER_S / rate_hz)
    return {
        values.LABEL: struct.pack(">HH", values.MEDICAL, physio),
        values.WAVE_SPEC: struct.pack(">HBBH", n, 16, bits, 0x2000),
        values.WAVE_SCALE: ends + struct.pack(">HH", low_count, high_count),
        values.WAVE_FIXED: FIXED,
        values.WAVE_PERIOD: struct.pack(">I", period),
        values.UNIT: struct.pack(">H", unit),
    }


def _alarm(code: int, source: int, kind: int, text: str) -> bytes:
    raw = (text + "\0").encode("utf-16-be")
    info = struct.pack(">HIHHH", 1, 0, 0, 0, len(raw)) + raw
    head = struct.pack(">4H", source, code, kind, 8)
    handle = struct.pack(">HHH", wire.VALUES, CONTEXT, 1)
    return head + handle + struct.pack(">HH", values.TEXT_INFO, len(info)) + info


SHOWS = WORN | {Kind.ALARM, Kind.CLOCK_JUMP}
EMULATOR = Emulator(philips_intellivue.DEVICE, partial(Monitor, serial=True), SHOWS)
EMULATOR_LAN = Emulator(philips_intellivue.DEVICE_LAN, partial(Monitor, serial=False), SHOWS)
