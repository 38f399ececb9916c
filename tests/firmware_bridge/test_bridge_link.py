"""The link against a scripted port and a clock that moves when told."""

from __future__ import annotations

import numpy as np
import pytest

from firmware_bridge.devices import cyton, hl7_oru, masimo, medibus, phd
from firmware_bridge.devices.medibus_frames import response
from firmware_bridge.emulators import phd as agent
from firmware_bridge.emulators.hl7_oru import report
from firmware_bridge.emulators.patient import Scene
from firmware_bridge.errors import DialogueError, LinkError
from firmware_bridge.link import MAX_READS_PER_POLL, RETRY_MAX_S, Link, retry_delay_s
from firmware_bridge.mllp import framed
from firmware_bridge.session import NS_PER_S, State
from firmware_bridge.types import (
    Alert,
    Device,
    LinkLost,
    LinkMessage,
    LinkUp,
    Loss,
    Numeric,
    SampleBlock,
    Text,
    Wire,
)

BANNER = b"OpenBCI V3 8-16 channel\r\n$$$"
MS = NS_PER_S // 1000


class ScriptedPort:
    """Stands for the serial port: `inbox` is what `read` gives, an exception in it is raised."""

    def __init__(self) -> None:
        self.inbox: list[bytes | LinkError] = []
        self.sent = b""
        self.closed = False
        self.peers = 1

    def fileno(self) -> int:
        return 7

    def read(self) -> bytes:
        item = self.inbox.pop(0) if self.inbox else b""
        if isinstance(item, LinkError):
            raise item
        return item

    def write(self, data: bytes) -> None:
        self.sent += data

    def close(self) -> None:
        self.closed = True


class Rig:
    """A link whose ports are handed out one by one; none left means that opening fails."""

    def __init__(self, ports: int = 10, join: bool = False, device: Device = cyton.DEVICE) -> None:
        self.ports = [ScriptedPort() for _ in range(ports)]
        self.used: list[ScriptedPort] = []
        self._wire = device.wire
        self.link = Link(device, "/dev/x", join=join, open_port=self._open, random01=lambda: 0.0)

    def _open(self, path: str, wire: Wire) -> ScriptedPort:
        assert (path, wire) == ("/dev/x", self._wire)
        if not self.ports:
            raise LinkError("no such port", "plug it in")
        self.used.append(self.ports.pop(0))
        return self.used[-1]

    def hear(self, data: bytes | LinkError, now_ns: int) -> list[LinkMessage]:
        self.used[-1].inbox.append(data)
        return self.link.poll(now_ns)

    def stream(self, now_ns: int = 0) -> list[LinkMessage]:
        """Open and go through the dialogue to the first ten samples."""
        self.link.open(now_ns)
        self.hear(BANNER, now_ns)
        return self.hear(packets(0, 10), now_ns)


def packets(first: int, n: int) -> bytes:
    counts = np.zeros((n, 8), np.int32)
    return cyton.encode(counts, np.arange(first, first + n))


def spans(messages: list[LinkMessage]) -> list[tuple[int, int]]:
    return [(m.seq, len(m.samples)) for m in messages if isinstance(m, SampleBlock)]


def losses(messages: list[LinkMessage]) -> list[Loss]:
    return [m.reason for m in messages if isinstance(m, LinkLost)]


def test_dialogue_to_the_first_sample() -> None:
    rig = Rig()
    assert rig.link.next_deadline_ns() is None
    assert rig.link.open(0) == []
    assert rig.used[0].sent == b"v"
    assert rig.hear(BANNER, 5 * MS) == [Text("OpenBCI V3 8-16 channel")]
    assert rig.used[0].sent == b"vb"
    up, block = rig.hear(packets(0, 10), 10 * MS)
    assert up == LinkUp(10 * MS)
    assert spans([block]) == [(0, 10)]
    assert rig.link.state is State.STREAMING
    assert rig.link.next_deadline_ns() == 1010 * MS


def test_stream_of_before_the_reset_is_not_delivered() -> None:
    rig = Rig()
    rig.link.open(0)
    assert rig.hear(packets(40, 10), MS) == []
    assert rig.hear(packets(50, 3)[:-9] + BANNER, 2 * MS) == [Text("OpenBCI V3 8-16 channel")]
    assert spans(rig.hear(packets(0, 4), 3 * MS)) == [(0, 4)]


def test_joining_a_running_stream_sends_nothing() -> None:
    rig = Rig(join=True)
    rig.link.open(0)
    messages = rig.hear(packets(77, 10)[5:], MS)
    assert isinstance(messages[0], LinkUp)
    assert spans(messages) == [(0, 9)]
    assert rig.used[0].sent == b""


def test_joining_a_board_that_is_idle_resets_it() -> None:
    rig = Rig(join=True)
    rig.link.open(0)
    rig.link.poll(250 * MS)
    assert (rig.used[0].sent, rig.link.state) == (b"v", State.RESETTING)


@pytest.mark.parametrize(
    ("before", "at_s", "data", "reason"),
    [
        ([], 3.0, b"", Loss.SILENT),
        ([], 3.0, b"\x55" * 500, Loss.GARBAGE),
        ([BANNER], 2.0, b"", Loss.SILENT),
        ([BANNER, packets(0, 9)], 1.0, b"", Loss.SILENT),
        ([BANNER, packets(0, 9)], 1.0, packets(9, 1)[:20], Loss.SILENT),
        ([BANNER, packets(0, 9)], 1.0, b"\x55" * 500, Loss.GARBAGE),
    ],
)
def test_waiting_in_vain_ends_the_link(
    before: list[bytes], at_s: float, data: bytes, reason: Loss
) -> None:
    rig = Rig()
    rig.link.open(0)
    for item in before:
        rig.hear(item, 0)
    due_ns = int(at_s * NS_PER_S)
    assert rig.link.next_deadline_ns() == due_ns
    assert losses(rig.hear(data, due_ns - 1)) == []
    assert losses(rig.link.poll(due_ns)) == [reason]
    assert rig.used[0].closed
    assert rig.link.fileno() is None


def test_data_that_waits_at_the_deadline_counts() -> None:
    rig = Rig()
    rig.stream()
    assert losses(rig.hear(packets(10, 5), 2 * NS_PER_S)) == []


@pytest.mark.parametrize("text", [b"Failure: no board$$$", b"On Daisy ADS1299$$$"])
def test_a_device_that_refuses_says_why(text: bytes) -> None:
    rig = Rig()
    rig.link.open(0)
    said, lost = rig.hear(text, 0)
    assert isinstance(said, Text)
    assert isinstance(lost, LinkLost) and lost.reason is Loss.REFUSED


def test_a_banner_inside_a_stream_is_a_device_that_reset_itself() -> None:
    rig = Rig()
    rig.stream()
    messages = rig.hear(packets(10, 2) + BANNER + packets(0, 3), MS)
    assert spans(messages) == [(10, 2)]
    assert losses(messages) == [Loss.REFUSED]


def test_seq_goes_on_over_a_loss_by_the_time_it_took() -> None:
    rig = Rig()
    rig.stream()
    assert losses(rig.hear(LinkError("unplugged", "plug in"), 4 * MS)) == [Loss.UNPLUGGED]
    rig.link.poll(NS_PER_S)
    assert rig.used[1].sent == b"v"
    rig.hear(BANNER, 2 * NS_PER_S)
    messages = rig.hear(packets(0, 5), 4 * NS_PER_S)
    assert spans(messages) == [(10 + 1000 - 5, 5)]
    assert rig.link.counters.reconnects == 1
    assert rig.link.counters.stream.frames == 15


def test_no_byte_of_before_joins_a_packet_of_after() -> None:
    rig = Rig()
    rig.stream()
    rig.hear(packets(10, 1)[:20], MS)
    rig.hear(LinkError("unplugged", "plug in"), 2 * MS)
    rig.link.poll(NS_PER_S)
    rig.hear(BANNER, NS_PER_S)
    messages = rig.hear(packets(10, 1)[20:] + packets(0, 5), NS_PER_S)
    assert [n for _, n in spans(messages)] == [5]


def test_retries_back_off_to_five_seconds_and_are_told_once() -> None:
    rig = Rig(ports=0)
    assert losses(rig.link.open(0)) == [Loss.ABSENT]
    delays_s, now_ns = [], 0
    for _ in range(9):
        due_ns = rig.link.next_deadline_ns()
        assert due_ns is not None
        assert rig.link.poll(due_ns - 1) == []
        delays_s.append(round((due_ns - now_ns) / NS_PER_S, 3))
        now_ns = due_ns
        assert rig.link.poll(now_ns) == []
    assert delays_s == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0, 5.0]
    assert rig.link.counters.failed_opens == 10


def test_backoff_starts_anew_after_the_link_was_up() -> None:
    rig = Rig()
    rig.stream()
    for at_s in (6, 12):
        rig.hear(LinkError("unplugged", "plug in"), at_s * NS_PER_S)
        assert rig.link.next_deadline_ns() == at_s * NS_PER_S + 100 * MS
        rig.link.poll(at_s * NS_PER_S + 100 * MS)
        rig.hear(BANNER, at_s * NS_PER_S + 200 * MS)
        rig.hear(packets(0, 5), at_s * NS_PER_S + 300 * MS)


def delays_s(rig: Rig, up_s: float, n: int) -> list[float]:
    """How long the link waits each time that it was up for so long before the board refused."""
    found, now_ns = [], 0
    rig.link.open(now_ns)
    for _ in range(n):
        rig.hear(BANNER, now_ns)
        assert isinstance(rig.hear(packets(0, 5), now_ns)[0], LinkUp)
        now_ns += int(up_s * NS_PER_S)
        rig.hear(packets(5, 1), now_ns)
        assert losses(rig.hear(BANNER, now_ns)) == [Loss.REFUSED]
        due_ns = rig.link.next_deadline_ns()
        assert due_ns is not None
        found.append(round((due_ns - now_ns) / NS_PER_S, 3))
        now_ns = due_ns
        rig.link.poll(now_ns)
    return found


def test_backoff_grows_while_the_link_comes_up_and_is_lost_at_once() -> None:
    """Every loss is told, as each time values had come again."""
    assert delays_s(Rig(), 0.1, 8) == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0]
    assert delays_s(Rig(), RETRY_MAX_S, 4) == [0.1] * 4


def test_a_device_that_always_refuses_is_told_once() -> None:
    rig, told, now_ns = Rig(), [], 0
    rig.link.open(now_ns)
    for _ in range(8):
        told += losses(rig.hear(b"Failure: no board$$$", now_ns))
        due_ns = rig.link.next_deadline_ns()
        assert due_ns is not None
        told += losses(rig.link.poll(due_ns))
        now_ns = due_ns
    assert told == [Loss.REFUSED]
    assert now_ns > 10 * NS_PER_S
    assert rig.link.counters.losses == {"refused": 8}


def test_jitter_spreads_the_first_retry() -> None:
    assert retry_delay_s(1, 0.0) == pytest.approx(0.1)
    assert retry_delay_s(1, 1.0) == pytest.approx(0.25)
    assert retry_delay_s(10_000, 1.0) == 5.0


def test_a_flood_does_not_keep_the_loop() -> None:
    rig = Rig()
    rig.link.open(0)
    rig.used[0].inbox = [b"\x55" * 4096] * 100
    rig.link.poll(0)
    assert len(rig.used[0].inbox) == 100 - MAX_READS_PER_POLL


def test_an_alarm_of_before_the_link_was_up_is_told_when_it_is() -> None:
    """The answer to a host before us: the decoder says each change once, so it must not be lost."""
    rig = Rig(device=medibus.DEVICE)
    rig.link.open(0)
    high = response(medibus.ALARMS_CP1, bytes([0x4F]) + b"10PAW HIGH    ")
    assert rig.hear(high, 0) == []
    for answer in (
        response(medibus.ICC),
        response(medibus.IDENTITY, b"0161'Evita'01.00:04.03"),
        response(medibus.REALTIME),
    ):
        assert rig.hear(answer, MS) == []
    found = rig.hear(response(medibus.MEASURED_CP1, b"78 5.0"), 2 * MS)
    assert [type(m) for m in found] == [LinkUp, Alert, Numeric]
    assert isinstance(found[1], Alert) and found[1].t_ns == 0  # when it was heard
    assert rig.hear(high, 3 * MS) == []
    [ended] = rig.hear(response(medibus.ALARMS_CP1), 4 * MS)
    assert isinstance(ended, Alert) and not ended.active
    assert ended.t_ns == 4 * MS


def called(rig: Rig, data: bytes, now_ns: int) -> list[LinkMessage]:
    """Another peer calls at the same port and says so much."""
    rig.used[-1].peers += 1
    return rig.hear(data, now_ns)


def test_what_one_caller_began_no_other_ends() -> None:
    """The first hangs up inside an APDU of 64 kB: the second is not taken for its rest."""
    oximeter = agent.oximeter(Scene())
    said = b"".join(oximeter.say(0.5))
    rig = Rig(device=phd.OXIMETER)
    rig.link.open(0)
    rig.hear(b"\xe7\x00\xf0\x00half", 0)
    found = called(rig, said, MS)
    oximeter.hear(_answer(rig), 0.6)
    found += rig.hear(b"".join(oximeter.say(3.0)), 2 * MS)
    assert {m.channel for m in found if isinstance(m, Numeric)} == set(phd.OXIMETER.numerics)
    assert losses(found) == []


def test_another_caller_has_to_introduce_itself() -> None:
    """What the first has agreed on does not hold for the second."""
    oximeter = agent.oximeter(Scene())
    rig = Rig(device=phd.OXIMETER)
    rig.link.open(0)
    rig.hear(b"".join(oximeter.say(0.5)), 0)
    oximeter.hear(_answer(rig), 0.6)
    report_of_first = b"".join(oximeter.say(3.0))
    assert [m for m in rig.hear(report_of_first, 0) if isinstance(m, Numeric)]
    assert not [m for m in called(rig, report_of_first, MS) if isinstance(m, Numeric)]


def test_what_one_caller_said_is_over_when_another_calls() -> None:
    """Values and alerts: nobody is left to say that they ended. The port and who is there stay."""
    rig = Rig(device=masimo.DEVICE)
    rig.link.open(0)
    line = masimo.Line(0, 97, 70, 1.0, 0, masimo.SENSOR_OFF)
    assert [m for m in rig.hear(masimo.encode(line), 0) if isinstance(m, Alert) and m.active]
    found = called(rig, masimo.encode(line), MS)
    assert losses(found) == [Loss.ANOTHER]
    kinds = [type(m) for m in found if isinstance(m, (LinkLost, LinkUp, Alert))]
    assert kinds == [LinkLost, LinkUp, Alert]
    assert len(rig.used) == 1 and rig.link.counters.losses == {"another": 1}


def test_a_new_patient_is_told_and_the_link_stays() -> None:
    rig = Rig(device=hl7_oru.DEVICE)
    rig.link.open(0)
    found: list[LinkMessage] = []
    for n in range(12):
        data = report(Scene(), float(n), n).replace(b"NOBODY", b"A" if n < 3 else b"B")
        found += rig.hear(framed(data.replace(b"\rOBR", b"\rPV1||I|ICU^1\rOBR", 1)), n * MS)
    kinds = [type(m) for m in found if isinstance(m, (LinkLost, LinkUp))]
    assert kinds == [LinkUp, LinkLost, LinkUp]
    assert losses(found) == [Loss.ANOTHER] and len(rig.used) == 1
    values = [m for m in found if isinstance(m, Numeric)]
    assert len(values) == (3 + 2) * len(hl7_oru.NUMERICS)


def test_a_gateway_that_calls_for_each_message_stays_up_and_of_one_patient() -> None:
    rig = Rig(device=hl7_oru.DEVICE)
    rig.link.open(0)
    found: list[LinkMessage] = []
    for n in range(6):
        data = report(Scene(), float(n), n).replace(b"NOBODY", b"A" if n % 2 == 0 else b"B")
        found += called(rig, framed(data), n * MS)
    assert losses(found) == []
    assert len([m for m in found if isinstance(m, Numeric)]) == 3 * len(hl7_oru.NUMERICS)


def _answer(rig: Rig) -> bytes:
    """What the link sent last."""
    sent, rig.used[-1].sent = rig.used[-1].sent, b""
    return sent


def test_close_stops_the_stream_and_never_retries() -> None:
    rig = Rig()
    rig.stream()
    rig.link.close()
    assert rig.used[0].sent == b"vbs"
    assert rig.used[0].closed
    assert rig.link.next_deadline_ns() is None
    assert rig.link.poll(100 * NS_PER_S) == []


def test_opening_twice_is_our_own_fault() -> None:
    rig = Rig()
    rig.link.open(0)
    with pytest.raises(DialogueError):
        rig.link.open(1)
