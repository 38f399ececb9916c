"""Recordings: what was written is read; a torn or damaged end is left out, a newer file refused."""

from __future__ import annotations

import io
import json
import resource
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

import edge.recording
from edge.clock import ManualClock, WallAnchor
from edge.errors import BugError, StartError
from edge.log import Log
from edge.recording import (
    FRAME,
    MAGIC,
    Header,
    Origin,
    Record,
    RecordingWriter,
    _framed,
    read_recording,
)

HEADER = Header(
    "2026-01-01T00:00:00.000+00:00", "d", "onnxruntime", "fp32", WallAnchor(1, 2, "q"),
    config_digest="c", origins=(Origin("ecg", "cyton", 250.0),),
)  # fmt: skip
RECORDS = [Record(n * 10, "ecg", "data", bytes(range(n))) for n in range(20)]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    with RecordingWriter(tmp_path / "a.rec", HEADER) as writer:
        for record in RECORDS:
            writer.write(record)
        assert (writer.written, writer.left_out, writer.failure) == (len(RECORDS), 0, None)
    return tmp_path / "a.rec"


def test_round_trip(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    header, records = read_recording(path)
    assert header == HEADER
    assert list(records) == RECORDS
    assert list(records) == RECORDS  # and again
    assert records.torn_bytes == 0
    assert capsys.readouterr().err == ""


def test_any_cut_leaves_a_prefix_and_is_counted(path: Path) -> None:
    data = path.read_bytes()
    header_end = len(MAGIC) + len(_framed(msgspec.msgpack.encode(HEADER)))
    ends = [header_end]
    for record in RECORDS:
        ends.append(ends[-1] + len(_framed(msgspec.msgpack.encode(record))))
    assert ends[-1] == len(data)
    for cut in range(header_end, len(data) + 1):
        path.write_bytes(data[:cut])
        _, records = read_recording(path)
        whole = sum(end <= cut for end in ends[1:])
        assert list(records) == RECORDS[:whole]
        assert records.torn_bytes == cut - ends[whole]


def test_a_torn_end_is_said(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = io.StringIO()
    monkeypatch.setattr(edge.recording, "log", Log(ManualClock(), lambda: out))
    path.write_bytes(path.read_bytes()[:-3])
    _, records = read_recording(path)
    assert len(list(records)) == len(RECORDS) - 1
    line = json.loads(out.getvalue())
    assert (line["event"], line["count"]) == ("recording_torn", records.torn_bytes)


def test_a_cut_header_is_no_recording(path: Path) -> None:
    data = path.read_bytes()
    for cut in range(len(MAGIC) + 40):
        path.write_bytes(data[:cut])
        with pytest.raises(StartError, match="not a recording"):
            read_recording(path)


def test_no_flipped_bit_changes_a_record_unnoticed(path: Path) -> None:
    data = path.read_bytes()
    for at in range(0, len(data), 7):
        damaged = bytearray(data)
        damaged[at] ^= 4
        path.write_bytes(bytes(damaged))
        try:
            header, records = read_recording(path)
        except StartError:
            continue
        found = list(records)
        assert header == HEADER and found == RECORDS[: len(found)]
        assert records.torn_bytes > 0


def test_a_recording_of_an_earlier_header_is_read(path: Path) -> None:
    tree = msgspec.msgpack.decode(msgspec.msgpack.encode(HEADER))
    del tree["config_digest"], tree["origins"]
    path.write_bytes(MAGIC + _framed(msgspec.msgpack.encode(tree)))
    assert read_recording(path)[0] == replace(HEADER, config_digest="", origins=())


def test_refusals(path: Path, tmp_path: Path) -> None:
    with pytest.raises(StartError, match="cannot create"), RecordingWriter(path, HEADER):
        pass
    newer = msgspec.msgpack.encode({"schema": 99, "unlike": "ours"})
    contents = {
        "newer": MAGIC + _framed(newer),
        "foreign": b"hello",
        "headless": MAGIC + _framed(msgspec.msgpack.encode({"schema": 1})),
        "huge": MAGIC + FRAME.pack(1 << 31, 0),
    }
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    for name, words in (
        ("newer", "schema 99, newer than 1; update medge"),
        ("foreign", "not a recording"),
        ("headless", "no usable header"),
        ("huge", "not a recording"),
        ("none", "cannot read"),
    ):
        with pytest.raises(StartError, match=words):
            read_recording(tmp_path / name)


def test_an_unknown_record_is_refused(path: Path) -> None:
    with path.open("ab") as file:
        file.write(_framed(msgspec.msgpack.encode({"t_ns": "soon"})))
    with pytest.raises(StartError, match="unknown record"):
        list(read_recording(path)[1])


def test_a_full_disk_ends_the_recording_not_the_run(tmp_path: Path) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    path = tmp_path / "a.rec"
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (2000, limits[1]))
        writer = RecordingWriter(path, HEADER)
        with pytest.raises(BugError, match=r"ends \d+ records early"), writer:
            list(map(writer.write, (Record(n, "ecg", "data", b"x" * 50) for n in range(100))))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, before)
    assert writer.written + writer.left_out == 100
    assert [r.t_ns for r in read_recording(path)[1]] == list(range(writer.written))


KILLED = """
import sys
from edge.clock import WallAnchor
from edge.recording import *
with RecordingWriter(sys.argv[1], Header("u", "d", "o", "f", WallAnchor(1, 2, "q"))) as writer:
    for n in range(10**9):
        writer.write(Record(n, "ecg", "data", b"x" * 33))
        print(n, flush=True)
"""


def test_kill_9_loses_no_record_that_was_written(tmp_path: Path) -> None:
    path = tmp_path / "a.rec"
    command = [sys.executable, "-c", KILLED, str(path)]
    with (tmp_path / "said").open("wb") as said:
        writer = subprocess.Popen(command, stdout=said)
        while not (tmp_path / "said").stat().st_size > 1000:
            time.sleep(0.01)
        writer.kill()
        writer.wait()
    last = int((tmp_path / "said").read_text().rpartition("\n")[0].rpartition("\n")[2])
    times = [record.t_ns for record in read_recording(path)[1]]
    assert times == list(range(len(times)))
    assert len(times) >= last + 1
