"""Masimo Radical-7, Rad-8 and Rad-87, serial output "ASCII 1": a line of text every second.

Implements the line forms printed in Masimo's Rad-8 and Radical-7 manuals (date, time, then
KEY=value pairs, which differ by model and firmware and are never read by position) and the "trend
data format" of the Rad-8 Operator's Manual, whose exception bits the lines share. The bits of ALARM
are the maker's secret; four of them are known from a user's experiment and are said as that.

There is no checksum. A line is taken when all of it is well-formed: a date that exists, single
spaces, each key once, each known value in its exact form, saturation, rate and exceptions present,
and names of exceptions (trend data) that agree with their bits. A digit turned into another digit
cannot be seen.

With a sensor that is off, missing, defective or unknown no value counts, though the device may go
on printing the last one. Trend data are of the past: QUESTIONABLE, and no conditions.

Read over, for want of a verified term: DESAT, PIDELTA, PVI, SPCO, SPMET, SPHB, SPOC, RESVD.
"""

from __future__ import annotations

import calendar
import re
from dataclasses import dataclass
from datetime import datetime, timezone

from firmware_bridge.devices.lines import Lines
from firmware_bridge.devices.oximetry import (
    PERFUSION,
    PULSE,
    SPO2,
    Levels,
    crossing,
    fault,
    lasting,
    reading,
)
from firmware_bridge.session import NS_PER_S, listening
from firmware_bridge.types import Counters, Device, Message, Priority, Wire

WIRE = Wire(9600)
MAX_LINE_BYTES = 320

NO_SENSOR, DEFECTIVE, LOW_PERFUSION, SEARCH = 0x001, 0x002, 0x004, 0x008
INTERFERENCE, SENSOR_OFF, AMBIENT_LIGHT, UNRECOGNIZED = 0x010, 0x020, 0x040, 0x080
LOW_SIGNAL_IQ, SET = 0x400, 0x800
WITHOUT_SENSOR = NO_SENSOR | DEFECTIVE | SENSOR_OFF | UNRECOGNIZED
DOUBTFUL = LOW_PERFUSION | SEARCH | INTERFERENCE | AMBIENT_LIGHT | LOW_SIGNAL_IQ

EXCEPTIONS = {
    NO_SENSOR: fault("masimo:no-sensor", "no sensor"),
    DEFECTIVE: fault("masimo:defective-sensor", "defective sensor"),
    LOW_PERFUSION: fault("masimo:low-perfusion", "low perfusion", Priority.LOW),
    SEARCH: fault("masimo:pulse-search", "pulse search", Priority.LOW),
    INTERFERENCE: fault("masimo:interference", "interference", Priority.LOW),
    SENSOR_OFF: fault("masimo:sensor-off", "sensor off"),
    AMBIENT_LIGHT: fault("masimo:ambient-light", "ambient light", Priority.LOW),
    UNRECOGNIZED: fault("masimo:unrecognized-sensor", "unrecognized sensor"),
    LOW_SIGNAL_IQ: fault("masimo:low-signal-iq", "low signal IQ", Priority.LOW),
}
NAMES = {"Search": SEARCH, "OffPat": SENSOR_OFF, "LowSigIQ": LOW_SIGNAL_IQ, "SET": SET}

_FOUND = "(meaning found by experiment)"
ALARMS = {
    0x01: crossing("masimo:alarm-01", f"SpO2 high {_FOUND}", SPO2),
    0x02: crossing("masimo:alarm-02", f"SpO2 low {_FOUND}", SPO2),
    0x04: crossing("masimo:alarm-04", f"pulse rate high {_FOUND}", PULSE),
    0x08: crossing("masimo:alarm-08", f"pulse rate low {_FOUND}", PULSE),
}

_LINE = re.compile(
    r"(\d\d/\d\d/\d\d \d\d:\d\d:\d\d)((?: (?:[A-Z][A-Z0-9]*|SpO2)=[0-9A-Za-z.,:%+-]+)+)\r?\n",
    re.ASCII,
)
_FIELDS = {  # a key of another model may hold any number or dashes
    key: re.compile(form, re.ASCII)
    for key, form in {
        "SN": r"\d{10}|-{10}",
        "SPO2": r"(?:\d{3}|---)%?",
        "BPM": r"(?:\d{3}|---)%?",
        "SpO2": r"\d{3}|---",
        "PR": r"\d{3}|---",
        "PI": r"(?:\d\d\.\d\d|--\.--)%?",
        "ALARM": r"[0-9A-F]{4}|[0-9A-F]{6}",
        "EXC": r"[0-9A-F]{6,7}|[0-9A-F]{3}(?::[A-Za-z]+(?:,[A-Za-z]+)*)?",
        "EXC1": r"[0-9A-F]{8}",
    }.items()
}
_OTHER_FIELD = re.compile(r"[+-]?(?:\d{1,3}(?:\.\d{1,2})?|-{1,3}(?:\.-{1,2})?)%?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Line:
    """What a line prints: None where it has dashes, or no such field. `past`: trend data."""

    device_ns: int
    spo2_pct: int | None
    pulse_bpm: int | None
    perfusion_pct: float | None
    alarm: int
    exceptions: int
    past: bool = False


def parse(line: bytes) -> Line | str:
    """What a line with its end says, or why it is none."""
    match = _LINE.fullmatch(line.decode("ascii", "replace"))
    if match is None:
        return "form"
    pairs = [pair.partition("=")[::2] for pair in match[2][1:].split(" ")]
    fields = dict(pairs)
    if len(fields) != len(pairs) or not all(_well_formed(k, v) for k, v in fields.items()):
        return "field"
    past = "PR" in fields
    spo2, pulse = ("SpO2", "PR") if past else ("SPO2", "BPM")
    if not {spo2, pulse, "EXC"} <= set(fields):
        return "missing"
    device_ns = _time_ns(match[1])
    if device_ns is None:
        return "time"
    bits, _, names = fields["EXC"].partition(":")
    exceptions = int(bits, 16)
    if names and not _agree(exceptions, names.split(",")):
        return "exceptions"
    return Line(
        device_ns,
        _int(fields[spo2]),
        _int(fields[pulse]),
        _float(fields.get("PI", "--.--")),
        int(fields.get("ALARM", "0"), 16),
        exceptions,
        past,
    )


def encode(line: Line, serial: str = "0000000000") -> bytes:
    """A line as a Rad-8 prints it."""
    at = datetime.fromtimestamp(line.device_ns // NS_PER_S, timezone.utc)
    spo2 = "---" if line.spo2_pct is None else f"{line.spo2_pct:03d}"
    bpm = "---" if line.pulse_bpm is None else f"{line.pulse_bpm:03d}"
    index = "--.--" if line.perfusion_pct is None else f"{line.perfusion_pct:05.2f}"
    return (
        f"{at:%m/%d/%y %H:%M:%S} SN={serial} SPO2={spo2}% BPM={bpm} PI={index}% SPCO=--.-% "
        f"SPMET=--.-% DESAT=-- PIDELTA=+-- ALARM={line.alarm:04X} EXC={line.exceptions:06X}\r\n"
    ).encode("ascii")


def _well_formed(key: str, value: str) -> bool:
    return _FIELDS.get(key, _OTHER_FIELD).fullmatch(value) is not None


def _agree(exceptions: int, names: list[str]) -> bool:
    known = [NAMES[name] for name in names if name in NAMES]
    return len(names) == bin(exceptions).count("1") and all(exceptions & bit for bit in known)


def _time_ns(text: str) -> int | None:
    try:
        month, day, year, hour, minute, second = (int(text[i : i + 2]) for i in range(0, 17, 3))
        at = datetime(2000 + year, month, day, hour, minute, second)
    except ValueError:
        return None
    return calendar.timegm(at.timetuple()) * NS_PER_S


def _int(text: str) -> int | None:
    return None if text.startswith("-") else int(text.rstrip("%"))


def _float(text: str) -> float | None:
    return None if text.startswith("-") else float(text.rstrip("%"))


class Decoder:
    """Lines in, values out. Holds back at most one line of `MAX_LINE_BYTES`."""

    def __init__(self) -> None:
        self._lines = Lines(MAX_LINE_BYTES)
        self._levels = Levels()

    @property
    def counters(self) -> Counters:
        return self._lines.counters

    def feed(self, data: bytes) -> list[Message]:
        """Take the next bytes as they came and return what they complete. Never raises."""
        out: list[Message] = []
        for raw in self._lines.feed(data):
            line = parse(raw)
            if isinstance(line, Line):
                self._lines.accept(raw)
                out += self._take(line)
            elif raw.strip():
                self._lines.refuse(raw, line)
            else:
                self._lines.tell(raw)
        return out

    def _take(self, line: Line) -> list[Message]:
        out: list[Message] = []
        if not line.past:
            bits = [(line.exceptions & bit, alert) for bit, alert in EXCEPTIONS.items()]
            bits += [(line.alarm & bit, alert) for bit, alert in ALARMS.items()]
            out += self._levels.changed(lasting(bits), line.device_ns)
        values = ((SPO2, line.spo2_pct), (PULSE, line.pulse_bpm), (PERFUSION, line.perfusion_pct))
        on = not line.exceptions & WITHOUT_SENSOR
        sure = not line.past and not line.exceptions & DOUBTFUL
        for channel, value in values:
            out.append(reading(channel, value, sensor_on=on, sure=sure, device_ns=line.device_ns))
        return out


DEVICE = Device(
    name="masimo-ascii1",
    title="Masimo Radical-7, Rad-8 or Rad-87, ASCII 1",
    spec='Masimo Rad-8 and Radical-7 manuals, "ASCII 1" and "trend data format"',
    wire=WIRE,
    dialogue=listening(3.0),
    decoder=Decoder,
    numerics=(SPO2, PULSE, PERFUSION),
    sure_frames=3,
    proved_by="13 lines printed by four real Rad-8, the manuals' printed lines and trend sample",
    unproved="lines of a real Radical-7; what the bits of ALARM mean",
)
