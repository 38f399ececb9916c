"""Probing: every device that speaks unasked is recognised as itself and as nothing else; silence
and noise as nothing; and nobody is ever sent a byte."""

from __future__ import annotations

import functools
import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from firmware_bridge import probe as probing
from firmware_bridge.devices import DEVICES, device
from firmware_bridge.emulators.capture import captured
from firmware_bridge.emulators.emulated import emulator
from firmware_bridge.emulators.patient import Scene
from firmware_bridge.emulators.pty import Pty
from firmware_bridge.errors import AddressError, LinkError
from firmware_bridge.probe import Ear, probe, recognised, settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

KNOWN = [device(name) for name in DEVICES if device(name).sure_frames]
SPEAKING = [made.name for made in KNOWN if not made.datagrams]
ENOUGH_BYTES = 4000


@functools.cache
def said(name: str) -> bytes:
    """What a device says: unasked, or, a Cyton, once somebody has started it."""
    for seconds in (2.0, 40.0):
        data = b"".join(frame.data for frame in captured(emulator(name), Scene(), seconds)[0])
        if len(data) >= ENOUGH_BYTES:
            break
    return data[:ENOUGH_BYTES]


def sure_of(data: bytes, only: Callable[[Any], bool] = lambda made: True) -> list[str]:
    ears = [Ear(made) for made in KNOWN if not made.datagrams and only(made)]
    for ear in ears:
        ear.hear(data)
    return [found.name for found in recognised(ears, None)]


@pytest.mark.parametrize("name", SPEAKING)
def test_each_is_recognised_as_itself_alone(name: str) -> None:
    """From its first byte on, and joined in the middle of a frame."""
    data = said(name)
    wire = device(name).wire
    for start in (0, 7, 50):
        assert sure_of(data[start:], lambda made: made.wire == wire) == [name]


@pytest.mark.parametrize("name", SPEAKING)
def test_nobody_else_is_sure_whatever_the_setting(name: str) -> None:
    """On a network port there is no setting to tell devices apart."""
    assert sure_of(said(name)) == [name]


@pytest.mark.parametrize("name", SPEAKING)
def test_half_of_it_lost_is_not_recognised(name: str) -> None:
    data, rng = said(name), random.Random(3)
    dirty = bytearray(data)
    for i in range(0, len(dirty), 6):
        dirty[i] ^= 1 << rng.randrange(8)
    assert sure_of(bytes(dirty)) == []


def test_noise_is_nothing() -> None:
    rng = random.Random(1)
    for data in (rng.randbytes(20_000), bytes(8000), b"\xff" * 8000, b"\xa0" * 8000):
        assert sure_of(data) == []


class Line:
    """A pty whose far end is ours: `say` starts saying it, `heard` is what was sent to it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.heard = b""
        self._pty = Pty(path)
        self._pty.plug()
        self._stop = threading.Event()
        self._pool = ThreadPoolExecutor(1)

    def say(self, data: bytes, bytes_per_s: float) -> None:
        self._pool.submit(self._say, data, bytes_per_s)

    def _say(self, data: bytes, bytes_per_s: float) -> None:
        began_s, sent = time.monotonic(), 0
        while not self._stop.is_set():
            self.heard += self._pty.wait(0.005)
            due = min(len(data), int((time.monotonic() - began_s) * bytes_per_s))
            self._pty.write(data[sent:due])
            sent = due

    def close(self) -> None:
        self._stop.set()
        self._pool.shutdown()
        self.heard += self._pty.wait(0.0)
        self._pty.unplug()


@pytest.fixture
def line(tmp_path: Path) -> Iterator[Line]:
    made = Line(tmp_path / "port")
    yield made
    made.close()


@pytest.mark.integration
def test_a_port_is_recognised_and_never_written_to(line: Line) -> None:
    data = b"".join(frame.data for frame in captured(emulator("cyton"), Scene(), 30.0)[0])
    line.say(data, 8250)
    tried: list[str] = []
    probed = probe(str(line.path), told=tried.append)
    (found,) = probed.found
    assert (found.name, found.wire) == ("cyton", device("cyton").wire)
    assert found.frames >= device("cyton").sure_frames and found.share > 0.99
    assert tried and tried[-1] == "listening at 115200 8N1"
    assert "cyton" not in probed.mute
    line.close()
    assert line.heard == b""


@pytest.mark.integration
def test_a_port_without_settings_is_listened_to_once(tmp_path: Path) -> None:
    capture, tried = tmp_path / "capture.bin", []
    capture.write_bytes(said("nellcor"))
    probed = probe(f"file://{capture}?pace=fast", told=tried.append)
    assert [(found.name, found.wire) for found in probed.found] == [("nellcor", None)]
    assert probed.heard_bytes.keys() == {None} and probed.heard_bytes[None] > 0
    assert tried == ["listening"]


def test_control_what_is_written_is_noticed(line: Line) -> None:
    from firmware_bridge.link import Link

    line.say(b"", 1)
    link = Link(device("cyton"), str(line.path))
    link.open(0)
    link.close()
    line.close()
    assert line.heard.startswith(b"v")


@pytest.mark.integration
@pytest.mark.parametrize(
    "data", [b"", random.Random(2).randbytes(100_000)], ids=["silence", "noise"]
)
def test_silence_and_noise_are_nothing_and_are_told_apart(line: Line, data: bytes) -> None:
    line.say(data, 11_520)
    probed = probe(str(line.path), listen_s=0.3, quiet_s=0.1)
    assert probed.found == ()
    assert set(probed.heard_bytes) == set(settings(KNOWN))
    assert all((n > 0) == bool(data) for n in probed.heard_bytes.values())
    line.close()
    assert line.heard == b""


def test_what_only_answers_is_named(monkeypatch: pytest.MonkeyPatch, line: Line) -> None:
    monkeypatch.setattr(probing, "DEVICES", {"cyton": DEVICES["cyton"], "mute": "x"})
    from dataclasses import replace

    mute = replace(device("cyton"), name="mute", sure_frames=0)
    monkeypatch.setattr(probing, "device", lambda n: mute if n == "mute" else device(n))
    assert probe(str(line.path), listen_s=0.1, quiet_s=0.1).mute == ("mute",)


def test_what_cannot_be_listened_to_is_refused(tmp_path: Path) -> None:
    with pytest.raises(AddressError, match=r"udp.*use one of: serial, tcp, file"):
        probe("udp://127.0.0.1:24105")
    with pytest.raises(LinkError, match="cannot be opened"):
        probe(str(tmp_path / "none"))
