"""A disk that fails is said once, and nothing after that is acknowledged."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge.store.journal import open_journal

APPENDS = """
import resource, signal, sys
from edge.errors import BugError
from edge.store.journal import open_journal
from edge.types import *
p = Provenance("b", "d", "o", "f")
make = lambda n: Withheld(n, f"s-{n}", "b", "e", "u", "q", Reason.GAP, "x" * 2000, 0, 1, p)
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
acknowledged = refused = 0
with open_journal(sys.argv[1]) as journal:
    if limit := int(sys.argv[2]):
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    for n in range(400):
        try:
            journal.append([make(n)])
            assert not refused, "acknowledged after a failure"
            acknowledged += 1
        except BugError:
            refused += 1
print(acknowledged, refused)
"""


def appended(path: Path, *before: str, limit_bytes: int = 0) -> tuple[int, int]:
    """(acknowledged, refused) of 400 appends of 2 kB by a process of its own."""
    command = [*before, sys.executable, "-c", APPENDS, str(path), str(limit_bytes)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    acknowledged, refused = map(int, done.stdout.split())
    return acknowledged, refused


def kept(path: Path) -> int:
    """Rows of a journal that is sound."""
    with open_journal(path) as journal:
        assert journal.check() == []
        return len(journal.after(0))


def test_control_a_good_disk_takes_all(tmp_path: Path) -> None:
    assert appended(tmp_path / "j.db") == (400, 0)


def test_a_file_that_may_not_grow(tmp_path: Path) -> None:
    acknowledged, refused = appended(tmp_path / "j.db", limit_bytes=1 << 18)
    assert acknowledged > 10 and refused > 10
    assert kept(tmp_path / "j.db") == acknowledged


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 512 kB; needs root."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", str(disk)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("a small file system needs root")
    yield disk
    subprocess.run(["umount", "--lazy", str(disk)], check=True)


def test_a_full_disk(small_disk: Path, tmp_path: Path) -> None:
    acknowledged, refused = appended(small_disk / "j.db")
    assert acknowledged > 10 and refused > 10
    for file in small_disk.glob("j.db*"):
        shutil.copy(file, tmp_path)
    assert kept(tmp_path / "j.db") == acknowledged


def test_a_sync_that_fails(tmp_path: Path) -> None:
    inject = "inject=fsync,fdatasync:error=EIO:when=60+"
    strace = ("strace", "-qq", "-f", "-o", "/dev/null", "-e", "trace=fsync,fdatasync", "-e", inject)
    if shutil.which("strace") is None or subprocess.run([*strace, "true"]).returncode:
        pytest.skip("failing syncs need strace")
    acknowledged, refused = appended(tmp_path / "j.db", *strace)
    assert 10 < acknowledged < 60 and refused == 400 - acknowledged
    assert kept(tmp_path / "j.db") in (acknowledged, acknowledged + 1)
