"""The player in time that moves when told, and on real sockets.

Rate: no more bytes leave than the line carries. Time: what is said does not depend on when it was
looked for. Cable: every fault acts on whole frames, in its time, and the same seed does the same.
"""

from __future__ import annotations

import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from firmware_bridge.emulators.cable import FLIPPED_MAX_BITS, Cable
from firmware_bridge.emulators.faults import Fault, Kind
from firmware_bridge.emulators.play import BACKLOG_BYTES, Place, Player, play, plugged
from firmware_bridge.emulators.sockets import CallingPlace, TcpPlace, UdpPlace
from firmware_bridge.errors import LinkError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

FRAME = bytes(range(50))


class Ticker:
    """Says a numbered frame every `period_s`; answers every request with it, turned round."""

    def __init__(self, period_s: float | None = 0.1, frame: bytes = FRAME) -> None:
        self._period_s = period_s
        self._frame = frame
        self.said = 0
        self.heard_s: list[float] = []

    def hear(self, data: bytes, t_s: float) -> list[bytes]:
        self.heard_s.append(t_s)
        return [data[::-1]]

    def next_s(self) -> float | None:
        return None if self._period_s is None else (self.said + 1) * self._period_s

    def say(self, t_s: float) -> list[bytes]:
        self.said += 1
        return [bytes([self.said % 256]) + self._frame[1:]]


class Sink:
    """A place that keeps what it is given, write by write."""

    def __init__(self) -> None:
        self.writes: list[bytes] = []
        self.plugged = True

    def plug(self) -> None:
        self.plugged = True

    def unplug(self) -> None:
        self.plugged = False

    def wait(self, timeout_s: float) -> bytes:
        return b""

    def write(self, data: bytes) -> int:
        self.writes.append(data)
        return len(data) if self.plugged else 0


def spoken(faults: list[Fault], seconds: float = 10.0, step_s: float = 0.003, seed: int = 0,
           rate: float | None = None) -> list[bytes]:  # fmt: skip
    sink = Sink()
    player = Player(Ticker(), sink, Cable(faults, seed), rate)
    steps = round(seconds / step_s)
    for i in range(1, steps + 1):
        player.advance(seconds * i / steps)
    return sink.writes


def test_no_more_leaves_than_the_line_carries() -> None:
    """100 frames of 50 bytes a second on a line of 960 bytes/s; it keeps a backlog and no more."""
    sink, rate = Sink(), 960.0
    player = Player(Ticker(0.01), sink, Cable(()), rate)
    for i in range(1, 20_001):
        player.advance(i / 1000)
        assert sum(map(len, sink.writes)) <= rate * i / 1000 + 1e-6
    sent = sum(map(len, sink.writes))
    assert sent == pytest.approx(rate * 20, rel=0.01)
    assert player.played().dropped_bytes == pytest.approx(
        max(0, 100_000 - sent - BACKLOG_BYTES), abs=50
    )


def test_control_without_a_rate_it_all_leaves_at_once() -> None:
    sink = Sink()
    Player(Ticker(0.01), sink, Cable(()), None).advance(20.0)
    assert sum(map(len, sink.writes)) == 100_000


def test_a_long_frame_comes_in_the_pieces_of_a_converter() -> None:
    sink = Sink()
    player = Player(Ticker(1.0, bytes(1000)), sink, Cable(()), 1000.0)
    for i in range(1, 1501):
        player.advance(i / 1000)
    assert sum(map(len, sink.writes)) == pytest.approx(500, abs=15)
    assert max(map(len, sink.writes)) <= 11


@pytest.mark.parametrize("kind", list(Kind))
def test_when_we_look_changes_no_byte(kind: Kind) -> None:
    script = [Fault(2.0, 3.0, kind)]
    fine = b"".join(spoken(script))
    assert fine == b"".join(spoken(script, step_s=0.07))
    acts_on_cable = (Kind.DROP, Kind.STALL, Kind.GARBAGE, Kind.BITFLIP, Kind.WRONG_BAUD)
    assert (fine != b"".join(spoken([]))) == (kind in (*acts_on_cable, Kind.UNPLUG))


def test_random_faults_come_from_the_seed() -> None:
    script = [Fault(0.0, 9.0, Kind.GARBAGE), Fault(0.0, 9.0, Kind.BITFLIP)]
    assert spoken(script, seed=3) == spoken(script, seed=3) != spoken(script, seed=4)


def test_bits_flip_in_their_time_alone() -> None:
    clean, dirty = spoken([]), spoken([Fault(2.05, 3.0, Kind.BITFLIP)])
    changed = [
        sum(bin(a ^ b).count("1") for a, b in zip(x, y)) for x, y in zip(clean, dirty, strict=True)
    ]
    assert all(n == 0 for n in changed[:20] + changed[50:])
    assert all(1 <= n <= FLIPPED_MAX_BITS for n in changed[20:50])


def test_a_split_frame_comes_in_single_bytes_at_the_pace_of_the_line() -> None:
    split = spoken([Fault(0.0, 20.0, Kind.SPLIT)], rate=960.0)
    assert set(map(len, split)) == {1}
    assert b"".join(split) == b"".join(spoken([]))[: len(split)]
    assert len(split) > 4800


def test_a_stall_stops_the_devices_time() -> None:
    """Three seconds of hanging: the same frames, three seconds later, and nothing heard in it."""
    sink, ticker = Sink(), Ticker()
    player = Player(ticker, sink, Cable([Fault(2.0, 3.0, Kind.STALL)]), None)
    for i in range(1, 1001):
        player.advance(i / 100)
        if i in (100, 300, 700):
            player.hear(b"ab")
    assert ticker.heard_s == [1.0, 4.0]
    assert ticker.said == 70
    assert player.played().seconds == pytest.approx(7.0)


def test_unplugging_takes_the_place_away_and_what_was_said_meanwhile() -> None:
    sink = Sink()
    player = Player(Ticker(), sink, Cable([Fault(2.05, 3.0, Kind.UNPLUG)]), None)
    player.advance(2.0)
    assert sink.plugged
    player.advance(3.0)
    assert not sink.plugged
    player.advance(10.0)
    assert sink.plugged
    assert [write[0] for write in sink.writes] == [*range(1, 21), *range(51, 101)]


def free_port(kind: socket.SocketKind = socket.SOCK_STREAM) -> int:
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def playing() -> Iterator[Callable[..., None]]:
    with ThreadPoolExecutor() as pool:
        stop = threading.Event()

        def start(ticker: Ticker, place: Place, **options: Any) -> None:
            pool.submit(play, ticker, place, stop=stop, linger_s=0.0, **options)

        yield start
        stop.set()


def received(peer: socket.socket, n: int) -> bytes:
    peer.settimeout(5)
    data = b""
    while len(data) < n:
        piece = peer.recv(4096)
        assert piece
        data += piece
    return data


def connected(port: int) -> socket.socket:
    deadline_s = time.monotonic() + 5
    while True:
        try:
            return socket.create_connection(("127.0.0.1", port), 1)
        except OSError:
            assert time.monotonic() < deadline_s
            time.sleep(0.01)


@pytest.mark.integration
def test_on_tcp_one_host_after_the_other(playing: Any) -> None:
    port = free_port()
    playing(Ticker(0.01), TcpPlace("127.0.0.1", port))
    for _ in range(2):
        with connected(port) as peer:
            assert received(peer, 100)[1:50] == FRAME[1:]


@pytest.mark.integration
def test_on_tcp_an_unplugged_device_hangs_up_and_refuses(playing: Any) -> None:
    port = free_port()
    fault = Fault(0.3, 1.5, Kind.UNPLUG)
    playing(Ticker(0.01), TcpPlace("127.0.0.1", port), faults=[fault])
    with connected(port) as peer:
        peer.settimeout(5)
        while peer.recv(4096):
            pass
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.1", port), 1)
    with connected(port) as peer:
        assert received(peer, 50)


@pytest.mark.integration
def test_on_udp_whoever_spoke_last_is_answered(playing: Any) -> None:
    port = free_port(socket.SOCK_DGRAM)
    ticker = Ticker(None)
    playing(ticker, UdpPlace("127.0.0.1", port), datagrams=True)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
        peer.connect(("127.0.0.1", port))
        peer.settimeout(0.2)
        assert answer(peer) == b"cba"


def answer(peer: socket.socket) -> bytes:
    """What comes back, once somebody listens there."""
    deadline_s = time.monotonic() + 5
    while True:
        try:
            peer.send(b"abc")
            return peer.recv(100)
        except OSError:
            assert time.monotonic() < deadline_s
            time.sleep(0.02)


@pytest.mark.integration
def test_a_calling_device_calls_until_it_is_answered(playing: Any) -> None:
    port = free_port()
    playing(Ticker(0.01), CallingPlace("127.0.0.1", port))
    time.sleep(0.3)
    with socket.create_server(("127.0.0.1", port)) as host:
        host.settimeout(5)
        for _ in range(2):
            with host.accept()[0] as peer:
                assert received(peer, 50)


def test_a_place_that_is_taken_says_so() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        place = TcpPlace(*taken.getsockname())
        with pytest.raises(LinkError, match="choose another address or port"), plugged(place):
            pass
