"""Nonin OEM III, Xpod, WristOx2 and Onyx II, serial data formats 2 and 7: a pleth wave at 75 Hz.

Implements the "Serial Data Format #2" and "#7" definitions and the "Set Data Format" command of
Nonin's "Specification and Technical Information" of those modules, 9600 8N1. A frame is 5 bytes,
25 frames are a packet, whose first frame alone has SYNC; checksum is the low byte of the sum of the
first four. Formats 8 and 13, without wave, are in `nonin_numerics`.

A frame is trusted by the rules of `framing`: five good frames in a row (noise does that once in
1e15 positions), then one by one. A sample is handed on only where its place in the packet is known,
which SYNC says: after a loss that leaves it open, and when SYNC contradicts it, samples wait for
the next packet (a third of a second) and count as lost. A gap is known modulo 25 frames; bytes that
were skipped say which.

Of the several averages in a packet those that go invalid at once without a finger are used (frames
1-3), never the "-D" values, which are held for a display.
"""

from __future__ import annotations

import math
from functools import partial

import numpy as np

from firmware_bridge.devices.framing import Framer
from firmware_bridge.devices.oximetry import (
    PLETH,
    PULSE,
    SPO2,
    Levels,
    PlethRun,
    fault,
    join9,
    lasting,
    reading,
)
from firmware_bridge.session import Dialogue, Event, State, Step, listening, usual
from firmware_bridge.types import (
    Counters,
    Device,
    Feed,
    Message,
    Priority,
    Sign,
    Wire,
)

WIRE = Wire(9600)
RATE_HZ = 75.0
FEED = "pleth"
PLETH_TOP = {2: 0xFF, 7: 0xFFFF}

FRAME_BYTES = 5
PACKET_FRAMES = 25
CONFIRM = 5
MAX_SLOTS = 8

MARK = 0x80
DISCONNECTED = 0x40
ARTIFACT = 0x20
OUT_OF_TRACK = 0x10
SENSOR_ALARM = 0x08
RED = 0x04  # perfusion; yellow is red and green (02) together
SYNC = 0x01
SENSOR_OFF = DISCONNECTED | SENSOR_ALARM
DOUBTFUL = ARTIFACT | OUT_OF_TRACK | RED

HR_MISSING = 511
SPO2_MISSING = 127
LOW_BATTERY = 0x01  # STAT2, frame 8 of format 7

ACK, NAK = b"\x06", b"\x15"

DISCONNECTED_ALERT = fault("nonin:sensor-disconnected", "sensor disconnected")
SENSOR_ALERT = fault("nonin:sensor-alarm", "no usable signal from the sensor")
TRACK_ALERT = fault("nonin:out-of-track", "no good pulses in a row", Priority.LOW)
BATTERY_ALERT = fault("nonin:low-battery", "low battery", Priority.LOW)


def select(data_format: int) -> bytes:
    """The command that selects a format, short form; answered by `ACK` or `NAK`."""
    return bytes([0x02, 0x70, 0x02, 0x02, data_format, 0x03])


def encode(data_format: int, status: int, pleth: int, data: int) -> bytes:
    """One frame; `pleth` is 0..`PLETH_TOP`, `data` the byte that this place in a packet carries."""
    wave = bytes([pleth]) if data_format == 2 else pleth.to_bytes(2, "big")
    body = (b"\x01" if data_format == 2 else b"") + bytes([status | MARK]) + wave + bytes([data])
    return body + bytes([sum(body) & 0xFF])


def _sum_is_right(buffer: bytes, at: int) -> bool:
    return sum(buffer[at : at + 4]) & 0xFF == buffer[at + 4]


def _check_2(buffer: bytes, at: int) -> int | str:
    if buffer[at] != 0x01:
        return "start"
    if len(buffer) - at < FRAME_BYTES:
        return 0
    if not buffer[at + 1] & MARK:
        return "status"
    return _check_tail(buffer, at)


def _check_7(buffer: bytes, at: int) -> int | str:
    if not buffer[at] & MARK:
        return "status"
    if len(buffer) - at < FRAME_BYTES:
        return 0
    return _check_tail(buffer, at)


def _check_tail(buffer: bytes, at: int) -> int | str:
    if buffer[at + 3] & MARK:
        return "data"
    return FRAME_BYTES if _sum_is_right(buffer, at) else "checksum"


class Decoder:
    """Format 2 or 7; see the module for what is trusted. Holds back at most 24 bytes."""

    def __init__(self, data_format: int) -> None:
        self._format = data_format
        self._framer = Framer(
            _check_2 if data_format == 2 else _check_7,
            confirm=CONFIRM,
            slot_bytes=FRAME_BYTES,
            max_slots=MAX_SLOTS,
            singles=b"" if data_format == 2 else ACK + NAK,
        )
        self._out: list[Message] = []
        self._run = PlethRun(RATE_HZ, FEED)
        self._begun = False
        self._place: int | None = None  # in the packet, of the next frame; None: unknown
        self._after = 0  # the place after the last sample handed on
        self._dropped = 0  # good frames since then that had no place
        self._slots = 0  # frames' worth of bytes skipped since then
        self._data: dict[int, int] = {}  # of this packet, by place
        self._flags = 0  # of this packet
        self._status = 0
        self._battery_low = False
        self._levels = Levels()

    @property
    def counters(self) -> Counters:
        return self._framer.counters

    def feed(self, data: bytes) -> list[Message]:
        """Take the next bytes as they came and return what they complete. Never raises."""
        for skipped, frame in self._framer.feed(data):
            if len(frame) == 1:
                self._out.append(answer(self._format, frame))
            else:
                self._take(skipped, frame)
        self._out += self._run.end()
        out, self._out = self._out, []
        return out

    def _take(self, skipped: int, frame: bytes) -> None:
        slots, odd = divmod(skipped, FRAME_BYTES)
        self._slots += slots
        if self._place is not None:
            known = not odd and slots <= MAX_SLOTS
            self._place = (self._place + slots) % PACKET_FRAMES if known else None
        status = frame[1] if self._format == 2 else frame[0]
        if self._place is None and status & SYNC:
            self._place = 0
            self._lose(self._gap())
        elif self._place is not None and bool(status & SYNC) != (self._place == 0):
            self._framer.rejects["sync"] += 1
            self._place = None
        if self._place is None:
            self._dropped += 1
        else:
            self._lose(self._slots)
            self._deliver(self._place, status, frame)

    def _gap(self) -> int:
        """Frames lost before a packet that begins now: its place tells modulo 25, at least those
        that had no place, about as many as bytes were skipped."""
        least = -self._after % PACKET_FRAMES
        packets = max(
            math.ceil((self._dropped - least) / PACKET_FRAMES),
            round((self._dropped + self._slots - least) / PACKET_FRAMES),
        )
        return least + PACKET_FRAMES * max(0, packets)

    def _lose(self, frames: int) -> None:
        self._slots = self._dropped = 0
        if not frames or not self._begun:
            return
        self._out += self._run.lose(frames)
        self._framer.tally["lost"] += frames
        if self._after + frames >= PACKET_FRAMES:
            self._data, self._flags = {}, 0

    def _deliver(self, place: int, status: int, frame: bytes) -> None:
        self._flags |= status
        self._data[place] = frame[3]
        pleth = frame[2] if self._format == 2 else frame[1] << 8 | frame[2]
        self._run.add(np.nan if status & SENSOR_OFF else float(pleth))
        self._note(status)
        self._begun = True
        self._place = self._after = (place + 1) % PACKET_FRAMES
        if self._place == 0:
            self._end_packet()

    def _note(self, status: int) -> None:
        """Say at once what the status bits of a frame say."""
        seen = status & (SENSOR_OFF | OUT_OF_TRACK)
        if seen == self._status:
            return
        if seen & SENSOR_OFF and not self._status & SENSOR_OFF:
            self._out += [reading(PULSE, None), reading(SPO2, None)]
        self._status = seen
        self._say_levels()

    def _say_levels(self) -> None:
        levels = (
            (self._status & DISCONNECTED, DISCONNECTED_ALERT),
            (self._status & SENSOR_ALARM, SENSOR_ALERT),
            (self._status & OUT_OF_TRACK, TRACK_ALERT),
            (self._battery_low, BATTERY_ALERT),
        )
        self._out += self._levels.changed(lasting(levels))

    def _end_packet(self) -> None:
        data, on = self._data, not self._flags & SENSOR_OFF
        sure = not self._flags & DOUBTFUL
        if 0 in data and 1 in data:
            hr = join9(data[0], data[1])
            rate = None if hr == HR_MISSING else hr
            self._out.append(reading(PULSE, rate, sensor_on=on, sure=sure))
        if 2 in data:
            spo2 = None if data[2] == SPO2_MISSING else data[2]
            self._out.append(reading(SPO2, spo2, sensor_on=on, sure=sure))
        if self._format == 7 and 7 in data:
            self._battery_low = bool(data[7] & LOW_BATTERY)
            self._say_levels()
        self._data, self._flags = {}, 0


def answer(data_format: int, byte: bytes) -> Sign:
    """What the answer to `select` means for the dialogue."""
    if byte == ACK:
        return Sign(Event.READY)
    return Sign(Event.REFUSED, f"the device refuses data format {data_format} (NAK)")


def asking(data_format: int, first_s: float, silent_s: float) -> Dialogue:
    """Nonin, "Set Data Format": `02 70 02 02 format 03`, answered 06 or 15, then data follow.

    Data of the format that is wanted are as good as an acknowledgement, which they may drown. A NAK
    among data answers nothing. `first_s` is the patience after the acknowledgement.
    """
    ask = Step(State.CONFIGURING, select(data_format), forget=True)
    table = {
        **usual(State.LISTENING, State.CONFIGURING, State.STARTING, State.STREAMING),
        (State.CLOSED, Event.OPENED): ask,
        (State.CLOSED, Event.JOINED): Step(State.LISTENING),
        (State.LISTENING, Event.REFUSED): Step(State.LISTENING, rearm=False),
        (State.LISTENING, Event.TIMEOUT): ask,
        (State.CONFIGURING, Event.READY): Step(State.STARTING),
        (State.STREAMING, Event.REFUSED): Step(State.STREAMING, rearm=False),
    }
    patience_s = {
        State.LISTENING: first_s,
        State.CONFIGURING: 2.0,
        State.STARTING: first_s,
        State.STREAMING: silent_s,
    }
    return Dialogue(table, patience_s)


SPEC = 'Nonin OEM III and Xpod "Specification and Technical Information", serial data format'


def _feeds(data_format: int) -> tuple[Feed, ...]:
    return (Feed(FEED, (PLETH,), RATE_HZ, "1", 1.0, 0.0, PLETH_TOP[data_format]),)


DEVICE_2 = Device(
    name="nonin-2",
    title="Nonin OEM III or Xpod, data format 2",
    spec=f"{SPEC} 2",
    wire=WIRE,
    dialogue=listening(1.0),
    decoder=partial(Decoder, 2),
    feeds=_feeds(2),
    numerics=(PULSE, SPO2),
    sure_frames=PACKET_FRAMES,
    proved_by="the packet of a third party's driver tests (Pufferfish), byte for byte",
    unproved="a real module; bits other than those of that packet",
)

DEVICE_7 = Device(
    name="nonin-7",
    title="Nonin OEM III, Xpod or WristOx2, data format 7",
    spec=f"{SPEC} 7",
    wire=WIRE,
    dialogue=asking(7, first_s=2.0, silent_s=1.0),
    decoder=partial(Decoder, 7),
    feeds=_feeds(7),
    numerics=(PULSE, SPO2),
    sure_frames=PACKET_FRAMES,
    proved_by="the layout as read in two independent open drivers",
    unproved="a real module; captured bytes",
)
