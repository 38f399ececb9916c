"""Personal health devices after ISO/IEEE 11073-20601: oximeter, blood pressure, weighing scale.

Implements the manager's side of IEEE 11073-20601 clause 8: the agent associates (8.7), reports its
configuration where it is no standard one (8.8), and its measurements (8.9); each confirmed report
is answered. `phd_apdu` owns the encoding. The transport is any stream: APDUs carry their length.

An APDU is taken whole or not at all: lengths must fit each other, those at its head before the rest
is waited for. There is no checksum in this layer; the transports (Bluetooth, USB, TCP) have theirs.
What a report says of its object (its unit, or that it is another) holds from there on; units are
never converted.
A report of several persons is not taken, nor of another person than the first in one association:
whose bed it is cannot be known.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from firmware_bridge.counting import Counting
from firmware_bridge.devices import phd_apdu as wire
from firmware_bridge.devices.big_endian import Malformed, Reader, absolute_ns
from firmware_bridge.nomenclature import TERMS, numeric
from firmware_bridge.session import Event, listening
from firmware_bridge.types import Device, Message, Numeric, Send, Sign, Validity, Wire

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

SILENT_S = 300.0  # a cuff may measure every few minutes
MAX_APDU_BYTES = 64_512  # 20601, 8.4: the most an agent may send
MAX_OTHER_BYTES = 512  # of what is no data

CHANNELS = {  # terms of the SCADA partition
    0x4BB8: "MDC_PULS_OXIM_SAT_O2",
    0x481A: "MDC_PULS_OXIM_PULS_RATE",
    0x4A05: "MDC_PRESS_BLD_NONINV_SYS",
    0x4A06: "MDC_PRESS_BLD_NONINV_DIA",
    0x4A07: "MDC_PRESS_BLD_NONINV_MEAN",
    0x482A: "MDC_PULS_RATE_NON_INV",
    0xE140: "MDC_MASS_BODY_ACTUAL",
}
UNITS = {0x0220: "%", 0x0AA0: "/min", 0x0F20: "mm[Hg]", 0x06C3: "kg"}
VALUES = (wire.SIMPLE_NU, wire.BASIC_NU, wire.COMPOUND_BASIC_NU)

STATUS = (  # BITS-16, bit 0 first; the worst that is set counts
    (0x8000, Validity.INVALID),
    (0x2000, Validity.UNAVAILABLE),
    (0x1000, Validity.INVALID),  # calibration
    (0x0800, Validity.INVALID),  # test data
    (0x4000, Validity.QUESTIONABLE),
    (0x0400, Validity.QUESTIONABLE),  # demonstration data
    (0x0040, Validity.QUESTIONABLE),  # early estimate
)


class Decoder(Counting):
    """One agent's APDUs in; its values, and what a manager answers, out."""

    def __init__(self) -> None:
        super().__init__()
        self._pending = b""
        self._metrics: Mapping[int, wire.Metric] = {}
        self._associated = False
        self._person: int | None = None
        self._skipping = False

    def feed(self, data: bytes) -> list[Message]:
        """Take the next bytes as they came and return what they complete. Never raises."""
        self._tally["received_bytes"] += len(data)
        buffer, out = self._pending + data, []
        at = 0
        while at + 4 <= len(buffer):
            choice = int.from_bytes(buffer[at : at + 2], "big")
            size = int.from_bytes(buffer[at + 2 : at + 4], "big")
            head = buffer[at + 4 : at + 12]
            if choice not in wire.CHOICES or not _fits(choice, size, head):
                at += self._skip("lengths" if choice in wire.CHOICES else "no APDU")
                continue
            if at + 4 + size > len(buffer):
                break
            out += self._apdu(choice, buffer[at + 4 : at + 4 + size])
            at += 4 + size
        self._pending = buffer[at:]
        return out

    def _skip(self, reason: str) -> int:
        """One byte that begins no APDU: the stream is searched for the next that does."""
        if not self._skipping:
            self._rejects[reason] += 1
        self._skipping = True
        self._tally["skipped_bytes"] += 1
        return 1

    def _apdu(self, choice: int, body: bytes) -> list[Message]:
        try:
            out = self._understood(choice, body)
        except Malformed:
            self._rejects["lengths"] += 1
            self._tally["skipped_bytes"] += 4 + len(body)
            return []
        self._tally["resyncs"] += self._skipping
        self._skipping = False
        self._tally["frames"] += 1
        return out

    def _understood(self, choice: int, body: bytes) -> list[Message]:
        if choice == wire.AARQ:
            return self._associate(wire.association(body))
        if choice == wire.RLRQ:
            self._end()
            return [Send(wire.apdu(wire.RLRE, b"\0\0")), Sign(Event.ALIVE, "released")]
        if choice == wire.ABRT:
            self._end()
            return [Sign(Event.ALIVE, "aborted")]
        if choice == wire.PRST:
            return self._data(Reader(body).octets())
        return []  # an answer to what a manager never asks

    def _end(self) -> None:
        self._associated, self._metrics, self._person = False, {}, None

    def _associate(self, asked: wire.Association) -> list[Message]:
        self._end()
        if asked.version != wire.VERSION_1:
            return [Send(wire.accept(wire.UNSUPPORTED_VERSION))]
        if asked.protocol != wire.PROTOCOL_20601:
            return [Send(wire.accept(wire.NO_COMMON_PROTOCOL))]
        self._associated = True
        self._metrics = wire.STANDARD.get(asked.config, {})
        result = wire.ACCEPTED if self._metrics else wire.ACCEPTED_UNKNOWN_CONFIG
        return [Send(wire.accept(result)), Sign(Event.ALIVE)]

    def _data(self, data: bytes) -> list[Message]:
        reader = Reader(data)
        invoke, choice, said = reader.u16(), reader.u16(), reader.inner()
        reader.end()
        if choice not in (wire.EVENT, wire.CONFIRMED_EVENT):
            return []
        handle, _, event, info = said.u16(), said.u32(), said.u16(), said.octets()
        said.end()
        if not self._associated:
            return [Send(wire.apdu(wire.ABRT, b"\0\0"))]
        if event == wire.NOTI_CONFIG:
            number, self._metrics = wire.configuration(info)
            answer = wire.response(invoke, handle, event, number.to_bytes(2, "big") + b"\0\0")
            return [Send(answer), Sign(Event.ALIVE)]
        found = self._values(wire.observations(event, info, self._metrics))
        if choice == wire.CONFIRMED_EVENT:
            found.append(Send(wire.response(invoke, handle, event, b"")))
        return [*found, Sign(Event.ALIVE)]

    def _values(self, observed: Iterable[wire.Observation]) -> list[Message]:
        observed = list(observed)
        persons = {o.person for o in observed if o.person is not None}
        if len(persons | ({self._person} - {None})) > 1:
            self._rejects["another person"] += 1
            return []
        self._person = next(iter(persons), self._person)
        metrics = dict(self._metrics)
        found: list[Message] = [v for o in observed for v in self._numerics(o, metrics)]
        self._metrics = metrics
        return found

    def _numerics(
        self, observed: wire.Observation, metrics: dict[int, wire.Metric]
    ) -> list[Numeric]:
        """The values of one observation; what it says of its object goes into `metrics`."""
        if observed.handle not in metrics:
            return []
        metric = wire.as_reported(metrics[observed.handle], observed.values)
        metrics[observed.handle] = metric
        kind = next((a for a in observed.values if a in VALUES), None)
        if kind is None:
            return []
        if metric.special:
            self._rejects["unknown measurement"] += 1
            return []
        validity = _validity(observed.values)
        t_ns = absolute_ns(observed.values.get(wire.ABSOLUTE_TIME, b""))
        numbers = wire.floats(kind, observed.values[kind])
        if len(numbers) != len(metric.physio):
            raise Malformed("values")  # one for each of the parts
        found = []
        for code, value in zip(metric.physio, numbers):
            channel = CHANNELS.get(code, "")
            if channel not in TERMS:
                self._rejects["unknown measurement"] += 1
            elif UNITS.get(metric.unit) != TERMS[channel].unit:
                self._rejects["unit"] += 1
            else:
                known = validity if value is not None else Validity.UNAVAILABLE
                found.append(numeric(channel, value, known, t_ns))
        return found


def _fits(choice: int, size: int, head: bytes) -> bool:
    """Whether an APDU of `size` bytes can begin with these, of which some may not have come yet."""
    if choice != wire.PRST:
        return size <= MAX_OTHER_BYTES
    if not 8 <= size <= MAX_APDU_BYTES - 4:
        return False
    lengths = (int.from_bytes(head[:2], "big") + 2, int.from_bytes(head[6:8], "big") + 8)
    return all(length == size or len(head) < end for length, end in zip(lengths, (2, 8)))


def _validity(values: Mapping[int, bytes]) -> Validity:
    bits = int.from_bytes(values.get(wire.MEASUREMENT_STATUS, b""), "big")
    return next((validity for bit, validity in STATUS if bits & bit), Validity.VALID)


OXIMETER = Device(
    name="phd-oximeter",
    title="IEEE 11073-10404 pulse oximeter",
    spec="IEEE 11073-20601 clause 8 and Annex A; IEEE 11073-10404",
    wire=Wire(1_000_000),
    dialogue=listening(SILENT_S),
    decoder=Decoder,
    numerics=("MDC_PULS_OXIM_SAT_O2", "MDC_PULS_OXIM_PULS_RATE"),
    proved_by="the standard's Annex H APDUs and those of the manager antidote",
    unproved="a real device; the Bluetooth and USB transports; stored data, scanners, events",
)
BLOOD_PRESSURE = replace(
    OXIMETER,
    name="phd-blood-pressure",
    title="IEEE 11073-10407 blood pressure monitor",
    spec="IEEE 11073-20601 clause 8 and Annex A; IEEE 11073-10407",
    numerics=(
        "MDC_PRESS_BLD_NONINV_SYS",
        "MDC_PRESS_BLD_NONINV_DIA",
        "MDC_PRESS_BLD_NONINV_MEAN",
        "MDC_PULS_RATE_NON_INV",
    ),
)
SCALE = replace(
    OXIMETER,
    name="phd-scale",
    title="IEEE 11073-10415 weighing scale",
    spec="IEEE 11073-20601 clause 8 and Annex A; IEEE 11073-10415",
    numerics=("MDC_MASS_BODY_ACTUAL",),
)
