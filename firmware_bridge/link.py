"""Keeps one device connected: port, dialogue and decoder together, with reconnects.

Owns when to open, when to give up and when to try again. It has no clock, thread or sleep: every
call is told the time (monotonic nanoseconds), the caller's loop waits for `fileno()` or
`next_deadline_ns()`. What comes out are the device's values and texts, and whether it is there.
"""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import fields, replace
from typing import TYPE_CHECKING

from firmware_bridge.errors import DialogueError, LinkError
from firmware_bridge.ports import Connecting, is_once, look_every_s, peers_of
from firmware_bridge.ports import open_port as open_any
from firmware_bridge.session import NS_PER_S, Event, Session, State, earliest
from firmware_bridge.types import (
    Alert,
    Another,
    Counters,
    LinkCounters,
    LinkLost,
    LinkUp,
    Loss,
    Numeric,
    SampleBlock,
    Send,
    Sign,
    Text,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from firmware_bridge.ports import Port
    from firmware_bridge.types import Decoder, Device, LinkMessage, Message, Value, Wire

MAX_READS_PER_POLL = 16  # a flood must not keep the caller's loop
GARBAGE_BYTES = 128  # fewer unrecognised bytes than this are a torn frame, not garbage
GARBAGE_SHARE = 0.5  # of the bytes of each of `GARBAGE_RUN` seconds in a row: the line is not fit
GARBAGE_RUN = 3
RETRY_MAX_S = 5.0
CONNECT_S = 3.0  # a peer on the ward's network answers in milliseconds


def retry_delay_s(failures: int, random01: float) -> float:
    """Seconds to wait after `failures` in a row (1, 2, ...): 0.1-0.25, doubling, at most 5.

    `random01` in [0, 1) spreads many links that lost the same hub.
    """
    return min(RETRY_MAX_S, (0.1 + 0.15 * random01) * 2.0 ** min(failures - 1, 10))


class Link:
    """A device on a port, for as long as it is wanted; on a capture, until that is over.

    Its timeouts are of the caller's clock as they stand, at whatever speed that runs: they measure
    the patience with a device.

    `address` is one as `ports.open_port` takes it. `join` accepts a board that streams already,
    without the reset that makes its settings known. `seq` of each feed's samples goes on over a
    loss, moved on by the time it lasted.
    """

    def __init__(
        self,
        device: Device,
        address: str,
        *,
        join: bool = False,
        open_port: Callable[[str, Wire], Port | Connecting] = open_any,
        random01: Callable[[], float] | None = None,
    ) -> None:
        self._device = device
        self._address = address
        self._join = join
        self._open_port = open_port
        # Different for every port, the same in every run: a replay retries at the same times.
        self._random01 = random01 or random.Random(address).random
        self._port: Port | None = None
        self._connecting: tuple[Connecting, int] | None = None  # and until when
        self._session = Session(device.dialogue)
        self._decoder = device.decoder()
        self._past = Counters()  # of the decoders before this one
        self._tally: Counter[str] = Counter()
        self._losses: Counter[str] = Counter()
        self._failures = 0  # losses in a row, no link between them having lasted `RETRY_MAX_S`
        self._up_ns: int | None = None
        self._retry_at_ns: int | None = None
        self._look_at_ns: int | None = None
        self._is_once = False
        self._told: Loss | None = None  # the loss last reported
        self._unread_bytes = 0  # since the deadline was last set
        self._judged_ns = 0  # when the share of garbage was last looked at, what had come by then,
        self._judged = Counters()
        self._bad_seconds = 0  # and how often in a row it was too much
        self._feeds: dict[str, _Feed] = {}
        self._peers = 1
        self._held: dict[tuple[str, str], Alert] = {}  # said before the link was up

    @property
    def state(self) -> State:
        """Where the dialogue is; CLOSED while there is no port."""
        return self._session.state

    @property
    def counters(self) -> LinkCounters:
        """Totals since the link was made."""
        return LinkCounters(
            opens=self._tally["opens"],
            failed_opens=self._tally["failed_opens"],
            reconnects=max(0, self._tally["ups"] - 1),
            losses=dict(self._losses),
            stream=_sum(self._past, self._decoder.counters),
        )

    def fileno(self) -> int | None:
        """The descriptor to wait on for input, or None while there is no port."""
        if self._connecting is not None:
            return self._connecting[0].fileno()
        return None if self._port is None else self._port.fileno()

    def next_deadline_ns(self) -> int | None:
        """When `poll` wants to be called even if nothing comes in; None before `open`."""
        if self._connecting is not None:
            return self._connecting[1]
        if self._port is None:
            return self._retry_at_ns
        return earliest(self._session.next_ns(), self._look_at_ns)

    def open(self, now_ns: int) -> list[LinkMessage]:
        """Try to open the port for the first time. A failure is retried by `poll`, not raised."""
        if self.fileno() is not None or self._retry_at_ns is not None:
            raise DialogueError(f"link to {self._address} is open already")
        return self._connect(now_ns)

    def poll(self, now_ns: int) -> list[LinkMessage]:
        """Read what is there, act on what is due, and return what happened, in order.

        Call it when `fileno()` is readable and at `next_deadline_ns()`. It never blocks.
        """
        if self._connecting is not None:
            return self._settle(*self._connecting, now_ns)
        if self._port is None:
            due = self._retry_at_ns is not None and now_ns >= self._retry_at_ns
            return self._connect(now_ns) if due else []
        out: list[LinkMessage] = []
        try:
            self._look_later(self._port, now_ns)
            self._read(self._port, now_ns, out)
            if self._session.state is State.STREAMING:
                self._judge(now_ns, out)
            deadline_ns = self._session.deadline_ns
            if self._port is not None and deadline_ns is not None and now_ns >= deadline_ns:
                self._time_out(now_ns, out)
            if self._port is not None and (again := self._session.beat(now_ns)):
                self._port.write(again)
        except LinkError as error:
            self._lose(Loss.UNPLUGGED, str(error), now_ns, out)
        return out

    def close(self) -> None:
        """Stop the stream, if the device still listens, and close the port for good."""
        if self._port is not None:
            try:
                self._port.write(self._device.dialogue.stop)
            except LinkError:
                self._tally["unheard_stops"] += 1
        self._release()
        self._retry_at_ns = None

    def _connect(self, now_ns: int) -> list[LinkMessage]:
        self._retry_at_ns = None
        try:
            opened = self._open_port(self._address, self._device.wire)
        except LinkError as error:
            return self._not_opened(str(error), now_ns)
        if isinstance(opened, Connecting):
            self._connecting = opened, now_ns + int(CONNECT_S * NS_PER_S)
            return self._settle(*self._connecting, now_ns)
        return self._opened(opened, now_ns)

    def _settle(self, connecting: Connecting, until_ns: int, now_ns: int) -> list[LinkMessage]:
        try:
            port = connecting.settled()
        except LinkError as error:
            return self._not_opened(str(error), now_ns)
        if port is not None:
            self._connecting = None
            return self._opened(port, now_ns)
        if now_ns >= until_ns:
            how = f"no answer within {CONNECT_S:g} s"
            detail = f"{self._address} cannot be reached ({how}); check the network"
            return self._not_opened(detail, now_ns)
        return []

    def _not_opened(self, detail: str, now_ns: int) -> list[LinkMessage]:
        out: list[LinkMessage] = []
        self._tally["failed_opens"] += 1
        self._lose(Loss.ABSENT, detail, now_ns, out)
        return out

    def _opened(self, port: Port, now_ns: int) -> list[LinkMessage]:
        out: list[LinkMessage] = []
        self._port = port
        self._is_once = is_once(port)
        self._look_later(port, now_ns)
        self._tally["opens"] += 1
        try:
            self._on(Event.JOINED if self._join else Event.OPENED, now_ns)
        except LinkError as error:
            self._lose(Loss.UNPLUGGED, str(error), now_ns, out)
        return out

    def _read(self, port: Port, now_ns: int, out: list[LinkMessage]) -> None:
        for _ in range(MAX_READS_PER_POLL):
            data = port.read()
            if not data:
                return
            if (peers := peers_of(port)) != self._peers:
                if peers > self._peers and not self._device.outlives_calls:
                    self._reset_decoder()
                    self._begin_anew("another device has called", now_ns, out)
                self._peers = max(1, peers)
            self._unread_bytes += len(data)
            for message in self._decoder.feed(data):
                self._take(message, now_ns, out)
                if self._port is None:
                    return

    def _look_later(self, port: Port, now_ns: int) -> None:
        every_s = look_every_s(port)
        self._look_at_ns = None if every_s is None else now_ns + int(every_s * NS_PER_S)

    def _begin_anew(self, detail: str, now_ns: int, out: list[LinkMessage]) -> None:
        """Somebody else is there: values, alerts and the dialogue of the one before are over, which
        is a loss though the port stays."""
        if self._session.state is State.STREAMING:
            self._losses[Loss.ANOTHER.value] += 1
            out.append(LinkLost(now_ns, Loss.ANOTHER, detail))
        self._session = Session(self._device.dialogue)
        self._on(Event.JOINED if self._join else Event.OPENED, now_ns)

    def _take(self, message: Message, now_ns: int, out: list[LinkMessage]) -> None:
        if isinstance(message, (SampleBlock, Numeric, Alert)):
            self._take_value(message, now_ns, out)
        elif isinstance(message, Text):
            out.append(message)
            why = self._device.dialogue.refusal(message.text)
            self._sign(Event.READY if why is None else Event.REFUSED, why, now_ns, out)
        elif isinstance(message, Sign):
            self._sign(message.event, message.detail, now_ns, out)
        elif isinstance(message, Another):
            self._forget()
            self._begin_anew(message.detail, now_ns, out)
        else:
            assert isinstance(message, Send)
            if self._port is not None:
                self._port.write(message.data)

    def _sign(self, event: Event, detail: str | None, now_ns: int, out: list[LinkMessage]) -> None:
        self._on(event, now_ns)
        if self._session.state is State.LOST:
            self._lose(Loss.REFUSED, detail or "the device has reset itself", now_ns, out)

    def _take_value(self, value: Value, now_ns: int, out: list[LinkMessage]) -> None:
        was = self._session.state
        self._on(Event.FRAMES, now_ns)
        if isinstance(value, Alert):
            value = replace(value, t_ns=now_ns)
        if self._session.state is not State.STREAMING:
            if isinstance(value, Alert):  # which the decoder says once
                self._held[value.code, value.channel] = value
            return  # the stream of before our reset
        if was is not State.STREAMING:
            self._tally["ups"] += 1
            self._up_ns = now_ns
            self._told = None
            self._judged_ns, self._judged = now_ns, self._decoder.counters
            out.append(LinkUp(now_ns))
            out += self._held.values()
            self._held.clear()
        if isinstance(value, SampleBlock):
            value = self._feeds.setdefault(value.feed, _Feed()).placed(value, now_ns)
        out.append(value)

    def _on(self, event: Event, now_ns: int) -> None:
        deadline_ns = self._session.deadline_ns
        step = self._session.on(event, now_ns)
        if self._session.deadline_ns != deadline_ns:
            self._unread_bytes = 0
        if step.forget:
            self._reset_decoder()
        if step.send and self._port is not None:
            assert isinstance(step.send, bytes)
            self._port.write(step.send)

    def _judge(self, now_ns: int, out: list[LinkMessage]) -> None:
        """Whether most of what comes is no frame: another baud rate, noise, another device. Single
        frames that pass for good ones must not keep such a link up."""
        if now_ns < self._judged_ns + NS_PER_S:
            return
        counters, before = self._decoder.counters, self._judged
        heard_bytes = counters.received_bytes - before.received_bytes
        if heard_bytes < GARBAGE_BYTES:
            return
        share = (counters.skipped_bytes - before.skipped_bytes) / heard_bytes
        self._judged_ns, self._judged = now_ns, counters
        self._bad_seconds = self._bad_seconds + 1 if share > GARBAGE_SHARE else 0
        if self._bad_seconds >= GARBAGE_RUN:
            detail = f"{min(share, 1.0):.0%} of the bytes are in no frame"
            self._lose(Loss.GARBAGE, detail, now_ns, out)

    def _time_out(self, now_ns: int, out: list[LinkMessage]) -> None:
        waited_in, unread_bytes = self._session.state.value, self._unread_bytes
        self._on(Event.TIMEOUT, now_ns)
        if self._session.state is State.LOST:
            reason = Loss.GARBAGE if unread_bytes >= GARBAGE_BYTES else Loss.SILENT
            detail = f"{unread_bytes} unrecognised bytes while {waited_in}"
            self._lose(reason, detail, now_ns, out)

    def _lose(self, reason: Loss, detail: str, now_ns: int, out: list[LinkMessage]) -> None:
        self._release()
        self._losses[reason.value] += 1
        if self._up_ns is not None and now_ns - self._up_ns >= RETRY_MAX_S * NS_PER_S:
            self._failures = 0
        self._up_ns = None
        self._failures += 1
        delay_s = retry_delay_s(self._failures, self._random01())
        self._retry_at_ns = None if self._is_once else now_ns + int(delay_s * NS_PER_S)
        if reason is not self._told:
            self._told = reason
            out.append(LinkLost(now_ns, reason, detail))

    def _release(self) -> None:
        if self._port is not None:
            self._port.close()
        if self._connecting is not None:
            self._connecting[0].close()
        self._port = self._connecting = None
        self._session = Session(self._device.dialogue)
        self._peers = 1
        self._reset_decoder()

    def _reset_decoder(self) -> None:
        self._past = _sum(self._past, self._decoder.counters)
        after_loss: Callable[[], Decoder] = getattr(
            self._decoder, "after_loss", self._device.decoder
        )
        self._decoder = after_loss()
        self._forget()

    def _forget(self) -> None:
        """Nothing of before is of what comes."""
        self._judged, self._bad_seconds = self._decoder.counters, 0
        self._held.clear()
        for feed in self._feeds.values():
            feed.began_anew = True


class _Feed:
    """Numbers one feed's samples on, over losses of the link."""

    def __init__(self) -> None:
        self._offset = 0
        self._end = 0
        self._last_ns: int | None = None
        self.began_anew = False

    def placed(self, block: SampleBlock, now_ns: int) -> SampleBlock:
        if self.began_anew and self._last_ns is not None:
            away = round((now_ns - self._last_ns) * block.rate_hz / NS_PER_S)
            self._offset = self._end + max(1, away - len(block.samples)) - block.seq
        self.began_anew = False
        if self._offset:
            block = replace(block, seq=block.seq + self._offset)
        self._end, self._last_ns = block.seq + len(block.samples), now_ns
        return block


def _sum(a: Counters, b: Counters) -> Counters:
    names = [f.name for f in fields(Counters) if f.name != "rejects"]
    totals = {name: getattr(a, name) + getattr(b, name) for name in names}
    return Counters(**totals, rejects=dict(Counter(a.rejects) + Counter(b.rejects)))
