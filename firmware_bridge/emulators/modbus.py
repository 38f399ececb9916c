"""An emulated Modbus RTU slave with the registers of a map file, as its patient fills them."""

from __future__ import annotations

import struct
from functools import partial
from typing import TYPE_CHECKING

from firmware_bridge.devices import modbus
from firmware_bridge.devices.modbus import FORMATS, FUNCTIONS, crc16, framed
from firmware_bridge.devices.modbus_map import read_map
from firmware_bridge.emulators.emulated import Emulator
from firmware_bridge.emulators.faults import Kind
from firmware_bridge.emulators.patient import VALUES
from firmware_bridge.errors import MapError

if TYPE_CHECKING:
    from pathlib import Path

    from firmware_bridge.devices.modbus_map import Register
    from firmware_bridge.emulators.patient import Scene

REQUEST_BYTES = 8
ILLEGAL_FUNCTION, ILLEGAL_ADDRESS = 0x01, 0x02


class Slave:
    """Answers what it is asked; while a lead is off, registers hold their `missing` value."""

    def __init__(self, scene: Scene, map_path: str | Path) -> None:
        self._scene = scene
        self._map = read_map(map_path)
        self._pending = b""

    def hear(self, data: bytes, t_s: float) -> list[bytes]:
        self._pending += data
        out = []
        while len(self._pending) >= REQUEST_BYTES:
            whole = self._pending[:REQUEST_BYTES]
            if crc16(whole) != 0:
                self._pending = self._pending[1:]
                continue
            self._pending = self._pending[REQUEST_BYTES:]
            if whole[0] == self._map.slave:
                out.append(self._answer(whole, t_s))
        return out

    def say(self, t_s: float) -> list[bytes]:
        return []

    def next_s(self) -> None:
        return None

    def _answer(self, asked: bytes, t_s: float) -> bytes:
        slave, function, first, count, _ = struct.unpack(">BBHHH", asked)
        table = next((t for t, f in FUNCTIONS.items() if f == function), None)
        if table is None:
            return framed(bytes((slave, function | 0x80, ILLEGAL_FUNCTION)))
        held: dict[int, bytes] = {}
        for register in self._map.registers:
            if register.table == table:
                data = self._held(register, t_s)
                for at in range(0, len(data), 2):
                    held[register.address + at // 2] = data[at : at + 2]
        wanted = range(first, first + count)
        if not all(address in held for address in wanted):
            return framed(bytes((slave, function | 0x80, ILLEGAL_ADDRESS)))
        data = b"".join(held[address] for address in wanted)
        return framed(bytes((slave, function, len(data))) + data)

    def _held(self, register: Register, t_s: float) -> bytes:
        if register.missing and self._scene.during(Kind.LEAD_OFF, t_s):
            return _packed(register, register.missing[0])
        return _measured(register, self._scene.patient.value(register.channel, t_s))


def _measured(register: Register, value: float) -> bytes:
    return _packed(register, (value - register.offset) / register.scale)


def _packed(register: Register, raw: float) -> bytes:
    data = struct.pack(FORMATS[register.type], raw if register.type == "f32" else round(raw))
    return data[2:] + data[:2] if register.words == "little" and len(data) == 4 else data


def mapped(path: str | Path) -> Emulator:
    """The device that a map file describes. Raises `MapError`, for a register too that an emulated
    patient cannot fill."""
    registers = read_map(path).registers
    for register in registers:
        _require_filled(register, path)
    shows = frozenset({Kind.LEAD_OFF} if any(r.missing for r in registers) else ())
    return Emulator(modbus.mapped(path), partial(Slave, map_path=path), shows)


def _require_filled(register: Register, path: str | Path) -> None:
    if register.channel not in VALUES:
        cause = f"map '{path}': no emulated patient has {register.channel}"
        raise MapError(cause, "emulate the device by a map without it")
    mean, swing = VALUES[register.channel]
    try:
        for value in (mean - swing, mean + swing):
            _measured(register, value)
    except (struct.error, OverflowError):
        cause = f"map '{path}': {register.channel} is about {mean:g} {register.unit}"
        fix = f"correct type, scale or offset: no {register.type} holds that"
        raise MapError(cause, fix) from None
