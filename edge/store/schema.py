"""The journal's file: its tables, its durable settings, and the way from an older version.

A newer version and another program's database are refused untouched; an older one is migrated after
a copy of it, whole and synced, lies beside it.
"""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

from edge.errors import StartError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

APPLICATION_ID = int.from_bytes(b"medg", "big")
SCHEMA = 2
# Not STRICT: SQLite 3.31 of Ubuntu 20.04 (JetPack 5) does not know it.
KEPT = """
CREATE TABLE kept (
    bed TEXT NOT NULL, source TEXT NOT NULL, body BLOB NOT NULL, sha256 BLOB NOT NULL,
    PRIMARY KEY (bed, source)
);
"""
TABLES = f"""
CREATE TABLE session (
    id TEXT PRIMARY KEY, started TEXT NOT NULL, bundle_digest TEXT NOT NULL, boot_id TEXT NOT NULL,
    anchor_t_ns INTEGER, anchor_unix_ns INTEGER, anchor_quality TEXT, grouped INTEGER NOT NULL
);
CREATE TABLE results (
    rowid INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, session TEXT NOT NULL,
    kind TEXT NOT NULL, t_ns INTEGER NOT NULL, utc TEXT NOT NULL, bed TEXT NOT NULL,
    source TEXT NOT NULL, summary TEXT NOT NULL, body BLOB NOT NULL, sha256 BLOB NOT NULL
);
{KEPT}"""
MIGRATIONS = {1: KEPT}
"""From schema version n to n + 1."""


def prepare(db: sqlite3.Connection, path: Path) -> None:
    """Make `db`, in autocommit mode, ready to append to. Raises `StartError`, `sqlite3.Error`."""
    version = _version(db, path)
    (mode,) = db.execute("PRAGMA journal_mode=WAL").fetchone()
    if mode != "wal":
        raise StartError(f"journal '{path}' cannot have a write-ahead log", "use a local disk")
    db.execute("PRAGMA synchronous=FULL")
    if version == 0:
        _transact(db, f"PRAGMA application_id={APPLICATION_ID}; {TABLES}", SCHEMA)
    else:
        migrate(db, path, version, SCHEMA, MIGRATIONS)


def migrate(
    db: sqlite3.Connection, path: Path, version: int, wanted: int, steps: Mapping[int, str]
) -> None:
    """From `version` up to `wanted`, each step in one transaction after a copy of what was."""
    for old in range(version, wanted):
        _back_up(db, path.with_name(f"{path.name}.v{old}.backup"))
        _transact(db, steps[old], old + 1)


def _version(db: sqlite3.Connection, path: Path) -> int:
    """0 for an empty file. Raises `StartError` for a newer journal or another program's file."""
    (version,) = db.execute("PRAGMA user_version").fetchone()
    (application,) = db.execute("PRAGMA application_id").fetchone()
    (tables,) = db.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if application != APPLICATION_ID and (version or application or tables):
        raise StartError(f"'{path}' is not a medge journal", "name another file")
    if version > SCHEMA:
        raise StartError(
            f"journal '{path}' has schema {version}, newer than {SCHEMA}", "update medge"
        )
    return int(version)


def _transact(db: sqlite3.Connection, statements: str, version: int) -> None:
    db.executescript(f"BEGIN IMMEDIATE; {statements} PRAGMA user_version={version}; COMMIT;")


def _back_up(db: sqlite3.Connection, copy: Path) -> None:
    """Through SQLite, because what was committed last may still be in the write-ahead log."""
    partial = copy.with_name(f"{copy.name}.partial")
    partial.unlink(missing_ok=True)
    with closing(sqlite3.connect(partial)) as target:
        db.backup(target)
    _sync(partial)
    partial.rename(copy)
    _sync(copy.parent)


def _sync(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
