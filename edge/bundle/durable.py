"""Files that are there whole or not at all, also when the power goes."""

from __future__ import annotations

import ctypes
import os
import shutil
from typing import TYPE_CHECKING

from edge.errors import StartError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

AT_FDCWD, RENAME_EXCHANGE = -100, 2


def write_whole(path: Path, data: bytes) -> None:
    """Replace `path` by `data`: temporary file, fsync, rename, fsync of the folder."""
    partial = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        with partial.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError:
        partial.unlink(missing_ok=True)
        raise
    sync(path.parent)


def sync(path: Path) -> None:
    """What is known of a file's bytes, or of the names in a folder, is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_folder(path: Path) -> None:
    """`path` as a folder, with those above it, also once the power has gone."""
    if not path.is_dir():
        make_folder(path.parent)
        path.mkdir(exist_ok=True)
        sync(path.parent)


def write_folder(path: Path, files: Mapping[str, bytes]) -> None:
    """Make `path` a folder with `files`, at once: a temporary folder, fsync, rename, fsync.

    Whoever looks sees what was there or the new folder, whole. What is left of an interrupted
    attempt is replaced.
    """
    partial = path.with_name(f"{path.name}.tmp")
    remove(partial)
    partial.mkdir()
    for name, data in files.items():
        with (partial / name).open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    sync(partial)
    put_folder(partial, path)
    remove(partial)


def put_folder(fresh: Path, path: Path) -> None:
    """`fresh`, which is on the disk, in the place of `path`, at once; what was there takes the
    place of `fresh`. Raises `StartError` where the file system cannot swap."""
    if path.exists() or path.is_symlink():
        _exchange(fresh, path)
    else:
        fresh.rename(path)
    sync(path.parent)


def _exchange(a: Path, b: Path) -> None:
    """Swap two names in one step (renameat2, Linux)."""
    library = ctypes.CDLL(None, use_errno=True)
    done = library.renameat2(AT_FDCWD, bytes(a), AT_FDCWD, bytes(b), RENAME_EXCHANGE)
    if done != 0:
        cause = os.strerror(ctypes.get_errno())
        raise StartError(
            f"'{b}' cannot be replaced at once ({cause})", "remove it first, or use another folder"
        )


def remove(path: Path) -> None:
    """Remove a file, a link itself, or a folder with all in it; nothing there is fine."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
