"""An emulated Nonin oximeter, in all of the formats of `devices.nonin` and `nonin_numerics`.

It speaks format 2 when switched on, as an Xpod does, and another after the command for it. Without
a finger it does what makes these devices treacherous: the values for a display are held.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from firmware_bridge.devices import nonin, nonin_numerics
from firmware_bridge.devices.oximetry import PULSE, SPO2, split9
from firmware_bridge.emulators.emulated import Emulator
from firmware_bridge.emulators.faults import Kind
from firmware_bridge.emulators.pleth import LIGHT, pleth

if TYPE_CHECKING:
    from firmware_bridge.emulators.patient import Scene

SWITCHED_ON = datetime(2026, 1, 1)
COMMAND_BYTES = 6
TICKS = 75  # a second
MEASURE_TICKS = 5 * TICKS  # of format 13
REPEAT_TICKS = TICKS
REPEATS = 3
REVISION = 48


class Oximeter:
    """One module; time goes in ticks of 1/75 s."""

    def __init__(self, scene: Scene) -> None:
        self._scene = scene
        self._format = 2
        self._tick = 0
        self._heard = b""
        self._packet = [0] * nonin.PACKET_FRAMES  # the data bytes of this packet
        self._held = (nonin.HR_MISSING, nonin.SPO2_MISSING)
        self._record = b""  # not acknowledged yet
        self._repeats = 0

    def hear(self, data: bytes, t_s: float) -> list[bytes]:
        """Obey "Set Data Format" and acknowledgements; anything else is not understood."""
        out: list[bytes] = []
        self._heard += data
        while self._heard:
            if self._heard[:1] == b"\x02" and len(self._heard) < COMMAND_BYTES:
                break
            command, self._heard = self._heard[:COMMAND_BYTES], self._heard[COMMAND_BYTES:]
            if command[:1] == nonin.ACK:
                self._heard = command[1:] + self._heard
                self._record = b""
            else:
                out.append(self._obey(command))
        return out

    def _obey(self, command: bytes) -> bytes:
        for known in (2, 7, 8, 13):
            if command == nonin.select(known):
                self._format = known
                return nonin.ACK
        return nonin.NAK

    def say(self, t_s: float) -> list[bytes]:
        out: list[bytes] = []
        while self._tick / TICKS <= t_s:
            out += self._at_tick(self._tick)
            self._tick += 1
        return out

    def next_s(self) -> float | None:
        return self._tick / TICKS

    def _at_tick(self, tick: int) -> list[bytes]:
        if self._format in (2, 7):
            return [self._frame(tick)]
        if self._format == 8:
            return [self._reading()] if tick % TICKS == 0 else []
        if tick % MEASURE_TICKS == 0:
            self._record, self._repeats = self._measure(), 0
            return [self._record]
        if self._record and tick % REPEAT_TICKS == 0 and self._repeats < REPEATS:
            self._repeats += 1
            return [self._record]
        return []

    def _during(self, kind: Kind) -> bool:
        return self._scene.during(kind, self._tick / TICKS)

    def _values(self) -> tuple[int, int]:
        if self._during(Kind.LEAD_OFF):
            return nonin.HR_MISSING, nonin.SPO2_MISSING
        t_s, patient = self._tick / TICKS, self._scene.patient
        self._held = round(patient.value(PULSE, t_s)), round(patient.value(SPO2, t_s))
        return self._held

    def _frame(self, tick: int) -> bytes:
        place = tick % nonin.PACKET_FRAMES
        if place == 0:
            self._packet = self._packet_data()
        status = nonin.SYNC if place == 0 else 0
        if self._during(Kind.LEAD_OFF):
            status |= nonin.DISCONNECTED | nonin.OUT_OF_TRACK
        if self._format == 2 and self._during(Kind.ALARM):
            status |= nonin.OUT_OF_TRACK  # the one alarm that format 2 has without a sensor's fault
        top = nonin.PLETH_TOP[self._format]
        light = pleth(self._scene, tick, nonin.RATE_HZ, top)
        return nonin.encode(self._format, status, light, self._packet[place])

    def _packet_data(self) -> list[int]:
        hr, spo2 = self._values()
        held_hr, held_spo2 = self._held
        data = [0] * nonin.PACKET_FRAMES
        data[0:2] = data[13:15] = split9(hr)
        data[19:21] = data[21:23] = split9(held_hr)
        data[2] = data[9] = data[10] = data[15] = spo2
        data[8] = data[16] = held_spo2
        data[3] = REVISION
        if self._format == 7:
            data[7] = nonin.LOW_BATTERY if self._during(Kind.ALARM) else 0
        return data

    def _reading(self) -> bytes:
        hr, spo2 = self._values()
        flags = nonin_numerics.DISCONNECTED if self._during(Kind.LEAD_OFF) else 0
        more = nonin_numerics.LOW_BATTERY if self._during(Kind.ALARM) else 0
        return nonin_numerics.encode_8(hr, spo2, flags, more)

    def _measure(self) -> bytes:
        hr, spo2 = self._values()
        failed = self._during(Kind.LEAD_OFF)
        status = nonin_numerics.NO_MEASUREMENT if failed else nonin_numerics.SMARTPOINT
        more = nonin_numerics.LOW_BATTERY if self._during(Kind.ALARM) else 0
        at = SWITCHED_ON + timedelta(seconds=self._scene.device_s(self._tick / TICKS))
        return nonin_numerics.encode_13(hr, spo2, at, status, more)


NUMBERS = frozenset({Kind.LEAD_OFF, Kind.ALARM})
EMULATOR_2 = Emulator(nonin.DEVICE_2, Oximeter, NUMBERS | LIGHT)
EMULATOR_7 = Emulator(nonin.DEVICE_7, Oximeter, NUMBERS | LIGHT)
EMULATOR_8 = Emulator(nonin_numerics.DEVICE_8, Oximeter, NUMBERS)
EMULATOR_13 = Emulator(nonin_numerics.DEVICE_13, Oximeter, NUMBERS | {Kind.CLOCK_JUMP})
