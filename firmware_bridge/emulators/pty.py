"""The far end of a serial cable: a raw pseudo-terminal under a symbolic link.

Owns the descriptors and the link. Speed, parity and flow control lines do not exist on a pty.
"""

from __future__ import annotations

import os
import select
import tty
from pathlib import Path

from firmware_bridge.errors import LinkError

WRITE_PATIENCE_S = 0.25


class Pty:
    """A pty whose host end is found at `link`. Can be unplugged and plugged in again."""

    def __init__(self, link: str | Path) -> None:
        self._link = Path(link)
        self._fds: tuple[int, int] | None = None  # ours, and the host's, held so that it persists
        self._clogged = False

    @property
    def plugged(self) -> bool:
        """Whether the host end exists."""
        return self._fds is not None

    def plug(self) -> None:
        """Make the pty and point the link at it. Raises `LinkError` if the path is taken."""
        if self._link.exists() and not self._link.is_symlink():
            raise LinkError(f"{self._link} exists and is not a link", "choose another path")
        ours, hosts = os.openpty()
        self._fds = (ours, hosts)
        tty.setraw(hosts)
        os.set_blocking(ours, False)
        self._clogged = False
        fresh = self._link.with_name(f".{self._link.name}.{os.getpid()}")
        fresh.unlink(missing_ok=True)
        fresh.symlink_to(os.ttyname(hosts))
        fresh.replace(self._link)

    def unplug(self) -> None:
        """Hang up on whoever has the host end open, and take the link away."""
        if self._fds is None:
            return
        if self._link.is_symlink() and os.readlink(self._link) == os.ttyname(self._fds[1]):
            self._link.unlink()
        for fd in self._fds:
            os.close(fd)
        self._fds = None

    def wait(self, timeout_s: float) -> bytes:
        """Bytes from the host, waiting at most `timeout_s` for them."""
        ours = [] if self._fds is None else [self._fds[0]]
        readable, _, _ = select.select(ours, [], [], max(0.0, timeout_s))
        return os.read(readable[0], 4096) if readable else b""

    def write(self, data: bytes) -> int:
        """Send `data` and return how many bytes went out.

        A host that does not read for `WRITE_PATIENCE_S` loses bytes, as on a real UART.
        """
        sent = 0
        while self._fds is not None and sent < len(data):
            patience_s = 0.0 if self._clogged else WRITE_PATIENCE_S
            _, writable, _ = select.select([], [self._fds[0]], [], patience_s)
            self._clogged = not writable
            if self._clogged:
                break
            try:
                sent += os.write(self._fds[0], data[sent:])
            except BlockingIOError:
                continue
        return sent
