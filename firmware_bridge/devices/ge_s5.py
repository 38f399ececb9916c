"""GE Datex-Ohmeda S/5, CARESCAPE and B-series monitors on the S/5 computer interface: requests,
waves, alarms, dialogue.

Implements "S/5 Computer Interface Specification" (M1017617) chapters 3 to 5 (requests) and
"Datex-Ohmeda Record Specification" (8005313) chapters 4 (alarms) and 5 (waves); displayed values
are `ge_s5_numerics`', frames and records `ge_s5_records`'.

What is asked: displayed values of all classes every 5 s (the shortest interval that M1017617
chapter 3 allows), the four waves of `WAVES` (525 of the 600 samples a second of chapter 4, which
with the values fill 93 % of the line), and alarms as they change and now and then (chapter 5;
monitors before CARESCAPE ignore that). Chapter 4: a monitor whose line was held up for 2 s stops
its waves; what has not been heard for `ASK_AGAIN_S` of the monitor's clock is asked for again.
Where a record was lost or damaged, alarms are: it may have been the only word of one that began or
ended.

Which lead ECG 1 is, the displayed values say: until they first do, and from when its label changes
until they have said it anew, its wave is no measurement.

Record numbers tell of lost records. The documents do not say whether all records are numbered
together or each kind for itself, so the smaller of both gaps is believed.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import numpy as np

from firmware_bridge.devices import ge_s5_phdb as phdb
from firmware_bridge.devices.big_endian import Malformed
from firmware_bridge.devices.ge_s5_numerics import LEADS_OFF, NUMERICS, conditions, numerics
from firmware_bridge.devices.ge_s5_records import (
    ALARM,
    END_OF_LIST,
    PHDB,
    WAVE,
    Deframer,
    encode,
    frame,
)
from firmware_bridge.nomenclature import numeric
from firmware_bridge.session import NS_PER_S, Beat, Dialogue, Event, State, Step, usual
from firmware_bridge.types import (
    Alert,
    AlertKind,
    Counters,
    Device,
    Feed,
    Priority,
    SampleBlock,
    Send,
    Validity,
    Wire,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from firmware_bridge.devices.ge_s5_numerics import Condition
    from firmware_bridge.devices.ge_s5_phdb import Phdb
    from firmware_bridge.devices.ge_s5_records import Record
    from firmware_bridge.types import Message

WIRE = Wire(19_200, parity="E", rtscts=True)

DISPLAYED_EVERY_S = 5
ALL_CLASSES = 0b1110  # ext1, ext2, ext3; basic is sent unless bit 0 denies it
START, STOP = 0, 1
ALARM_NOW, ALARM_ON_CHANGE, ALARM_OFF = 0, 2, 3
ALARMS_EVERY_S = 15.0  # a change that was damaged on the line is known by then
ASK_AGAIN_S = 12
JUMP_S = 3600  # of the monitor's clock: no silence lasts that long

WAVE_HEADER = struct.Struct("<HHH")
WAVE_GAP = 0x0001
WAVE_LEAD_OFF = 0x0008
NO_SAMPLE = -32000  # and downwards (5.2.1)
COUNT_MAX = 32767

ALARM_STATUS = 1
ALARM_BYTES = 510
ALARM_BOXES = tuple(range(10, 500, 98))
TEXT_BYTES = 80
COLOURS = {1: Priority.LOW, 2: Priority.MEDIUM, 3: Priority.HIGH}  # white, yellow, red


def _feed(name: str, channel: str, rate_hz: float, unit: str, lsb: float) -> Feed:
    return Feed(name, (channel,), rate_hz, unit, lsb, NO_SAMPLE * lsb, COUNT_MAX * lsb)


# 8005313 table 5-3. Which lead is ECG 1, and which pressure INVP 1, is set on the monitor. One
# count of an ECG is 1 uV there and in LNhealth; VSCaptureWave takes 0.01 mV.
ECG1, ECG = 1, "MDC_ECG_ELEC_POTL"
WAVES = {
    ECG1: _feed("ecg1", ECG, 300, "mV", 0.001),
    4: _feed("invp1", "MDC_PRESS_BLD", 100, "mm[Hg]", 0.01),
    8: _feed("pleth", "MDC_PULS_OXIM_PLETH", 100, "1", 0.0001),  # modulation, 1/100 %
    9: _feed("co2", "MDC_CONC_AWAY_CO2", 25, "%", 0.01),
}


def phdb_request(every_s: int, classes: int = ALL_CLASSES) -> bytes:
    """Ask for displayed values every so many seconds; 0 ends them (M1017617 chapter 3)."""
    part = struct.pack("<BhIh", phdb.DISPLAYED, every_s, classes, 0)
    return encode(PHDB, [(0, part)])


def wave_request(kinds: Sequence[int], action: int = START) -> bytes:
    """Start the waves of these types, at most 8, or stop them all (M1017617 chapter 4)."""
    types = bytes(kinds)
    types += bytes([END_OF_LIST]) if len(types) < 8 else b""
    part = struct.pack("<hh", action, 0) + types.ljust(28, b"\0")
    return encode(WAVE, [(0, part)])


def alarm_request(command: int) -> bytes:
    """Ask for alarms once, as they change, or no more (M1017617 chapter 5)."""
    return encode(ALARM, [(0, struct.pack("<h10x", command))])


ASK_VALUES = frame(phdb_request(DISPLAYED_EVERY_S))
ASK_WAVES = frame(wave_request(tuple(WAVES)))
ASK_ALARMS = frame(alarm_request(ALARM_ON_CHANGE))
ASK = ASK_VALUES + ASK_WAVES + ASK_ALARMS
STOP_ALL = (
    frame(wave_request((), STOP))
    + frame(phdb_request(0, classes=0))
    + frame(alarm_request(ALARM_OFF))
)


def encode_wave(counts: NDArray[np.integer], status: int = 0, label: int = 0) -> bytes:
    """A wave subrecord of int counts `[n]`."""
    data = np.asarray(counts).astype("<i2").tobytes()
    return WAVE_HEADER.pack(len(counts), status, label) + data


def parse_wave(data: bytes) -> tuple[NDArray[np.float64], int, int]:
    """Counts `[n]`, NaN where there is no measurement, status, and label. Raises `Malformed`."""
    if len(data) < WAVE_HEADER.size:
        raise Malformed("wave length")
    n, status, label = WAVE_HEADER.unpack_from(data)
    if len(data) != WAVE_HEADER.size + 2 * n:
        raise Malformed("wave length")
    counts = np.frombuffer(data, "<i2", n, WAVE_HEADER.size).astype(np.float64)
    counts[counts <= NO_SAMPLE] = np.nan
    if status & WAVE_LEAD_OFF:
        counts[:] = np.nan
    return counts, status, label


def encode_alarms(alarms: Sequence[tuple[str, int]]) -> bytes:
    """An alarm status subrecord of at most five (text, colour)."""
    boxes = b"".join(
        text.encode("latin-1")[:TEXT_BYTES].ljust(TEXT_BYTES, b"\0")
        + struct.pack("<hhh12x", 1, colour, 1)
        for text, colour in alarms
    )
    return (bytes(10) + boxes).ljust(ALARM_BYTES, b"\0")


def parse_alarms(data: bytes) -> dict[str, Priority]:
    """The alarms shown, by their texts. Raises `Malformed`."""
    if len(data) < ALARM_BYTES:
        raise Malformed("alarm length")
    shown: dict[str, Priority] = {}
    for at in ALARM_BOXES:
        raw = data[at : at + TEXT_BYTES].split(b"\0")[0].decode("latin-1")
        text = " ".join("".join(c if c.isprintable() else " " for c in raw).split())
        (colour,) = struct.unpack_from("<h", data, at + TEXT_BYTES + 2)
        if text and colour in COLOURS:
            shown.setdefault(text, COLOURS[colour])  # sorted, the highest first
    return shown


class Decoder:
    """Bytes in; samples, measurements, alerts and renewed requests out."""

    def __init__(self) -> None:
        self._deframer: Deframer[list[Message]] = Deframer(self._read)
        self._duplicates = 0
        self._lost = 0
        self._last: Record | None = None
        self._numbers: dict[int, int] = {}  # the last record number of each kind
        self._ends: dict[str, int] = {}  # of each feed, the number of its next sample
        self._heard_s: dict[int, int] = {}  # when values and waves were last heard
        self._alarms: dict[str, Priority] = {}
        self._damaged = 0  # records, as of the last one
        self._is_torn = False  # since then something was lost
        self._asked_s: int | None = None
        self._ecg1 = ""  # its channel, by the last values
        self._ecg1_label: int | None = None  # of its last wave
        self._lead_in_doubt = True
        self._true: set[tuple[Condition, str]] = set()  # conditions, and who says so

    @property
    def counters(self) -> Counters:
        """Totals since the decoder was made; `lost` counts samples."""
        return Counters(
            **self._deframer.tally,
            duplicates=self._duplicates,
            lost=self._lost,
            rejects=dict(self._deframer.rejects),
        )

    def feed(self, data: bytes) -> list[Message]:
        """Take the next bytes as they came. Never raises."""
        return [message for found in self._deframer.feed(data) for message in found]

    def _read(self, record: Record) -> list[Message]:
        """What one record says. Raises `Malformed` before anything is remembered of it."""
        waves: list[tuple[Feed, NDArray[np.float64], int, int]] = []
        values: list[Phdb] = []
        alarms: list[dict[str, Priority]] = []
        for part_type, part in record.parts:
            if record.kind == WAVE and part_type in WAVES:
                waves.append((WAVES[part_type], *parse_wave(part)))
            elif record.kind == PHDB and part_type == phdb.DISPLAYED:
                values.append(phdb.parse(part))
            elif record.kind == ALARM and part_type == ALARM_STATUS:
                alarms.append(parse_alarms(part))
        if record == self._last:
            self._duplicates += 1
            return []
        missing = self._missing(record)
        out: list[Message] = []
        for feed, counts, status, label in waves:
            out += self._wave(feed, counts, status, label, missing)
        for data in values:
            if (ecg := data.groups.get("ecg")) is not None:
                lead = phdb.ecg_lead(ecg.label, 1)
                self._ecg1, self._lead_in_doubt = f"{ECG}_{lead}" if lead else "", False
            out += numerics(data)
            for condition, is_true in conditions(data):
                out += self._condition(condition, "values", is_true, data.time_s)
        for shown in alarms:
            out += self._shown(shown, record.time_s)
        return out + self._asked_again(record) + self._alarms_again(record.time_s, missing)

    def _missing(self, record: Record) -> int:
        """How many records before this one were lost, modulo 256."""
        before = [self._numbers.get(record.kind)]
        before += [self._last.number] if self._last is not None else []
        gaps = [(record.number - number - 1) % 256 for number in before if number is not None]
        self._last = record
        self._numbers[record.kind] = record.number
        gap = min(gaps, default=0)
        return 0 if gap == 255 else gap  # the same number again: this one does not count

    def _wave(
        self, feed: Feed, counts: NDArray[np.float64], status: int, label: int, missing: int
    ) -> list[Message]:
        is_ecg1 = feed is WAVES[ECG1]
        if is_ecg1:
            self._doubt_lead(label)
        if not len(counts):
            return []
        lost = 0
        if feed.name in self._ends:
            lost = missing * len(counts) or status & WAVE_GAP  # a gap of unknown length is one
        seq = self._ends.get(feed.name, 0) + lost
        self._ends[feed.name] = seq + len(counts)
        self._lost += lost
        samples = (counts * feed.lsb).astype(np.float32)[:, None]
        if is_ecg1 and self._lead_in_doubt:
            samples[:] = np.nan
        channels = (self._ecg1,) if is_ecg1 else ()
        block = SampleBlock(seq, lost, feed.rate_hz, feed.unit, samples, feed.name, channels)
        return [block, *self._lead_off(feed, bool(status & WAVE_LEAD_OFF))]

    def _doubt_lead(self, label: int) -> None:
        """The label of a wave changes with its lead, before values say which one it is now."""
        self._lead_in_doubt |= self._ecg1_label not in (None, label)
        self._ecg1_label = label

    def _lead_off(self, feed: Feed, off: bool) -> list[Message]:
        """A wave says at once what the next displayed values would say up to 5 s later."""
        if feed.channels != (LEADS_OFF.channel,):
            return []
        out = self._condition(LEADS_OFF, "wave", off, None)
        if off and out:
            out.append(numeric("MDC_ECG_HEART_RATE", None, Validity.UNAVAILABLE))
        return out

    def _condition(
        self, condition: Condition, who: str, is_true: bool, time_s: int | None
    ) -> list[Message]:
        was = any(c is condition for c, _ in self._true)
        (self._true.add if is_true else self._true.discard)((condition, who))
        now = any(c is condition for c, _ in self._true)
        if was == now:
            return []
        device_ns = None if time_s is None else time_s * NS_PER_S
        return [
            Alert(condition.code, condition.kind, condition.priority, now, condition.text,
                  condition.channel, device_ns)
        ]  # fmt: skip

    def _shown(self, shown: dict[str, Priority], time_s: int) -> list[Message]:
        """The monitor's own alarms. They have no code but their text, in the monitor's language,
        and do not say what kind they are (8005313 table 4-3)."""
        ended = [(t, p, False) for t, p in self._alarms.items() if t not in shown]
        begun = [(t, p, True) for t, p in shown.items() if self._alarms.get(t) is not p]
        self._alarms = shown
        return [
            Alert(f"ge-s5:{text}", AlertKind.OTHER, priority, active, text, "", time_s * NS_PER_S)
            for text, priority, active in ended + begun
        ]

    def _asked_again(self, record: Record) -> list[Message]:
        out: list[Message] = []
        for kind, request in ((PHDB, ASK_VALUES), (WAVE, ASK_WAVES)):
            silent_s = record.time_s - self._heard_s.setdefault(kind, record.time_s)
            if kind == record.kind or not 0 <= silent_s < ASK_AGAIN_S:
                self._heard_s[kind] = record.time_s
            if kind != record.kind and ASK_AGAIN_S <= silent_s < JUMP_S:
                out.append(Send(request))
        return out

    def _alarms_again(self, time_s: int, missing: int) -> list[Message]:
        """At most once a second, and not before the line is whole again."""
        damaged = sum(self._deframer.rejects.values())
        self._is_torn |= missing > 0 or damaged > self._damaged
        self._damaged = damaged
        if not self._is_torn or time_s == self._asked_s:
            return []
        self._is_torn, self._asked_s = False, time_s
        return [Send(ASK_ALARMS)]


# M1017617: requests may come at any time and replace the ones before (chapters 3 and 4); values
# come every 5 s (chapter 3), waves at least every second (8005313, 5.2).
_TABLE = {
    **usual(State.LISTENING, State.STARTING, State.STREAMING),
    (State.CLOSED, Event.OPENED): Step(State.STARTING, ASK),
    (State.CLOSED, Event.JOINED): Step(State.LISTENING),
    (State.LISTENING, Event.TIMEOUT): Step(State.STARTING, ASK),
}

DEVICE = Device(
    name="ge-s5",
    title="GE Datex-Ohmeda S/5 computer interface (S/5, CARESCAPE, B-series)",
    spec='GE "S/5 Computer Interface Specification" M1017617 12th edition and "Datex-Ohmeda Record '
    'Specification" 8005313 12th edition',
    wire=WIRE,
    dialogue=Dialogue(
        table=_TABLE,
        # Longer than the 5 s between two sets of values of a monitor that sends no waves.
        timeout_s={
            State.LISTENING: DISPLAYED_EVERY_S + 1.0,
            State.STARTING: DISPLAYED_EVERY_S + 1.0,
            State.STREAMING: DISPLAYED_EVERY_S + 1.0,
        },
        stop=STOP_ALL,
        beats={
            State.STARTING: (Beat(2.0, ASK),),
            State.STREAMING: (Beat(ALARMS_EVERY_S, frame(alarm_request(ALARM_NOW))),),
        },
    ),
    decoder=Decoder,
    feeds=tuple(WAVES.values()),
    numerics=NUMERICS,
    proved_by="a trend record of 2009 decodes to what LNhealth asserts and VSCaptureWave, run by "
    "hand, prints; requests are those of the specification's examples and of VSCaptureWave",
    unproved="a real monitor; alarm records; the scale of ECG waves (1 uV a count in the "
    "specification and LNhealth, 10 uV in VSCaptureWave); whether record numbers count all records",
)
