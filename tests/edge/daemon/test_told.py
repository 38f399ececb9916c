"""What a running daemon tells of its devices: conditions, their own alarms, and their clocks.

Emulated devices that misbehave by script, beside the real daemon; only its stderr is read.
"""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from firmware_bridge.emulators.hl7_oru import report
from firmware_bridge.emulators.patient import Scene
from firmware_bridge.mllp import framed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytestmark = [pytest.mark.integration, pytest.mark.slow]

HEART_RATE, PEAK = "MDC_ECG_HEART_RATE", "MDC_PRESS_AWAY_INSP_PEAK"
FAULTS = {
    "philips-intellivue": [("alarm", 3.0, 3.0)],
    "cyton": [("stall", 3.0, 0.5), ("unplug", 9.0, 2.0)],  # its clock stands still: a restart
    "medibus": [("alarm", 3.0, 3.0), ("unplug", 9.0, 2.0)],
}
TOLD = {
    ("philips-intellivue", "device_alarm", "MDC_EVT_HI"): HEART_RATE,
    ("gateway", "condition", "medge:stale"): HEART_RATE,
    ("cyton", "condition", "medge:device-absent"): "",
    ("medibus", "device_alarm", "MDC_EVT_HI"): PEAK,
    ("medibus", "condition", "medge:device-absent"): "",
}
"""Source, what began and ended, and code: the channel."""
MONITOR = """
[[sources]]
kind = "monitor"
name = "{name}"
bundle = "ecg-beat"
port = "serial://{port}?device={name}"
mdc = "MDC_ECG_ELEC_POTL_II"
unit = "mV"
rate_hz = 250.0
"""
WATCHED = """
[[sources]]
kind = "device"
name = "medibus"
port = "serial://{port}?device=medibus"
"""
GATEWAY = """
[[bundles]]
path = "ecg-beat"

[[bundles]]
path = "icu-vitals"

[[sources]]
kind = "vitals"
name = "gateway"
bundle = "icu-vitals"
port = "tcp-listen://127.0.0.1:{port}?device=hl7-oru"
"""


@contextmanager
def emulated(folder: Path) -> Iterator[dict[str, Path]]:
    """`medge emulate` of each device with its faults; where they are."""
    found, running = {}, []
    for name, faults in FAULTS.items():
        port, script = folder / f"tty-{name}", folder / f"{name}.toml"
        script.write_text(
            "".join(
                f'[[fault]]\nkind = "{kind}"\nat_s = {at_s}\nduration_s = {duration_s}\n'
                for kind, at_s, duration_s in faults
            )
        )
        command = [sys.executable, "-m", "edge.cli", "emulate", name, "--link", str(port)]
        running.append(subprocess.Popen([*command, "--fault", str(script)]))
        found[name] = port
    try:
        yield found
    finally:
        for process in running:
            process.kill()
            process.wait()


def without(channel: str, said: bytes) -> bytes:
    return b"".join(line + b"\r" for line in said.split(b"\r")[:-1] if channel.encode() not in line)


class Gateway:
    """Reports every 0.2 s; between 3 and 7 s without a heart rate."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Gateway:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        with socket.create_connection(("127.0.0.1", self._port)) as daemon:
            began_s, number = time.monotonic(), 0
            while not self._stop.wait(0.2):
                t_s, number = time.monotonic() - began_s, number + 1
                said = report(Scene(), t_s, number)
                daemon.sendall(framed(without(HEART_RATE, said) if 3 <= t_s < 7 else said))


class Stderr:
    """Its lines so far, as they come."""

    def __init__(self, daemon: subprocess.Popen[str]) -> None:
        self.lines: list[dict[str, Any]] = []
        self._daemon = daemon
        self.thread = threading.Thread(target=self._read)
        self.thread.start()

    def _read(self) -> None:
        assert self._daemon.stderr is not None
        for line in iter(self._daemon.stderr.readline, ""):
            self.lines.append(json.loads(line))

    def of(self, source: str, what: str, code: str) -> list[tuple[str, str]]:
        """Whether it began or ended, and its channel, of one code of one source, in order."""
        return [(line["event"].removeprefix(f"{what}_"), line["channel"])
                for line in list(self.lines)
                if (line.get("source"), line.get("code")) == (source, code)
                and line["event"].startswith(what)]  # fmt: skip

    def clocks(self, first: int = 0) -> dict[str, dict[str, Any]]:
        """What was said last of each clock, from one line on."""
        lines = self.lines[first:]
        return {line["source"]: line for line in lines if line["event"] == "source_clock"}


def test_conditions_alarms_and_clocks_are_told(ward: Callable[..., Any], tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = int(free.getsockname()[1])
    with emulated(tmp_path) as ports:
        sources = [
            (WATCHED if name == "medibus" else MONITOR).format(name=name, port=at)
            for name, at in ports.items()
        ]
        bed = ward(GATEWAY.format(port=port) + "".join(sources))
        bed.until(lambda: all(p.exists() for p in ports.values()), 20, "the emulated ports")
        daemon = bed.start()
        told = Stderr(daemon)
        started = "daemon_started"
        bed.until(lambda: any(x["event"] == started for x in told.lines), 30, started)
        with Gateway(port):
            bed.until(lambda: all(len(told.of(*one)) >= 2 for one in TOLD), 40, str(TOLD))
            assert {one: told.of(*one) for one in TOLD} == {
                one: [("began", channel), ("ended", channel)] for one, channel in TOLD.items()
            }
            bed.until(lambda: "cyton" in told.clocks(), 20, "a clock that restarted")
            assert told.clocks()["cyton"]["restarts"] >= 1
            before = len(told.lines)
            assert bed.stop(daemon) == 0
        told.thread.join()
    assert set(told.clocks(before)) == {"cyton", "philips-intellivue"}
    assert told.clocks(before)["cyton"]["restarts"] >= 1, "counted on over a loss"
    (aligned,) = (x for x in told.lines[before:] if x["event"] == "sources_aligned")
    assert aligned["count"] == 2
