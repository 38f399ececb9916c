"""Nonin WristOx2 and Onyx II, serial data formats 8 (one reading a second) and 13 (spot checks).

Implements the "Serial Data Format #8" and "#13" definitions of Nonin's WristOx2 3150 and Onyx II
9560 specifications; the command that selects a format and its answers are in `nonin`.

Format 8 has 4 bytes and no checksum: bit 7 is set in the first only. What else can be checked is
that bit 4 of the last is clear, a saturation is 0-100 or 127 and a rate 0-350 or 511. Four frames
in a row are needed to begin (noise does that once in 1e7 positions), and again after anything else.

Format 13 is framed by a head of six bytes, a length, a checksum and a tail. A record is repeated by
the device until it is acknowledged with 06: what was accepted is acknowledged, and a repeated
record is dropped. A record from the device's memory is a reading of the past, and one without
SmartPoint is of lesser quality: both are QUESTIONABLE.
"""

from __future__ import annotations

from datetime import datetime

from firmware_bridge.devices.big_endian import absolute_ns
from firmware_bridge.devices.framing import Framed, Framer
from firmware_bridge.devices.nonin import (
    ACK,
    BATTERY_ALERT,
    DISCONNECTED_ALERT,
    HR_MISSING,
    NAK,
    SENSOR_ALERT,
    SPEC,
    SPO2_MISSING,
    TRACK_ALERT,
    WIRE,
    answer,
    asking,
)
from firmware_bridge.devices.oximetry import (
    PULSE,
    SPO2,
    Levels,
    fault,
    join9,
    lasting,
    reading,
    split9,
)
from firmware_bridge.types import Device, Message, Priority, Send

FRAME_8_BYTES = 4
CONFIRM_8 = 4
HR_TOP = 350

# Format 8, byte 1 and byte 4.
DISCONNECTED = 0x40
OUT_OF_TRACK = 0x20
LOW_PERFUSION = 0x10
MARGINAL_PERFUSION = 0x08
ARTIFACT = 0x04
DOUBTFUL = OUT_OF_TRACK | LOW_PERFUSION | MARGINAL_PERFUSION | ARTIFACT
SENSOR_FAULT = 0x08
CRITICAL_BATTERY = 0x02
LOW_BATTERY = 0x01
ALWAYS_CLEAR = 0x10

# Format 13.
HEAD_13 = bytes([0x00, 0x02, 0x00, 0x0D])
TAIL_13 = 0x03
DATA_BYTES_13 = range(0x0E, 0x41)  # the maker may append; with a serial number it is 0x17
SMARTPOINT = 0x02
NO_MEASUREMENT = 0x01
FROM_MEMORY = 0x10

CRITICAL_ALERT = fault("nonin:critical-battery", "battery empty, turning off", Priority.MEDIUM)


def encode_8(hr: int, spo2: int, flags: int = 0, more: int = 0) -> bytes:
    """One frame of format 8; `flags` are those of byte 1, `more` those of byte 4."""
    high, low = split9(hr)
    return bytes([0x80 | flags | high, low, spo2, more])


def encode_13(
    hr: int, spo2: int, at: datetime, status: int = SMARTPOINT, more: int = 0, serial: bytes = b""
) -> bytes:
    """One record of format 13; `serial` is empty or 9 ASCII digits."""
    digits = at.strftime("%Y%m%d%H%M%S") + f"{at.microsecond // 10_000:02d}"
    data = bytes.fromhex(digits) + bytes([status, more]) + hr.to_bytes(2, "big")
    data += bytes([0, spo2]) + serial
    body = len(data).to_bytes(2, "big") + data
    return HEAD_13 + body + bytes([sum(data) & 0xFF, TAIL_13])


def _check_8(buffer: bytes, at: int) -> int | str:
    if not buffer[at] & 0x80:
        return "start"
    if len(buffer) - at < FRAME_8_BYTES:
        return 0
    first, low, spo2, more = buffer[at : at + FRAME_8_BYTES]
    if (low | spo2 | more) & 0x80 or more & ALWAYS_CLEAR:
        return "mark"
    hr = join9(first, low)
    possible = hr <= HR_TOP or hr == HR_MISSING
    return FRAME_8_BYTES if possible and (spo2 <= 100 or spo2 == SPO2_MISSING) else "range"


class Decoder8(Framed):
    """Format 8; see the module for what is trusted. Holds back at most 15 bytes."""

    def __init__(self) -> None:
        super().__init__(Framer(_check_8, confirm=CONFIRM_8, singles=ACK + NAK))
        self._levels = Levels()

    def _take(self, frame: bytes) -> list[Message]:
        if len(frame) == 1:
            return [answer(8, frame)]
        flags, low, spo2, more = frame
        on = not flags & DISCONNECTED and not more & SENSOR_FAULT
        sure = not flags & DOUBTFUL
        hr = join9(flags, low)
        alerts = (
            (flags & DISCONNECTED, DISCONNECTED_ALERT),
            (more & SENSOR_FAULT, SENSOR_ALERT),
            (flags & OUT_OF_TRACK, TRACK_ALERT),
            (more & LOW_BATTERY, BATTERY_ALERT),
            (more & CRITICAL_BATTERY, CRITICAL_ALERT),
        )
        return [
            *self._levels.changed(lasting(alerts)),
            reading(PULSE, None if hr == HR_MISSING else hr, sensor_on=on, sure=sure),
            reading(SPO2, None if spo2 == SPO2_MISSING else spo2, sensor_on=on, sure=sure),
        ]


def _check_13(buffer: bytes, at: int) -> int | str:
    head = buffer[at : at + len(HEAD_13)]
    if head != HEAD_13[: len(head)]:
        return "start"
    if len(buffer) - at < 6:
        return 0
    size = int.from_bytes(buffer[at + 4 : at + 6], "big")
    if size not in DATA_BYTES_13:
        return "length"
    whole = 6 + size + 2
    if len(buffer) - at < whole:
        return 0
    if buffer[at + whole - 1] != TAIL_13:
        return "tail"
    data = buffer[at + 6 : at + 6 + size]
    return whole if _sum_is_right(data, buffer[at + 6 + size]) else "checksum"


def _sum_is_right(data: bytes, sent: int) -> bool:
    return sum(data) & 0xFF == sent


class Decoder13(Framed):
    """Format 13; acknowledges what it accepts. Holds back at most one record."""

    def __init__(self) -> None:
        super().__init__(Framer(_check_13, singles=ACK + NAK))
        self._levels = Levels()
        self._last = b""

    def _take(self, record: bytes) -> list[Message]:
        if len(record) == 1:
            return [answer(13, record)]
        if record == self._last:
            self._framer.tally["frames"] -= 1
            self._framer.tally["duplicates"] += 1
            return [Send(ACK)]
        self._last = record
        device_ns = absolute_ns(record[6:14])
        status, more, spo2 = record[14], record[15], record[19]
        hr = int.from_bytes(record[16:18], "big")
        on = not status & NO_MEASUREMENT
        sure = bool(status & SMARTPOINT) and not more & FROM_MEMORY
        battery = lasting([(more & LOW_BATTERY, BATTERY_ALERT)])
        rate = None if hr == HR_MISSING else hr
        saturation = None if spo2 == SPO2_MISSING else spo2
        return [
            Send(ACK),
            *self._levels.changed(battery, device_ns),
            reading(PULSE, rate, sensor_on=on, sure=sure, device_ns=device_ns),
            reading(SPO2, saturation, sensor_on=on, sure=sure, device_ns=device_ns),
        ]


DEVICE_8 = Device(
    name="nonin-8",
    title="Nonin WristOx2, data format 8",
    spec=f"{SPEC} 8",
    wire=WIRE,
    dialogue=asking(8, first_s=8.0, silent_s=5.0),
    decoder=Decoder8,
    numerics=(PULSE, SPO2),
    proved_by="the layout as read in two independent open drivers",
    unproved="a real device; captured bytes; noise that looks like four frames",
)

DEVICE_13 = Device(
    name="nonin-13",
    title="Nonin Onyx II or WristOx2, data format 13, spot checks",
    spec=f"{SPEC} 13",
    wire=WIRE,
    # Between two fingers there is nothing to say; the device turns itself off meanwhile.
    dialogue=asking(13, first_s=600.0, silent_s=600.0),
    decoder=Decoder13,
    numerics=(PULSE, SPO2),
    sure_frames=1,
    proved_by="the layout as read in two independent open drivers",
    unproved="a real device; captured bytes",
)
