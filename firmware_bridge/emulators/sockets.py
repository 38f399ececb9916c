"""The far end of a network cable: a TCP port that waits or calls, and a UDP port.

Owns the sockets. One host at a time, as on a serial device server; when it hangs up, the next one
is taken.
"""

from __future__ import annotations

import select
import socket
import time

from firmware_bridge.errors import LinkError

READ_BYTES = 65_536
CALL_AGAIN_S = 0.2


class TcpPlace:
    """A listening TCP port of the device."""

    def __init__(self, host: str, port: int) -> None:
        self._at = (host, port)
        self._listener: socket.socket | None = None
        self._peer: socket.socket | None = None

    @property
    def plugged(self) -> bool:
        return self._listener is not None

    def plug(self) -> None:
        """Listen. Raises `LinkError` if the port is taken."""
        self._listener = _bound(socket.SOCK_STREAM, self._at)
        self._listener.listen(1)

    def unplug(self) -> None:
        for end in (self._listener, self._peer):  # who sees the second go finds the first gone
            if end is not None:
                end.close()
        self._peer = self._listener = None

    def wait(self, timeout_s: float) -> bytes:
        if self._listener is None:
            time.sleep(max(0.0, timeout_s))
            return b""
        end = self._peer or self._listener
        if not select.select([end], [], [], max(0.0, timeout_s))[0]:
            return b""
        if self._peer is None:
            self._peer = self._listener.accept()[0]
            self._peer.setblocking(False)
            self._peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return b""
        data = _read(self._peer)
        if not data:
            self._peer.close()
            self._peer = None
        return data

    def write(self, data: bytes) -> int:
        return 0 if self._peer is None else _sent(self._peer, data)


class CallingPlace:
    """A device that calls the host itself, again and again until it is answered."""

    def __init__(self, host: str, port: int) -> None:
        self._at = (host, port)
        self._peer: socket.socket | None = None
        self._call_s = 0.0
        self.plugged = False

    def plug(self) -> None:
        self.plugged = True

    def unplug(self) -> None:
        self._hang_up()
        self.plugged = False

    def wait(self, timeout_s: float) -> bytes:
        if self._peer is None and self.plugged and time.monotonic() >= self._call_s:
            self._call()
        if self._peer is None:
            time.sleep(max(0.0, timeout_s))
            return b""
        if not select.select([self._peer], [], [], max(0.0, timeout_s))[0]:
            return b""
        data = _read(self._peer)
        if not data:
            self._hang_up()
        return data

    def write(self, data: bytes) -> int:
        return 0 if self._peer is None else _sent(self._peer, data)

    def _call(self) -> None:
        self._call_s = time.monotonic() + CALL_AGAIN_S
        try:
            self._peer = socket.create_connection(self._at, CALL_AGAIN_S)
        except OSError:
            return
        self._peer.setblocking(False)

    def _hang_up(self) -> None:
        if self._peer is not None:
            self._peer.close()
        self._peer = None


class UdpPlace:
    """A UDP port of the device; it answers whoever spoke to it last."""

    def __init__(self, host: str, port: int) -> None:
        self._at = (host, port)
        self._socket: socket.socket | None = None
        self._peer: tuple[str, int] | None = None

    @property
    def plugged(self) -> bool:
        return self._socket is not None

    def plug(self) -> None:
        """Bind. Raises `LinkError` if the port is taken."""
        self._socket = _bound(socket.SOCK_DGRAM, self._at)
        self._socket.setblocking(False)

    def unplug(self) -> None:
        if self._socket is not None:
            self._socket.close()
        self._socket = self._peer = None

    def wait(self, timeout_s: float) -> bytes:
        if self._socket is None:
            time.sleep(max(0.0, timeout_s))
            return b""
        if not select.select([self._socket], [], [], max(0.0, timeout_s))[0]:
            return b""
        try:
            data, self._peer = self._socket.recvfrom(READ_BYTES)
        except OSError:  # what we sent last found nobody
            return b""
        return data

    def write(self, data: bytes) -> int:
        if self._socket is None or self._peer is None:
            return 0
        try:
            return self._socket.sendto(data, self._peer)
        except OSError:
            return 0


def _bound(kind: socket.SocketKind, at: tuple[str, int]) -> socket.socket:
    made = socket.socket(socket.AF_INET, kind)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind(at)
    except OSError as error:
        made.close()
        raise LinkError(
            f"cannot be a device at {at[0]}:{at[1]} ({error})", "choose another address or port"
        ) from error
    return made


def _read(peer: socket.socket) -> bytes:
    """What is there; nothing when the host has hung up."""
    try:
        return peer.recv(READ_BYTES)
    except OSError:
        return b""


def _sent(peer: socket.socket, data: bytes) -> int:
    try:
        return peer.send(data)
    except OSError:  # full, as a UART's buffer would be, or hung up, which `wait` will see
        return 0
