"""Spool folders: a file moved in is one thing to judge; what was judged is moved into `taken`, what
cannot be read into `refused`, under the id of its last result.

Move a file in whole (`mv` within the file system): names that begin with a dot or end in `.tmp` or
`.part` are passed over, and may be written to. Files come in the order of their names, one at a
time: the next one when the one before has been moved away. A thread for each folder does all that
touches its disk, so that one that hangs holds up nothing else.

Owns looking, opening and moving, not what is judged already: its taker knows a thing by its
`identity`, the digest of the file's name, number, time and size.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import queue
import stat
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec

from edge.bundle.durable import sync
from edge.errors import LinkError, StartError
from edge.signals.rows import read_rows
from edge.text.encode import MAX_BYTES as MAX_TEXT_BYTES
from edge.types import Given, SourceLost
from edge.vision.still import MAX_BYTES as MAX_IMAGE_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterator

TAKEN, REFUSED = b"taken", b"refused"
BEGINS = b".reset"
"""A file of rows whose name ends so says that another patient comes; what is in it does not count.
"""
MAX_ROWS_BYTES = 64 << 10
MAX_ROWS = 1024
MAX_NAMES = 1024
"""So many are sorted at a time."""
MAX_NAME_BYTES = 180
MAX_WHY = 200
POLL_S = 0.25
SAID_AGAIN_S = 60.0
CLOSE_S = 1.0


class TextsOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`folder` must be there."""

    folder: str
    name: str = "texts"


class ImagesOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`folder` must be there."""

    folder: str
    name: str = "images"


class RowsOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`folder` must be there. A row is due every `due_s`; 0 stands for the bundle's own step."""

    folder: str
    name: str = "rows"
    due_s: Annotated[float, msgspec.Meta(ge=0)] = 0.0


@dataclass(frozen=True, slots=True)
class Taken:
    """A thing was judged: `result` is the id of its last result."""

    result: str
    refused: bool


def text(fd: int, name: bytes) -> dict[str, Any]:
    """One byte more than is ever read tells that it is too long."""
    with os.fdopen(fd, "rb") as file:
        return {"data": file.read(MAX_TEXT_BYTES + 1)}


def image(fd: int, name: bytes) -> dict[str, Any]:
    """Left to be read where it is decoded."""
    size = os.fstat(fd).st_size
    if size > MAX_IMAGE_BYTES:
        os.close(fd)
        return {"refused": f"{size} bytes, an image has at most {MAX_IMAGE_BYTES}"}
    return {"file": fd}


def rows(fd: int, name: bytes) -> dict[str, Any]:
    """CSV, see `read_rows`."""
    with os.fdopen(fd, "rb") as file:
        if name.endswith(BEGINS):
            return {"begins": True}
        data = file.read(MAX_ROWS_BYTES + 1)
    if len(data) > MAX_ROWS_BYTES:
        return {"refused": f"more than {MAX_ROWS_BYTES} bytes of rows"}
    try:
        found = tuple(read_rows(data))
    except StartError as error:
        return {"refused": str(error)}
    if not 0 < len(found) <= MAX_ROWS:
        return {"refused": f"{len(found)} rows, there must be 1 to {MAX_ROWS}"}
    return {"rows": found}


@dataclass(frozen=True, slots=True)
class SpoolKind:
    """A kind of spool folder: called with its options it makes one."""

    GIVES: str
    Options: Any
    read: Callable[[int, bytes], dict[str, Any]]
    PATHS: tuple[str, ...] = ("folder",)

    def __call__(self, options: Any) -> Spool:
        return Spool(options, self.read)


class Spool:
    """One folder; `settle` says what became of the thing that `poll` gave last."""

    def __init__(self, options: Any, read: Callable[[int, bytes], dict[str, Any]]) -> None:
        self._options = options
        self._read = read
        self._folder = os.fsencode(options.folder)
        self._found: deque[Given | SourceLost] = deque()
        self._settled: queue.SimpleQueue[Taken | None] = queue.SimpleQueue()
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None
        self._woken = -1
        self._lock = -1
        self._said_s: float | None = None
        self._counts = {"received": 0, "lost": 0, "gaps": 0, "items": 0, "refused": 0}

    @property
    def name(self) -> str:
        return str(self._options.name)

    def open(self, now_ns: int) -> None:
        """Look from now on. Raises `LinkError` where the folder is not there."""
        if not os.path.isdir(self._folder):
            raise LinkError(
                f"source '{self.name}': there is no folder '{self._options.folder}'", "make it"
            )
        try:
            self._make_folders()
        except OSError as error:
            raise StartError(
                f"source '{self.name}': '{self._options.folder}' cannot be written to "
                f"({error.strerror})",
                "let this user move files in it",
            ) from None
        self._lock = self._locked()
        self._woken = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._thread = threading.Thread(target=self._serve, name=f"spool {self.name}", daemon=True)
        self._thread.start()

    def fileno(self) -> int | None:
        return self._woken if self._woken >= 0 else None

    def next_deadline_ns(self) -> int | None:
        return None

    def poll(self, now_ns: int) -> list[Given | SourceLost]:
        """What was found since; it counts as come now."""
        with suppress(BlockingIOError):
            os.eventfd_read(self._woken)
        out = []
        while self._found:
            out.append(replace(self._found.popleft(), t_ns=now_ns))
        return out

    def settle(self, result: str, refused: bool) -> None:
        """The thing given last is judged and that is committed: it may be moved away."""
        self._counts["refused" if refused else "items"] += 1
        self._settled.put(Taken(result, refused))

    def counters(self) -> dict[str, int]:
        """No samples; `items` that were judged and those `refused`."""
        return dict(self._counts)

    def close(self) -> None:
        """End the thread, unless its disk hangs: then it is left behind."""
        self._stopped.set()
        self._settled.put(None)
        if self._thread is None:
            return
        self._thread.join(CLOSE_S)
        if not self._thread.is_alive() and self._woken >= 0:
            os.close(self._woken)
            self._woken = -1
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1
        for given in self._found:
            if isinstance(given, Given) and given.file is not None:
                os.close(given.file)

    def _locked(self) -> int:
        """The folder, held for this source alone: two would judge the same file twice."""
        fd = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(fd)
            raise StartError(
                f"source '{self.name}': '{self._options.folder}' is another source's, or another"
                " medge's",
                "give it a folder of its own, or stop the other one",
            ) from None
        return fd

    def _serve(self) -> None:
        while not self._stopped.is_set():
            try:
                for name in self._names():
                    if not self._hand_over(name):
                        return
            except OSError as error:
                self._say(error)
            self._stopped.wait(POLL_S)

    def _names(self) -> Iterator[bytes]:
        """Files in the order of their names."""
        with os.scandir(self._folder) as entries:
            wanted = (entry.name for entry in entries if _wanted(entry))
            names = sorted(islice(wanted, MAX_NAMES))
        self._said_s = None
        return iter(names)

    def _hand_over(self, name: bytes) -> bool:
        """Give one thing and wait until it may be moved; False when told to stop."""
        given = self._given(name)
        if given is None:
            return True
        self._put(given)
        taken = self._settled.get()
        return taken is not None and self._move(name, taken)

    def _given(self, name: bytes) -> Given | None:
        """What is in the file; None where it is gone."""
        path = os.path.join(self._folder, name)
        try:
            info = os.lstat(path)
        except FileNotFoundError:
            return None
        given = Given(0, self.name, _identity(name, info))
        if not stat.S_ISREG(info.st_mode):
            return replace(given, refused="no ordinary file")
        try:
            fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
            found = self._read(fd, name)
        except OSError as error:
            found = {"refused": f"it cannot be read ({error.strerror})"}
        if "refused" in found:
            found["refused"] = found["refused"][:MAX_WHY]
        return replace(given, **found)

    def _move(self, name: bytes, taken: Taken) -> bool:
        """Out of the way, and known to be so even when the power goes; False when told to stop."""
        into = os.path.join(self._folder, REFUSED if taken.refused else TAKEN)
        called = taken.result.encode() + b"." + name[-MAX_NAME_BYTES:]
        while True:
            try:
                self._make_folders()
                os.rename(os.path.join(self._folder, name), os.path.join(into, called))
                sync(Path(os.fsdecode(into)))
                sync(Path(os.fsdecode(self._folder)))
                return True
            except FileNotFoundError:  # somebody took it away, or the folder with it
                return True
            except OSError as error:
                self._say(error)
                if self._stopped.wait(POLL_S):
                    return False

    def _make_folders(self) -> None:
        for name in (TAKEN, REFUSED):
            with suppress(FileExistsError):
                os.mkdir(os.path.join(self._folder, name))

    def _say(self, error: OSError) -> None:
        """The folder is of no use: at once, and again while it lasts."""
        now_s = time.monotonic()
        if self._said_s is None or now_s - self._said_s >= SAID_AGAIN_S:
            self._said_s = now_s
            self._counts["gaps"] += 1
            self._put(SourceLost(0, self.name, f"the folder cannot be used ({error.strerror})"))

    def _put(self, found: Given | SourceLost) -> None:
        self._found.append(found)
        os.eventfd_write(self._woken, 1)


def _wanted(entry: os.DirEntry[bytes]) -> bool:
    hidden = entry.name.startswith(b".") or entry.name.endswith((b".tmp", b".part"))
    return not hidden and not entry.is_dir(follow_symlinks=False)


def _identity(name: bytes, info: os.stat_result) -> str:
    number = f"{info.st_ino} {info.st_mtime_ns} {info.st_size} ".encode()
    return hashlib.sha256(number + name).hexdigest()[:32]


TEXTS = SpoolKind("text", TextsOptions, text)
IMAGES = SpoolKind("image", ImagesOptions, image)
ROWS = SpoolKind("features", RowsOptions, rows)
