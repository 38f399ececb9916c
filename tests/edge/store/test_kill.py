"""kill -9 at any moment: every acknowledged row is there, none twice, in journal and jsonl."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from edge.sinks.jsonl import Jsonl, JsonlOptions
from edge.store.codec import decode_result
from edge.store.journal import open_journal
from edge.store.writer import JournalWriter

RIG = Path(__file__).with_name("kill_rig.py")


def killed(folder: Path, kills: int, way: str = "journal") -> None:
    command = [sys.executable, str(RIG), str(folder), str(kills), way]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def restarted(folder: Path) -> list[str]:
    """Start and stop once more; the ids in the journal."""
    with Jsonl(JsonlOptions(path=str(folder / "out.jsonl"))) as sink:
        writer = JournalWriter(folder / "j.db", [sink], ("last", "utc", "d"))
        writer.start()
        writer.close()
    with open_journal(folder / "j.db") as journal:
        assert journal.check() == []
        return [decode_result(body).id for _, body in journal.after(0, 10**6)]


def lines(folder: Path) -> list[tuple[int, str, str]]:
    text = (folder / "out.jsonl").read_text()
    return [(x["row"], x["session"], x["id"]) for x in map(json.loads, text.splitlines())]


def acknowledged(folder: Path) -> set[int]:
    return {int(line) for line in (folder / "acknowledged").read_text().splitlines()}


@pytest.mark.parametrize("kills", [40, pytest.param(200, marks=pytest.mark.slow)])
def test_kills(tmp_path: Path, kills: int) -> None:
    killed(tmp_path, kills)
    ids = restarted(tmp_path)
    assert len(ids) == len(set(ids)) > kills
    assert acknowledged(tmp_path) <= set(range(1, len(ids) + 1))
    sessions = ["s" + id.partition("-")[0] for id in ids]
    assert lines(tmp_path) == list(zip(range(1, len(ids) + 1), sessions, ids))


def test_control_acknowledged_too_early_is_seen(tmp_path: Path) -> None:
    killed(tmp_path, 5, "claim")
    ids = restarted(tmp_path)
    assert not acknowledged(tmp_path) <= set(range(1, len(ids) + 1))


def test_control_a_sink_that_starts_over_is_seen(tmp_path: Path) -> None:
    killed(tmp_path, 5, "forget")
    ids = restarted(tmp_path)
    assert len(lines(tmp_path)) > len(ids)
