"""A captured byte stream as a port: `file://capture.bin?pace=real|fast`.

Paced at the rate of the wire it was captured on, or as fast as it is read; its end is the device
gone for good. What is written to it goes nowhere.
"""

from __future__ import annotations

import os
import stat
import threading
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING

from firmware_bridge.errors import AddressError, LinkError

if TYPE_CHECKING:
    from typing import BinaryIO

    from firmware_bridge.address import Address
    from firmware_bridge.ports import Port
    from firmware_bridge.types import Wire

READ_BYTES = 4096
PACES = ("real", "fast")
STEP_S = 0.010


def open_file(address: Address, wire: Wire) -> Port:
    """Open a capture, which is a regular file: reading one waits for nobody. Raises `AddressError`
    for a pace that does not exist, `LinkError` when the file cannot be read."""
    options = dict(address.options)
    pace = options.pop("pace", "real")
    if options or pace not in PACES:
        wrong = next(iter(options), f"pace={pace}")
        raise AddressError(f"a file has no option '{wrong}'", "use pace=real or pace=fast")
    with ExitStack() as undo:
        try:
            file = undo.enter_context(open(address.path, "rb", opener=_opened_at_once))
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise LinkError(
                    f"capture {address.path} cannot be read (it is no regular file)",
                    "name a file of captured bytes; a device on a terminal is serial://",
                )
            port = _FilePort(file, address.path, wire.bytes_per_s if pace == "real" else None)
        except OSError as error:
            raise LinkError(
                f"capture {address.path} cannot be read ({error.strerror})", "name a readable file"
            ) from error
        undo.pop_all()
        return port


def _opened_at_once(path: str, flags: int) -> int:
    """Open without waiting for who writes into a FIFO, and without making a terminal ours."""
    return os.open(path, flags | os.O_NONBLOCK | os.O_NOCTTY)


class _FilePort:
    """The end of a pipe; a thread puts the file into it. Unlike a file's, its descriptor can be
    waited on."""

    once = True

    def __init__(self, file: BinaryIO, path: str, bytes_per_s: float | None) -> None:
        self._path = path
        self._fd, into = os.pipe()
        os.set_blocking(self._fd, False)
        self._closed = threading.Event()
        arguments = (file, into, bytes_per_s, self._closed)
        self._thread = threading.Thread(target=_pour, args=arguments, name=path, daemon=True)
        self._thread.start()

    def fileno(self) -> int:
        return self._fd

    def read(self) -> bytes:
        try:
            data = os.read(self._fd, READ_BYTES)
        except BlockingIOError:
            return b""
        if not data:
            raise LinkError(f"capture {self._path} has ended", "name a longer one, or stop here")
        return data

    def write(self, data: bytes) -> None:
        pass

    def close(self) -> None:
        self._closed.set()
        os.close(self._fd)
        self._thread.join()


def _pour(
    file: BinaryIO, into: int, bytes_per_s: float | None, closed: threading.Event
) -> None:  # fmt: skip
    step = READ_BYTES if bytes_per_s is None else max(1, int(bytes_per_s * STEP_S))
    with file, os.fdopen(into, "wb", buffering=0) as pipe, suppress(BrokenPipeError):
        while (data := file.read(step)) and not closed.is_set():
            pipe.write(data)
            if bytes_per_s is not None:
                closed.wait(len(data) / bytes_per_s)
