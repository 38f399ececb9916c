"""Rigs: an emulated Cyton on a pty in a thread, and a driver that polls a link against a clock."""

from __future__ import annotations

import math
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from firmware_bridge.devices import cyton, device
from firmware_bridge.emulators import cyton as emulator
from firmware_bridge.emulators.emulated import Emulator
from firmware_bridge.emulators.patient import Patient, Recording, Scene
from firmware_bridge.emulators.play import Played, play
from firmware_bridge.emulators.pty import Pty
from firmware_bridge.errors import DialogueError
from firmware_bridge.link import Link
from firmware_bridge.session import Dialogue, Event, Session, State

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from firmware_bridge.types import Decoder, LinkMessage, Wire


class Emulated:
    """A running emulator: where it is, and what it played once stopped."""

    def __init__(self, link: Path, future: Future[Played], stop: threading.Event) -> None:
        self.link = link
        self._future = future
        self._stop = stop

    def played(self) -> Played:
        self._stop.set()
        return self._future.result(10)


def board(samples_mv: Any, faults: Any = (), seed: int = 0) -> emulator.Board:
    """A board whose patient is `samples_mv`, `[n]` on channel 1 or `[n, k]`, at 250 Hz."""
    columns = samples_mv[:, None] if samples_mv.ndim == 1 else samples_mv
    leads = [f"lead {i}" for i in range(columns.shape[1])]
    recordings = {lead: Recording(cyton.RATE_HZ, columns[:, i]) for i, lead in enumerate(leads)}
    return emulator.Board(Scene(Patient(recordings), tuple(faults)), leads, seed)


def pytest_make_parametrize_id(val: object) -> str | None:
    """A test of each emulator is called by the device."""
    return val.device.name if isinstance(val, Emulator) else None


@pytest.fixture
def make_board() -> Callable[..., emulator.Board]:
    return board


@pytest.fixture
def emulate(tmp_path: Path) -> Iterator[Callable[..., Emulated]]:
    """`emulate(samples_mv, loop=False, **options of play)`: a board on a pty, in a thread."""
    with ThreadPoolExecutor() as pool:
        stop = threading.Event()

        def start(samples_mv: Any, loop: bool = False, **options: Any) -> Emulated:
            link = tmp_path / "cyton"
            options.setdefault("linger_s", 20.0)
            options["seconds"] = None if loop else len(samples_mv) / cyton.RATE_HZ
            made = board(samples_mv, options.get("faults", ()))
            rate = cyton.WIRE.bytes_per_s
            future = pool.submit(play, made, Pty(link), bytes_per_s=rate, stop=stop, **options)
            wait_until(lambda: link.exists() or future.done())
            return Emulated(link, future, stop)

        yield start
        stop.set()


def wait_until(done: Callable[[], bool], timeout_s: float = 30.0) -> None:
    deadline_s = time.monotonic() + timeout_s
    while not done():
        assert time.monotonic() < deadline_s, "waited in vain"
        time.sleep(0.001)


@pytest.fixture
def collect() -> Iterator[Callable[..., list[LinkMessage]]]:
    """Polls a link on a path until `enough(messages)`, and closes it."""
    links: list[Link] = []

    def run(
        path: Path, enough: Callable[[list[LinkMessage], Link], bool], **options: Any
    ) -> tuple[list[LinkMessage], Link]:
        link = Link(device("cyton"), str(path), **options)
        links.append(link)
        messages = link.open(time.monotonic_ns())

        def poll() -> bool:
            messages.extend(link.poll(time.monotonic_ns()))
            return enough(messages, link)

        wait_until(poll)
        return messages, link

    yield run
    for link in links:
        link.close()


@pytest.fixture
def check_pair() -> Callable[..., None]:
    """`check_pair(dialogue, expected, state, event)`: the event leads to the expected (state, bytes
    sent); a pair that is not among the expected is refused and changes nothing."""

    def check(
        dialogue: Dialogue,
        expected: Mapping[tuple[State, Event], tuple[State, bytes]],
        state: State,
        event: Event,
    ) -> None:
        session = Session(dialogue)
        session.state = state
        if (state, event) in expected:
            next_state, sent = expected[state, event]
            assert session.on(event, 0).send == sent
            assert session.state is next_state
            return
        with pytest.raises(DialogueError, match=event.value):
            session.on(event, 0)
        assert session.state is state

    return check


@pytest.fixture
def times_the_link() -> Callable[..., float]:
    """`times_the_link(make, wire, data, chunk, frames)`: how many times faster than the line
    carries `data` it is decoded, the best of three, `chunk` bytes at a time; `frames` in it."""

    def measure(
        make: Callable[[], Decoder], wire: Wire, data: bytes, chunk: int, frames: int
    ) -> float:
        best_s = math.inf
        for _ in range(3):
            decoder = make()
            start_s = time.perf_counter()
            for at in range(0, len(data), chunk):
                decoder.feed(data[at : at + chunk])
            best_s = min(best_s, time.perf_counter() - start_s)
            assert decoder.counters.frames == frames
        times = len(data) / best_s / wire.bytes_per_s
        print(f"{times:.0f} times the link")
        return times

    return measure
