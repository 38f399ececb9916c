"""Child processes: started on a module of ours, talking over descriptors that they inherit.

A child imports from where this process does, never from the folder that a user happens to stand in,
and is its own session: what stops the terminal's processes does not stop it.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, BinaryIO

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterator

Attended = tuple[subprocess.Popen[bytes], socket.socket, BinaryIO]


@contextmanager
def attended(module: str, job: Any) -> Iterator[Attended]:
    """`module` running, our end of a SEQPACKET socket to it, and the unnamed file that both have,
    which holds `job` in MessagePack. It is ended on leaving; what it says on stderr is dropped."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs, os.fdopen(os.memfd_create("medge-job"), "w+b") as file:
        file.write(msgspec.msgpack.encode(job))
        file.flush()
        process = spawn(module, theirs.fileno(), file.fileno(), stderr=subprocess.DEVNULL)
        theirs.close()
        try:
            yield process, ours, file
        finally:
            end(process)


def end(process: subprocess.Popen[bytes]) -> None:
    """Kill it, with whatever it started; once it is reaped, its number is not ours to kill."""
    if process.returncode is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def spawn(module: str, *fds: int, stderr: int | None = None) -> subprocess.Popen[bytes]:
    """Run `module` with the numbers of `fds`, which it inherits, as its arguments."""
    paths = [os.path.abspath(path) for path in sys.path]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "PYTHONSAFEPATH": "1"}
    return subprocess.Popen(
        [sys.executable, "-m", module, *map(str, fds)],
        pass_fds=fds,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=stderr,
        cwd="/",
        env=environment,
        start_new_session=True,
    )
