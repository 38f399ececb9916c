"""A bedside of real processes: the emulated board on a pty, `medge run` beside it."""

from __future__ import annotations

import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from edge.sources.synthetic import ecg
from firmware_bridge.emulators.emulated import emulated
from firmware_bridge.emulators.patient import Patient, Recording, Scene
from firmware_bridge.emulators.play import play
from firmware_bridge.emulators.pty import Pty

CONFIG = """
schema = 1
bed = "rig"
state_dir = "{state}"

[[bundles]]
path = "ecg-beat"

[[sources]]
kind = "monitor"
device = "cyton"
port = "{port}"
mdc = "MDC_ECG_ELEC_POTL_II"
unit = "mV"

[[sinks]]
kind = "jsonl"
path = "out.jsonl"
"""

HEAD = """
schema = 1
bed = "icu-3"
state_dir = "state"

[[sinks]]
kind = "jsonl"
path = "out.jsonl"

[engine]
deadline_ms = 5000.0
"""


@dataclass
class Bedside:
    """One emulated bed; daemons come and go beside it."""

    folder: Path
    config: Path
    daemons: list[subprocess.Popen[str]] = field(default_factory=list)

    def start(self, *extra: str, verb: str = "run") -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "edge.cli", verb, str(self.config), *extra]
        daemon = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        self.daemons.append(daemon)
        return daemon

    def stop(self, daemon: subprocess.Popen[str]) -> int:
        daemon.send_signal(signal.SIGTERM)
        return daemon.wait(10)

    def lines(self) -> list[dict[str, Any]]:
        """Whole lines of the jsonl sink."""
        file = self.folder / "out.jsonl"
        text = file.read_text() if file.exists() else ""
        return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]

    def journal(self) -> list[tuple[int, str]]:
        """(rowid, id) of every committed result."""
        with sqlite3.connect(self.folder / "state" / "journal.db") as db:
            return list(db.execute("SELECT rowid, id FROM results ORDER BY rowid"))

    def until(self, done: Callable[[], bool], seconds: float, what: str) -> float:
        """Wait for `done`; how long it took."""
        began = time.monotonic()
        while not done():
            assert time.monotonic() - began < seconds, f"{what} within {seconds} s"
            time.sleep(0.05)
        return time.monotonic() - began


def children(pid: int) -> list[int]:
    """Child processes of `pid`."""
    text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [int(p) for p in text.split()]


@pytest.fixture
def children_of() -> Callable[[int], list[int]]:
    return children


@pytest.fixture
def bedside(request: pytest.FixtureRequest, tmp_path: Path, state_dir: Path) -> Iterator[Bedside]:
    """A board playing a fast synthetic rhythm for as long as the test lasts.

    Parametrized indirectly with a tuple of the emulator's faults.
    """
    faults = getattr(request, "param", ())
    port, stop = tmp_path / "port", threading.Event()
    samples_mv, _, _ = ecg("NNNV", 250.0, seed=7, seconds=60, heart_rate_bpm=140)
    patient = Patient({"MDC_ECG_ELEC_POTL_II": Recording(250.0, samples_mv)})
    player = threading.Thread(
        target=play,
        args=(emulated("cyton", Scene(patient, faults)), Pty(port)),
        kwargs={"stop": stop, "faults": faults},
    )
    player.start()
    config = tmp_path / "bedside.toml"
    config.write_text(CONFIG.format(state="state", port=port))
    (tmp_path / "state").mkdir()
    os.symlink(state_dir / "admission", tmp_path / "state" / "admission")
    made = Bedside(tmp_path, config)
    made.until(port.exists, 5, "the emulated port")
    yield made
    for daemon in made.daemons:
        if daemon.poll() is None:
            daemon.kill()
            daemon.wait()
    stop.set()
    player.join()


FAMILIES = ("symptom-text", "icu-vitals", "icu-mortality", "pneumonia", "blood-brain-barrier")


@dataclass
class Ward(Bedside):
    """Sources of any kind beside each other, each in a folder of its own; no board."""

    def of(self, source: str) -> list[dict[str, Any]]:
        """Results of one source, in order."""
        return [line for line in self.lines() if line["source"] == source]

    def put(self, folder: str, name: str, data: bytes) -> None:
        """Move a whole file in, as a user is told to."""
        half = self.folder / folder / f".{name}"
        half.write_bytes(data)
        half.rename(half.with_name(name))

    def wait_for(self, source: str, count: int, seconds: float = 30.0) -> list[dict[str, Any]]:
        """So many results of it."""
        self.until(lambda: len(self.of(source)) >= count, seconds, f"{count} of {source}")
        return self.of(source)


@pytest.fixture
def ward(tmp_path: Path, families_dir: Path) -> Iterator[Callable[[str], Ward]]:
    """Call it with the tables of sources and bundles; every `folder` they name is made."""
    made: list[Ward] = []

    def make(tables: str, name: str = "ward") -> Ward:
        folder = tmp_path / name
        for spool in re.findall(r'folder = "(.*?)"', tables):
            (folder / spool).mkdir(parents=True, exist_ok=True)
        (folder / "state").mkdir(parents=True, exist_ok=True)
        with suppress(FileExistsError):
            os.symlink(families_dir / "admission", folder / "state" / "admission")
        config = folder / "ward.toml"
        config.write_text(HEAD + tables)
        made.append(Ward(folder, config))
        return made[-1]

    yield make
    for one in made:
        for daemon in one.daemons:
            if daemon.poll() is None:
                daemon.kill()
                daemon.wait()


@pytest.fixture(scope="session")
def families_dir(state_dir: Path) -> Path:
    """Where a bundle of each family counts as admitted, on ONNX Runtime in FP32: what each machine
    would choose is not what is tested with it, and measuring all of them takes long."""
    import msgspec

    from edge.bundle.admission import THREADS, Admission, environment
    from edge.bundle.load import load

    for name in FAMILIES:
        digest = load(name).digest
        record = Admission(digest, environment(), "onnxruntime", "fp32", THREADS, ())
        file = state_dir / "admission" / f"{digest}.json"
        file.write_bytes(msgspec.json.encode(record))
    return state_dir


@pytest.fixture(scope="session")
def state_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the reference bundle has been admitted once for the whole session."""
    import edge

    folder = tmp_path_factory.mktemp("state")
    with edge.open("ecg-beat", state_dir=folder):
        pass
    return folder
