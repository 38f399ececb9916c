"""The journal: every result, committed before anything leaves. SQLite WAL, `synchronous=FULL`.

Owns rows, sessions, and what a source has to know after a restart, which is committed with the
result that it belongs to; one writer, held by a lock file beside the database. The file's shape is
`edge.store.schema`'s. A row's SHA-256, of its line as sinks get it, finds bit rot, which SQLite
itself does not.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import sqlite3
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from edge.errors import BugError, StartError
from edge.store.codec import decode_result, encode_result, kind_of
from edge.store.schema import prepare
from edge.types import Diagnosis

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from edge.clock import WallAnchor
    from edge.types import Result

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
Statement = tuple[str, tuple[object, ...]]
COLUMNS = "id, session, kind, t_ns, utc, bed, source, summary, body, sha256"


@dataclass(frozen=True, slots=True)
class Kept:
    """What a source of a bed has to know when it goes on after a restart; the newest counts."""

    bed: str
    source: str
    body: bytes


class Journal:
    """An open journal; made by `open_journal`. Use it in the thread that opened it."""

    def __init__(self, db: sqlite3.Connection, grouped: bool) -> None:
        self._db = db
        self._grouped = grouped
        self._session = ""
        self._broken: str | None = None

    def begin_session(
        self, session: str, started: str, bundle_digest: str, anchor: WallAnchor | None = None
    ) -> None:
        """Note one run, started at UTC `started`; what is appended from here on belongs to it.

        `anchor` ties the run's `t_ns` to UTC; with the boot id noted too, it says which `t_ns` of
        different sessions may be compared. Raises `BugError`.
        """
        wall = (None,) * 3 if anchor is None else (anchor.t_ns, anchor.unix_ns, anchor.quality)
        row = (session, started, bundle_digest, _boot_id(), *wall, self._grouped)
        self._commit([("INSERT INTO session VALUES (?, ?, ?, ?, ?, ?, ?, ?)", row)])
        self._session = session

    def append(self, results: Sequence[Result], kept: Kept | None = None) -> list[int]:
        """Commit `results`, and what is `kept` with them, in one transaction; their row ids.
        Ungrouped, that is one a call at most.

        Raises `BugError` for an id already there, for a value JSON cannot carry, and when the disk
        fails; from a refused commit on always: what was not committed is never claimed.
        """
        if len(results) > 1 and not self._grouped:
            raise BugError("several results for one commit", "open the journal grouped, in replay")
        marks = ", ".join("?" * len(COLUMNS.split(",")))
        statement = f"INSERT INTO results ({COLUMNS}) VALUES ({marks})"
        statements: list[Statement] = [
            (statement, _row(result, encode_result(result), self._session)) for result in results
        ]
        if kept is not None:
            row = (kept.bed, kept.source, kept.body, _digest(kept.body))
            statements.append(("INSERT OR REPLACE INTO kept VALUES (?, ?, ?, ?)", row))
        return self._commit(statements)[: len(results)]

    def kept(self) -> list[Kept]:
        """The newest of every source; nothing is left of one that is not what was committed."""
        try:
            rows = self._db.execute("SELECT bed, source, body, sha256 FROM kept").fetchall()
        except sqlite3.Error as error:
            raise _unreadable(error) from error
        return [Kept(bed, source, _whole(body, sha256)) for bed, source, body, sha256 in rows]

    def after(self, rowid: int, limit: int = 1000) -> list[tuple[int, bytes]]:
        """(row id, JSON line, `session` first) of results committed after `rowid`, oldest first.

        Raises `BugError` for a row that is not what was committed: no sink may pass it on.
        """
        query = (
            "SELECT rowid, session, body, sha256 FROM results"
            " WHERE rowid > ? ORDER BY rowid LIMIT ?"
        )
        try:
            return [_verified(*row) for row in self._db.execute(query, (rowid, limit))]
        except sqlite3.Error as error:
            raise _unreadable(error) from error

    def last_rowid(self) -> int:
        """Row id of the newest result, 0 in an empty journal."""
        (last,) = self._db.execute("SELECT coalesce(max(rowid), 0) FROM results").fetchone()
        return int(last)

    def counts(self) -> dict[str, int]:
        """Results by kind, over all sessions."""
        return dict(self._db.execute("SELECT kind, count(*) FROM results GROUP BY kind"))

    def check(self) -> list[int]:
        """Row ids of results that are not what was committed, or gone. Reads every row.

        Raises `BugError` where the file is too damaged to be read.
        """
        query = f"SELECT rowid, {COLUMNS} FROM results ORDER BY rowid"
        try:
            self._require_sound()
            bad: list[int] = []
            expected = 1
            for rowid, *row in self._db.execute(query):
                bad += range(expected, rowid)
                bad += [] if _intact(row) else [rowid]
                expected = rowid + 1
            return [*bad, *range(expected, self._issued() + 1)]
        except sqlite3.Error as error:
            raise _unreadable(error) from error

    def _require_sound(self) -> None:
        """Raises `BugError` unless SQLite's own check of pages and indices passes."""
        found = [text for (text,) in self._db.execute("PRAGMA integrity_check")]
        if found != ["ok"]:
            raise _unreadable("; ".join(found[:3]))

    def _issued(self) -> int:
        """The highest row id ever given out."""
        row = self._db.execute("SELECT seq FROM sqlite_sequence WHERE name = 'results'").fetchone()
        return int(row[0]) if row else 0

    def _commit(self, statements: Sequence[Statement]) -> list[int]:
        if self._broken is not None:
            raise BugError(
                f"the journal is closed after '{self._broken}'", "restart on a good disk"
            )
        try:
            self._db.execute("BEGIN IMMEDIATE")
            rowids = [int(self._db.execute(text, row).lastrowid or 0) for text, row in statements]
            self._db.execute("COMMIT")
        except Exception as error:
            # After a failed fsync the kernel may call the same pages clean: a second try would
            # succeed without the data, so there is none.
            self._broken = str(error)
            with suppress(sqlite3.Error):
                self._db.rollback()
            raise BugError(
                f"the journal cannot commit ({error})", "free or replace the disk"
            ) from error
        return rowids


@contextmanager
def open_journal(path: str | Path, *, grouped: bool = False) -> Iterator[Journal]:
    """Open or create the journal at `path`, as its one writer.

    `grouped` allows several results in one commit, for replay only; the session notes it. Raises
    `StartError` where the file is in use, newer, another program's or unreadable.
    """
    with _sole_writer(path), closing(_connected(path)) as db:
        yield Journal(db, grouped)


@contextmanager
def _sole_writer(path: str | Path) -> Iterator[None]:
    """Hold a lock file: closing any descriptor of the database would drop SQLite's own locks."""
    fd = _owned_file(f"{path}-lock")
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise StartError(f"journal '{path}' is in use", "stop the other process") from None
        yield
    finally:
        os.close(fd)


def _connected(path: str | Path) -> sqlite3.Connection:
    os.close(_owned_file(path))
    db = sqlite3.connect(path, isolation_level=None)
    try:
        prepare(db, Path(path))
    except BaseException as error:
        db.close()
        if isinstance(error, (sqlite3.Error, OSError)):
            raise StartError(
                f"journal '{path}' cannot be opened ({error})", "move it away"
            ) from error
        raise
    return db


def _owned_file(path: str | Path) -> int:
    """A descriptor of `path`; where it is new, others cannot read it: it is about a patient."""
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT, 0o640)
    except OSError as error:
        raise StartError(f"cannot write '{path}' ({error.strerror})", "correct the path") from None


def _row(result: Result, body: bytes, session: str) -> tuple[object, ...]:
    """`COLUMNS` of one result."""
    if isinstance(result, Diagnosis):
        summary = ",".join(finding.name for finding in result.findings)
    else:
        summary = result.reason.value
    return (
        result.id, session, kind_of(result), result.t_ns, result.utc, result.bed, result.source,
        summary, body, _digest(_line(session, body)),
    )  # fmt: skip


def _intact(row: Sequence[object]) -> bool:
    """Session and body are what was hashed, and the columns beside them say the same."""
    session, body, digest = row[1], row[-2], row[-1]
    if not isinstance(session, str) or not isinstance(body, bytes):
        return False
    try:
        same = _digest(_line(session, body)) == digest
        return same and tuple(row) == _row(decode_result(body), body, session)
    except StartError:
        return False


def _whole(body: bytes, digest: bytes) -> bytes:
    return body if _digest(body) == digest else b""


def _verified(rowid: int, session: str, body: bytes, digest: bytes) -> tuple[int, bytes]:
    line = _line(session, body)
    if _digest(line) != digest:
        raise _unreadable(f"row {rowid} has changed")
    return rowid, line


def _line(session: str, body: bytes) -> bytes:
    return b'{"session":%s,' % msgspec.json.encode(session) + body[1:]


def _digest(line: bytes) -> bytes:
    return hashlib.sha256(line).digest()


def _unreadable(cause: object) -> BugError:
    return BugError(f"the journal is damaged ({cause})", "keep a copy and start a new one")


def _boot_id() -> str:
    with suppress(OSError):
        return BOOT_ID.read_text().strip()
    return ""
