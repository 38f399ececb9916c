"""The microcontroller as a source, with the reference firmware's host build at the other end."""

from __future__ import annotations

import json
import re
import select
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from edge.bundle.manifest import Channel, Signal, Step
from edge.errors import LinkError, StartError
from edge.sources.mcu import McuOptions, Microcontroller
from edge.types import SourceLost, Waveform

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.integration

ECG, COUNT = "MDC_ECG_ELEC_POTL_II", 0.002
SHAPE = {"channels": 2, "rate_hz": 250.0, "mdc": ECG, "unit": "mV", "count": COUNT}
NEEDED = Signal(
    channel=Channel(mdc=ECG, unit="mV", low=-5.0, high=5.0), rate_hz=250.0, filters=(),
    trigger=Step(name="qrs"), before_ms=200.0, after_ms=400.0, max_age_ms=2000.0,
)  # fmt: skip


def made(port: object, **changes: Any) -> Microcontroller:
    return Microcontroller(McuOptions(port=str(port), **{**SHAPE, **changes}))


@pytest.fixture
def running(board: Any, make_image: Callable[..., bytes]) -> Any:
    board.make(make_image((1, 0, 0)))
    board.power_on()
    return board


def hear(
    source: Microcontroller, seconds: float, enough: Callable[[list[Any]], bool] = lambda out: False
) -> list[Waveform | SourceLost]:
    """What comes in that time, or until it is enough."""
    out: list[Waveform | SourceLost] = []
    end_s = time.monotonic() + seconds
    while time.monotonic() < end_s and not enough(out):
        fd = source.fileno()
        select.select([] if fd is None else [fd], [], [], 0.02)
        out += source.poll(time.monotonic_ns())
    return out


def waves(found: list[Waveform | SourceLost]) -> list[Waveform]:
    return [item for item in found if isinstance(item, Waveform)]


def test_its_samples_are_those_that_it_took_at_their_time(running: Any) -> None:
    source = made(running.port, channel=2)
    source.serve(NEEDED)
    source.open(time.monotonic_ns())
    found = waves(hear(source, 4.5))
    source.close()
    ends = [w.seq + len(w.samples) for w in found]
    assert [w.seq for w in found[1:]] == ends[:-1] and ends[-1] > 500
    counts = np.rint(np.concatenate([w.samples for w in found]) / COUNT)
    assert set(np.diff(counts)) == {2.0, -1998.0}  # a saw of 2000 counts, two a sample
    settled = found[len(found) // 2 :]
    for before, after in zip(settled, settled[1:]):
        apart_s = (after.t_ns - before.t_ns) / 1e9
        assert apart_s == pytest.approx(len(before.samples) / 250.0, abs=0.02)
        assert 0 <= after.received_ns - after.t_ns < 500_000_000
    assert source.counters() == {
        "received": ends[-1], "lost": 0, "gaps": 0, "losses": 0, "rejected": 0,
    }  # fmt: skip


def test_power_that_fails_is_a_loss_and_a_gap(running: Any) -> None:
    source = made(running.port)
    source.open(time.monotonic_ns())
    before = waves(hear(source, 5.0, lambda out: len(waves(out)) > 20))
    running.power_off()
    off_s = time.monotonic()
    lost = hear(source, 5.0, lambda out: any(isinstance(m, SourceLost) for m in out))
    assert time.monotonic() - off_s < 2.0
    (loss,) = (m for m in lost if isinstance(m, SourceLost))
    assert loss.cause.startswith("mcu-unplugged: ")
    running.power_on()
    after = waves(hear(source, 10.0, lambda out: len(waves(out)) > 2))
    source.close()
    assert after[0].seq > before[-1].seq + len(before[-1].samples)
    assert source.counters()["losses"] >= 1


def test_a_stream_of_another_shape_is_refused(running: Any) -> None:
    for wrong in ({"rate_hz": 500.0}, {"channels": 3}):
        source = made(running.port, **wrong)
        source.open(time.monotonic_ns())
        assert waves(hear(source, 0.7)) == []
        assert source.counters()["rejected"] > 0
        source.close()


def test_a_sensors_fault_is_a_lead_that_is_off(
    board: Any, make_image: Callable[..., bytes]
) -> None:
    board.make(make_image((1, 0, 0), "broken"))
    board.power_on()
    source = made(board.port)
    source.open(time.monotonic_ns())
    found = waves(hear(source, 5.0, lambda out: len(waves(out)) > 3))
    source.close()
    assert all(w.leads_off for w in found)


def test_what_cannot_be_is_refused_at_start(tmp_path: Path) -> None:
    with pytest.raises(StartError, match="has no channel 3; use 1 to 2"):
        made("x", channel=3)
    with pytest.raises(StartError, match="has count 0"):
        made("x", count=0.0)
    with pytest.raises(StartError, match="at 125 Hz, the bundle needs"):
        made("x", rate_hz=125.0).serve(NEEDED)
    with pytest.raises(LinkError, match="plug the device in"):
        made(tmp_path / "none").open(0)


README = Path(__file__).parents[3] / "README.md"
CONFIG = """
schema = 1
bed = "rig"
state_dir = "state"
bundles = [{{ path = "ecg-beat" }}]

{sources}
[[sinks]]
kind = "jsonl"
path = "out.jsonl"
"""


def test_the_daemon_judges_what_it_samples(running: Any, tmp_path: Path) -> None:
    """As the README has it. A saw is no heart: the answer is that there is none, or none, but it is
    of these samples."""
    config = tmp_path / "bed.toml"
    told = README.read_text(encoding="utf-8").split("**A microcontroller** is linked")[1]
    (sources,) = re.findall(r"^```toml\n(.*?)^```", told, re.MULTILINE | re.DOTALL)[:1]
    sources = sources.replace("/dev/ttyACM0", str(running.port))
    config.write_text(CONFIG.format(sources=sources))
    command = [sys.executable, "-m", "edge.cli", "run", str(config)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as daemon:
        out, deadline_s = tmp_path / "out.jsonl", time.monotonic() + 60
        while time.monotonic() < deadline_s:
            rows = (
                [json.loads(line) for line in out.read_text().splitlines()] if out.exists() else []
            )
            if [row for row in rows if row["source"] == "mcu" and row.get("reason") != "stale"]:
                break
            time.sleep(0.1)
        else:
            pytest.fail("no result")
        daemon.terminate()
        assert daemon.stderr is not None
        said = daemon.stderr.read()
    assert daemon.returncode == 0
    assert "mcu-untrusted" in said  # nobody's heartbeat: its alarm is on, and that is told
    assert {tuple(row[2:]) for row in running.lines("alarm")} == {("high", "sounds", "active")}
