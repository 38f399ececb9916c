"""Mindray PM-60 handheld oximeter, real-time data: six bytes, saturation and rate.

Implements the PM-60 Operator's Manual, section 7 (page 7-6): F1 | 1001, checksum of 4 bits | rate,
7 bits | rate, 2 bits, search flag, 4 bits for future use | saturation, 7 bits | one byte more. Bits
are placed in the order in which the manual's table has them. The checksum is the sum of the low
halves of the last four bytes.

The manual as read does not give the baud rate, the values that mean none, nor what the last byte
holds. So that a misreading shows no wrong number: bits for future use have to be 0, 127 and 511 are
no values, and a saturation counts only while the last byte is 0. Two packets in a row are needed to
begin and after anything else (noise does that once in 1e14 positions).
"""

from __future__ import annotations

from dataclasses import dataclass

from firmware_bridge.devices.framing import Framed, Framer
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
from firmware_bridge.session import listening
from firmware_bridge.types import Device, Message, Priority, Wire

WIRE = Wire(9600)
PACKET_BYTES = 6
CONFIRM = 2

HEAD = 0xF1
MODULE = 0x90
SEARCHING = 0x10
FUTURE = 0x0F
HR_MISSING = 0x1FF
SPO2_MISSING = 0x7F

SEARCH_ALERT = fault("mindray-pm60:pulse-search", "pulse search", Priority.LOW)


@dataclass(frozen=True, slots=True)
class Packet:
    """One packet as sent, values that mean none included; `last` is its last byte."""

    pulse: int
    spo2: int
    searching: bool = False
    last: int = 0


def encode(p: Packet) -> bytes:
    """The packet with its checksum."""
    high, low = split9(p.pulse)
    data = bytes([low, high << 5 | p.searching << 4, p.spo2, p.last])
    return bytes([HEAD, MODULE | _nibbles(data)]) + data


def decode(packet: bytes) -> Packet:
    """The parts of a whole packet."""
    return Packet(
        pulse=join9(packet[3] >> 5, packet[2]),
        spo2=packet[4],
        searching=bool(packet[3] & SEARCHING),
        last=packet[5],
    )


def _nibbles(data: bytes) -> int:
    return sum(byte & 0x0F for byte in data) & 0x0F


def _check(buffer: bytes, at: int) -> int | str:
    if buffer[at] != HEAD:
        return "start"
    if len(buffer) - at < PACKET_BYTES:
        return 0
    data = buffer[at + 2 : at + PACKET_BYTES]
    if int.from_bytes(data, "big") & 0x80808080 or buffer[at + 1] & 0xF0 != MODULE:
        return "mark"
    if data[1] & FUTURE:
        return "future"
    return PACKET_BYTES if _sum_is_right(data, buffer[at + 1]) else "checksum"


def _sum_is_right(data: bytes, sent: int) -> bool:
    return _nibbles(data) == sent & 0x0F


class Decoder(Framed):
    """Packets in, values out; see the module for what is trusted. Holds back at most 11 bytes."""

    def __init__(self) -> None:
        super().__init__(Framer(_check, confirm=CONFIRM))
        self._levels = Levels()

    def _take(self, packet: bytes) -> list[Message]:
        p = decode(packet)
        pulse = None if p.pulse == HR_MISSING else p.pulse
        spo2 = None if p.spo2 == SPO2_MISSING or p.last else p.spo2
        return [
            *self._levels.changed(lasting([(p.searching, SEARCH_ALERT)])),
            reading(PULSE, pulse, sure=not p.searching),
            reading(SPO2, spo2, sure=not p.searching),
        ]


DEVICE = Device(
    name="mindray-pm60",
    title="Mindray PM-60",
    spec="Mindray PM-60 Operator's Manual, section 7, page 7-6",
    wire=WIRE,
    dialogue=listening(3.0),
    decoder=Decoder,
    numerics=(PULSE, SPO2),
    sure_frames=5,
    proved_by="the layout as printed in the maker's manual",
    unproved="a real device; captured bytes; the baud rate; values that mean none; the last byte",
)
