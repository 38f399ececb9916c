"""`medge doctor --probe` as a user runs it: what it says, and that the configuration takes it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from edge import config as configuration
from firmware_bridge.emulators.capture import captured
from firmware_bridge.emulators.emulated import emulated
from firmware_bridge.emulators.patient import Scene
from firmware_bridge.emulators.play import play
from firmware_bridge.emulators.pty import Pty

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.integration

CONFIG = """
schema = 1
bed = "rig"
state_dir = "state"
bundles = [{ path = "ecg-beat" }]

"""


def medge(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "edge.cli", "doctor", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_a_capture_is_recognised_and_noise_is_not(tmp_path: Path) -> None:
    data = b"".join(frame.data for frame in captured("cyton", Scene(), 4.0)[0])
    (tmp_path / "capture.bin").write_bytes(data)
    address = f"file://{tmp_path}/capture.bin?pace=fast"
    done = medge("--probe", address)
    assert done.returncode == 0, done.stderr
    assert "cyton at 115200 8N1" in done.stdout
    document = json.loads(medge("--probe", address, "--json").stdout)
    assert [f["device"] for f in document["found"]] == ["cyton"]
    (tmp_path / "capture.bin").write_bytes(os.urandom(30_000))
    done = medge("--probe", address)
    assert done.returncode == 1
    assert "nothing recognised, though something speaks there" in done.stdout


def test_what_it_says_can_be_written_into_a_configuration(tmp_path: Path) -> None:
    """A device that streams, its player paced at its line's rate, and the verb beside it."""
    made = emulated("cyton", Scene())
    made.hear(b"b", 0.0)
    port, stop = tmp_path / "port", threading.Event()
    with ThreadPoolExecutor() as pool:
        pool.submit(play, made, Pty(port), bytes_per_s=11_520, stop=stop)
        while not port.exists():
            time.sleep(0.01)
        done = medge("--probe", str(port))
        stop.set()
    assert done.returncode == 0, done.stderr
    snippet = done.stdout[done.stdout.index("[[sources]]") :]
    settings = configuration.parse(CONFIG + snippet, tmp_path / "bed.toml")
    assert settings.sources[0].options.device == "cyton"
    assert settings.sources[0].options.port == str(port)


def test_a_port_that_is_not_there_is_an_error_of_the_device(tmp_path: Path) -> None:
    done = medge("--probe", str(tmp_path / "none"))
    assert (done.returncode, done.stdout) == (3, "")
    assert "plug the device in" in done.stderr
