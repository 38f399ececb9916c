"""`medge doctor --probe` as a user runs it: what it says, and that the configuration takes it."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest

from edge import config as configuration
from firmware_bridge.devices import device
from firmware_bridge.emulators.capture import captured
from firmware_bridge.emulators.emulated import emulated, emulator
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

[[sources]]
kind = "synthetic"

"""


def test_a_capture_is_recognised_and_noise_is_not(medge: Any, tmp_path: Path) -> None:
    data = b"".join(frame.data for frame in captured(emulator("cyton"), Scene(), 4.0)[0])
    (tmp_path / "capture.bin").write_bytes(data)
    address = f"file://{tmp_path}/capture.bin?pace=fast"
    done = medge("doctor", "--probe", address)
    assert done.returncode == 0, done.stderr
    assert f"{address}: cyton (" in done.stdout
    document = json.loads(medge("doctor", "--probe", address, "--json").stdout)
    assert [(f["device"], f["setting"]) for f in document["found"]] == [("cyton", "no setting")]
    (tmp_path / "capture.bin").write_bytes(os.urandom(30_000))
    done = medge("doctor", "--probe", address)
    assert done.returncode == 1
    assert "nothing recognised, though something speaks there" in done.stdout


@pytest.mark.parametrize(
    ("name", "start", "kind", "setting"),
    [
        ("cyton", b"b", "monitor", "115200 8N1"),
        ("contec-cms50-old", b"", "vitals", "19200 8O1"),
        ("openview-max30102", b"", "device", "57600 8N1"),
    ],
)
def test_what_it_says_can_be_written_into_a_configuration(
    medge: Any, tmp_path: Path, name: str, start: bytes, kind: str, setting: str
) -> None:
    """A device with an ECG, one of values, and one whose waves no bundle takes, their players paced
    at the line's rate, and the verb beside them."""
    made = emulated(name, Scene())
    made.hear(start, 0.0)
    port, stop = tmp_path / "port", threading.Event()
    with ThreadPoolExecutor() as pool:
        pool.submit(play, made, Pty(port), bytes_per_s=device(name).wire.bytes_per_s, stop=stop)
        while not port.exists():
            time.sleep(0.01)
        done = medge("doctor", "--probe", str(port))
        stop.set()
    assert done.returncode == 0, done.stderr
    assert f"{port}: {name} at {setting}" in done.stdout
    snippet = done.stdout[done.stdout.index("[[sources]]") :]
    _, source = configuration.parse(CONFIG + snippet, tmp_path / "bed.toml").sources
    assert (source.kind, source.options.device) == (kind, name)
    assert kind != "monitor" or source.options.unit == "mV"  # as bundles take it
    assert source.options.port == str(port)


def test_monitors_of_a_network_are_listed(medge: Any, tmp_path: Path) -> None:
    at, heard = free_udp_addresses()
    command = [sys.executable, "-m", "edge.cli", "emulate", "philips-intellivue-lan"]
    with subprocess.Popen([*command, "--udp", at, "--announce", heard]) as monitor:
        try:
            done = medge("doctor", "--probe", f"udp://{heard}", "--json")
        finally:
            monitor.terminate()
    assert done.returncode == 0, done.stderr
    (found,) = json.loads(done.stdout)["found"]
    assert (found["port"], found["model"]) == (f"udp://{at}", "medge emulator")
    _, source = configuration.parse(CONFIG + found["config"], tmp_path / "bed.toml").sources
    assert (source.kind, source.options.port) == ("monitor", f"udp://{at}")
    nobody = medge("doctor", "--probe", f"udp://{heard}")
    assert nobody.returncode == 1 and "nobody makes himself known" in nobody.stdout


def free_udp_addresses() -> list[str]:
    """Two of them."""
    with ExitStack() as stack:
        probes = [stack.enter_context(socket.socket(type=socket.SOCK_DGRAM)) for _ in range(2)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [f"127.0.0.1:{probe.getsockname()[1]}" for probe in probes]


def test_a_port_that_is_not_there_is_an_error_of_the_device(medge: Any, tmp_path: Path) -> None:
    done = medge("doctor", "--probe", str(tmp_path / "none"))
    assert (done.returncode, done.stdout) == (3, "")
    assert "plug the device in" in done.stderr
