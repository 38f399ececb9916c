"""The journal: durable settings, no id twice, damage found, one writer, older and newer files."""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from edge.clock import WallAnchor
from edge.errors import BugError, StartError
from edge.store import schema
from edge.store.codec import decode_result
from edge.store.journal import Kept, open_journal
from edge.types import Provenance, Reason, Withheld

FLIPS = 150


def settings_of(db: sqlite3.Connection) -> tuple[str, int]:
    (mode,) = db.execute("PRAGMA journal_mode").fetchone()
    (synchronous,) = db.execute("PRAGMA synchronous").fetchone()
    return mode, synchronous


def test_settings_are_the_ones_that_survive_a_power_cut(tmp_path: Path) -> None:
    for _ in range(2):  # a new file and an old one
        with open_journal(tmp_path / "j.db") as journal:
            assert settings_of(journal._db) == ("wal", 2)
    with closing(sqlite3.connect(tmp_path / "j.db")) as control:
        control.execute("PRAGMA synchronous=OFF")
        assert settings_of(control) != ("wal", 2)


def test_append_and_read_back(tmp_path: Path, diagnosis: Any) -> None:
    with open_journal(tmp_path / "j.db") as journal:
        assert journal.append([]) == []
        assert journal.append([diagnosis(0)]) == [1]
        assert journal.append([diagnosis(1)]) == [2]
    with open_journal(tmp_path / "j.db") as journal:
        assert journal.append([diagnosis(2)]) == [3]
        rows = journal.after(1)
        assert [n for n, _ in rows] == [2, 3]
        assert [decode_result(body) for _, body in rows] == [diagnosis(1), diagnosis(2)]
        assert [n for n, _ in journal.after(0, limit=2)] == [1, 2]
        assert journal.last_rowid() == 3


def test_counts_by_kind(tmp_path: Path, diagnosis: Any) -> None:
    provenance = Provenance("b", "d", "o", "f")
    withheld = Withheld(9, "s-9", "bed", "ecg", "u", "q", Reason.GAP, "", 0, 1, provenance)
    with open_journal(tmp_path / "j.db") as journal:
        assert journal.counts() == {}
        for result in (diagnosis(0), diagnosis(1), withheld):
            journal.append([result])
        assert journal.counts() == {"diagnosis": 2, "withheld": 1}
        summaries = journal._db.execute("SELECT kind, summary FROM results ORDER BY rowid")
        assert list(summaries)[1:] == [("diagnosis", "N"), ("withheld", "gap")]


def test_a_session_ties_its_results_to_bundle_boot_and_wall_time(
    tmp_path: Path, diagnosis: Any
) -> None:
    with open_journal(tmp_path / "j.db") as journal:
        journal.begin_session("s", "2026-01-01T00:00:00+00:00", "digest", WallAnchor(1, 2, "ntp"))
        journal.append([diagnosis(0)])
        ((_, line),) = journal.after(0)
        assert line.startswith(b'{"session":"s","kind":"diagnosis"')
    with closing(sqlite3.connect(tmp_path / "j.db")) as db:
        (row,) = db.execute("SELECT * FROM session")
    boot_id = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    assert row == ("s", "2026-01-01T00:00:00+00:00", "digest", boot_id, 1, 2, "ntp", 0)


def test_grouping_is_for_a_grouped_journal_and_noted(tmp_path: Path, diagnosis: Any) -> None:
    pair = [diagnosis(0), diagnosis(1)]
    with open_journal(tmp_path / "live.db") as live:
        with pytest.raises(BugError, match="grouped"):
            live.append(pair)
        assert live.append(pair[:1]) == [1]
    with open_journal(tmp_path / "replay.db", grouped=True) as replay:
        replay.begin_session("r", "utc", "digest")
        assert replay.append(pair) == [1, 2]
        assert list(replay._db.execute("SELECT grouped FROM session")) == [(1,)]


def test_an_id_twice_is_refused_and_nothing_of_its_batch_is_kept(
    tmp_path: Path, diagnosis: Any
) -> None:
    with open_journal(tmp_path / "j.db", grouped=True) as journal:
        journal.append([diagnosis(0)])
        with pytest.raises(BugError, match="cannot commit"):
            journal.append([diagnosis(1), diagnosis(0)])
        with pytest.raises(BugError, match="closed after"):
            journal.append([diagnosis(2)])
    with open_journal(tmp_path / "j.db") as journal:
        assert len(journal.after(0)) == 1
        assert journal.append([diagnosis(1)]) == [2]
        assert journal.check() == []


def test_one_writer_at_a_time(tmp_path: Path) -> None:
    with open_journal(tmp_path / "j.db"):
        with pytest.raises(StartError, match="in use"), open_journal(tmp_path / "j.db"):
            pass
        with closing(sqlite3.connect(tmp_path / "j.db")) as reader:
            assert reader.execute("SELECT count(*) FROM results").fetchone() == (0,)
    with open_journal(tmp_path / "j.db"):
        pass


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE results SET body = CAST(replace(body, 'bed', 'bad') AS BLOB) WHERE rowid = 3",
        "UPDATE results SET sha256 = zeroblob(32) WHERE rowid = 3",
        "UPDATE results SET t_ns = t_ns + 1 WHERE rowid = 3",
        "UPDATE results SET summary = 'V' WHERE rowid = 3",
        "UPDATE results SET session = 't' WHERE rowid = 3",
        "DELETE FROM results WHERE rowid = 3",
    ],
)
def test_a_changed_row_is_found(tmp_path: Path, diagnosis: Any, change: str) -> None:
    path = filled(tmp_path / "j.db", [diagnosis(n) for n in range(5)])
    with open_journal(path) as journal:
        assert journal.check() == []
        journal._db.execute(change)
        assert journal.check() == [3]


def test_the_newest_row_gone_is_found(tmp_path: Path, diagnosis: Any) -> None:
    with open_journal(filled(tmp_path / "j.db", [diagnosis(n) for n in range(5)])) as journal:
        journal._db.execute("DELETE FROM results WHERE rowid > 3")
        assert journal.check() == [4, 5]


def test_no_sink_gets_a_rotten_row(tmp_path: Path, diagnosis: Any) -> None:
    with open_journal(filled(tmp_path / "j.db", [diagnosis(n) for n in range(5)])) as journal:
        journal._db.execute("UPDATE results SET body = x'7b7d' WHERE rowid = 3")
        assert len(journal.after(3)) == 2
        with pytest.raises(BugError, match="row 3 has changed"):
            journal.after(0)


def filled(path: Path, results: Sequence[Any]) -> Path:
    with open_journal(path, grouped=True) as journal:
        journal.begin_session("s", "utc", "digest")
        journal.append(results)
    return path


def test_no_flipped_bit_changes_a_row_unnoticed(tmp_path: Path, diagnosis: Any) -> None:
    path = filled(tmp_path / "j.db", [diagnosis(n) for n in range(40)])
    whole, dice = path.read_bytes(), random.Random(3)
    with open_journal(path) as journal:
        expected = journal.after(0)
    noticed = 0
    for _ in range(FLIPS):
        damaged = bytearray(whole)
        at = dice.randrange(len(damaged))
        damaged[at] ^= 1 << dice.randrange(8)
        path.write_bytes(damaged)
        found = surviving(path)
        noticed += found is None
        assert found in (None, expected), f"byte {at} changed a row unnoticed"
    path.write_bytes(whole)
    assert surviving(path) == expected  # control: without a flip nothing is noticed
    assert noticed > FLIPS // 3  # the rest hit free space


def surviving(path: Path) -> list[tuple[int, bytes]] | None:
    """The rows of a journal that finds nothing wrong with itself."""
    try:
        with open_journal(path) as journal:
            return None if journal.check() else journal.after(0)
    except (BugError, StartError):
        return None


def test_newer_schema_and_other_files_are_refused_untouched(tmp_path: Path) -> None:
    with open_journal(tmp_path / "newer.db"):
        pass
    with closing(sqlite3.connect(tmp_path / "newer.db")) as db:
        db.execute(f"PRAGMA user_version={schema.SCHEMA + 1}")
    with closing(sqlite3.connect(tmp_path / "browser.db")) as db:
        db.execute("CREATE TABLE cookies (id)")
    (tmp_path / "other.db").write_bytes(b"not a database" * 100)
    for name, words in (
        ("newer.db", "newer than 2; update medge"),
        ("browser.db", "not a medge journal"),
        ("other.db", "cannot be opened"),
        ("no/such.db", "cannot write"),
    ):
        before = (tmp_path / name).read_bytes() if (tmp_path / name).exists() else None
        with pytest.raises(StartError, match=words), open_journal(tmp_path / name):
            pass
        if before is not None:
            assert (tmp_path / name).read_bytes() == before


def test_an_older_schema_is_migrated_after_a_backup(tmp_path: Path, diagnosis: Any) -> None:
    path = tmp_path / "j.db"
    with open_journal(path) as journal:
        journal.append([diagnosis(0)])  # still in the write-ahead log
        step = {2: "ALTER TABLE results ADD COLUMN delivered INTEGER;"}
        schema.migrate(journal._db, path, 2, 3, step)
        assert list(journal._db.execute("SELECT delivered FROM results")) == [(None,)]
        assert journal._db.execute("PRAGMA user_version").fetchone() == (3,)
    with open_journal(tmp_path / "j.db.v2.backup") as backup:
        assert len(backup.after(0)) == 1
        assert backup.check() == []
    with pytest.raises(StartError, match="newer"), open_journal(path):
        pass


def test_a_journal_of_schema_1_keeps_from_now_on(tmp_path: Path, diagnosis: Any) -> None:
    path = filled(tmp_path / "j.db", [diagnosis(0)])
    with closing(sqlite3.connect(path)) as db:  # as medge wrote it before
        db.executescript("DROP TABLE kept; PRAGMA user_version=1;")
    with open_journal(path) as journal:
        assert journal.append([diagnosis(1)], Kept("bed", "rows", b"x")) == [2]
        assert journal.kept() == [Kept("bed", "rows", b"x")]
    assert (tmp_path / "j.db.v1.backup").exists()


def test_what_is_kept_comes_with_its_result_or_not_at_all(tmp_path: Path, diagnosis: Any) -> None:
    """The newest of each source and bed; of a damaged one nothing is left."""
    path = tmp_path / "j.db"
    with open_journal(path) as journal:
        journal.append([diagnosis(0)], Kept("bed", "rows", b"first"))
        journal.append([], Kept("bed 2", "rows", b"other"))
        journal.append([diagnosis(1)], Kept("bed", "rows", b"second"))
        with pytest.raises(BugError):
            journal.append([diagnosis(1)], Kept("bed", "rows", b"third"))
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("UPDATE kept SET body = x'00' WHERE bed = 'bed 2'")
    with open_journal(path) as journal:
        assert journal.kept() == [Kept("bed 2", "rows", b""), Kept("bed", "rows", b"second")]
        assert journal.last_rowid() == 2


def test_a_migration_that_fails_changes_nothing(tmp_path: Path, diagnosis: Any) -> None:
    path = filled(tmp_path / "j.db", [diagnosis(0)])
    with open_journal(path) as journal:
        step = {2: "ALTER TABLE results ADD COLUMN a; ALTER TABLE nothing ADD COLUMN b;"}
        with pytest.raises(sqlite3.OperationalError):
            schema.migrate(journal._db, path, 2, 3, step)
    with open_journal(path) as journal:
        assert journal.append([diagnosis(1)]) == [2]
