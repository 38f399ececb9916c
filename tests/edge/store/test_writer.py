"""The writer: commits in order, isolates a failing sink and catches it up, says a failed disk."""

from __future__ import annotations

import select
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

import edge.store.writer
from edge.errors import BugError, StartError
from edge.store.journal import Kept, open_journal
from edge.store.writer import KEPT, JournalWriter

SESSION = ("s", "2026-01-01T00:00:00.000+00:00", "digest")


class Memory:
    """A sink that can be made to fail."""

    def __init__(self) -> None:
        self.rows: list[int] = []
        self.fault: BaseException | None = None
        self.go_on = threading.Event()
        self.go_on.set()

    def __enter__(self) -> Memory:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def resume_after(self) -> int:
        return self.rows[-1] if self.rows else 0

    def deliver(self, rows: Sequence[tuple[int, bytes]]) -> None:
        self.go_on.wait()
        if self.fault is not None:
            raise self.fault
        self.rows += [n for n, _ in rows]


def started(path: Path, *sinks: Any) -> JournalWriter:
    writer = JournalWriter(path, sinks, SESSION)
    writer.start()
    return writer


def until(done: Callable[[], bool]) -> None:
    limit_s = time.monotonic() + 10
    while not done():
        assert time.monotonic() < limit_s
        time.sleep(0.005)


def test_all_is_committed_and_delivered_in_order(tmp_path: Path, diagnosis: Any) -> None:
    sink = Memory()
    writer = started(tmp_path / "j.db", sink)
    for n in range(50):
        writer.submit(diagnosis(n))
    writer.close()
    assert sink.rows == list(range(1, 51))
    assert len(writer.commit_ms) == writer.counts["committed"] == 50
    assert writer.commit_ms.maxlen == KEPT == 4096
    assert writer.failure is None


def test_a_sink_never_sees_what_is_not_committed(tmp_path: Path, diagnosis: Any) -> None:
    seen: list[tuple[int, int]] = []

    class Looks(Memory):
        def deliver(self, rows: Sequence[tuple[int, bytes]]) -> None:
            super().deliver(rows)
            seen.append((rows[-1][0], writer.counts["committed"]))

    writer = JournalWriter(tmp_path / "j.db", [Looks()], SESSION)
    writer.start()
    for n in range(20):
        writer.submit(diagnosis(n))
    writer.close()
    assert seen and all(last == committed for last, committed in seen)


@pytest.mark.parametrize("fault", [OSError("the ward's network is down"), ValueError(), KeyError()])
def test_a_broken_sink_harms_nobody_and_catches_up_by_itself(
    tmp_path: Path, diagnosis: Any, fault: Exception
) -> None:
    good, bad = Memory(), Memory()
    bad.fault = fault
    writer = started(tmp_path / "j.db", bad, good)
    for n in range(10):
        writer.submit(diagnosis(n))
    until(lambda: len(good.rows) == 10)
    assert bad.rows == []
    assert writer.sink_failures > 0
    bad.fault = None
    until(lambda: len(bad.rows) == 10)  # no further result is needed
    writer.close()
    assert bad.rows == good.rows == list(range(1, 11))


def test_a_sink_that_takes_nothing_is_a_broken_one(tmp_path: Path, diagnosis: Any) -> None:
    class Nothing(Memory):
        def deliver(self, rows: Sequence[tuple[int, bytes]]) -> None:
            pass

    writer = started(tmp_path / "j.db", Nothing())
    writer.submit(diagnosis(0))
    writer.close()
    assert writer.sink_failures >= 1


def test_a_sink_gets_what_came_before_it(tmp_path: Path, diagnosis: Any) -> None:
    with open_journal(tmp_path / "j.db", grouped=True) as journal:
        journal.append([diagnosis(n) for n in range(1000)])
    sink = Memory()
    writer = started(tmp_path / "j.db", sink)
    writer.submit(diagnosis(1000))
    writer.close()
    assert sink.rows == list(range(1, 1002))


def test_a_sink_of_another_journal_is_refused(tmp_path: Path) -> None:
    sink = Memory()
    sink.rows = [7]
    with pytest.raises(StartError, match="a sink has row 7, the journal ends at 0"):
        started(tmp_path / "j.db", sink)


def test_submit_does_not_wait_and_overflow_is_said(
    tmp_path: Path, diagnosis: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(edge.store.writer, "QUEUE_RESULTS", 8)
    sink = Memory()
    sink.go_on.clear()
    writer = started(tmp_path / "j.db", sink)
    began_s = time.monotonic()
    with pytest.raises(BugError, match="8 results wait"):
        list(map(writer.submit, map(diagnosis, range(20))))
    assert time.monotonic() - began_s < 1
    assert writer.counts["overflows"] == 1
    sink.go_on.set()
    writer.close()
    assert len(sink.rows) == writer.counts["submitted"] == writer.counts["committed"]


def test_a_failed_journal_is_reported_to_who_submits(tmp_path: Path, diagnosis: Any) -> None:
    writer = started(tmp_path / "j.db")
    writer.submit(diagnosis(0))
    writer.submit(diagnosis(0))
    until(lambda: writer.failure is not None)
    with pytest.raises(BugError, match="UNIQUE"):
        writer.submit(diagnosis(1))
    writer.close()  # it has been said
    with open_journal(tmp_path / "j.db") as journal:
        assert len(journal.after(0)) == 1


def test_a_failure_that_nobody_heard_of_is_raised_at_the_end(
    tmp_path: Path, diagnosis: Any
) -> None:
    writer = started(tmp_path / "j.db")
    writer.submit(diagnosis(0))
    writer.submit(diagnosis(0))
    with pytest.raises(BugError, match="UNIQUE"):
        writer.close()


def test_only_between_start_and_close(tmp_path: Path, diagnosis: Any) -> None:
    writer = JournalWriter(tmp_path / "j.db", [], SESSION)
    writer.close()
    with pytest.raises(BugError, match="not open"):
        writer.submit(diagnosis(0))
    writer.start()
    writer.close()
    writer.close()
    with pytest.raises(BugError, match="not open"):
        writer.submit(diagnosis(0))


def test_a_journal_that_cannot_be_opened_is_said_at_start(tmp_path: Path) -> None:
    (tmp_path / "j.db").write_bytes(b"something else" * 100)
    writer = JournalWriter(tmp_path / "j.db", [], SESSION)
    with pytest.raises(StartError, match="cannot be opened"):
        writer.start()


def test_what_is_kept_is_told_when_it_is_committed_and_at_the_next_start(
    tmp_path: Path, diagnosis: Any
) -> None:
    writer = started(tmp_path / "j.db")
    assert writer.kept == ()
    ready = select.select([writer.fileno()], [], [], 0)[0]
    assert not ready, "nothing of it yet"
    writer.submit(diagnosis(0))
    first = writer.keep(Kept("bed", "rows", b"1"), diagnosis(1))
    second = writer.keep(Kept("bed", "rows", b"2"))
    until(lambda: writer.kept_commits >= second)
    assert (first, second) == (1, 2)
    assert select.select([writer.fileno()], [], [], 5)[0]
    writer.acknowledge()
    assert not select.select([writer.fileno()], [], [], 0)[0]
    assert writer.counts["submitted"] == writer.counts["committed"] == 2
    writer.close()
    again = JournalWriter(tmp_path / "j.db", [], ("next", "utc", "d"))
    again.start()
    assert again.kept == (Kept("bed", "rows", b"2"),)
    again.close()
