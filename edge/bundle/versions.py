"""The versions of a bundle that are installed: folders under `STATE_DIR/bundles/NAME/`.

Each version lies in a folder named after its digest, written whole before anything points to it;
`current.json` says which one is used, and is replaced in one step. Owns these files, not what is
asked of a bundle before it comes here (`edge.bundle.install`).
"""

from __future__ import annotations

import fcntl
import re
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from edge.bundle.decode import NAME, SHA256, require_known_schema
from edge.bundle.durable import make_folder, remove, sync, write_folder, write_whole
from edge.bundle.integrity import read_files
from edge.errors import StartError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from edge.bundle.load import Bundle

SCHEMA = 1
FOLDER, RECORD, LOCK = "bundles", "current.json", "lock"
OURS = re.compile(r"[0-9a-f]{16}|.*\.tmp")
"""Names of versions, and of what an interrupted installation leaves."""


class Record(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`current.json`. `previous` is empty before the second version; `security_epoch` is the
    greatest that was ever installed; `installed_utc` is when `current` came to be it."""

    schema: int = SCHEMA
    name: str
    current: str
    previous: str
    security_epoch: int
    installed_utc: str


def version(name: str, digest: str, state_dir: str | Path) -> Path:
    """Where the version of `digest` lies, installed or not."""
    return _place(name, state_dir) / digest[:16]


def read_record(name: str, state_dir: str | Path) -> Record | None:
    """What is installed under `name`. Raises `StartError` for a record that cannot be trusted to
    say so: taking it for none would forget the security epoch."""
    if not NAME.fullmatch(name):
        return None
    path = _place(name, state_dir) / RECORD
    try:
        data = path.read_bytes()
        require_known_schema(data, SCHEMA, f"'{path}'")
        record = msgspec.json.decode(data, type=Record)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StartError(
            f"'{path}' cannot be read ({error.strerror})", "let this user read the state_dir"
        ) from None
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise _broken(path, str(error)) from None
    digests = (record.current, record.previous or record.current)
    if record.name != name or not all(map(SHA256.fullmatch, digests)):
        raise _broken(path, "it is not of this bundle")
    return record


def keep(bundle: Bundle, state_dir: str | Path) -> Path:
    """The verified bytes of `bundle` as a version, on the disk; its folder. The same one stays; a
    damaged one, or one that another key signed, is replaced at once."""
    folder = version(bundle.name, bundle.digest, state_dir)
    make_folder(folder.parent)
    if not holds(folder, bundle):
        write_folder(folder, bundle.files)
    return folder


def holds(folder: Path, bundle: Bundle) -> bool:
    """Whether `folder` has exactly the bytes of `bundle`."""
    try:
        return read_files(folder) == bundle.files
    except StartError:
        return False


def switch(record: Record, state_dir: str | Path) -> None:
    """From here on `record.current` is what `record.name` stands for: in one step or not at all."""
    folder = version(record.name, record.current, state_dir)
    sync(folder.parent)
    data = msgspec.json.format(msgspec.json.encode(record)) + b"\n"
    write_whole(folder.parent / RECORD, data)


def prune(record: Record, state_dir: str | Path) -> None:
    """Remove all versions but the current and the previous, and what interruptions left."""
    kept = {record.current[:16], record.previous[:16]}
    for path in sorted(_place(record.name, state_dir).iterdir()):
        if OURS.fullmatch(path.name) and path.name not in kept:
            remove(path)


@contextmanager
def locked(name: str, state_dir: str | Path) -> Iterator[None]:
    """Alone among those who change `name`; the lock ends with this process, however it ends."""
    place = _place(name, state_dir)
    make_folder(place)
    with (place / LOCK).open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise StartError(f"'{name}' is being installed right now", "wait for it") from None
        yield


def _place(name: str, state_dir: str | Path) -> Path:
    return Path(state_dir).expanduser() / FOLDER / name


def _broken(path: Path, why: str) -> StartError:
    return StartError(
        f"'{path}' does not say which version is installed ({why})",
        f"remove the folder '{path.parent}' and install the bundle again",
    )
