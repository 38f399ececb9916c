"""Draeger ventilators and anaesthesia machines over MEDIBUS and MEDIBUS.X: values and dialogue.

Implements Draeger "RS 232 MEDIBUS Protocol Definition" 4.03 / 6.00 (90 28 258) and MEDIBUS.X
(9052607, 9052608) as two public readers do; see `medibus_frames` (channels, checksums),
`medibus_records` (layouts) and `medibus_codes` (codes). 19200 8E1; some models are set otherwise.

After ICC and the device's identity the realtime configuration is asked for, up to four of its
streams are configured and enabled, and then one thing is polled every 0.25 s, the configuration
too: where no records came, its streams are set up again. These polls are the sign of life that NOP
is where nothing is asked. The times are from memory, not from a text: a link
silent for 3 s is lost, a sign of life is due after 2 s, an answer may take 10 s to begin.

The device may command as well: ICC, NOP, identity, time changed and stop are answered, a new
realtime configuration is fetched and set up again, a damaged command is answered with NAK. What was
measured and is not in the next answer any more is unavailable, what is measured in standby or in a
test is invalid, waves too. The texts say so, which come 1 s after the rest begins: until they are
read, values are questionable and waves have no samples. `device_ns` is the device's clock as it was
last read, at most one round before.
Limits and settings are checked when they come, and not asked for: values have no place for them.

A realtime stream has no numbers: each record that is damaged counts as one lost sample of each of
its streams, and more cannot be seen.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from firmware_bridge.devices import medibus_codes as codes
from firmware_bridge.devices import medibus_records as records
from firmware_bridge.devices.medibus_frames import Record, Splitter, command, response
from firmware_bridge.nomenclature import numeric
from firmware_bridge.session import Beat, Dialogue, Event, State, Step, usual
from firmware_bridge.types import (
    Alert,
    AlertKind,
    Counters,
    Device,
    Feed,
    Priority,
    SampleBlock,
    Send,
    Sign,
    Validity,
    Wire,
)

if TYPE_CHECKING:
    from firmware_bridge.devices.medibus_codes import Term
    from firmware_bridge.devices.medibus_frames import Frame
    from firmware_bridge.devices.medibus_records import Stream
    from firmware_bridge.types import Message

WIRE = Wire(19_200, "E")

NAK, ALARMS_CP3, MEASURED_CP1, LOW_CP1, HIGH_CP1, ALARMS_CP1 = 0x15, 0x23, 0x24, 0x25, 0x26, 0x27
CLOCK, SETTINGS, TEXTS, MEASURED_CP2, LOW_CP2, HIGH_CP2 = 0x28, 0x29, 0x2A, 0x2B, 0x2C, 0x2D
ALARMS_CP2, NOP, TIME_CHANGED, ICC, IDENTITY = 0x2E, 0x30, 0x49, 0x51, 0x52
REALTIME, CONFIGURE_REALTIME, STOP, REALTIME_CHANGED = 0x53, 0x54, 0x55, 0x56
LIMITS = (LOW_CP1, HIGH_CP1, LOW_CP2, HIGH_CP2)
ALARM_PAGES = {ALARMS_CP1: "cp1", ALARMS_CP2: "cp2", ALARMS_CP3: "cp3"}

ENABLE_STREAMS = bytes.fromhex("D0 C1 CF C0 C0")
MAX_STREAMS = 4
OUR_IDENTITY = b"0000'medge'01.00:04.03"
POLL_S, SIGN_OF_LIFE_S, SILENT_S, ANSWER_S = 0.25, 2.0, 3.0, 10.0


@dataclass(frozen=True, slots=True)
class Dialect:
    """What one of the two protocols has: measured terms, codes known besides, and the polls."""

    cp1: Mapping[int, Term]
    cp1_known: frozenset[int]
    cp2: Mapping[int, Term]
    cp2_known: frozenset[int]
    polls: tuple[int, ...]

    def poll(self, count: int) -> bytes:
        """The next of the polls."""
        return command(self.polls[count % len(self.polls)])


def _polls(*last_of_round: int) -> tuple[int, ...]:
    rounds = [(CLOCK, MEASURED_CP1, ALARMS_CP1, last) for last in last_of_round]
    return tuple(code for one in rounds for code in one)


CLASSIC = Dialect(
    codes.MEASURED_CP1, codes.KNOWN_CP1, codes.MEASURED_CP2, codes.KNOWN_CP2,
    _polls(TEXTS, MEASURED_CP2, ALARMS_CP2, REALTIME),
)  # fmt: skip
X = Dialect(
    {**codes.MEASURED_CP1, **codes.MEASURED_X}, codes.KNOWN_X, codes.MEASURED_CP2,
    codes.KNOWN_CP2_X, _polls(TEXTS, MEASURED_CP2, ALARMS_CP2, ALARMS_CP3, REALTIME),
)  # fmt: skip


class Decoder:
    """Bytes in; values, alerts, answers and signs out. Memory is that of `Splitter`."""

    def __init__(self, dialect: Dialect) -> None:
        self._dialect = dialect
        self._splitter = Splitter()
        self._clock_ns: int | None = None
        self._greeted = self._identified = False
        self._told: dict[int, set[str]] = {}  # channels by the response that brought them
        self._alerts: dict[str, dict[int, Alert]] = {}  # by page and code
        self._waves: list[_Wave] = []
        self._running = False  # records came since the configuration was last asked for
        self._unconfirmed = False  # other streams were chosen: records may still be of those before
        self._out: list[Message] = []

    @property
    def counters(self) -> Counters:
        """Totals since the decoder was made."""
        return Counters(**self._splitter.tally, rejects=dict(self._splitter.rejects))

    def feed(self, data: bytes) -> list[Message]:
        """Take the next bytes as they came and return what they complete. Never raises."""
        for item in self._splitter.feed(data):
            if isinstance(item, Record):
                self._take_record(item)
            elif item.is_command:
                self._take_command(item)
            else:
                self._take_response(item)
        for wave in self._waves:
            wave.give(self._out)
        out, self._out = self._out, []
        return out

    def _reject(self, reason: str) -> None:
        self._splitter.rejects[reason] += 1

    def _take_command(self, frame: Frame) -> None:
        """What the device asks of us; commands we do not know are answered all the same."""
        if frame.damaged:
            self._out.append(Send(response(NAK)))
            return
        answer = OUR_IDENTITY if frame.code == IDENTITY else b""
        self._out.append(Send(response(frame.code, answer)))
        if frame.code == ICC:
            self._greeted, self._identified = True, False
            if self._alerts.get("texts") == {}:
                del self._alerts["texts"]  # it may be in standby when it has begun anew
            self._out.append(Sign(Event.READY))
        elif frame.code == STOP:
            self._out.append(Sign(Event.REFUSED, "the device has ended the communication"))
        else:
            if frame.code == REALTIME_CHANGED:
                self._running = False
                self._out.append(Send(command(REALTIME)))
            self._out.append(Sign(Event.ALIVE))

    def _take_response(self, frame: Frame) -> None:
        before = len(self._out)
        if frame.code in (MEASURED_CP1, MEASURED_CP2):
            self._take_measured(frame)
        elif frame.code in ALARM_PAGES:
            self._take_alarms(ALARM_PAGES[frame.code], frame.data)
        elif frame.code == TEXTS:
            self._take_texts(frame.data)
        elif frame.code == CLOCK:
            now_ns = records.clock_ns(frame.data)
            self._clock_ns = now_ns if now_ns is not None else self._clock_ns
            if now_ns is None:
                self._reject("clock")
        elif frame.code in LIMITS and records.readings(frame.data) is None:
            self._reject("reading")
        elif frame.code == SETTINGS:
            if records.readings(frame.data, records.SETTING_CHARS) is None:
                self._reject("setting")
        else:
            self._take_set_up(frame)
        if len(self._out) == before:
            self._out.append(Sign(Event.ALIVE))

    def _take_set_up(self, frame: Frame) -> None:
        """Answers to our own way up: each moves the dialogue once."""
        if frame.code == ICC and not self._greeted:
            self._greeted = True
            self._out.append(Sign(Event.READY))
        elif frame.code == IDENTITY and not self._identified:
            self._identified = True
            found = records.identity(frame.data)
            self._out.append(Sign(Event.READY, "" if found is None else found[1]))
        elif frame.code == REALTIME:
            self._configure_realtime(frame.data)
        elif frame.code == CONFIGURE_REALTIME and self._waves:
            self._unconfirmed = False
            self._out.append(Send(ENABLE_STREAMS))

    def _configure_realtime(self, data: bytes) -> None:
        streams = records.streams(data)
        if streams is None:
            self._reject("stream")
            return
        offered = {stream.code: stream for stream in streams}
        wanted = [offered[code] for code in codes.WAVES if code in offered][:MAX_STREAMS]
        was_running, self._running = self._running, False
        if was_running and wanted == [wave.stream for wave in self._waves]:
            return
        for wave in self._waves:
            wave.give(self._out)
        self._unconfirmed |= wanted != [wave.stream for wave in self._waves]
        before = {wave.stream.code: wave for wave in self._waves}
        self._waves = [before.get(stream.code, _Wave(stream)) for stream in wanted]
        for wave, stream in zip(self._waves, wanted):
            wave.stream = stream  # its range may be another now
        if wanted:
            choice = "".join(f"{stream.code:02X}01" for stream in wanted)
            self._out.append(Send(command(CONFIGURE_REALTIME, choice.encode())))

    def _take_record(self, record: Record) -> None:
        unknown = any(stream >= len(self._waves) for stream in record.readings)
        if record.damaged or unknown or self._unconfirmed:
            if not record.damaged and self._waves:
                self._reject("stream")
            for wave in self._waves:
                self._splitter.tally["lost"] += wave.lose(self._out)
            return
        self._running = True
        is_patient = self._alerts.get("texts") == {}  # read, and none of them says otherwise
        for stream, count in record.readings.items():
            self._waves[stream].take(count if is_patient else None)

    def _take_measured(self, frame: Frame) -> None:
        readings = records.readings(frame.data)
        if readings is None:
            self._reject("reading")
            return
        first = frame.code == MEASURED_CP1
        table = self._dialect.cp1 if first else self._dialect.cp2
        known = self._dialect.cp1_known if first else self._dialect.cp2_known
        seen: set[str] = set()
        for code, value in readings:
            if code not in table:
                if code not in known:
                    self._reject("code")
            elif table[code].channel not in seen:
                seen.add(table[code].channel)
                self._tell(table[code], value)
        for channel in sorted(self._told.get(frame.code, set()) - seen):
            self._out.append(numeric(channel, None, Validity.UNAVAILABLE, self._clock_ns))
        self._told[frame.code] = seen

    def _tell(self, term: Term, value: float | None) -> None:
        texts = self._alerts.get("texts")
        validity = Validity.UNAVAILABLE
        if value is not None and texts is None:
            validity = Validity.QUESTIONABLE  # whether it ventilates has not been said yet
        elif value is not None:
            validity = Validity.INVALID if texts else Validity.VALID
        scaled = None if value is None else value * term.factor
        self._out.append(numeric(term.channel, scaled, validity, self._clock_ns))

    def _take_alarms(self, page: str, data: bytes) -> None:
        alarms = records.alarms(data)
        if alarms is None:
            self._reject("alarm")
            return
        now = {}
        for alarm in alarms:
            event, kind, channel = codes.alert_of(page, alarm.code)
            priority = codes.priority_of(alarm.priority)
            now[alarm.code] = Alert(
                event, kind, priority, True, alarm.phrase, channel, self._clock_ns
            )
        self._change_alerts(page, now)

    def _take_texts(self, data: bytes) -> None:
        texts = records.texts(data)
        if texts is None:
            self._reject("text")
            return
        self._change_alerts(
            "texts",
            {
                code: Alert(f"medibus:text-{code:02X}", AlertKind.TECHNICAL, Priority.LOW, True,
                            what, "", self._clock_ns)
                for code, what in codes.NOT_VENTILATING.items() if code in texts
            },
        )  # fmt: skip

    def _change_alerts(self, page: str, now: dict[int, Alert]) -> None:
        """Tell what began, changed and ended on a page that always lists all that is on."""
        before = self._alerts.get(page, {})
        self._alerts[page] = now
        for code, alert in before.items():
            if code not in now and not any(_same(alert, other) for other in now.values()):
                self._out.append(replace(alert, active=False, device_ns=self._clock_ns))
        for code, alert in now.items():
            if code in before and replace(alert, device_ns=before[code].device_ns) == before[code]:
                self._alerts[page][code] = before[code]
            else:
                self._out.append(alert)


class _Wave:
    """The samples of one configured stream."""

    def __init__(self, stream: Stream) -> None:
        self.stream = stream
        self._seq = 0
        self._lost = 0
        self._values: list[float] = []

    def take(self, count: int | None) -> None:
        value = None if count is None else self.stream.value(count)
        self._values.append(math.nan if value is None else value)

    def lose(self, out: list[Message]) -> int:
        """A sample is missing; how many are: before the first one, none."""
        self.give(out)
        self._lost += self._seq > 0
        return int(self._seq > 0)

    def give(self, out: list[Message]) -> None:
        if not self._values:
            return
        name, term, unit = codes.WAVES[self.stream.code]
        samples = (np.array(self._values) * term.factor).astype(np.float32).reshape(-1, 1)
        seq, rate_hz = self._seq + self._lost, 1e6 / self.stream.interval_us
        out.append(SampleBlock(seq, self._lost, rate_hz, unit, samples, name))
        self._seq, self._lost, self._values = seq + len(samples), 0, []


def _same(a: Alert, b: Alert) -> bool:
    """Whether two alarms of the device are one condition here."""
    return (a.code, a.channel) == (b.code, b.channel)


# Definition 6.00: ICC opens, STOP ends; either side may begin. READY is an answer to ICC or to the
# question who the device is, or its own ICC, after which all is set up anew.
_TABLE = {
    **usual(State.ASSOCIATING, State.CONFIGURING, State.STARTING, State.STREAMING),
    (State.CLOSED, Event.OPENED): Step(State.ASSOCIATING, command(ICC)),
    (State.CLOSED, Event.JOINED): Step(State.ASSOCIATING, command(ICC)),
    (State.ASSOCIATING, Event.READY): Step(State.CONFIGURING, command(IDENTITY)),
    (State.ASSOCIATING, Event.FRAMES): Step(State.ASSOCIATING, rearm=False),
    (State.CONFIGURING, Event.READY): Step(State.STARTING, command(REALTIME)),
    (State.CONFIGURING, Event.FRAMES): Step(State.CONFIGURING, rearm=False),
    (State.CONFIGURING, Event.TIMEOUT): Step(State.STARTING, command(REALTIME)),
    (State.STARTING, Event.READY): Step(State.STARTING),
    (State.STARTING, Event.ALIVE): Step(State.STARTING),  # in standby, with nothing to say
    (State.STREAMING, Event.READY): Step(State.CONFIGURING, command(IDENTITY)),
    (State.STREAMING, Event.ALIVE): Step(State.STREAMING),
}


def _device(name: str, title: str, dialect: Dialect) -> Device:
    polls = (Beat(POLL_S, dialect.poll),)
    terms = [*dialect.cp1.values(), *dialect.cp2.values()]
    return Device(
        name=name,
        title=title,
        spec='Draeger "RS 232 MEDIBUS Protocol Definition" 6.00, as two public readers have it',
        wire=WIRE,
        dialogue=Dialogue(
            table=_TABLE,
            timeout_s={
                State.ASSOCIATING: SILENT_S,
                State.CONFIGURING: SILENT_S,
                State.STARTING: ANSWER_S,
                State.STREAMING: SILENT_S,
            },
            stop=command(STOP),
            beats={
                State.ASSOCIATING: (Beat(1.0, command(ICC)),),
                State.CONFIGURING: (Beat(SIGN_OF_LIFE_S, command(NOP)),),
                State.STARTING: polls,
                State.STREAMING: polls,
            },
        ),
        decoder=partial(Decoder, dialect),
        feeds=tuple(
            Feed(feed, (term.channel,), 0.0, unit, 0.0, -math.inf, math.inf)
            for feed, term, unit in codes.WAVES.values()
        ),
        numerics=tuple(dict.fromkeys(term.channel for term in terms)),
        proved_by="our requests are the bytes of VSCaptureDrgVent 8f2a707, which, run by hand, "
        "reads the MEDIBUS.X emulator",
        unproved="a real device; its times; the codes beyond the public tables",
    )


DEVICE = _device("medibus", "Draeger MEDIBUS", CLASSIC)
DEVICE_X = _device("medibus-x", "Draeger MEDIBUS.X", X)
