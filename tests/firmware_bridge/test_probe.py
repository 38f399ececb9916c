"""Probing: every device that speaks unasked is recognised as itself and as nothing else; silence
and noise as nothing; and nobody is ever sent a byte."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from firmware_bridge import probe as probing
from firmware_bridge.devices import DEVICES, device
from firmware_bridge.emulators.capture import captured
from firmware_bridge.emulators.emulated import emulated
from firmware_bridge.emulators.patient import Scene
from firmware_bridge.emulators.play import play
from firmware_bridge.emulators.pty import Pty
from firmware_bridge.errors import AddressError, LinkError
from firmware_bridge.probe import Ear, probe, recognised, settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

KNOWN = [device(name) for name in DEVICES if device(name).sure_frames]
SPEAKING = [made.name for made in KNOWN if not made.datagrams]
SECONDS = 12.0


def said(name: str, seconds: float = SECONDS) -> bytes:
    """What a device says: unasked, or, a Cyton, once somebody has started it."""
    return b"".join(frame.data for frame in captured(name, Scene(), seconds)[0])


def sure_of(data: bytes, only: Callable[[Any], bool] = lambda made: True) -> list[str]:
    ears = [Ear(made) for made in KNOWN if not made.datagrams and only(made)]
    for ear in ears:
        ear.hear(data)
    return [found.name for found in recognised(ears)]


@pytest.mark.parametrize("name", SPEAKING)
def test_each_is_recognised_as_itself_alone(name: str) -> None:
    """From its first byte on, and joined in the middle of a frame."""
    data = said(name)
    if len(data) < 1000:  # a word now and then: long enough for a few after byte 50
        data = said(name, 5 * SECONDS)
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
    for _ in range(10):
        assert sure_of(rng.randbytes(20_000)) == []
    assert sure_of(bytes(20_000)) == sure_of(b"\xff" * 20_000) == sure_of(b"\xa0" * 20_000) == []


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


def test_a_port_is_recognised_and_never_written_to(line: Line) -> None:
    data = said("cyton", 60)
    line.say(data, 8250)
    tried: list[str] = []
    probed = probe(str(line.path), told=tried.append)
    (found,) = probed.found
    assert (found.name, found.wire) == ("cyton", device("cyton").wire)
    assert found.frames >= device("cyton").sure_frames and found.share > 0.99
    assert tried and "115200 baud 8N1" in tried[-1]
    assert "cyton" not in probed.mute
    line.close()
    assert line.heard == b""


def test_control_what_is_written_is_noticed(line: Line) -> None:
    from firmware_bridge.link import Link

    line.say(b"", 1)
    link = Link(device("cyton"), str(line.path))
    link.open(0)
    link.close()
    line.close()
    assert line.heard.startswith(b"v")


@pytest.mark.parametrize(
    "data", [b"", random.Random(2).randbytes(100_000)], ids=["silence", "noise"]
)
def test_silence_and_noise_are_nothing_and_are_told_apart(line: Line, data: bytes) -> None:
    line.say(data, 11_520)
    probed = probe(str(line.path), listen_s=0.3, quiet_s=0.1)
    assert probed.found == ()
    assert set(probed.heard_bytes) == set(settings(KNOWN, serial=True))
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


def medge(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "edge.cli", "doctor", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.integration
def test_the_verb_says_what_to_write_into_the_configuration(tmp_path: Path) -> None:
    (tmp_path / "capture.bin").write_bytes(said("cyton"))
    address = f"file://{tmp_path}/capture.bin?pace=fast"
    done = medge("--probe", address)
    assert done.returncode == 0, done.stderr
    assert "cyton at 115200 8N1" in done.stdout
    assert 'device = "cyton"' in done.stdout
    document = json.loads(medge("--probe", address, "--json").stdout)
    assert [f["device"] for f in document["found"]] == ["cyton"]
    (tmp_path / "capture.bin").write_bytes(os.urandom(30_000))
    done = medge("--probe", address)
    assert done.returncode == 1
    assert "nothing recognised, though something speaks there" in done.stdout


@pytest.mark.integration
def test_an_emulator_is_recognised_by_the_verb(tmp_path: Path) -> None:
    """A device that streams, its player paced at its line's rate, and the verb beside it."""
    made = emulated("cyton", Scene())
    made.hear(b"b", 0.0)
    stop = threading.Event()
    with ThreadPoolExecutor() as pool:
        pool.submit(play, made, Pty(tmp_path / "port"), bytes_per_s=11_520, stop=stop)
        while not (tmp_path / "port").exists():
            time.sleep(0.01)
        done = medge("--probe", str(tmp_path / "port"))
        stop.set()
    assert done.returncode == 0, done.stderr
    assert f'port = "{tmp_path}/port"' in done.stdout
