"""A bundle's bytes: a folder or a stored zip with a flat allow-list of names, hashed, read once.

Owns which files a bundle may hold and that they are the ones the manifest names. No name in it is
ever used as a path to write to; nothing is unpacked.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
from typing import TYPE_CHECKING

from edge.bundle import zipped
from edge.errors import StartError

if TYPE_CHECKING:
    from pathlib import Path

MANIFEST, SIGNATURE, GOLDEN = "manifest.json", "signature.json", "golden.npz"
VOCAB, TEXTS = "vocab.json", "texts.json"
NAMES = re.compile(
    r"(manifest|signature|calibration|vocab|texts|sbom)\.json|golden\.npz|reference\.npz|card\.md"
    r"|model(\.[a-z0-9_]{1,32})?\.(fp32|fp16|int8|int8u)\.onnx"
)
MAX_FILES = 32
MAX_FILE_BYTES = 256 << 20
MAX_BYTES = {MANIFEST: 1 << 20, SIGNATURE: 4 << 10, GOLDEN: 64 << 20}
MAX_TOTAL_BYTES = 512 << 20


def read_files(path: Path) -> dict[str, bytes]:
    """All files of the bundle at `path`, by name. Raises `StartError` for anything not allowed."""
    try:
        if path.is_dir():
            return _read_folder(path)
        data = _read_file(str(path), None, MAX_TOTAL_BYTES)
        if not data.startswith(zipped.MAGIC):
            raise ValueError("it is neither a folder nor a zip")
        files = zipped.members(data, MAX_FILES)
        _allow({name: len(content) for name, content in files.items()})
        return files
    except FileNotFoundError:
        raise StartError(
            f"there is no bundle '{path}'",
            "name a folder, a stored zip, or an installed or reference bundle",
        ) from None
    except (ValueError, OSError) as error:
        raise _refused(path, str(error)) from None


def _read_folder(path: Path) -> dict[str, bytes]:
    """Every entry through the folder's own descriptor: swapping the path changes nothing."""
    folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        names = sorted(os.listdir(folder))
        sizes = {n: os.stat(n, dir_fd=folder, follow_symlinks=False).st_size for n in names}
        _allow(sizes)
        return {n: _read_file(n, folder, MAX_BYTES.get(n, MAX_FILE_BYTES)) for n in names}
    finally:
        os.close(folder)


def _read_file(name: str, folder: int | None, limit: int) -> bytes:
    """The bytes of a plain file of at most `limit` bytes; never follows a link, never blocks."""
    try:
        fd = os.open(name, os.O_RDONLY | os.O_NONBLOCK | _no_follow(folder), dir_fd=folder)
    except OSError as error:
        if isinstance(error, FileNotFoundError):
            raise
        raise ValueError(f"'{name}' is not a plain file ({error.strerror})") from None
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            raise ValueError(f"'{name}' is not a plain file")
        if status.st_size > limit:
            raise ValueError(f"'{name}' has {status.st_size} bytes, {limit} are allowed")
        with os.fdopen(fd, "rb", closefd=False) as file:
            data = file.read(status.st_size + 1)
    finally:
        os.close(fd)
    if len(data) != status.st_size:
        raise ValueError(f"'{name}' changed while it was read")
    return data


def _no_follow(folder: int | None) -> int:
    """The operator may link to a bundle; nothing inside one may be a link."""
    return 0 if folder is None else os.O_NOFOLLOW


def _allow(sizes: dict[str, int]) -> None:
    for name, size in sizes.items():
        limit = MAX_BYTES.get(name, MAX_FILE_BYTES)
        if not NAMES.fullmatch(name):
            raise ValueError(f"{name[:64]!r} does not belong in a bundle")
        if size > limit:
            raise ValueError(f"'{name}' has {size} bytes, {limit} are allowed")
    if len(sizes) > MAX_FILES or sum(sizes.values()) > MAX_TOTAL_BYTES:
        raise ValueError(f"it has {len(sizes)} files, {sum(sizes.values())} bytes")
    if MANIFEST not in sizes:
        raise ValueError(f"it has no {MANIFEST}")


def hash_files(files: dict[str, bytes]) -> dict[str, str]:
    """SHA-256 (hex) of every file that the manifest must name."""
    named = {n: data for n, data in files.items() if n not in (MANIFEST, SIGNATURE)}
    return {name: hashlib.sha256(data).hexdigest() for name, data in sorted(named.items())}


def require_hashes(files: dict[str, bytes], expected: dict[str, str], path: Path) -> None:
    """Raises `StartError` unless exactly the named files are there, unchanged."""
    found = hash_files(files)
    for name in sorted(found.keys() | expected.keys()):
        if name not in found:
            raise _refused(path, f"'{name}' is missing")
        if name not in expected:
            raise _refused(path, f"'{name}' is not in its manifest")
        if found[name] != expected[name]:
            raise _refused(path, f"'{name}' was changed")


def _refused(path: Path, why: str) -> StartError:
    return StartError(f"bundle '{path}' is refused: {why}", "get it again from who made it")
