"""An emulated GE S/5 monitor on its computer interface: answers requests for values, waves, alarms.

Layouts and constants are those of `devices.ge_s5` and its parts. It numbers all records together,
flags a gap in the first wave after each request and keeps to 600 samples a second, as
M1017617 chapter 4 and 8005313 table 5-2 say; alarms come on change, at least 2 s apart (chapter 5).
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import numpy as np

from firmware_bridge.devices import ge_s5, ge_s5_phdb
from firmware_bridge.devices.ge_s5_numerics import (
    ASYSTOLE,
    CHANNEL_1_OFF,
    NIBP,
    PRESSURES,
    VENTILATION,
)
from firmware_bridge.devices.ge_s5_phdb import ACTIVE, EXISTS, Group, Phdb
from firmware_bridge.devices.ge_s5_records import (
    ALARM,
    END_OF_LIST,
    PHDB,
    WAVE,
    Deframer,
    encode,
    frame,
)
from firmware_bridge.emulators.electrodes import WORN, worn_wave
from firmware_bridge.emulators.emulated import Emulator
from firmware_bridge.emulators.faults import Kind

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from firmware_bridge.devices.ge_s5_records import Record
    from firmware_bridge.emulators.patient import Scene

LEVEL = 10
PLUG_ID = 35588
EPOCH_S = 1_600_000_000  # the monitor's clock when it is switched on
WAVE_EVERY_S = 0.2
ALARM_EVERY_S = 2.0
MAX_SAMPLES_PER_S = 600
LEAD_II = 2
LABEL_II_V_I = 2 << 8 | 7 << 4 | 1  # ECG channels 1, 2, 3
ECG1_OFF_COUNT = -32767
ON = EXISTS | ACTIVE
SOURCE_ECG = 1 << 3
ST_COUNTS = 30  # 0.3 mm
ALARM_TEXT = "HR HIGH"
YELLOW = 2


class Monitor:
    """A monitor without its cable."""

    def __init__(self, scene: Scene) -> None:
        self._scene = scene
        self._deframer: Deframer[Record] = Deframer(lambda record: record)
        self._number = 0
        self._values: tuple[float, int, int] | None = None  # due at, every s, classes
        self._waves: tuple[int, ...] = ()
        self._wave_slot = 0  # waves are due at whole multiples of WAVE_EVERY_S
        self._gap = False
        self._alarm_due_s: float | None = None
        self._alarms_sent: list[tuple[str, int]] | None = None

    def hear(self, data: bytes, t_s: float) -> list[bytes]:
        """Requests are answered by what is due next; one for the present alarms at once."""
        out: list[bytes] = []
        for record in self._deframer.feed(data):
            for part_type, part in record.parts:
                if part_type == 0 and record.kind == PHDB:
                    self._request_values(part, t_s)
                elif part_type == 0 and record.kind == WAVE:
                    self._request_waves(part, t_s)
                elif part_type == 0 and record.kind == ALARM:
                    out += self._request_alarms(part, t_s)
        return out

    def next_s(self) -> float | None:
        """When the next record is due."""
        due = [self._values[0]] if self._values else []
        due += [self._wave_slot * WAVE_EVERY_S] if self._waves else []
        due += [self._alarm_due_s] if self._alarm_due_s is not None else []
        return min(due, default=None)

    def say(self, t_s: float) -> list[bytes]:
        """The records due by `t_s`, in order."""
        out: list[bytes] = []
        while (at_s := self.next_s()) is not None and at_s <= t_s:
            if self._waves and at_s == self._wave_slot * WAVE_EVERY_S:
                out.append(self._wave_record(at_s))
            elif self._values is not None and at_s == self._values[0]:
                out.append(self._value_record(at_s))
            else:
                out += self._changed_alarms(at_s)
        return out

    def _request_values(self, part: bytes, t_s: float) -> None:
        kind, every_s, classes, _ = struct.unpack_from("<BhIh", part)
        if kind == ge_s5_phdb.DISPLAYED:
            self._values = (t_s + 0.1, every_s, classes) if every_s > 0 else None

    def _request_waves(self, part: bytes, t_s: float) -> None:
        (action,) = struct.unpack_from("<h", part)
        wanted = part[4:12].split(bytes([END_OF_LIST]))[0] if action == ge_s5.START else b""
        granted: list[int] = []
        for kind in wanted:
            rates = [ge_s5.WAVES[k].rate_hz for k in (*granted, kind) if k in ge_s5.WAVES]
            if kind in ge_s5.WAVES and sum(rates) <= MAX_SAMPLES_PER_S:
                granted.append(kind)
        self._waves, self._gap = tuple(granted), True
        self._wave_slot = int(t_s / WAVE_EVERY_S) + 1

    def _request_alarms(self, part: bytes, t_s: float) -> list[bytes]:
        (command,) = struct.unpack_from("<h", part)
        if command == ge_s5.ALARM_NOW:
            return [self._alarm_record(self._alarms(t_s), t_s)]
        self._alarms_sent = None
        self._alarm_due_s = t_s + 0.1 if command == ge_s5.ALARM_ON_CHANGE else None
        return []

    def _record(self, kind: int, parts: list[tuple[int, bytes]], t_s: float) -> bytes:
        self._number += 1
        return frame(
            encode(kind, parts, number=self._number, level=LEVEL, plug_id=PLUG_ID,
                   time_s=self._clock_s(t_s))
        )  # fmt: skip

    def _clock_s(self, t_s: float) -> int:
        return EPOCH_S + int(self._scene.device_s(t_s))

    def _wave_record(self, t_s: float) -> bytes:
        parts: list[tuple[int, bytes]] = []
        for kind in self._waves:
            feed = ge_s5.WAVES[kind]
            n = round(feed.rate_hz * WAVE_EVERY_S)
            first = (self._wave_slot - 1) * n
            status = ge_s5.WAVE_GAP if self._gap else 0
            counts = self._counts(kind, first, n)
            label = 0
            if kind == ge_s5.ECG1:
                label = LEAD_II
                status |= ge_s5.WAVE_LEAD_OFF * self._scene.during(Kind.LEAD_OFF, t_s)
            parts.append((kind, ge_s5.encode_wave(counts, status, label)))
        self._gap = False
        self._wave_slot += 1
        return self._record(WAVE, parts, t_s)

    def _counts(self, kind: int, first: int, n: int) -> NDArray[np.int64]:
        feed = ge_s5.WAVES[kind]
        channel = "MDC_ECG_ELEC_POTL_II" if kind == ge_s5.ECG1 else feed.channels[0]
        rail = ECG1_OFF_COUNT * feed.lsb if kind == ge_s5.ECG1 else None
        wave = worn_wave(self._scene, channel, first, n, feed.rate_hz, rail=rail)
        return np.rint(wave / feed.lsb).astype(np.int64)

    def _value_record(self, t_s: float) -> bytes:
        assert self._values is not None
        due_s, every_s, classes = self._values
        self._values = (due_s + every_s, every_s, classes)
        wanted = [k for k in range(4) if classes >> k & 1 == (k > 0)]
        clock_s = self._clock_s(t_s)
        makers = {ge_s5_phdb.BASIC: self._basic, ge_s5_phdb.EXT3: self._ext3}
        parts = [
            (ge_s5_phdb.DISPLAYED, ge_s5_phdb.encode(Phdb(clock_s, k, 0, groups)))
            for k in wanted
            for groups in [makers[k](t_s) if k in makers else {}]
        ]
        return self._record(PHDB, parts, t_s)

    def _raw(self, channel: str, per_unit: float, t_s: float) -> int:
        return round(self._scene.patient.value(channel, t_s) * per_unit)

    def _basic(self, t_s: float) -> dict[str, Group]:
        co2 = {
            "et": self._raw("MDC_CONC_AWAY_CO2_ET", 100, t_s),
            "fi": self._raw("MDC_CONC_AWAY_CO2_INSP", 100, t_s),
            "rr": self._raw("MDC_RESP_RATE", 1, t_s),
            "amb_press": self._raw("MDC_PRESS_AIR_AMBIENT", 10, t_s),
        }
        oxygen = {
            "et": self._raw("MDC_CONC_AWAY_O2_ET", 100, t_s),
            "fi": self._raw("MDC_CONC_AWAY_O2_INSP", 100, t_s),
        }
        spo2 = {
            "spo2": self._raw("MDC_PULS_OXIM_SAT_O2", 100, t_s),
            "pr": self._raw("MDC_PULS_OXIM_PULS_RATE", 1, t_s),
        }
        flow = {f: self._raw(channel, per_unit, t_s) for channel, f, per_unit in VENTILATION}
        nibp = {f: self._raw(c, 100, t_s) for c, f in zip(NIBP, ("sys", "dia", "mean"))}
        return {
            "ecg": self._ecg(t_s),
            **self._pressures(t_s),
            "nibp": Group(ON, 0, nibp),
            "t1": self._temperature("ESO", "MDC_TEMP_BODY", t_s),
            "t2": self._temperature("T2", "MDC_TEMP", t_s),
            "spo2": Group(ON, 0, spo2),
            "co2": Group(ON, 1, co2),
            "o2": Group(ON, 0, oxygen),
            "flow_vol": Group(ON, 0, flow),
            "svo2": Group(ON, 2, {"svo2": self._raw("MDC_SAT_O2_VEN", 100, t_s)}),
        }

    def _ecg(self, t_s: float) -> Group:
        status, raw = ON | SOURCE_ECG, {f"st{i}": ST_COUNTS for i in (1, 2, 3)}
        if self._scene.during(Kind.LEAD_OFF, t_s):
            return Group(status | CHANNEL_1_OFF, LABEL_II_V_I, {})
        if self._scene.during(Kind.ASYSTOLE, t_s):
            return Group(status | ASYSTOLE, LABEL_II_V_I, {**raw, "hr": 0})
        return Group(status, LABEL_II_V_I, {**raw, "hr": self._raw("MDC_ECG_HEART_RATE", 1, t_s)})

    def _pressures(self, t_s: float) -> dict[str, Group]:
        groups = {}
        for i, (label, channels) in enumerate(PRESSURES.items(), 1):
            raw = {f: self._raw(c, 100, t_s) for c, f in zip(channels, ("sys", "dia", "mean")) if c}
            if label == "ART":
                raw["hr"] = self._raw("MDC_PULS_RATE", 1, t_s)
            groups[f"p{i}"] = Group(ON, ge_s5_phdb.PRESSURE_LABELS.index(label), raw)
        return groups

    def _temperature(self, label: str, channel: str, t_s: float) -> Group:
        number = ge_s5_phdb.TEMPERATURE_LABELS.index(label)
        return Group(ON, number, {"temp": self._raw(channel, 100, t_s)})

    def _ext3(self, t_s: float) -> dict[str, Group]:
        pmean = self._raw("MDC_PRESS_AWAY_INSP_MEAN", 100, t_s)
        return {"flow_vol2": Group(ON, 0, {"pmean": pmean})}

    def _alarms(self, t_s: float) -> list[tuple[str, int]]:
        return [(ALARM_TEXT, YELLOW)] if self._scene.during(Kind.ALARM, t_s) else []

    def _changed_alarms(self, t_s: float) -> list[bytes]:
        self._alarm_due_s = t_s + ALARM_EVERY_S
        shown = self._alarms(t_s)
        if shown == self._alarms_sent:
            return []
        self._alarms_sent = shown
        return [self._alarm_record(shown, t_s)]

    def _alarm_record(self, shown: list[tuple[str, int]], t_s: float) -> bytes:
        return self._record(ALARM, [(ge_s5.ALARM_STATUS, ge_s5.encode_alarms(shown))], t_s)


EMULATOR = Emulator(ge_s5.DEVICE, Monitor, WORN | {Kind.ALARM, Kind.CLOCK_JUMP})
