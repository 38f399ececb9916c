"""Our side of the microcontroller link: who is there, its samples, its alarm line, its health.

Implements medge_link.h without I/O, thread or clock: bytes and times (monotonic nanoseconds) come
in, events come out, `to_send` gives the bytes to write. It never sends a heartbeat by itself: those
are the caller's proof that all of *it* works, so it calls `beat` only when that is so. Nothing is
believed of a device before its hello has shown our own layout, and after a restart it must again.
"""

from __future__ import annotations

import random
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

from firmware_bridge.mcu import framing
from firmware_bridge.mcu.conditions import Conditions
from firmware_bridge.mcu.events import (
    Answered,
    Beat,
    Code,
    Event,
    Identified,
    Rebooted,
    Samples,
)
from firmware_bridge.mcu.feeds import FeedDecoder
from firmware_bridge.mcu.protocol import wire
from firmware_bridge.mcu.timesync import TimeSync
from firmware_bridge.session import NS_PER_MS, NS_PER_S

if TYPE_CHECKING:
    from collections.abc import Iterable

    from firmware_bridge.mcu.feeds import Feed
    from firmware_bridge.types import Counters

ANSWER_NS = 100 * NS_PER_MS  # the longest frame takes 42 ms at 115200 baud
MAX_TRIES = 5
HELLO_AGAIN_NS = 200 * NS_PER_MS
SYNC_NS = NS_PER_S
LINE_PATIENCE_NS = NS_PER_S


def new_session() -> int:
    """A number for `Mcu` that our last start did not have."""
    return random.SystemRandom().getrandbits(32)


@dataclass(slots=True)
class _Command:
    action: str
    argument: int
    id: int
    tries: int = 0
    due_ns: int = 0


class Mcu:
    """One link from `open` on. `session` must differ from that of our last start."""

    def __init__(self, feeds: Iterable[Feed], *, session: int, period_ms: int = 100) -> None:
        self._wire = wire()
        self._feeds = {feed.stream: FeedDecoder(feed) for feed in feeds}
        self._session = session
        self._period_ms = period_ms
        self._decoder = framing.FrameDecoder(self._wire)
        self._out = bytearray()
        self._plugged = False
        self._seq = 0
        self._beats = 0
        self._sync = TimeSync()
        self._token = 0
        self._asked_ns: int | None = None
        self._known_session: int | None = None
        self._heard: tuple[int, int] | None = None  # the device's session and time, last heard
        self._last_beat: Beat | None = None
        self._wanted: str | None = None
        self._level = ""  # the alarm's, as last heard
        self._wrong_since_ns: int | None = None
        self._commands: deque[_Command] = deque()
        self._command_id = 0
        self._held = Conditions()
        self._hello_at_ns = 0
        self._sync_at_ns = 0
        self._silent_at_ns = 0

    @property
    def counters(self) -> Counters:
        """What became of the bytes that came in."""
        return self._decoder.counters

    @property
    def sample_rejects(self) -> dict[int, dict[str, int]]:
        """Blocks refused, by stream and reason: another shape, or numbers from before."""
        return {stream: dict(feed.rejects) for stream, feed in self._feeds.items()}

    @property
    def conditions(self) -> dict[Code, str]:
        """The conditions that hold now, with their details."""
        return self._held.details()

    @property
    def trusted(self) -> bool:
        """Whether the device trusts us, by its last heartbeat: only then do commands act."""
        beat = self._last_beat
        return beat is not None and beat.state == "RUN" and Code.SILENT not in self._held

    def open(self, now_ns: int) -> list[Event]:
        """The port is there: ask who else is. To be called again after it was away."""
        out: list[Event] = []
        self._decoder = framing.FrameDecoder(self._wire)
        self._plugged = True
        self._out = bytearray(b"\0")  # ends whatever the line has carried before
        self._known_session = None
        self._asked_ns = None
        for feed in self._feeds.values():
            feed.restart()
        self._silent_at_ns = now_ns + self._patience_ns()
        self._held.clear(Code.UNPLUGGED, now_ns, out)
        self._ask_hello(now_ns)
        return out

    def lose(self, now_ns: int, detail: str) -> list[Event]:
        """The port is away, because of `detail`."""
        out: list[Event] = []
        self._plugged = False
        self._out.clear()
        self._last_beat = None
        self._give_up_commands(now_ns, out)
        self._held.set(Code.UNPLUGGED, detail, now_ns, out)
        return out

    def to_send(self) -> bytes:
        """The bytes to write now; they are forgotten here."""
        out, self._out = bytes(self._out), bytearray()
        return out

    def next_deadline_ns(self) -> int:
        """When `tick` wants to be called, whatever comes in."""
        unknown = self._known_session is None
        deadlines = [self._hello_at_ns if unknown else self._sync_at_ns]
        deadlines += [self._commands[0].due_ns] if self._commands and not unknown else []
        deadlines += [] if Code.SILENT in self._held else [self._silent_at_ns]
        return min(deadlines)

    def beat(self, now_ns: int) -> None:
        """Show the device that all of us is well. Not sent to a device that was refused."""
        if Code.REFUSED in self._held:
            return
        self._beats = (self._beats + 1) & 0xFFFFFFFF
        values = {"beat": self._beats, "period_ms": self._period_ms}
        self._send("HOST_BEAT", {"layout": self._wire.layout_hash, **values}, now_ns)

    def set_level(self, level: str, now_ns: int) -> None:
        """Want the alarm at "OFF", "LOW", "MEDIUM" or "HIGH", now and after each restart."""
        self._wire.code(f"LEVEL_{level}")
        self._wanted = level
        self._want_level(now_ns)

    def pause_sound(self, length_ms: int, now_ns: int) -> list[Event]:
        """Silence the sound, not the line, for a while; 0 ends a pause. Where we are not `trusted`
        it is not asked for, now or later, and returned as unanswered."""
        if not self.trusted:
            return [Answered(now_ns, "PAUSE_SOUND", length_ms, "UNANSWERED")]
        self._command("PAUSE_SOUND", length_ms, now_ns)
        return []

    def feed(self, data: bytes, now_ns: int) -> list[Event]:
        """Take what came in at `now_ns` and return what it means, in order. Never raises."""
        out: list[Event] = []
        for got in self._decoder.feed(data):
            if isinstance(got, framing.Foreign):
                self._refuse(got, now_ns, out)
            else:
                self._take(got, now_ns, out)
        return out

    def tick(self, now_ns: int) -> list[Event]:
        """Act on what is due by now."""
        out: list[Event] = []
        if now_ns >= self._silent_at_ns:
            self._held.set(Code.SILENT, "no heartbeat of the microcontroller", now_ns, out)
        if self._known_session is None:
            if now_ns >= self._hello_at_ns:
                self._ask_hello(now_ns)
            return out
        if now_ns >= self._sync_at_ns:
            self._ask_time(now_ns)
        if self._commands and now_ns >= self._commands[0].due_ns:
            self._try_again(now_ns, out)
        return out

    def _patience_ns(self) -> int:
        period_ms = self._wire.numbers["BEAT_MAX_MS"]
        return self._wire.numbers["BEATS_MISSED"] * period_ms * NS_PER_MS

    def _send(self, name: str, fields: dict[str, int], now_ns: int) -> None:
        if not self._plugged:
            return
        layout = self._wire.to_mcu[name]
        header = {"seq": self._seq, "session": self._session, "t_us": now_ns // 1000}
        self._seq = (self._seq + 1) & 0xFFFF
        self._out += framing.encode(self._wire, layout, header, layout.pack(fields))

    def _ask_hello(self, now_ns: int) -> None:
        self._hello_at_ns = now_ns + HELLO_AGAIN_NS
        self._send("HELLO_REQUEST", {"layout": self._wire.layout_hash}, now_ns)

    def _ask_time(self, now_ns: int) -> None:
        self._sync_at_ns = now_ns + SYNC_NS
        self._token = (self._token + 1) & 0xFFFFFFFF
        self._asked_ns = now_ns
        self._send("TIME_REQUEST", {"token": self._token}, now_ns)

    def _refuse(self, foreign: framing.Foreign, now_ns: int, out: list[Event]) -> None:
        ours = f"version {self._wire.numbers['WIRE_VERSION']} layout 0x{self._wire.layout_hash:08X}"
        theirs = f"version {foreign.version}"
        if foreign.layout_hash is not None:
            theirs += f" layout 0x{foreign.layout_hash:08X}"
        self._known_session = None
        self._last_beat = None
        self._give_up_commands(now_ns, out)
        self._held.set(
            Code.REFUSED,
            f"microcontroller speaks {theirs}, this host {ours}; "
            "update its firmware to one built with this medge_link.h",
            now_ns,
            out,
        )

    def _take(self, frame: framing.Frame, now_ns: int, out: list[Event]) -> None:
        self._notice_restart(frame, now_ns, out)
        if frame.name == "HELLO":
            self._take_hello(frame, now_ns, out)
        elif frame.session != self._known_session:
            if Code.REFUSED not in self._held and now_ns >= self._hello_at_ns:
                self._ask_hello(now_ns)
        elif frame.name == "BEAT":
            self._take_beat(frame, now_ns, out)
        elif frame.name == "SAMPLES":
            self._take_samples(frame, now_ns, out)
        elif frame.name == "ACK":
            self._take_ack(frame, now_ns, out)
        elif frame.name == "TIME_REPLY":
            self._take_time(frame, now_ns)

    def _take_time(self, frame: framing.Frame, now_ns: int) -> None:
        if frame.fields["token"] == self._token and self._asked_ns is not None:
            self._sync.add(self._asked_ns, frame.t_us, now_ns)
            self._asked_ns = None

    def _notice_restart(self, frame: framing.Frame, now_ns: int, out: list[Event]) -> None:
        was, self._heard = self._heard, (frame.session, frame.t_us)
        if was is None or (frame.session == was[0] and frame.t_us >= was[1]):
            return
        self._known_session = None
        self._last_beat = None
        self._asked_ns = None
        self._sync = TimeSync()
        self._give_up_commands(now_ns, out)
        for feed in self._feeds.values():
            feed.restart()
        out.append(Rebooted(now_ns, frame.t_us))
        self._hello_at_ns = now_ns

    def _take_hello(self, frame: framing.Frame, now_ns: int, out: list[Event]) -> None:
        f = frame.fields
        self._held.clear(Code.REFUSED, now_ns, out)
        if self._known_session == frame.session:
            return
        self._known_session = frame.session
        self._sync_at_ns = now_ns
        version = f"{f['fw_major']}.{f['fw_minor']}.{f['fw_revision']}+{f['fw_build']}"
        reset = self._name("RESETS", f["reset_cause"])
        out.append(Identified(now_ns, f["device_id"], version, reset))

    def _take_beat(self, frame: framing.Frame, now_ns: int, out: list[Event]) -> None:
        f = frame.fields
        before = self._last_beat
        beat = Beat(
            now_ns,
            frame.t_us,
            self._name("STATES", f["state"]),
            self._name("LEVELS", f["level"]),
            bool(f["sound"]),
            self._name("LINES", f["line"]),
            self._name("LINES", f["line_read"]),
            f["faults"],
            f["dropped_samples"],
            f["dropped_frames"],
            f["rejects"],
            self._name("RESETS", f["reset_cause"]),
        )
        self._last_beat, self._level = beat, beat.level
        limit_ms = self._wire.numbers["BEAT_MAX_MS"]
        period_ms = min(max(f["period_ms"], 1), limit_ms)
        self._silent_at_ns = now_ns + self._wire.numbers["BEATS_MISSED"] * period_ms * NS_PER_MS
        out.append(beat)
        self._held.clear(Code.SILENT, now_ns, out)
        self._judge(beat, before, now_ns, out)
        self._want_level(now_ns)

    def _judge(self, beat: Beat, before: Beat | None, now_ns: int, out: list[Event]) -> None:
        """The conditions that a heartbeat shows."""
        untrusted = beat.state != "RUN"
        self._held.hold(Code.UNTRUSTED, untrusted, f"state {beat.state}: alarm is on", now_ns, out)
        self._hold_faults(beat.faults, now_ns, out)
        old = before or beat  # what was lost before we came is not ours to tell
        samples = beat.dropped_samples - old.dropped_samples
        frames = beat.dropped_frames - old.dropped_frames
        dropped = f"{samples} samples and {frames} frames since the last heartbeat"
        self._held.hold(Code.DROPPED, (samples, frames) != (0, 0), dropped, now_ns, out)
        self._held.hold(Code.LINE_WRONG, *self._line_wrong(beat, now_ns), now_ns, out)

    def _line_wrong(self, beat: Beat, now_ns: int) -> tuple[bool, str]:
        if beat.line_read not in ("UNKNOWN", beat.line):
            return True, f"line reads {beat.line_read} and is driven {beat.line}: check its wiring"
        if beat.state != "RUN" or self._wanted in (None, beat.level):
            self._wrong_since_ns = None
            return False, ""
        if self._wrong_since_ns is None:
            self._wrong_since_ns = now_ns
        late = now_ns - self._wrong_since_ns >= LINE_PATIENCE_NS
        return late, f"alarm is {beat.level}, {self._wanted} was asked for"

    def _hold_faults(self, faults: int, now_ns: int, out: list[Event]) -> None:
        self._held.hold(Code.SENSOR_FAULT, faults != 0, f"bits 0x{faults:04X}", now_ns, out)

    def _take_samples(self, frame: framing.Frame, now_ns: int, out: list[Event]) -> None:
        feed = self._feeds.get(frame.fields["stream"])
        block = None if feed is None else feed.take(frame, now_ns)
        if block is None:
            return
        f = frame.fields
        offset = self._sync.offset(now_ns)
        t_ns = now_ns if offset is None else frame.t_us * 1000 + offset.offset_ns
        uncertainty_ns = None if offset is None else offset.uncertainty_ns
        self._hold_faults(f["faults"], now_ns, out)
        t_ns -= f["age_us"] * 1000
        out.append(Samples(t_ns, uncertainty_ns, f["stream"], f["faults"], block))

    def _want_level(self, now_ns: int) -> None:
        if self._wanted is None or not self.trusted:
            return
        asked = [c.argument for c in self._commands if c.action == "SET_LEVEL"]
        level = self._name("LEVELS", asked[-1]) if asked else self._level
        if level != self._wanted:
            self._command("SET_LEVEL", self._wire.code(f"LEVEL_{self._wanted}"), now_ns)

    def _command(self, action: str, argument: int, now_ns: int) -> None:
        self._command_id = (self._command_id + 1) & 0xFFFF
        self._commands.append(_Command(action, argument, self._command_id))
        if len(self._commands) == 1:
            self._send_command(now_ns)

    def _send_command(self, now_ns: int) -> None:
        command = self._commands[0]
        command.tries += 1
        command.due_ns = now_ns + ANSWER_NS
        action = self._wire.code(f"ACTION_{command.action}")
        fields = {"id": command.id, "action": action, "argument": command.argument}
        self._send("COMMAND", fields, now_ns)

    def _try_again(self, now_ns: int, out: list[Event]) -> None:
        command = self._commands[0]
        if command.tries < MAX_TRIES:
            self._send_command(now_ns)
            return
        self._held.set(Code.UNANSWERED, f"{command.action} was sent {MAX_TRIES} times", now_ns, out)
        self._finish("UNANSWERED", now_ns, out)

    def _take_ack(self, frame: framing.Frame, now_ns: int, out: list[Event]) -> None:
        if not self._commands or frame.fields["id"] != self._commands[0].id:
            return
        self._level = self._name("LEVELS", frame.fields["level"])
        self._held.clear(Code.UNANSWERED, now_ns, out)
        self._finish(self._name("STATUSES", frame.fields["status"]), now_ns, out)

    def _give_up_commands(self, now_ns: int, out: list[Event]) -> None:
        """What waits must not act later: a pause of before would silence an alarm of after."""
        while self._commands:
            command = self._commands.popleft()
            out.append(Answered(now_ns, command.action, command.argument, "UNANSWERED"))

    def _finish(self, status: str, now_ns: int, out: list[Event]) -> None:
        command = self._commands.popleft()
        out.append(Answered(now_ns, command.action, command.argument, status))
        if self._commands:
            self._send_command(now_ns)

    def _name(self, kind: str, value: int) -> str:
        """An enumerator without its prefix; an unknown one by its number."""
        return self._wire.names[kind].get(value, f"_{value}").partition("_")[2]
