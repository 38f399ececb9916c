"""Puritan-Bennett 840 ventilator, its answer to SNDF: measured values and alarms.

Implements "Communications, RS-232 commands" of the Puritan-Bennett 840 Operator's and Technical
Reference Manual, as the field map of the public repository `mdpnp` (pb840.fields,
PB840Parameters.java) has it, 9600 8N1 with RTS/CTS. Asked `SNDF CR` it answers one line:

    MISCF,bytes,fields,<STX>f5,f6,...,<ETX><CR>

Fields are numbered from 5 and have fixed widths, padded with blanks: 6, but 18 for 6 and 53, 12 for
7, 9 for 8, 55, 66 and 156. `bytes` counts what stands between STX and ETX (169 fields and their
commas: 1225, which the widths add up to), in other readings with ETX; both are taken, because the
widths leave no doubt where a byte is missing. There is no checksum: an answer is trusted when name,
both counts, every width and every character are right. Damage that turns a digit into a digit
cannot be seen.

A blank field is not available. What is measured while the circuit is open or blocked (124, 125) is
QUESTIONABLE: it is not the patient's. `device_ns` is the ventilator's clock, in whole minutes. An
alarm is on unless its field is blank, NORMAL or RESET; LOW, MEDIUM and HIGH are its priority (these
words are from memory: what is not known counts as an alarm). Not claimed: settings and limits,
which have no place in values, and results of a manoeuvre (plateau, static compliance), whose age is
not said.

An answer of 1.25 kB takes 1.3 s on the line, so it is asked for every 2 s, not every second.
"""

from __future__ import annotations

import calendar
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from firmware_bridge.counting import Counting
from firmware_bridge.nomenclature import numeric
from firmware_bridge.session import NS_PER_S, Beat, Dialogue, Event, State, Step, usual
from firmware_bridge.types import (
    Alert,
    AlertKind,
    Device,
    Priority,
    Validity,
    Wire,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from firmware_bridge.types import Message

WIRE = Wire(9600, rtscts=True)
RESET, ASK = b"RSET\r", b"SNDF\r"
POLL_S, SILENT_S = 2.0, 7.0
STX, ETX, CR = b"\x02", b"\x03", b"\r"
FIRST_FIELD = 5
FIELDS = 169
WIDTH = 6
WIDTHS = {6: 18, 7: 12, 8: 9, 53: 18, 55: 9, 66: 9, 156: 9}
MAX_LINE_BYTES = 2048
TIME, DATE = 5, 7
MONTHS = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")

VALUES = {  # field: MDC id, its unit there per unit of the field
    70: ("MDC_RESP_RATE", 1.0),
    71: ("MDC_VOL_AWAY_TIDAL_EXP", 1000.0),  # L
    72: ("MDC_VOL_MINUTE_AWAY", 1.0),
    73: ("MDC_PRESS_AWAY_INSP_PEAK", 1.0),
    74: ("MDC_PRESS_AWAY_INSP_MEAN", 1.0),
    77: ("MDC_CONC_AWAY_O2_INSP", 1.0),
    78: ("MDC_VOL_AWAY_TIDAL", 1000.0),  # L
    87: ("MDC_PRESS_AWAY_END_EXP_POS", 1.0),
    96: ("MDC_COMPL_LUNG", 1.0),
}

_HIGH, _LOW = "MDC_EVT_HI", "MDC_EVT_LO"
LIMITS = {  # alarms of a measured value outside its limits
    107: (_HIGH, "MDC_VOL_MINUTE_AWAY", "high exhaled minute volume"),
    108: (_HIGH, "MDC_VOL_AWAY_TIDAL_EXP", "high exhaled tidal volume"),
    109: (_HIGH, "MDC_CONC_AWAY_O2_INSP", "high O2 %"),
    110: (_HIGH, "MDC_PRESS_AWAY_INSP_PEAK", "high circuit pressure"),
    112: (_HIGH, "MDC_RESP_RATE", "high respiratory rate"),
    117: (_LOW, "MDC_VOL_AWAY_TIDAL_EXP", "low exhaled mandatory tidal volume"),
    118: (_LOW, "MDC_VOL_MINUTE_AWAY", "low exhaled minute volume"),
    120: (_LOW, "MDC_CONC_AWAY_O2_INSP", "low O2 %"),
    129: (_HIGH, "MDC_VOL_AWAY_TIDAL", "high inspired spontaneous tidal volume"),
    136: (_LOW, "MDC_PRESS_AWAY_INSP_PEAK", "low circuit pressure"),
}
PHYSIOLOGICAL = {
    95: "high spontaneous inspiratory time",
    106: "apnea ventilation",
    119: "low exhaled spontaneous tidal volume",
    126: "inspiration too long",
    130: "high inspired mandatory tidal volume",
    131: "high compensation pressure",
    134: "volume not delivered (VC+)",
    135: "volume not delivered (VS)",
}
TECHNICAL = {
    111: "high ventilator pressure",
    113: "AC power loss",
    114: "inoperative battery",
    115: "low battery",
    116: "loss of power",
    121: "low air supply pressure",
    122: "low O2 supply pressure",
    123: "compressor inoperative",
    124: "disconnect",
    125: "severe occlusion",
    127: "procedure error",
    128: "compliance limited tidal volume",
    132: "PAV startup too long",
    133: "PAV R and C not assessed",
    **{field: f"technical malfunction A{5 * (field - 136)}" for field in range(137, 154)},
}
PRIORITIES = {"LOW": Priority.LOW, "MEDIUM": Priority.MEDIUM, "HIGH": Priority.HIGH}
NO_ALARM = ("", "NORMAL", "RESET")
CUT_OFF = (124, 125)  # from the patient

_ANSWER = re.compile(rb"MISCF, *(\d+) *, *(\d+) *,\x02([ -~]*)\x03")
_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)")
_MISSING = re.compile(r"[-*]*|OFF")
_TIME = re.compile(r"(\d\d):(\d\d) *")
_DATE = re.compile(r"([A-Z]{3}) (\d\d) (\d{4}) *")


@dataclass(frozen=True, slots=True)
class _Known:
    """An alarm field: what its alert is when it is on."""

    field: int
    alert: Alert


def _known() -> list[_Known]:
    out = []
    for field, (event, channel, text) in LIMITS.items():
        kind = AlertKind.PHYSIOLOGICAL
        out.append(_Known(field, Alert(event, kind, Priority.MEDIUM, True, text, channel)))
    for table, kind in ((PHYSIOLOGICAL, AlertKind.PHYSIOLOGICAL), (TECHNICAL, AlertKind.TECHNICAL)):
        for field, text in table.items():
            alert = Alert(f"pb840:{field}", kind, Priority.MEDIUM, True, text)
            out.append(_Known(field, alert))
    return sorted(out, key=lambda known: known.field)


_ALARMS = _known()


def encode(fields: Iterable[str]) -> bytes:
    """The line with these fields (5 and on), each padded to its width."""
    padded = [text.ljust(WIDTHS.get(n, WIDTH)) for n, text in enumerate(fields, FIRST_FIELD)]
    body = "".join(f"{text}," for text in padded)
    return f"MISCF,{len(body)},{len(padded)},\x02{body}\x03\r".encode("ascii")


def parse(line: bytes) -> tuple[dict[int, str], str]:
    """The fields of a line (without its CR) by number, stripped; or none, and what is wrong."""
    match = _ANSWER.fullmatch(line)
    if match is None:
        return {}, "form"
    body = match[3]
    texts = body.decode("ascii").split(",")
    if int(match[1]) - len(body) not in (0, 1):
        return {}, "bytes"
    if texts.pop() or int(match[2]) != len(texts):
        return {}, "fields"
    fields = dict(enumerate(texts, FIRST_FIELD))
    if any(len(text) != WIDTHS.get(n, WIDTH) for n, text in fields.items()):
        return {}, "width"
    return {n: text.strip() for n, text in fields.items()}, ""


def clock_ns(time: str, date: str) -> int | None:
    """`HH:MM` and `MMM DD YYYY` in ns since 1970 as if they were UTC; None if they are none."""
    at, on = _TIME.fullmatch(time), _DATE.fullmatch(date)
    if at is None or on is None or on[1] not in MONTHS:
        return None
    year, month, day = int(on[3]), MONTHS.index(on[1]) + 1, int(on[2])
    hour, minute = int(at[1]), int(at[2])
    if year < 1970 or not 1 <= day <= calendar.monthrange(year, month)[1]:
        return None
    if hour > 23 or minute > 59:
        return None
    return calendar.timegm((year, month, day, hour, minute, 0)) * NS_PER_S


class Decoder(Counting):
    """Bytes in, `Numeric` and `Alert` out; see the module for what is trusted.

    Holds back at most `MAX_LINE_BYTES`.
    """

    def __init__(self) -> None:
        super().__init__()
        self._pending = b""
        self._skipped = False  # since the last good line
        self._alerts: dict[int, Alert] = {}
        self._out: list[Message] = []

    def feed(self, data: bytes) -> list[Message]:
        """Take the next bytes as they came and return what they complete. Never raises."""
        self._tally["received_bytes"] += len(data)
        *lines, rest = (self._pending + data).split(CR)
        for line in lines:
            self._take_line(line)
        if len(rest) > MAX_LINE_BYTES:
            self._skip(len(rest) - MAX_LINE_BYTES)
            rest = rest[-MAX_LINE_BYTES:]
        self._pending = rest
        out, self._out = self._out, []
        return out

    def _take_line(self, line: bytes) -> None:
        if len(line) > MAX_LINE_BYTES:
            self._skip(len(line) - MAX_LINE_BYTES)
            line = line[-MAX_LINE_BYTES:]
        fields, wrong = parse(line.lstrip(b"\n"))
        if wrong:
            self._rejects[wrong] += 1
            self._skip(len(line) + len(CR))
            return
        self._tally["frames"] += 1
        self._tally["resyncs"] += self._skipped
        self._skipped = False
        now_ns = clock_ns(fields.get(TIME, ""), fields.get(DATE, ""))
        self._give_values(fields, now_ns)
        self._give_alerts(fields, now_ns)

    def _give_values(self, fields: dict[int, str], now_ns: int | None) -> None:
        sure = all(fields.get(field, "") in NO_ALARM for field in CUT_OFF)
        trust = Validity.VALID if sure else Validity.QUESTIONABLE
        for field, (channel, factor) in VALUES.items():
            text = fields.get(field, "")
            value = float(text) * factor if _NUMBER.fullmatch(text) else None
            missing = value is None and _MISSING.fullmatch(text)
            validity = Validity.UNAVAILABLE if missing else trust
            self._out.append(numeric(channel, value, validity, now_ns))

    def _give_alerts(self, fields: dict[int, str], now_ns: int | None) -> None:
        for known in _ALARMS:
            text = fields.get(known.field, "")
            on = text not in NO_ALARM
            priority = PRIORITIES.get(text, known.alert.priority)
            before = self._alerts.get(known.field)
            if on and (before is None or before.priority is not priority):
                alert = replace(known.alert, priority=priority, device_ns=now_ns)
                self._alerts[known.field] = alert
                self._out.append(alert)
            elif not on and before is not None:
                del self._alerts[known.field]
                self._out.append(replace(before, active=False, device_ns=now_ns))

    def _skip(self, n: int) -> None:
        self._skipped = True
        self._tally["skipped_bytes"] += n


# Manual, RS-232 commands: RSET empties the ventilator's input, SNDF asks for the report.
_TABLE = {
    **usual(State.STARTING, State.STREAMING),
    (State.CLOSED, Event.OPENED): Step(State.STARTING, RESET + ASK),
    (State.CLOSED, Event.JOINED): Step(State.STARTING, RESET + ASK),
}

DEVICE = Device(
    name="pb840",
    title="Puritan-Bennett 840",
    spec="Puritan-Bennett 840 Technical Reference Manual, RS-232 commands, as mdpnp has it",
    wire=WIRE,
    dialogue=Dialogue(
        table=_TABLE,
        timeout_s={State.STARTING: SILENT_S, State.STREAMING: SILENT_S},
        beats={state: (Beat(POLL_S, ASK),) for state in (State.STARTING, State.STREAMING)},
    ),
    decoder=Decoder,
    numerics=tuple(channel for channel, _ in VALUES.values()),
    proved_by="answers worked by hand from the public field map, whose widths add up to 1225",
    unproved="a real ventilator; the words in its alarm fields",
)
