"""`edge.open` as a user's own program uses it, and plugins of every kind from a configuration."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import edge
from edge import config as configuration
from edge.clock import NS_PER_S
from edge.errors import StartError
from edge.sources.attached import find_device
from edge.sources.synthetic import ecg

RATE_HZ, BLOCK = 250.0, 25


def blocks(seconds: float, unit: str = "mV", rate_hz: float = RATE_HZ) -> list[edge.Waveform]:
    samples, _, _ = ecg("NNNNV", rate_hz, seed=5, seconds=seconds)
    return [
        edge.Waveform(
            t_ns=round(at / rate_hz * NS_PER_S),
            received_ns=round((at + BLOCK) / rate_hz * NS_PER_S),
            source="ecg",
            channel="MDC_ECG_ELEC_POTL_II",
            unit=unit,
            rate_hz=rate_hz,
            seq=at,
            samples=samples[at : at + BLOCK],
        )
        for at in range(0, len(samples), BLOCK)
    ]


@pytest.fixture(scope="module")
def state_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("state")


def fed(state_dir: Path, waveforms: list[edge.Waveform]) -> list[edge.Diagnosis | edge.Withheld]:
    with edge.open("ecg-beat", state_dir=state_dir, bed="bench") as pipeline:
        return [result for block in waveforms for result in pipeline.feed(block)]


def test_blocks_in_diagnoses_out(state_dir: Path) -> None:
    results = fed(state_dir, blocks(30))
    diagnoses = [r for r in results if isinstance(r, edge.Diagnosis)]
    assert len(diagnoses) > 20
    assert [r.t_ns for r in results] == sorted(r.t_ns for r in results)
    first = diagnoses[0]
    assert first.bed == "bench"
    assert first.provenance.bundle == "ecg-beat"
    assert 0 < (first.findings[0].probability or 0) <= 1


def test_how_the_samples_are_cut_does_not_matter(state_dir: Path) -> None:
    cut = blocks(20)
    joined = [
        edge.Waveform(
            a.t_ns, b.received_ns, a.source, a.channel, a.unit, a.rate_hz, a.seq,
            np.concatenate([a.samples, b.samples]),
        )
        for a, b in zip(cut[0::2], cut[1::2])
    ]  # fmt: skip
    labels = [
        [(r.t_ns, getattr(r, "findings", None)) for r in fed(state_dir, waveforms)]
        for waveforms in (cut, joined)
    ]
    assert labels[0] == labels[1]


@pytest.mark.parametrize(("unit", "rate_hz"), [("uV", RATE_HZ), ("mV", 500.0)])
def test_what_the_bundle_was_not_made_for_is_refused(
    state_dir: Path, unit: str, rate_hz: float
) -> None:
    with pytest.raises(StartError):
        fed(state_dir, blocks(1, unit, rate_hz))


def test_not_a_number_is_withheld_and_recovered_from(state_dir: Path) -> None:
    waveforms = blocks(30)
    at = len(waveforms) // 2
    holed = waveforms[at].samples.copy()
    holed[5:9] = np.nan
    waveforms[at] = replace(waveforms[at], samples=holed)
    results = fed(state_dir, waveforms)
    bad = [r for r in results if isinstance(r, edge.Withheld) and r.reason.value == "out_of_range"]
    assert [r.detail for r in bad] == ["", "usable again"]
    after_ns = 400_000_000  # a window reaches so far beyond its beat
    assert bad[0].t0_ns == waveforms[at].t_ns + 5 * NS_PER_S // 250 - after_ns
    after = [r for r in results if isinstance(r, edge.Diagnosis) and r.t_ns > bad[0].t_ns]
    assert len(after) > 8


PLUGINS = """
import msgspec
from dataclasses import replace
from firmware_bridge.devices.cyton import DEVICE as CYTON
from edge.engines.onnxruntime import open_onnxruntime
from edge.sources.synthetic import Synthetic

DEVICE = replace(CYTON, name="ward-board", title="Ward board")

class Source(Synthetic):
    pass

class Sink:
    class Options(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
        path: str
    def __init__(self, options):
        self.path, self.last = options.path, 0
    def __enter__(self):
        return self
    def __exit__(self, *_):
        pass
    def resume_after(self):
        return self.last
    def deliver(self, rows):
        with open(self.path, "a") as file:
            for rowid, body in rows:
                file.write(f"{rowid} {len(body)}\\n")
                self.last = rowid

def halve():
    return lambda x: x * 0.5

def slow(model, precision, batch, threads):
    return open_onnxruntime(model, precision, batch, threads)
"""
CONFIG = """
schema = 1
bed = "b"
state_dir = "state"
bundles = [{{ path = "ecg-beat" }}]

[[sources]]
kind = "ward"
heart_rate_bpm = 150.0

[[sinks]]
kind = "pager"
path = "{out}"

[plugins]
sources.ward = "ward_plugins:Source"
sinks.pager = "ward_plugins:Sink"
devices.board = "ward_plugins:DEVICE"
preprocess.halve = "ward_plugins:halve"
engines.ward = "ward_plugins:slow"
"""


@pytest.fixture
def plugins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "ward_plugins.py").write_text(PLUGINS)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.delitem(sys.modules, "ward_plugins", raising=False)
    return tmp_path


def test_a_daemon_of_plugins_runs(plugins: Path) -> None:
    from edge.clock import ScaledClock
    from edge.daemon.run import assembled

    out = plugins / "pages.txt"
    settings = configuration.parse(CONFIG.format(out=out), plugins / "c.toml")
    clock = ScaledClock(4.0)
    with assembled(settings, clock=clock) as daemon:
        limit_ns = clock.now_ns() + 12 * NS_PER_S
        daemon.core.run(lambda: clock.now_ns() > limit_ns)
        daemon.core.finish()
        trials = {trial.backend for trial in daemon.served[0].chosen.trials}
    assert "ward" in trials
    assert len(out.read_text().splitlines()) == sum(daemon.core.results.values()) > 5


def test_a_plugin_device_and_step(plugins: Path) -> None:
    text = CONFIG.format(out="x").replace(
        'kind = "ward"\nheart_rate_bpm = 150.0',
        'kind = "monitor"\ndevice = "board"\nport = "p"\nmdc = "MDC_ECG_ELEC_POTL_II"\nunit = "mV"',
    )
    settings = configuration.parse(text, plugins / "c.toml")
    assert find_device(settings.sources[0].options.device).title == "Ward board"
    settings.sources[0].build()
    assert configuration.table("preprocess", settings.plugins)["halve"] == "ward_plugins:halve"
