"""Philips IntelliVue monitors, Data Export on the MIB/RS232 port and on the network: dialogue and
decoder.

Implements "IntelliVue Data Export Interface Programming Guide" (4535 642 59271). We ask for an
association, answer the event by which the monitor introduces itself, say which waves we want, and
poll for values, waves and alarms for `POLL_S` at a time, one of them anew every `POLL_EVERY_S`:
long before a poll ends, and before the association does (10 s without a message from us is the
least that the guide knows).

Samples are placed by the monitor's relative time, whose steps must be whole messages: what is
missing is counted, what comes twice or too late is dropped, unless nothing else comes any more:
then that time was set back, which is a gap. A cuff pressure that stood on the screen before we
came, for `OLD_NS` or longer or nobody says since when, is QUESTIONABLE: it is of the past.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from firmware_bridge.devices import philips_association as association
from firmware_bridge.devices import philips_messages as wire
from firmware_bridge.devices import philips_values as values
from firmware_bridge.devices.philips_frames import Datagrams, Deframer, frame
from firmware_bridge.session import Beat, Dialogue, Event, State, Step, usual
from firmware_bridge.types import (
    Alert,
    Counters,
    Device,
    Numeric,
    SampleBlock,
    Send,
    Sign,
    Validity,
    Wire,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from firmware_bridge.devices.philips_messages import Operation, PollResult
    from firmware_bridge.devices.philips_values import Alarm, Wave
    from firmware_bridge.types import AlertKind, Message

SERIAL = Wire(115_200)

POLL_S = 30.0
POLL_EVERY_S = 1.5
# Class, poll number, attribute group.
POLLS = (
    (wire.VALUES, 1, 0),
    (wire.WAVES, 2, 0),
    (wire.ALARM_MONITOR, 3, wire.ALARM_GROUP),
)
MAX_OBJECTS = 256  # of which attributes are remembered
OLD_NS = 60_000_000_000
MAX_LATE = 16  # messages of one wave, 4 s
_ENDS = {
    association.REFUSE: "the monitor refuses: it may serve another client",
    association.ABORT: "the monitor aborts the association",
    association.FINISH: "the monitor ends the association",
}
HALF_CLOCK = 1 << 31  # of the relative time, which wraps after 149 hours


def poll(count: int) -> bytes:
    """One of the polls, in turn."""
    object_class, number, group = POLLS[count % len(POLLS)]
    return wire.extended_poll(object_class, count, POLL_S, number, group)


def _as_it_is(message: bytes) -> bytes:
    return message


class Decoder:
    """Bytes or datagrams in; samples, measurements, alerts, answers and signs out."""

    def __init__(self, *, serial: bool = True) -> None:
        read = self._read
        self._messages: Deframer[list[Message]] | Datagrams[list[Message]]
        self._messages = Deframer(read) if serial else Datagrams(read)
        self._wrap: Callable[[bytes], bytes] = frame if serial else _as_it_is
        self._accepted = False
        self._created = False
        self._known: dict[tuple[int, int], dict[int, bytes]] = {}  # attributes of each object
        self._runs: dict[str, _Run] = {}  # by feed
        self._once: dict[str, Numeric] = {}  # what was said of measurements made now and then
        self._alarms: dict[bool, dict[tuple[str, str, int, AlertKind], Alarm]] = {}  # of each list
        self._tally: Counter[str] = Counter()
        self._unused: Counter[str] = Counter()

    @property
    def counters(self) -> Counters:
        """Totals since the decoder was made; `lost` and `duplicates` count samples and messages of
        waves. What the monitor refuses to do, and what cannot be used of a message whose rest can,
        is among the rejects."""
        rejects = dict(self._messages.rejects + self._unused)
        return Counters(**self._messages.tally, **self._tally, rejects=rejects)

    def feed(self, data: bytes) -> list[Message]:
        """Take the next bytes, or one whole datagram. Never raises."""
        return [message for found in self._messages.feed(data) for message in found]

    def _read(self, data: bytes) -> list[Message]:
        """What one message says. Raises `Malformed`."""
        kind = association.kind_of(data)
        if kind is None:
            return self._operation(wire.parse_message(data))
        if kind == association.ACCEPT:
            return self._accept(association.parse_accept(data))
        if kind in _ENDS:
            answer = [Send(self._wrap(association.RELEASED))] if kind == association.FINISH else []
            return [*answer, Sign(Event.REFUSED, _ENDS[kind])]
        return [Sign(Event.ALIVE)]

    def _accept(self, profile: association.Profile) -> list[Message]:
        first, self._accepted = not self._accepted, True
        detail = f"a poll every {profile.min_poll_ms:.0f} ms at most"
        return [Sign(Event.READY if first else Event.ALIVE, detail)]

    def _operation(self, operation: Operation) -> list[Message]:
        if operation.kind == wire.ROIV and operation.operation == wire.MDS_CREATED:
            return self._introduced(operation)
        if operation.kind == wire.ROER:
            self._unused["refused by the monitor"] += 1
        elif operation.kind != wire.ROIV and operation.operation in wire.POLL_ACTIONS:
            return self._polled(wire.parse_poll(operation)) or [Sign(Event.ALIVE)]
        return [Sign(Event.ALIVE)]

    def _introduced(self, event: Operation) -> list[Message]:
        """The monitor introduces itself once it accepted; it waits for the answer."""
        out: list[Message] = []
        if event.command == wire.CONFIRMED_EVENT:
            out.append(Send(self._wrap(wire.created(event))))
        if self._created or not self._accepted:
            return [*out, Sign(Event.ALIVE)]
        self._created = True
        wanted = wire.set_wave_priorities(values.WAVE_LABELS, invoke=len(POLLS))
        asked = [wanted, *(poll(count) for count in range(len(POLLS)))]
        return [*out, *(Send(self._wrap(message)) for message in asked), Sign(Event.READY)]

    def _polled(self, result: PollResult) -> list[Message]:
        """All that a poll result says; it is parsed before anything is remembered of it."""
        found: list[Numeric] = []
        waves: list[Wave] = []
        shown: list[tuple[bool, list[Alarm]]] = []
        for polled in result.objects:
            known = self._remembered((polled.context, polled.handle), polled.attributes)
            found += values.numerics(known, result.clock_ns)
            waves += self._usable(known)
            for code in (values.PATIENT_ALARMS, values.TECHNICAL_ALARMS):
                if code in known:
                    technical = code == values.TECHNICAL_ALARMS
                    shown.append((technical, values.alarms(known[code], technical)))
        out: list[Message] = []
        for value in found:
            out += self._news(value, result.clock_ns)
        for wave in waves:
            out += self._placed(wave, result.ticks)
        for technical, alarms in shown:
            out += self._changes(technical, alarms, result.clock_ns)
        return out

    def _usable(self, known: Mapping[int, bytes]) -> list[Wave]:
        try:
            return values.waves(known)
        except values.Unusable as why:
            self._unused[str(why)] += 1
            return []

    def _remembered(self, object_id: tuple[int, int], new: Mapping[int, bytes]) -> dict[int, bytes]:
        """What came, with what came before and need not come again."""
        before = self._known.get(object_id, {})
        known = {**before, **new}
        if object_id in self._known or len(self._known) < MAX_OBJECTS:
            self._known[object_id] = {k: v for k, v in known.items() if k in values.STATIC}
        return known

    def _news(self, value: Numeric, clock_ns: int | None) -> list[Numeric]:
        """The value, unless it is one made now and then that was said before, at its time."""
        if value.channel not in values.MEASURED_ONCE:
            return [value]
        before = self._once.get(value.channel)
        self._once[value.channel] = value
        if before is None and value.value is not None and _may_be_old(value.device_ns, clock_ns):
            return [replace(value, validity=Validity.QUESTIONABLE)]
        return [value] if value != before else []

    def _placed(self, wave: Wave, ticks: int) -> list[Message]:
        run = self._runs.setdefault(wave.feed.name, _Run())
        lost = run.lost_before(len(wave.samples), wave.period_ticks, ticks)
        if lost is None:
            self._tally["duplicates"] += 1
            return []
        seq = run.end + lost
        run.end, run.ticks = seq + len(wave.samples), ticks
        self._tally["lost"] += lost
        samples = wave.samples.astype(np.float32)[:, None]
        feed = wave.feed
        return [SampleBlock(seq, lost, feed.rate_hz, feed.unit, samples, feed.name)]

    def _changes(self, technical: bool, shown: list[Alarm], clock_ns: int | None) -> list[Message]:
        """What began, changed its priority or ended in one list. A text alone that changes is not
        said: it often tells the present value."""
        before = self._alarms.get(technical, {})
        now = {alarm.key: alarm for alarm in shown}
        self._alarms[technical] = now
        ended = [(alarm, False) for key, alarm in before.items() if key not in now]
        begun = [
            (alarm, True)
            for key, alarm in now.items()
            if key not in before or before[key].priority is not alarm.priority
        ]
        return [
            Alert(a.code, a.kind, a.priority, active, a.text, a.channel, clock_ns)
            for a, active in ended + begun
        ]


def _may_be_old(measured_ns: int | None, now_ns: int | None) -> bool:
    return measured_ns is None or (now_ns is not None and now_ns - measured_ns >= OLD_NS)


class _Run:
    """Where one feed's samples are: the number of the next, the time of the last message."""

    def __init__(self) -> None:
        self.end = 0
        self.ticks: int | None = None
        self._late = 0  # messages in a row

    def lost_before(self, n: int, period_ticks: int, ticks: int) -> int | None:
        """How many samples are missing before a message of `n`, in whole messages; None where it
        is one of before."""
        if self.ticks is None:
            return 0
        passed = (ticks - self.ticks) % (2 * HALF_CLOCK)
        if passed == 0 or passed >= HALF_CLOCK:
            self._late += 1
            if self._late < MAX_LATE:
                return None
            passed = 0
        self._late = 0
        if not passed:
            return n  # a gap of unknown length is one message
        return max(0, round(passed / (n * period_ticks)) - 1) * n


def lan_decoder() -> Decoder:
    """A decoder of datagrams."""
    return Decoder(serial=False)


# Guide, "Association Control Protocol" and "Protocol State Machine": request, acceptance, the
# monitor's create event, its answer, then polls.
def _dialogue(wrap: Callable[[bytes], bytes]) -> Dialogue:
    request = wrap(association.connect())
    polls = (Beat(POLL_EVERY_S, lambda count: wrap(poll(count))),)
    return Dialogue(
        table={
            **usual(State.ASSOCIATING, State.CONFIGURING, State.STARTING, State.STREAMING),
            (State.CLOSED, Event.OPENED): Step(State.ASSOCIATING, request, forget=True),
            (State.CLOSED, Event.JOINED): Step(State.ASSOCIATING, request, forget=True),
            (State.ASSOCIATING, Event.READY): Step(State.CONFIGURING),
            (State.CONFIGURING, Event.READY): Step(State.STARTING),
            # What was polled by an association before ours, or answers to no purpose.
            (State.ASSOCIATING, Event.FRAMES): Step(State.ASSOCIATING, rearm=False),
            (State.CONFIGURING, Event.FRAMES): Step(State.CONFIGURING, rearm=False),
            (State.STREAMING, Event.ALIVE): Step(State.STREAMING),
        },
        # Values come every second.
        timeout_s={
            State.ASSOCIATING: 5.0,
            State.CONFIGURING: 5.0,
            State.STARTING: 10.0,
            State.STREAMING: 2.0,
        },
        stop=wrap(association.RELEASE),
        beats={
            State.ASSOCIATING: (Beat(2.0, request),),
            State.STARTING: polls,
            State.STREAMING: polls,
        },
    )


_SPEC = 'Philips "IntelliVue Data Export Interface Programming Guide" 4535 642 59271'
_PROVED = (
    "VSCaptureMP: its requests are ours byte for byte, and, run by hand, it reads the poll result "
    "from which 72 beats and 97.5 % are decoded here; mdpnp over UDP, by hand: its simulated "
    "monitor accepts association, wave priorities and polls and is read here, its host reads "
    "values, waves and alarms of the emulator"
)
_UNPROVED = (
    "a real monitor; waves and alarms that another program made; the spacing of relative times; "
    "the idle time"
)

DEVICE = Device(
    name="philips-intellivue",
    title="Philips IntelliVue, MIB/RS232 Data Export",
    spec=_SPEC,
    wire=SERIAL,
    dialogue=_dialogue(frame),
    decoder=Decoder,
    feeds=tuple(values.WAVES.values()),
    numerics=values.CHANNELS,
    proved_by=_PROVED,
    unproved=_UNPROVED,
)
DEVICE_LAN = Device(
    name="philips-intellivue-lan",
    title="Philips IntelliVue, network Data Export (UDP port 24105)",
    spec=_SPEC,
    wire=SERIAL,
    dialogue=_dialogue(_as_it_is),
    decoder=lan_decoder,
    feeds=DEVICE.feeds,
    numerics=DEVICE.numerics,
    datagrams=True,
    proved_by=_PROVED,
    unproved=_UNPROVED,
)
