"""Nellcor N-560 and N-595, serial printout in real time: a line of text every two seconds.

Implements the printout of the N-560 and N-595 Operator's Manuals ("Using the Data Port" and
"Printing"): three lines of heading, then date, time, %SpO2, BPM, pulse amplitude and status codes
of two letters; `---` is no value, `*` marks a value beyond its alarm limit.

There is no checksum. A line is taken when all of it is well-formed and its date exists; a digit
turned into another digit cannot be seen. A status code that is not in the manuals is said, and
makes the values QUESTIONABLE. The pulse amplitude has no unit and is read over.
"""

from __future__ import annotations

import calendar
import re
from dataclasses import dataclass
from datetime import datetime, timezone

from firmware_bridge.devices.lines import Lines
from firmware_bridge.devices.oximetry import PULSE, SPO2, Levels, crossing, fault, reading
from firmware_bridge.session import NS_PER_S, listening
from firmware_bridge.types import (
    Alert,
    AlertKind,
    Counters,
    Device,
    Message,
    Priority,
    Text,
    Wire,
)

WIRE = Wire(9600)
MAX_LINE_BYTES = 160
MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def _state(code: str, text: str) -> Alert:
    return Alert(f"nellcor:{code}", AlertKind.OTHER, Priority.NONE, True, text)


def _pulse_lost(code: str, text: str) -> Alert:
    return Alert(
        f"nellcor:{code}", AlertKind.PHYSIOLOGICAL, Priority.HIGH, True, text, channel=PULSE
    )


STATUS = {
    "AO": _state("AO", "alarms off"),
    "AS": _state("AS", "alarms silenced"),
    "LB": fault("nellcor:LB", "low battery", Priority.LOW),
    "LM": _pulse_lost("LM", "loss of pulse with motion"),
    "LP": _pulse_lost("LP", "loss of pulse"),
    "MO": fault("nellcor:MO", "motion", Priority.LOW),
    "PH": crossing("MDC_EVT_HI", "pulse rate above its limit", PULSE),
    "PL": crossing("MDC_EVT_LO", "pulse rate below its limit", PULSE),
    "PS": fault("nellcor:PS", "pulse search", Priority.LOW),
    "SH": crossing("MDC_EVT_HI", "saturation above its limit", SPO2),
    "SL": crossing("MDC_EVT_LO", "saturation below its limit", SPO2),
    "SD": fault("nellcor:SD", "sensor disconnected"),
    "SO": fault("nellcor:SO", "sensor off"),
}
WITHOUT_SENSOR = frozenset({"SD", "SO"})
SURE = frozenset({"AO", "AS", "LB", "PH", "PL", "SH", "SL"})  # with these alone a value is VALID
LIMITS = {SPO2: frozenset({"SH", "SL"}), PULSE: frozenset({"PH", "PL"})}

_VALUE = r"(\d{1,3}\*?|---)"
_LINE = re.compile(
    rf"(\d\d)-([A-Z][a-z]{{2}})-(\d\d) (\d\d:\d\d:\d\d) +{_VALUE} +{_VALUE} +{_VALUE}"
    r"((?: +[A-Z]{2})*) *\r?\n",
    re.ASCII,
)
_BANNER = re.compile(r"\S+ +VERSION +[\d.]+ .*", re.ASCII)
_HEADING = re.compile(r"\s*TIME +%SpO2 +BPM +PA +Status|\s*[A-Z]+ +.*SAT-S.*", re.ASCII | re.I)


@dataclass(frozen=True, slots=True)
class Line:
    """What a line prints: None for `---`. `marked` are the channels with a `*`."""

    device_ns: int
    spo2_pct: int | None
    pulse_bpm: int | None
    amplitude: int | None
    status: tuple[str, ...] = ()
    marked: tuple[str, ...] = ()


def parse(line: bytes) -> Line | str:
    """What a line with its end says, or why it is none."""
    match = _LINE.fullmatch(line.decode("ascii", "replace"))
    if match is None:
        return "form"
    day, month, year, clock, spo2, pulse, amplitude, status = match.groups()
    device_ns = _time_ns(day, month, year, clock)
    if device_ns is None:
        return "time"
    marked = tuple(c for c, text in ((SPO2, spo2), (PULSE, pulse)) if text.endswith("*"))
    values = [None if v == "---" else int(v.rstrip("*")) for v in (spo2, pulse, amplitude)]
    return Line(device_ns, values[0], values[1], values[2], tuple(status.split()), marked)


def encode(line: Line) -> bytes:
    """A line in the columns of the N-560."""
    at = datetime.fromtimestamp(line.device_ns // NS_PER_S, timezone.utc)
    date = f"{at.day:02d}-{MONTHS[at.month - 1]}-{at:%y %H:%M:%S}"
    pairs = ((SPO2, line.spo2_pct), (PULSE, line.pulse_bpm), ("", line.amplitude))
    shown = ["---" if v is None else f"{v}{'*' * (c in line.marked)}" for c, v in pairs]
    columns = f"{date}   {shown[0]:<8}{shown[1]:<8}{shown[2]:<6}"
    return (columns + "".join(f"{code:<5}" for code in line.status)).encode("ascii") + b"\r\n"


def _time_ns(day: str, month: str, year: str, clock: str) -> int | None:
    try:
        hour, minute, second = (int(part) for part in clock.split(":"))
        number = MONTHS.index(month) + 1
        at = datetime(2000 + int(year), number, int(day), hour, minute, second)
    except ValueError:
        return None
    return calendar.timegm(at.timetuple()) * NS_PER_S


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
            else:
                out += self._take_other(raw, line)
        return out

    def _take_other(self, raw: bytes, reason: str) -> list[Message]:
        text = raw.decode("ascii", "replace").strip()
        if _BANNER.fullmatch(text):
            self._lines.tell(raw)
            return [Text(text)]
        if not text or _HEADING.fullmatch(text):
            self._lines.tell(raw)
        else:
            self._lines.refuse(raw, reason)
        return []

    def _take(self, line: Line) -> list[Message]:
        alerts = [STATUS.get(code, _state(code, f"status {code}")) for code in line.status]
        alerts += [
            crossing("nellcor:limit", "beyond an alarm limit", channel)
            for channel in line.marked
            if LIMITS[channel].isdisjoint(line.status)
        ]
        on = WITHOUT_SENSOR.isdisjoint(line.status)
        sure = SURE.issuperset(line.status)
        return [
            *self._levels.changed(alerts, line.device_ns),
            reading(SPO2, line.spo2_pct, sensor_on=on, sure=sure, device_ns=line.device_ns),
            reading(PULSE, line.pulse_bpm, sensor_on=on, sure=sure, device_ns=line.device_ns),
        ]


DEVICE = Device(
    name="nellcor",
    title="Nellcor N-560 or N-595, real-time printout",
    spec='Nellcor N-560 and N-595 Operator\'s Manuals, "Using the Data Port" and "Printing"',
    wire=WIRE,
    dialogue=listening(5.0),
    decoder=Decoder,
    numerics=(SPO2, PULSE),
    sure_frames=3,
    proved_by="heading and five lines printed by a real N-560",
    unproved="lines of a real N-595; status codes other than AO and MO as a device prints them",
)
