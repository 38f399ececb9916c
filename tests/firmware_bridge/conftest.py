"""Rigs: an emulated Cyton on a pty in a thread, and a driver that polls a link against a clock."""

from __future__ import annotations

import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from firmware_bridge.devices import device
from firmware_bridge.emulators import cyton as emulator
from firmware_bridge.link import Link

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from firmware_bridge.types import LinkMessage


class Emulated:
    """A running emulator: where it is, and what it played once stopped."""

    def __init__(self, link: Path, future: Future[emulator.Played], stop: threading.Event) -> None:
        self.link = link
        self._future = future
        self._stop = stop

    def played(self) -> emulator.Played:
        self._stop.set()
        return self._future.result(10)


@pytest.fixture
def emulate(tmp_path: Path) -> Iterator[Callable[..., Emulated]]:
    with ThreadPoolExecutor() as pool:
        stop = threading.Event()

        def start(samples_mv: Any, **options: Any) -> Emulated:
            link = tmp_path / "cyton"
            options.setdefault("linger_s", 20.0)
            future = pool.submit(emulator.run, samples_mv, link, stop=stop, **options)
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
