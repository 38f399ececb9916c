"""`check`, `record`, `replay` as a user runs them, on an emulated board."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.integration

LEFT_OUT = ("latency_ms", "age_ms", "id", "row", "session", "utc", "time_quality")


def decisions(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    kept = [{k: v for k, v in line.items() if k not in LEFT_OUT} for line in lines]
    return sorted(kept, key=lambda line: line["t_ns"])


def test_check_says_ready(medge: Any, bedside: Any) -> None:
    done = medge("check", str(bedside.config))
    assert done.returncode == 0, done.stderr
    assert "ready to run" in done.stdout


def test_a_recording_replays_to_what_the_daemon_decided(
    medge: Any, bedside: Any, tmp_path: Path
) -> None:
    recording, out = tmp_path / "ward.rec", tmp_path / "again.jsonl"
    done = medge("record", str(bedside.config), str(recording), "--seconds", "12")
    assert done.returncode == 0, done.stderr
    live = bedside.lines()
    assert len(live) > 10
    done = medge("replay", str(recording), str(bedside.config), "--out", str(out))
    assert done.returncode == 0, done.stderr
    again = [json.loads(line) for line in out.read_text().splitlines()]
    assert decisions(again)[: len(live)] == decisions(live)


MORE = """
[[bundles]]
path = "symptom-text"

[[sources]]
kind = "texts"
bundle = "symptom-text"
folder = "complaints"
"""
RASH = "I have a red itchy rash on my arms and my skin is dry and covered in scaly patches"


def test_what_has_no_port_runs_beside_a_recording(
    medge: Any, bedside: Any, families_dir: Path, tmp_path: Path
) -> None:
    """The daemon says so; the replay is of the port alone."""
    text = bedside.config.read_text().replace(
        'kind = "monitor"', 'kind = "monitor"\nbundle = "ecg-beat"'
    )
    bedside.config.write_text(text + MORE)
    (tmp_path / "complaints").mkdir()
    (tmp_path / "complaints" / "1.txt").write_text(RASH)
    recording, out = tmp_path / "ward.rec", tmp_path / "again.jsonl"
    done = medge("record", str(bedside.config), str(recording), "--seconds", "8")
    assert done.returncode == 0, done.stderr
    said = next(x for x in done.stderr.splitlines() if "not_recorded" in x)
    assert '"source": "texts"' in said and "only a monitor's port is recorded" in said
    live = [line for line in bedside.lines() if line["source"] == "monitor"]
    assert [x["kind"] for x in bedside.lines() if x["source"] == "texts"] == ["diagnosis"]
    assert medge("replay", str(recording), str(bedside.config), "--out", str(out)).returncode == 0
    again = [json.loads(line) for line in out.read_text().splitlines()]
    assert decisions(again)[: len(live)] == decisions(live)
    only = f'schema = 1\nbed = "rig"\nstate_dir = "state"\n{MORE}'
    bedside.config.write_text(only)
    for command in (
        ("record", str(bedside.config), str(tmp_path / "other.rec")),
        ("replay", str(recording), str(bedside.config)),
    ):
        refused = medge(*command)
        assert refused.returncode == 2 and "port" in refused.stderr


def test_replay_against_a_golden(medge: Any, bedside: Any, tmp_path: Path) -> None:
    recording, golden = tmp_path / "ward.rec", tmp_path / "golden.jsonl"
    assert medge("record", str(bedside.config), str(recording), "--seconds", "8").returncode == 0
    config = str(bedside.config)
    assert medge("replay", str(recording), config, "--out", str(golden)).returncode == 0
    same = medge("replay", str(recording), config, "--golden", str(golden), "--json")
    assert same.returncode == 0
    assert json.loads(same.stdout)["differences"] == []
    lines = golden.read_text().splitlines()
    golden.write_text(
        "\n".join([lines[0].replace('"bed":"rig"', '"bed":"gir"'), *lines[1:]]) + "\n"
    )
    other = medge("replay", str(recording), config, "--golden", str(golden), "--json")
    assert other.returncode == 1
    assert "gir" in json.loads(other.stdout)["differences"][0]
