"""An emulated Draeger ventilator: answers MEDIBUS commands, sends realtime streams, commands NOP.

Constants and layouts are those of `devices.medibus*`. It measures all that the device's file knows
once. Now and then its NOP stands inside a response, as the protocol allows. A sensor that is off is
the oximeter's: alarm 35H, and its values are not in the answers.
"""

from __future__ import annotations

import re
import time
from functools import partial
from typing import TYPE_CHECKING

from firmware_bridge.devices import medibus
from firmware_bridge.devices import medibus_codes as codes
from firmware_bridge.devices.medibus_frames import Frame, Splitter, command, record, response
from firmware_bridge.devices.medibus_records import Stream
from firmware_bridge.emulators.electrodes import worn_wave
from firmware_bridge.emulators.emulated import Emulator
from firmware_bridge.emulators.faults import Kind

if TYPE_CHECKING:
    from collections.abc import Mapping

    from firmware_bridge.devices.medibus import Dialect
    from firmware_bridge.devices.medibus_codes import Term
    from firmware_bridge.emulators.patient import Scene

RATE_HZ = 50.0
NOP_S = 2.0
ON_SINCE_S = 1_767_225_600  # 2026-01-01
STREAMS = (
    Stream(0x00, 20_000, -50.0, 150.0, 0xFFF),
    Stream(0x01, 20_000, -200.0, 200.0, 0xFFF),
    Stream(0x03, 20_000, 0.0, 2000.0, 0xFFF),
    Stream(0x06, 20_000, 0.0, 100.0, 0xFFF),
)
WAVE_OF = {0x00: "MDC_PRESS_AWAY", 0x01: "MDC_FLOW_AWAY", 0x03: "MDC_VOL_AWAY",
           0x06: "MDC_CONC_AWAY_CO2"}  # fmt: skip
PER_UNIT = {0x00: 1 / codes.CM_H2O_PER_MBAR, 0x01: 1.0, 0x03: 1.0, 0x06: 7.6}
OXIMETER = ("MDC_PULS_OXIM_SAT_O2", "MDC_PULS_OXIM_PULS_RATE")
IDENTITY = b"0161'Emulated'01.00:04.03"
ENABLE = re.compile(rb"\xd0\xc1([\xc0-\xcf])\xc0\xc0")


class _Ventilator:
    def __init__(self, scene: Scene, dialect: Dialect) -> None:
        self._scene = scene
        self._dialect = dialect
        self._splitter = Splitter()
        self._fast = b""
        self._chosen: list[Stream] = []
        self._started_s: float | None = None
        self._next = 0
        self._next_nop_s: float | None = None
        self._answers = 0

    def hear(self, data: bytes, t_s: float) -> list[bytes]:
        self._fast = (self._fast + bytes(b for b in data if b >= 0x80))[-16:]
        if self._chosen and ENABLE.search(self._fast):
            self._fast = b""
            self._started_s, self._next = t_s, 0
        slow = bytes(b for b in data if b < 0x80)
        return [out for item in self._splitter.feed(slow) if isinstance(item, Frame)
                for out in self._answer(item, t_s)]  # fmt: skip

    def _answer(self, frame: Frame, t_s: float) -> list[bytes]:
        if not frame.is_command:
            return []
        if frame.damaged:
            return [response(medibus.NAK)]
        if frame.code in (medibus.ICC, medibus.STOP):
            self._started_s, self._chosen = None, []
            self._next_nop_s = t_s + NOP_S if frame.code == medibus.ICC else None
        elif frame.code == medibus.CONFIGURE_REALTIME:
            offered = {stream.code: stream for stream in STREAMS}
            wanted = [int(frame.data[i : i + 2], 16) for i in range(0, len(frame.data), 4)]
            self._chosen = [offered[code] for code in wanted if code in offered]
        answer = response(frame.code, self._data(frame.code, t_s))
        self._answers += 1
        if len(answer) > 20 and self._answers % 5 == 0:
            answer = answer[:10] + command(medibus.NOP) + answer[10:]
        return [answer]

    def _data(self, code: int, t_s: float) -> bytes:
        if code == medibus.IDENTITY:
            return IDENTITY
        if code == medibus.CLOCK:
            now = time.gmtime(ON_SINCE_S + self._scene.device_s(t_s))
            return time.strftime("%H:%M:%S%d-%b-%y", now).upper().encode()
        if code == medibus.REALTIME:
            return b"".join(map(_stream_line, STREAMS))
        if code == medibus.MEASURED_CP1:
            return self._measured(self._dialect.cp1, t_s)
        if code == medibus.MEASURED_CP2:
            return self._measured(self._dialect.cp2, t_s)
        if code == medibus.ALARMS_CP1:
            return self._alarms(t_s)
        return b"014IPPV\x03" if code == medibus.TEXTS else b""

    def _measured(self, table: Mapping[int, Term], t_s: float) -> bytes:
        out, seen = b"", set()
        off = self._scene.during(Kind.LEAD_OFF, t_s)
        for code, term in table.items():
            if term.channel in seen or (off and term.channel in OXIMETER):
                continue
            seen.add(term.channel)
            value = self._scene.patient.value(term.channel, t_s) / term.factor
            text = f"{value:4.1f}" if value < 99.95 else f"{value:4.0f}"
            out += f"{code:02X}{text}".encode()
        return out

    def _alarms(self, t_s: float) -> bytes:
        out = b""
        if self._scene.during(Kind.ALARM, t_s):
            out += bytes([0x30 + 31]) + b"10PAW HIGH    "
        if self._scene.during(Kind.LEAD_OFF, t_s):
            out += bytes([0x30 + 8]) + b"35SPO2 SENSOR "
        return out

    def say(self, t_s: float) -> list[bytes]:
        out = []
        if self._next_nop_s is not None and t_s >= self._next_nop_s:
            self._next_nop_s = t_s + NOP_S
            out.append(command(medibus.NOP))
        if self._started_s is not None:
            first, end = self._next, int((t_s - self._started_s) * RATE_HZ + 1e-6)
            self._next = max(first, end)
            out += self._records(round(self._started_s * RATE_HZ) + first, end - first)
        return out

    def _records(self, first: int, n: int) -> list[bytes]:
        if n <= 0:
            return []
        counts = []
        for stream in self._chosen:
            wave = worn_wave(self._scene, WAVE_OF[stream.code], first, n, RATE_HZ, rail=0.0)
            share = (wave * PER_UNIT[stream.code] - stream.low) / (stream.high - stream.low)
            counts.append((share * stream.top_count).round().clip(0, stream.top_count))
        return [record({s: int(c[i]) for s, c in enumerate(counts)}) for i in range(n)]

    def next_s(self) -> float | None:
        times_s = [] if self._next_nop_s is None else [self._next_nop_s]
        if self._started_s is not None:
            times_s.append(self._started_s + (self._next + 1) / RATE_HZ)
        return min(times_s, default=None)


def _stream_line(stream: Stream) -> bytes:
    return (
        f"{stream.code:02X}{stream.interval_us:8d}{stream.low:5.0f}{stream.high:5.0f}"
        f"{stream.top_count:03X}"
    ).encode()


SHOWS = frozenset({Kind.FLAT, Kind.LEAD_OFF, Kind.ALARM, Kind.CLOCK_JUMP})
EMULATOR = Emulator(medibus.DEVICE, partial(_Ventilator, dialect=medibus.CLASSIC), SHOWS)
EMULATOR_X = Emulator(medibus.DEVICE_X, partial(_Ventilator, dialect=medibus.X), SHOWS)
