"""Devices with Modbus RTU registers, read by a map file (`modbus_map`).

Implements: MODBUS Application Protocol V1.1b3 (6.3 read holding registers, 6.4 read input
registers, 7 exceptions) and MODBUS over Serial Line V1.02 (2.5.1 RTU framing, 6.2.2 CRC-16).

The master asks for one block at a time and for the next when the answer is there; a cycle begins
every `every_s`. An answer is taken when its CRC is right and its slave, function and length are
those of exactly one block. The pauses of RTU cannot be seen behind a tty: the length says where an
answer ends.
"""

from __future__ import annotations

import struct
from functools import partial
from typing import TYPE_CHECKING

from firmware_bridge.counting import Counting
from firmware_bridge.devices.modbus_map import read_map
from firmware_bridge.nomenclature import numeric
from firmware_bridge.session import Beat, Dialogue, Event, State, Step, usual
from firmware_bridge.types import Device, Message, Numeric, Send, Sign, Validity, Wire

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from firmware_bridge.devices.modbus_map import Map, Register

FUNCTIONS = {"holding": 0x03, "input": 0x04}
EXCEPTION = 0x80
BUSY = (0x05, 0x06)  # acknowledge, server device busy: ask again later
MAX_FRAME_BYTES = 256
FORMATS = {"u16": ">H", "i16": ">h", "u32": ">I", "i32": ">i", "f32": ">f"}
SILENT_CYCLES = 3


def _table() -> tuple[int, ...]:
    table = []
    for byte in range(256):
        for _ in range(8):
            byte = byte >> 1 ^ 0xA001 * (byte & 1)
        table.append(byte)
    return tuple(table)


_CRC = _table()


def crc16(data: bytes) -> int:
    """CRC-16/MODBUS: "123456789" gives 4B37."""
    crc = 0xFFFF
    for byte in data:
        crc = crc >> 8 ^ _CRC[(crc ^ byte) & 0xFF]
    return crc


def framed(body: bytes) -> bytes:
    """`body` and its CRC, low byte first."""
    return body + crc16(body).to_bytes(2, "little")


def request(slave: int, block: Sequence[Register]) -> bytes:
    """What asks for a block of neighbouring registers."""
    first, end = block[0].address, block[-1].end
    return framed(struct.pack(">BBHH", slave, FUNCTIONS[block[0].table], first, end - first))


def value_of(register: Register, data: bytes) -> Numeric:
    """The measurement in a register's bytes."""
    if register.words == "little" and len(data) == 4:
        data = data[2:] + data[:2]
    (raw,) = struct.unpack(FORMATS[register.type], data)
    if raw in register.missing:
        return numeric(register.channel, None, Validity.UNAVAILABLE)
    return numeric(register.channel, raw * register.scale + register.offset)


class Decoder(Counting):
    """Answers in, values and the next request out. Holds back less than one frame."""

    def __init__(self, map_: Map) -> None:
        super().__init__()
        self._slave = map_.slave
        self._blocks = map_.blocks()
        # (function, bytes of registers) to the number of the block that it answers
        self._by_size = {
            (FUNCTIONS[b[0].table], 2 * (b[-1].end - b[0].address)): i
            for i, b in enumerate(self._blocks)
        }
        self._pending = b""
        self._skipping = False

    def feed(self, data: bytes) -> list[Message]:
        """Take the next bytes as they came and return what they complete. Never raises."""
        self._tally["received_bytes"] += len(data)
        buffer, at, out = self._pending + data, 0, []
        while len(buffer) - at >= 3:
            size = self._size(buffer, at)
            if size is None:
                at += self._skip("frame")
            elif len(buffer) - at < size:
                break
            elif crc16(buffer[at : at + size]) != 0:  # over a frame with its CRC
                at += self._skip("crc")
            else:
                out += self._taken(buffer[at : at + size])
                at += size
        self._pending = buffer[at:]
        return out

    def _size(self, buffer: bytes, at: int) -> int | None:
        """How long the frame at `at` is, if there can be one of ours."""
        slave, function, third = buffer[at : at + 3]
        if slave != self._slave:
            return None
        if function & EXCEPTION and (function ^ EXCEPTION) in FUNCTIONS.values():
            return 5
        return 5 + third if (function, third) in self._by_size else None

    def _skip(self, why: str) -> int:
        self._rejects[why] += not self._skipping
        self._skipping = True
        self._tally["skipped_bytes"] += 1
        return 1

    def _taken(self, frame: bytes) -> list[Message]:
        self._tally["frames"] += 1
        self._tally["resyncs"] += self._skipping
        self._skipping = False
        if frame[1] & EXCEPTION:
            event = Event.ALIVE if frame[2] in BUSY else Event.REFUSED
            return [Sign(event, f"the device answers exception {frame[2]}: correct the map")]
        number = self._by_size[frame[1], frame[2]]
        out: list[Message] = []
        block, first = self._blocks[number], self._blocks[number][0].address
        for register in block:
            at, end = 3 + 2 * (register.address - first), 3 + 2 * (register.end - first)
            out.append(value_of(register, frame[at:end]))
        if number + 1 < len(self._blocks):
            out.append(Send(request(self._slave, self._blocks[number + 1])))
        return out


def dialogue(map_: Map) -> Dialogue:
    """Ask, and ask again every cycle; silence of several cycles is a loss."""
    ask = request(map_.slave, map_.blocks()[0])
    patience_s = max(1.0, SILENT_CYCLES * map_.every_s)
    beats = (Beat(map_.every_s, ask),)
    table = {
        **usual(State.STARTING, State.STREAMING),
        (State.CLOSED, Event.OPENED): Step(State.STARTING, ask),
        (State.CLOSED, Event.JOINED): Step(State.STARTING, ask),
        (State.STARTING, Event.ALIVE): Step(State.STARTING),
        (State.STREAMING, Event.ALIVE): Step(State.STREAMING),
    }
    return Dialogue(
        table=table,
        timeout_s={State.STARTING: patience_s, State.STREAMING: patience_s},
        beats={State.STARTING: beats, State.STREAMING: beats},
    )


def mapped(path: str | Path) -> Device:
    """The device that a map file describes. Raises `MapError`."""
    map_ = read_map(path)
    return Device(
        name="modbus",
        title="Modbus RTU by a map file",
        spec="MODBUS Application Protocol V1.1b3; MODBUS over Serial Line V1.02",
        wire=Wire(map_.baud, map_.parity, map_.stopbits),
        dialogue=dialogue(map_),
        decoder=partial(Decoder, map_),
        numerics=tuple(dict.fromkeys(r.channel for r in map_.registers)),
        proved_by="pymodbus and mbpoll on the other end of the line",
        unproved="a real device; whether a map is true is whoever wrote it",
    )
