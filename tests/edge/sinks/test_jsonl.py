"""The jsonl sink: exactly once across restarts, a torn end cut, another file refused untouched."""

from __future__ import annotations

import json
import os
import resource
import signal
from pathlib import Path

import pytest

from edge.config import convert
from edge.errors import StartError
from edge.registry import resolve
from edge.sinks import SINKS
from edge.sinks.jsonl import Jsonl, JsonlOptions


def sink(path: Path) -> Jsonl:
    return Jsonl(JsonlOptions(path=str(path)))


def rows(*numbers: int, size: int = 0) -> list[tuple[int, bytes]]:
    return [
        (n, b'{"session":"s","kind":"withheld","id":"s-%d","detail":"%s"}' % (n, b"x" * size))
        for n in numbers
    ]


def written(path: Path) -> list[int]:
    return [json.loads(line)["row"] for line in path.read_bytes().splitlines()]


def test_registered_with_strict_options() -> None:
    assert resolve(SINKS, "jsonl", "sink") is Jsonl
    assert convert({"path": "a"}, Jsonl.Options, "here") == JsonlOptions(path="a")
    for wrong in ({}, {"path": 1}, {"path": "a", "rotate": True}):
        with pytest.raises(StartError):
            convert(wrong, Jsonl.Options, "here")


def test_resumes_after_the_last_line(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    with sink(path) as first:
        assert first.resume_after() == 0
        first.deliver(rows(1, 2))
        first.deliver(rows(5))
    with sink(path) as second:
        assert second.resume_after() == 5
        second.deliver(rows(6))
    assert written(path) == [1, 2, 5, 6]
    line = json.loads(path.read_text().splitlines()[0])
    assert (line["session"], line["id"]) == ("s", "s-1")
    assert path.stat().st_mode & 0o007 == 0


@pytest.mark.parametrize("size", [0, 200_000])  # longer than what is read at a time
def test_every_torn_end_is_cut_and_delivered_again(tmp_path: Path, size: int) -> None:
    path = tmp_path / "out.jsonl"
    with sink(path) as first:
        first.deliver(rows(1, 2, 3, size=size))
    whole = path.read_bytes()
    for cut in range(0, len(whole) + 1, max(1, len(whole) // 97)):
        path.write_bytes(whole[:cut])
        with sink(path) as second:
            at = second.resume_after()
            assert at == whole[:cut].count(b"\n")
            second.deliver(rows(*range(at + 1, 4), size=size)) if at < 3 else None
        assert path.read_bytes() == whole


@pytest.mark.parametrize("rubbish", [b"\0" * 50, b"\0\0\n", b'{"row":3,"ses\n\xff\xfe\n'])
def test_what_a_power_cut_leaves_is_cut(tmp_path: Path, rubbish: bytes) -> None:
    path = tmp_path / "out.jsonl"
    with sink(path) as first:
        first.deliver(rows(1, 2))
    with path.open("ab") as file:
        file.write(rubbish)
    with sink(path) as second:
        assert second.resume_after() == 2
    assert written(path) == [1, 2]


@pytest.mark.parametrize("text", ["mine\n", "mine", '{"row":"a"}\n', '{"a":1}\n', "[1]\n"])
def test_another_file_is_refused_untouched(tmp_path: Path, text: str) -> None:
    path = tmp_path / "notes.txt"
    path.write_text(text)
    with pytest.raises(StartError, match="not a medge jsonl"), sink(path):
        pass
    assert path.read_text() == text


def test_a_place_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "no" / "out.jsonl", tmp_path):
        with pytest.raises(StartError, match="cannot write"), sink(path):
            pass


def test_one_writer_a_file(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    with sink(path), pytest.raises(StartError, match="in use"), sink(path):
        pass
    with sink(path):
        pass


def test_a_write_that_fails_leaves_whole_lines_and_goes_on_later(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    with sink(path) as full:
        full.deliver(rows(1))
        end = path.stat().st_size
        resource.setrlimit(resource.RLIMIT_FSIZE, (end + 10, limits[1]))
        try:
            for _ in range(2):
                with pytest.raises(OSError, match=r"only part|too large"):
                    full.deliver(rows(2))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
            signal.signal(signal.SIGXFSZ, before)
        assert full.resume_after() == 1
        assert path.stat().st_size == end
        full.deliver(rows(2))
    assert written(path) == [1, 2]


def test_a_file_shortened_by_someone_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    with sink(path) as shortened:
        shortened.deliver(rows(1, 2))
        os.truncate(path, 0)
        shortened.deliver(rows(3))
    assert written(path) == [3]
