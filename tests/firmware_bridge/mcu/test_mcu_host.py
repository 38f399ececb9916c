"""Our side against the real C side, in virtual time: driver.c is the microcontroller."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from firmware_bridge.crc import crc_x25
from firmware_bridge.mcu import framing, protocol
from firmware_bridge.mcu.events import (
    Answered,
    Beat,
    Code,
    Condition,
    Identified,
    Rebooted,
    Samples,
)
from firmware_bridge.mcu.feeds import PATIENCE, Feed
from firmware_bridge.mcu.host import MAX_TRIES, Mcu
from firmware_bridge.mcu.timesync import TimeSync

if TYPE_CHECKING:
    from collections.abc import Callable

MS = 1_000_000
ECG = Feed(stream=1, channels=2, rate_hz=250.0, unit="uV", lsb=0.5)
SKEW_US = 5_000_000  # the device's clock stands this much ahead of ours


class Wired:
    """An Mcu on a virtual cable to the C side; both clocks go on with `run`.

    `lose` says which of our frames, by number, the cable loses; `deaf` that all are lost.
    """

    def __init__(self, device: Any, lose: Callable[[int], bool] = lambda n: False) -> None:
        self.mcu = Mcu([ECG], session=99, period_ms=100)
        self.device = device
        self.now_ns = 0
        self.events: list[Any] = []
        self.lose = lose
        self.deaf = False
        self.beating = True
        self.silent = False
        self._frames = 0
        self.shown = self.say("i 1", "H")
        self.mcu.open(self.now_ns)

    def say(self, *lines: str) -> Any:
        """Give the device lines; what it sends arrives here."""
        for line in lines:
            self.shown = self.device.ask(line)
            if self.shown.sent and not self.silent:
                self.events += self.mcu.feed(self.shown.sent, self.now_ns)
        return self.shown

    def run(self, ms: int) -> list[Any]:
        """Let time pass in steps of 10 ms; return the events of that time."""
        first = len(self.events)
        for _ in range(ms // 10):
            self.now_ns += 10 * MS
            step = self.now_ns // (10 * MS)
            self.say(f"t {self.now_ns // 1000 + SKEW_US}")
            if step % 10 == 0:
                if self.beating:
                    self.mcu.beat(self.now_ns)
                self.say("B 100 2 0 0 0")
            self.events += self.mcu.tick(self.now_ns)
            assert self.mcu.next_deadline_ns() > self.now_ns  # else the caller's loop never rests
            for frame in self.mcu.to_send().split(b"\0")[:-1]:
                self._frames += 1
                if not self.deaf and not self.lose(self._frames):
                    self.say("r " + frame.hex() + "00")
        return self.events[first:]


@pytest.fixture
def wired(live: Callable[[], Any]) -> Callable[..., Wired]:
    return lambda **options: Wired(live(), **options)


def codes(events: list[Any]) -> list[tuple[Code, bool]]:
    return [(event.code, event.active) for event in events if isinstance(event, Condition)]


def of(kind: type, events: list[Any]) -> list[Any]:
    return [event for event in events if isinstance(event, kind)]


def test_it_is_found_trusts_us_and_obeys(wired: Any) -> None:
    link = wired()
    link.mcu.set_level("OFF", 0)
    events = link.run(1000)
    (found,) = of(Identified, events)
    assert (found.device_id, found.firmware) == (0x1122334455667788, "1.2.3+4")
    assert found.reset == "POWER_ON"
    states = [event.detail for event in events if isinstance(event, Condition)]
    assert states == [f"state {x}: alarm is on" for x in ("BOOT", "TRUST_1", "TRUST_2")] + [""]
    assert codes(events)[-1] == (Code.UNTRUSTED, False)
    assert [(a.action, a.status) for a in of(Answered, events)] == [("SET_LEVEL", "DONE")]
    assert (link.shown.state, link.shown.line) == ("RUN", "QUIET")
    beat = of(Beat, events)[-1]
    assert (beat.state, beat.level, beat.line, beat.rejects) == ("RUN", "OFF", "QUIET", 0)
    assert link.mcu.conditions == {}


def test_without_our_heartbeats_its_alarm_comes_on(wired: Any) -> None:
    link = wired()
    link.mcu.set_level("OFF", 0)
    link.run(1000)
    link.beating = False
    events = link.run(500)
    assert link.shown.line == "ACTIVE"
    assert codes(events) == [(Code.UNTRUSTED, True)]
    link.beating = True
    events = link.run(500)
    assert link.shown.line == "QUIET"  # trusted again, and told again
    assert (Code.UNTRUSTED, False) in codes(events)


def test_three_missing_heartbeats_of_it_are_a_condition(wired: Any) -> None:
    link = wired()
    link.run(1000)
    heard_ns = link.now_ns
    link.silent = True
    (silent,) = link.run(1000)
    assert (silent.code, silent.active) == (Code.SILENT, True)
    assert silent.t_ns - heard_ns == 300 * MS
    assert not link.mcu.trusted
    link.silent = False
    assert (Code.SILENT, False) in codes(link.run(200))


def test_a_device_that_never_says_anything_is_a_condition(wired: Any) -> None:
    link = wired()
    fresh = Mcu([], session=1)
    fresh.open(0)
    assert fresh.tick(2_999 * MS) == []
    assert codes(fresh.tick(3_000 * MS)) == [(Code.SILENT, True)]
    assert link.mcu.counters.frames == 0


def test_lost_commands_are_sent_again_and_act_once(wired: Any) -> None:
    link = wired()
    link.run(1000)
    link.lose = lambda n: n % 2 == 0
    for level in ("LOW", "MEDIUM", "OFF"):
        link.mcu.set_level(level, link.now_ns)
        answers = of(Answered, link.run(1500))
        assert {answer.status for answer in answers} == {"DONE"}
        assert link.shown.level == level


def test_a_command_never_answered_is_a_condition_until_one_is(wired: Any) -> None:
    link = wired()
    link.run(1000)
    link.deaf = True
    link.mcu.pause_sound(1000, link.now_ns)
    events = link.run(800)
    (answer,) = of(Answered, events)
    assert (answer.action, answer.argument, answer.status) == ("PAUSE_SOUND", 1000, "UNANSWERED")
    assert answer.t_ns - (link.now_ns - 800 * MS) == MAX_TRIES * 100 * MS
    assert (Code.UNANSWERED, True) in codes(events)
    link.deaf = False
    link.run(500)
    link.mcu.pause_sound(1000, link.now_ns)
    events = link.run(500)
    assert [a.status for a in of(Answered, events)] == ["DONE"]
    assert (Code.UNANSWERED, False) in codes(events)
    assert not link.shown.sound


def test_a_command_does_not_outlive_its_port(wired: Any) -> None:
    """A pause that never got out must not silence an alarm after the port is back."""
    link = wired()
    link.run(1000)
    link.mcu.to_send()
    link.mcu.pause_sound(60_000, link.now_ns)
    lost = link.mcu.lose(link.now_ns, "unplugged")
    assert [a.status for a in of(Answered, lost)] == ["UNANSWERED"]
    assert codes(lost) == [(Code.UNPLUGGED, True)]
    assert not link.mcu.trusted
    link.mcu.beat(link.now_ns)
    assert link.mcu.to_send() == b""  # nothing piles up meanwhile
    back = link.mcu.open(link.now_ns)
    assert codes(back) == [(Code.UNPLUGGED, False)]
    link.run(500)
    assert link.shown.sound


@pytest.mark.parametrize("away", ["too soon", "untrusted", "silent", "unplugged", "refused"])
def test_a_pause_that_cannot_act_now_never_acts(wired: Any, away: str) -> None:
    """The caller is told at once; what is back later sounds, and no deadline stays behind."""
    link = wired()
    if away != "too soon":
        link.run(1000)
        assert link.mcu.pause_sound(0, link.now_ns) == []
    link.run(100)
    if away == "untrusted":
        link.beating = False
        link.run(1000)
    if away == "silent":
        link.silent = True
        link.run(1000)
    if away == "unplugged":
        link.mcu.lose(link.now_ns, "unplugged")
    if away == "refused":
        link.mcu.feed(foreign_hello(), link.now_ns)
    told = link.mcu.pause_sound(60_000, link.now_ns)
    assert told == [Answered(link.now_ns, "PAUSE_SOUND", 60_000, "UNANSWERED")]
    if away == "unplugged":
        link.now_ns += 60_000 * MS  # nobody ticks what has no port
        link.mcu.open(link.now_ns)
    link.beating, link.silent = True, False
    events = link.run(2000)
    assert link.mcu.trusted
    assert of(Answered, events) == []
    assert link.shown.sound


def take_over(link: Wired) -> None:
    """Something else sets the level to MEDIUM, and its command id makes ours stale from then on."""
    rival = Mcu([], session=99)  # a frame of ours, from somebody else
    rival._wanted = None
    rival._command_id = 5000
    rival.open(0)
    rival.to_send()
    rival._command("PAUSE_SOUND", 0, 0)
    frame = rival.to_send()
    raw = bytearray((framing.cobs_decode(frame[:-1]) or b"")[:-2])
    raw[18], raw[19] = 1, 2  # action SET_LEVEL, level MEDIUM
    sealed = bytes(raw) + crc_x25(raw).to_bytes(2, "little")
    link.say("r " + framing.cobs_encode(sealed).hex() + "00")
    assert link.shown.level == "MEDIUM"


def test_a_level_it_does_not_show_is_a_condition(wired: Any) -> None:
    """Something else has set the level: said again, and after a second an alarm of its own."""
    link = wired()
    link.mcu.set_level("OFF", 0)
    link.run(1000)
    take_over(link)
    events = []
    for _ in range(20):
        link.mcu.set_level("OFF", link.now_ns)  # saying it again is no new patience
        events += link.run(100)
    # Ours are stale: the disagreement stays, and is told.
    assert {a.status for a in of(Answered, events)} == {"STALE"}
    (wrong,) = [c for c in of(Condition, events) if c.code is Code.LINE_WRONG]
    assert wrong.detail == "alarm is MEDIUM, OFF was asked for"


@pytest.mark.parametrize("obeys", [False, True])
def test_a_level_that_is_wanted_anew_is_no_new_patience(wired: Any, obeys: bool) -> None:
    """Another level is wanted in less than the patience, again and again."""
    link = wired()
    link.mcu.set_level("OFF", 0)
    link.run(1000)
    if not obeys:
        take_over(link)
    events = []
    for level in ("HIGH", "LOW", "HIGH", "LOW"):
        link.mcu.set_level(level, link.now_ns)
        events += link.run(900)
    wrong = [c for c in of(Condition, events) if c.code is Code.LINE_WRONG]
    assert bool(wrong) == (not obeys)
    if wrong:
        first_ms = (wrong[0].t_ns - (link.now_ns - 3600 * MS)) / MS
        assert 1000 <= first_ms <= 1200
        assert wrong[0].detail == "alarm is MEDIUM, LOW was asked for"


def test_a_line_that_reads_back_wrong_is_a_condition(wired: Any) -> None:
    link = wired()
    link.run(1000)
    link.say("B 100 0 0 0 0")
    assert Code.LINE_WRONG in link.mcu.conditions
    link.say("B 100 1 0 0 0")
    assert Code.LINE_WRONG not in link.mcu.conditions


def test_faults_and_drops_are_conditions_for_as_long_as_they_hold(wired: Any) -> None:
    link = wired()
    link.run(1000)
    first = len(link.events)
    link.say("B 100 2 5 10 1", "B 100 2 5 10 1", "B 100 2 0 12 1")
    details = [
        (e.code, e.active, e.detail) for e in link.events[first:] if isinstance(e, Condition)
    ]
    assert details == [
        (Code.SENSOR_FAULT, True, "bits 0x0005"),
        (Code.DROPPED, True, "10 samples and 1 frames since the last heartbeat"),
        (Code.DROPPED, False, ""),
        (Code.SENSOR_FAULT, False, ""),
        (Code.DROPPED, True, "2 samples and 0 frames since the last heartbeat"),
    ]


def samples_line(first: int, counts: list[list[int]], width: int = 3, age_us: int = 0) -> str:
    flat = " ".join(str(count) for row in counts for count in row)
    return f"S 1 {len(counts[0])} {width} {len(counts)} 0 250000 {age_us} {first} {flat}"


def test_samples_come_scaled_numbered_and_dated(wired: Any) -> None:
    link = wired()
    link.run(1000)
    rows = [[1, -1], [8388607, -8388608], [9999999, -9999999]]
    link.say(samples_line(100, rows, age_us=12_000))
    samples = link.events[-1]
    assert isinstance(samples, Samples)
    block = samples.block
    # Beyond the rails of an int24 a count is clipped there, never wrapped.
    clipped = np.array([[1, -1], [8388607, -8388608], [8388607, -8388608]], np.float32)
    assert np.array_equal(block.samples, clipped * np.float32(0.5))
    assert (block.seq, block.lost, block.rate_hz, block.unit) == (0, 0, 250.0, "uV")
    assert samples.uncertainty_ns is not None
    assert abs(samples.t_ns - (link.now_ns - 12 * MS)) <= samples.uncertainty_ns
    link.say(samples_line(103, [[1, 2]], width=4), samples_line(110, [[3, 4]]))
    blocks = [event.block for event in link.events[-2:]]
    assert [(b.seq, b.lost) for b in blocks] == [(3, 0), (10, 6)]
    assert blocks[0].samples.tolist() == [[0.5, 1.0]]


def test_samples_of_another_shape_or_from_before_are_refused(wired: Any) -> None:
    link = wired()
    link.run(1000)
    link.say(samples_line(100, [[1, 2]]))
    first = len(link.events)
    link.say(samples_line(101, [[1, 2, 3]]), samples_line(99, [[1, 2]]))
    link.say("S 1 2 3 1 0 500000 0 101 1 2", "S 9 2 3 1 0 250000 0 0 1 2")
    assert link.events[first:] == []
    assert link.mcu.sample_rejects == {1: {"shape": 2, "order": 1}}


def block_seqs(events: list[Any]) -> list[int]:
    return [event.block.seq for event in of(Samples, events)]


def test_one_wild_number_does_not_end_a_stream(wired: Any) -> None:
    """A frame that is right but for what its first sample is numbered: what comes after it is from
    before, until so many blocks have counted on that it was not."""
    link = wired()
    link.run(1000)
    link.say(samples_line(0, [[1, 2]] * 5), samples_line(2**63, [[1, 2]] * 5))
    first = len(link.events)
    for block in range(2, 2 + PATIENCE + 10):
        link.run(20)
        link.say(samples_line(5 * block, [[1, 2]] * 5))
    seqs = block_seqs(link.events[first:])
    assert len(seqs) == 10
    assert np.diff(seqs).tolist() == [5] * 9
    assert link.mcu.sample_rejects == {1: {"order": PATIENCE}}


def test_a_block_from_before_that_is_repeated_is_refused_for_ever(wired: Any) -> None:
    """A stuck buffer is no numbering, and one from before between others changes nothing."""
    link = wired()
    link.run(1000)
    link.say(samples_line(100, [[1, 2]] * 5))
    first = len(link.events)
    link.say(*[samples_line(50, [[1, 2]] * 5)] * 100)
    for block in range(20, 20 + 2 * PATIENCE):
        link.say(samples_line(5 * block + 5, [[1, 2]] * 5), samples_line(block, [[1, 2]]))
    assert np.diff(block_seqs(link.events[first:])).tolist() == [5] * (2 * PATIENCE - 1)
    assert link.mcu.sample_rejects == {1: {"order": 100 + 2 * PATIENCE}}


def test_a_wild_number_does_not_outlive_the_port(wired: Any) -> None:
    link = wired()
    link.run(1000)
    link.say(samples_line(2**63, [[1, 2]] * 5))
    link.mcu.lose(link.now_ns, "unplugged")
    link.mcu.open(link.now_ns)
    link.run(500)
    link.say(samples_line(300, [[1, 2]] * 5))
    before, after = block_seqs(link.events)
    # Half a second at 250 Hz has gone by.
    assert 120 <= after - before <= 130
    assert link.mcu.sample_rejects == {1: {}}


def test_a_restart_is_noticed_and_numbers_go_on(wired: Any) -> None:
    link = wired()
    link.mcu.set_level("OFF", 0)
    link.run(1000)
    link.say(samples_line(1000, [[1, 2]] * 5))
    link.device.ask("i 2")  # power cut: no hello gets out
    events = link.run(1000)
    assert [type(e) for e in events if isinstance(e, (Rebooted, Identified))] == [
        Rebooted,
        Identified,
    ]
    assert link.shown.line == "QUIET"
    link.say(samples_line(0, [[1, 2]] * 5))
    block = link.events[-1].block
    # A second at 250 Hz has gone by: five samples of before, about 245 missing, five new ones.
    assert block.lost == 0
    assert 245 <= block.seq <= 255


def test_a_clock_that_runs_backwards_is_a_restart(wired: Any) -> None:
    link = wired()
    link.run(1000)
    link.device.ask("i 1")  # the same session: a device without a memory of its boots
    link.device.ask("t 5")
    link.say("B 100 2 0 0 0")
    assert isinstance(link.events[-1], Rebooted)
    assert link.events[-1].uptime_us == 5


def foreign_hello() -> bytes:
    wire = protocol.wire()
    hello = wire.to_host[1]
    body = hello.pack(dict.fromkeys(hello.fields, 0) | {"layout": 0xABCD1234})
    return framing.encode(wire, hello, {"seq": 0, "session": 50, "t_us": 0}, body)


def test_another_layout_is_refused_with_its_fix(wired: Any) -> None:
    link = wired()
    link.run(1000)
    link.events.clear()
    link.events += link.mcu.feed(foreign_hello(), link.now_ns)
    (refused,) = link.events
    assert refused.code is Code.REFUSED
    assert not link.mcu.trusted
    assert "layout 0xABCD1234" in refused.detail
    assert "update its firmware" in refused.detail
    sent = link.mcu.to_send()
    link.mcu.beat(link.now_ns)
    assert link.mcu.to_send() == b"" and sent == b""
    link.silent = True
    link.run(500)
    assert link.shown.line == "ACTIVE"  # no heartbeat of ours reaches it any more


def test_how_the_bytes_were_cut_changes_no_event(wired: Any) -> None:
    link = wired()
    link.mcu.set_level("OFF", 0)
    sent: list[tuple[int, bytes]] = []
    feed = link.mcu.feed

    def listening(data: bytes, now_ns: int) -> list[Any]:
        sent.append((now_ns, data))
        return list(feed(data, now_ns))

    link.mcu.feed = listening
    link.run(500)
    outcomes = []
    for cut in (1000, 1, 3):
        other = Mcu([ECG], session=99)
        other.open(0)
        events: list[Any] = []
        for now_ns, data in sent:
            for at in range(0, len(data), cut):
                events += other.feed(data[at : at + cut], now_ns)
        outcomes.append((events, other.counters))
    assert len(outcomes[0][0]) >= 5
    assert outcomes[1] == outcomes[2] == outcomes[0]


def test_deadlines_say_when_to_tick(wired: Any) -> None:
    link = wired()
    assert link.mcu.next_deadline_ns() == 200 * MS  # ask again who is there
    link.run(1000)
    assert link.now_ns < link.mcu.next_deadline_ns() <= link.now_ns + 300 * MS
    link.mcu.pause_sound(5, link.now_ns)
    assert link.now_ns < link.mcu.next_deadline_ns() <= link.now_ns + 100 * MS


@pytest.mark.parametrize("skew_ppm", [-40, 0, 40])
def test_the_clock_is_known_within_its_stated_uncertainty(skew_ppm: int) -> None:
    """Uneven ways there and back, and a drifting quartz: the true offset stays in the bound."""
    rng = np.random.default_rng(5)
    sync = TimeSync()
    assert sync.offset(0) is None

    def device_us(t_ns: int) -> int:
        return (t_ns + t_ns * skew_ppm // 1_000_000) // 1000 + 777_000

    t_ns = 0
    for _ in range(200):
        t_ns += 1000 * MS
        there, back = (int(rng.exponential(3 * MS)) for _ in range(2))
        sync.add(t_ns, device_us(t_ns + there), t_ns + there + back)
        asked_ns = t_ns + 900 * MS
        offset = sync.offset(asked_ns)
        assert offset is not None
        true_ns = asked_ns - device_us(asked_ns) * 1000
        assert abs(true_ns - offset.offset_ns) <= offset.uncertainty_ns + 1000
    assert offset.uncertainty_ns < 5 * MS


def test_an_unknown_level_is_our_own_mistake(wired: Any) -> None:
    with pytest.raises(KeyError):
        wired().mcu.set_level("LOUD", 0)
