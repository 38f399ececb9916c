"""Contec CMS50 finger oximeters: the protocol of 115200 baud and the older one of 19200 8O1.

Implements Contec's "Communication protocol of pulse oximeter V7.0" (real-time data, tables 3, 4 and
7) and "Communication protocol V5.0A", whose 4800 baud are 19200 in practice. Both send 60 packets a
second, one pleth sample each.

New: a packet is a type (bit 7 clear), a byte that holds bit 7 of each data byte in order, and the
data bytes (bit 7 set). Old: 5 bytes, bit 7 set in the first only. Neither has a checksum or a
counter, so what can be checked are these marks and the ranges: signal strength 0-8, or 15 for none,
saturation 0-100 or 127. New packets are trusted after three in a row (noise does that once in 1e14
positions), old ones after six (once in 1e11). A flipped bit of the data cannot be seen by anybody.
A damaged packet in its place is a lost sample; bytes out of place are at least one, and as many as
packets would fit.

Values are handed on when they change, and else once a second. There are none with a probe error,
nor when the pulse is searched for too long, which is how old models say that the finger is out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from firmware_bridge.devices.framing import Framer
from firmware_bridge.devices.oximetry import (
    PERFUSION,
    PLETH,
    PULSE,
    SPO2,
    Levels,
    PlethRun,
    crossing,
    fault,
    lasting,
    reading,
)
from firmware_bridge.session import Beat, Dialogue, Event, State, Step, listening, usual
from firmware_bridge.types import (
    Counters,
    Device,
    Feed,
    Message,
    Sign,
    Wire,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from firmware_bridge.devices.framing import Check

WIRE = Wire(115_200)
WIRE_OLD = Wire(19_200, parity="O")
RATE_HZ = 60.0
REPEAT_PACKETS = 60
FEED = "pleth"
PLETH_TOP = 0x7F
MAX_SLOTS = 8
SIGNALS = (*range(9), 15)
SPO2_INVALID = 0x7F

# New: bytes of the packets that come while streaming, by type (table 1).
REALTIME, FEEDBACK, FREE, DISCONNECT = 0x01, 0x0B, 0x0C, 0x0D
PACKET_BYTES = {REALTIME: 9, FEEDBACK: 4, FREE: 2, DISCONNECT: 3}
CONFIRM = 3
PULSE_INVALID = 0xFF
PERFUSION_INVALID = 0xFFFF

REASONS = {0x01: "it shuts down", 0x02: "another user", 0x03: "it records"}  # table 4

OLD_BYTES = 5
CONFIRM_OLD = 6

START, STOP, KEEP_ALIVE = 0xA1, 0xA2, 0xAF
KEEP_ALIVE_S = 5.0

PROBE_ALERT = fault("contec:probe-error", "probe error or no finger")
SEARCH_ALERT = fault("contec:searching", "searching for the pulse for too long, or no finger")
LOW_ALERT = crossing("MDC_EVT_LO", "low SpO2", SPO2)
DROP_ALERT = crossing("contec:spo2-dropping", "SpO2 is dropping", SPO2)


@dataclass(frozen=True, slots=True)
class Packet:
    """One real-time packet. Rate and saturation as sent, sentinels included; `perfusion` is the
    perfusion index times 100, None on models without. `low` is low (old: dropping) saturation."""

    signal: int
    pleth: int
    bar: int
    pulse: int
    spo2: int
    perfusion: int | None = None
    probe_error: bool = False
    searching: bool = False
    too_long: bool = False
    low: bool = False
    beep: bool = False


def command(code: int) -> bytes:
    """What a host sends: 9 bytes, without parameters."""
    return bytes([0x7D, 0x81, code, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80])


def pack(kind: int, data: bytes) -> bytes:
    """A packet of the new protocol: bit 7 of each data byte goes into the second byte."""
    high = sum((byte >> 7) << i for i, byte in enumerate(data))
    return bytes([kind, 0x80 | high]) + bytes(byte | 0x80 for byte in data)


def unpack(packet: bytes) -> bytes:
    """The data bytes of a packet of the new protocol."""
    high = packet[1]
    return bytes(byte & 0x7F | (high >> i & 1) << 7 for i, byte in enumerate(packet[2:]))


def encode(p: Packet) -> bytes:
    """A real-time packet of the new protocol."""
    first = p.signal | p.too_long << 4 | p.low << 5 | p.beep << 6 | p.probe_error << 7
    perfusion = PERFUSION_INVALID if p.perfusion is None else p.perfusion
    third = p.bar | (perfusion == PERFUSION_INVALID) << 4
    data = [first, p.pleth | p.searching << 7, third, p.pulse, p.spo2]
    return pack(REALTIME, bytes(data) + perfusion.to_bytes(2, "little"))


def decode(packet: bytes) -> Packet:
    """A real-time packet of the new protocol, all bits of it."""
    first, second, third, pulse, spo2, low, high = unpack(packet)
    perfusion = PERFUSION_INVALID if third & 0x10 else high << 8 | low
    return Packet(
        signal=first & 0x0F,
        pleth=second & 0x7F,
        bar=third & 0x0F,
        pulse=pulse,
        spo2=spo2,
        perfusion=perfusion,
        probe_error=bool(first & 0x80),
        searching=bool(second & 0x80),
        too_long=bool(first & 0x10),
        low=bool(first & 0x20),
        beep=bool(first & 0x40),
    )


def encode_old(p: Packet) -> bytes:
    """A packet of the old protocol; the rate is 0-255."""
    first = 0x80 | p.signal | p.too_long << 4 | p.low << 5 | p.beep << 6
    third = p.bar | p.probe_error << 4 | p.searching << 5 | (p.pulse >> 7 & 1) << 6
    return bytes([first, p.pleth, third, p.pulse & 0x7F, p.spo2])


def decode_old(packet: bytes) -> Packet:
    """A packet of the old protocol; bit 7 of the rate is in the third byte."""
    first, pleth, third, pulse, spo2 = packet
    return Packet(
        signal=first & 0x0F,
        pleth=pleth,
        bar=third & 0x0F,
        pulse=(third & 0x40) << 1 | pulse,
        spo2=spo2,
        probe_error=bool(third & 0x10),
        searching=bool(third & 0x20),
        too_long=bool(first & 0x10),
        low=bool(first & 0x20),
        beep=bool(first & 0x40),
    )


_ALL_MARKS = 0x8080808080808080


def _check(buffer: bytes, at: int) -> int | str:
    size = PACKET_BYTES.get(buffer[at])
    if size is None:
        return "type"
    if len(buffer) - at < size:
        return 0
    marks = _ALL_MARKS >> 8 * (9 - size)
    if int.from_bytes(buffer[at + 1 : at + size], "big") & marks != marks:
        return "mark"
    if buffer[at] == REALTIME:
        spo2 = buffer[at + 6] & 0x7F | (buffer[at + 1] & 0x10) << 3
        if buffer[at + 2] & 0x0F not in SIGNALS or not _possible(spo2):
            return "range"
    return size


def _check_old(buffer: bytes, at: int) -> int | str:
    if not buffer[at] & 0x80:
        return "start"
    if len(buffer) - at < OLD_BYTES:
        return 0
    if int.from_bytes(buffer[at + 1 : at + OLD_BYTES], "big") & 0x80808080:
        return "mark"
    possible = buffer[at] & 0x0F in SIGNALS and _possible(buffer[at + 4])
    return OLD_BYTES if possible else "range"


def _possible(spo2: int) -> bool:
    return spo2 <= 100 or spo2 == SPO2_INVALID


@dataclass(frozen=True, slots=True)
class Protocol:
    """One of the two, as `Decoder` needs it. `news` masks the bits of a packet that are not just
    the wave (the sample at `pleth_at`, bar, beep, signal): only when they change is it parsed."""

    check: Check
    parse: Callable[[bytes], Packet]
    confirm: int
    size: int
    pleth_at: int
    news: int


NEW = Protocol(_check, decode, CONFIRM, PACKET_BYTES[REALTIME], 3, 0x7F30_0010_7F7F_7F7F)
OLD = Protocol(_check_old, decode_old, CONFIRM_OLD, OLD_BYTES, 1, 0x30_0070_7F7F)


class Decoder:
    """Either protocol; see the module for what is trusted. Holds back at most 29 bytes."""

    def __init__(self, protocol: Protocol = NEW) -> None:
        self._protocol = protocol
        self._framer = Framer(
            protocol.check, confirm=protocol.confirm, slot_bytes=protocol.size, max_slots=MAX_SLOTS
        )
        self._out: list[Message] = []
        self._run = PlethRun(RATE_HZ, FEED)
        self._skipped_bytes = self._other_bytes = 0  # since the last sample
        self._news = -1
        self._told_ago = 0  # packets
        self._sensor_on = True
        self._levels = Levels()

    @property
    def counters(self) -> Counters:
        return self._framer.counters

    def feed(self, data: bytes) -> list[Message]:
        """Take the next bytes as they came and return what they complete. Never raises."""
        for skipped, packet in self._framer.feed(data):
            self._skipped_bytes += skipped
            if len(packet) == self._protocol.size:
                self._take(packet)
            else:
                self._take_other(packet)
        self._out += self._run.end()
        out, self._out = self._out, []
        return out

    def _take_other(self, packet: bytes) -> None:
        """A packet without a sample; or one with a damaged type, if bytes are skipped after it."""
        self._other_bytes += len(packet)
        if packet[0] == DISCONNECT:
            why = REASONS.get(unpack(packet)[0], "no reason known")
            self._out.append(Sign(Event.REFUSED, f"the device ends the connection: {why}"))

    def _take(self, packet: bytes) -> None:
        if self._skipped_bytes and self._news >= 0:
            gone_bytes = self._skipped_bytes + self._other_bytes
            lost = max(1, round(gone_bytes / self._protocol.size))
            self._out += self._run.lose(lost)
            self._framer.tally["lost"] += lost
        self._skipped_bytes = self._other_bytes = 0
        news = int.from_bytes(packet, "big") & self._protocol.news
        self._told_ago += 1
        if news != self._news or self._told_ago >= REPEAT_PACKETS:
            self._news, self._told_ago = news, 0
            self._say(self._protocol.parse(packet))
        pleth = packet[self._protocol.pleth_at] & 0x7F
        self._run.add(pleth if self._sensor_on else np.nan)

    def _say(self, p: Packet) -> None:
        self._sensor_on = on = not p.probe_error and not p.too_long
        new = p.perfusion is not None
        levels = (
            (p.probe_error, PROBE_ALERT),
            (p.too_long, SEARCH_ALERT),
            (p.low, LOW_ALERT if new else DROP_ALERT),
        )
        self._out += self._levels.changed(lasting(levels))
        sure = not p.searching
        pulse = None if p.pulse == PULSE_INVALID else p.pulse
        spo2 = None if p.spo2 == SPO2_INVALID else p.spo2
        self._out.append(reading(PULSE, pulse, sensor_on=on, sure=sure))
        self._out.append(reading(SPO2, spo2, sensor_on=on, sure=sure))
        if new:
            index = None if p.perfusion == PERFUSION_INVALID else (p.perfusion or 0) / 100
            self._out.append(reading(PERFUSION, index, sensor_on=on, sure=sure))


def decoder_old() -> Decoder:
    """A decoder of the old protocol."""
    return Decoder(OLD)


# V7.0, table 7: A1 starts real-time data, AF keeps the connection alive every 5 s, A2 stops. No
# answer to A1 is defined but the data.
_TABLE = {
    **usual(State.LISTENING, State.STARTING, State.STREAMING),
    (State.CLOSED, Event.OPENED): Step(State.STARTING, command(START), forget=True),
    (State.CLOSED, Event.JOINED): Step(State.LISTENING),
    (State.LISTENING, Event.TIMEOUT): Step(State.STARTING, command(START), forget=True),
}

FEEDS = (Feed(FEED, (PLETH,), RATE_HZ, "1", 1.0, 0.0, PLETH_TOP),)

DEVICE = Device(
    name="contec-cms50",
    title="Contec CMS50D+, E or F of 115200 baud",
    spec='Contec "Communication protocol of pulse oximeter V7.0"',
    wire=WIRE,
    dialogue=Dialogue(
        table=_TABLE,
        timeout_s={State.LISTENING: 0.5, State.STARTING: 2.0, State.STREAMING: 1.0},
        stop=command(STOP),
        beats={State.STREAMING: (Beat(KEEP_ALIVE_S, command(KEEP_ALIVE)),)},
    ),
    decoder=Decoder,
    feeds=FEEDS,
    numerics=(PULSE, SPO2, PERFUSION),
    proved_by="the maker's document, and the layout as read in independent open drivers",
    unproved="a real device; captured bytes",
)

DEVICE_OLD = Device(
    name="contec-cms50-old",
    title="Contec CMS50 of 19200 baud",
    spec='Contec "Communication protocol V5.0A", as open projects reproduce it',
    wire=WIRE_OLD,
    dialogue=listening(1.0),
    decoder=decoder_old,
    feeds=FEEDS,
    numerics=(PULSE, SPO2),
    sure_frames=60,
    proved_by="the maker's table, and the layout as read in independent open drivers",
    unproved="a real device; captured bytes; values from the device's memory are not asked for",
)
