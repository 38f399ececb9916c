"""Ports of the network: TCP called or listened on, and UDP. Nothing here blocks; names are looked
up in a thread.

A pulled cable says nothing by itself. TCP asks a peer that has said nothing for a second whether it
is there (SO_KEEPALIVE, tcp(7)); one that has not answered by `GIVE_UP_MS` is gone. The kernel would
say so after two seconds and some, as it counts whole ones: `read` looks for itself, and wants to be
called for that every `LOOK_EVERY_S`.
"""

from __future__ import annotations

import errno
import ipaddress
import os
import select
import socket
import struct
import threading
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from firmware_bridge.errors import AddressError, LinkError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from firmware_bridge.address import Address
    from firmware_bridge.ports import Connecting, Port
    from firmware_bridge.types import Wire

READ_BYTES = 4096
DATAGRAM_BYTES = 65_536
KEEPALIVE_S = 1
GIVE_UP_MS = 1600
LOOK_EVERY_S = 0.2
TCP_INFO = struct.Struct("=3xB48xII")  # linux/tcp.h: unanswered probes, ms since data, since an ACK

Found = tuple[int, tuple[object, ...]]  # family and socket address


def open_tcp(address: Address, wire: Wire) -> Connecting:
    """Call `tcp://host:port`. Raises `AddressError`; what fails later is a `LinkError`."""
    _require(address)
    return _Calling(address, socket.SOCK_STREAM)


def open_udp(address: Address, wire: Wire) -> Connecting:
    """Datagrams to and from `udp://host:port` alone, each read one of them."""
    _require(address)
    return _Calling(address, socket.SOCK_DGRAM)


def open_tcp_listen(address: Address, wire: Wire) -> Port:
    """Wait at `tcp-listen://host:port` for a device or gateway that calls us.

    One peer at a time, the next when it has hung up; its `peers` says how many have called, each
    read being of the last one. What is sent while nobody is there is lost. Raises `LinkError` when
    the port is taken.
    """
    _require(address)
    return _ListeningPort(address)


def _require(address: Address) -> None:
    name = f"{address.scheme}://{address.host}"
    if not address.host or address.path:
        raise AddressError(
            f"'{name}{address.path}' names no host", f"write it as {address.scheme}://host:port"
        )
    if not address.port:
        raise AddressError(f"'{name}' has no port", f"write it as {name}:port")
    if address.options:
        unknown = ", ".join(address.options)
        raise AddressError(f"{address.scheme} has no option '{unknown}'", "leave it out")


class _Calling:
    """A connection being made: the name is looked up, then the peer called."""

    def __init__(self, address: Address, kind: socket.SocketKind) -> None:
        self._at = f"{address.host}:{address.port}"
        self._kind = kind
        self._socket: socket.socket | None = None
        self._lookup: _Lookup | None = None
        with _given(self._at), ExitStack() as undo:
            self._epoll = select.epoll()
            undo.callback(self.close)
            self._begin(address.host, address.port)
            undo.pop_all()

    def fileno(self) -> int:
        return self._epoll.fileno()

    def settled(self) -> Port | None:
        """The port once there is one. Raises `LinkError` when there will be none."""
        if self._lookup is not None:
            if not self._epoll.poll(0):
                return None
            self._epoll.unregister(self._lookup.fd)
            found, self._lookup = self._lookup.taken(), None
            with _given(self._at):
                self._call(found)
        assert self._socket is not None
        if not self._epoll.poll(0):
            return None
        if number := self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            raise _unreachable(self._at, number)
        made, self._socket = self._socket, None
        self._epoll.close()
        return _SocketPort(made, self._at)

    def close(self) -> None:
        for thing in (self._socket, self._lookup, self._epoll):
            if thing is not None:
                thing.close()
        self._socket = self._lookup = None

    def _begin(self, host: str, port: int) -> None:
        try:
            ipaddress.ip_address(host)
        except ValueError:
            self._lookup = _Lookup(host, port, self._kind)
            self._epoll.register(self._lookup.fd, select.EPOLLIN)
        else:
            self._call(_address_of(host, port, self._kind))

    def _call(self, found: Found | str) -> None:
        if isinstance(found, str):
            raise LinkError(
                f"host of {self._at} is not known ({found})",
                "correct its name, or use its address",
            )
        family, at = found
        self._socket = socket.socket(family, self._kind)
        self._socket.setblocking(False)
        if self._kind is socket.SOCK_STREAM:
            _watch(self._socket)
        number = self._socket.connect_ex(at)
        if number not in (0, errno.EINPROGRESS):
            raise _unreachable(self._at, number)
        self._epoll.register(self._socket, select.EPOLLOUT)


class _Lookup:
    """A name being looked up in a thread, because the system's resolver blocks for seconds."""

    def __init__(self, host: str, port: int, kind: socket.SocketKind) -> None:
        self.fd, told = os.pipe()
        self._found: Found | str = "it could not be looked up"

        def look_up() -> None:
            try:
                self._found = _address_of(host, port, kind)
            finally:
                os.close(told)

        threading.Thread(target=look_up, name=f"lookup {host}", daemon=True).start()

    def taken(self) -> Found | str:
        """What was found, `fd` being readable."""
        self.close()
        return self._found

    def close(self) -> None:
        os.close(self.fd)


def _address_of(host: str, port: int, kind: socket.SocketKind) -> Found | str:
    """The host's address, one of version 4 where it has one, or why it has none: it may also be no
    name at all (RFC 1035, 2.3.4), which Python's idna codec says."""
    try:
        found = socket.getaddrinfo(host, port, type=kind)
    except OSError as error:
        return error.strerror or str(error)
    except UnicodeError as error:
        return str(error)
    return min(((f[0], f[4]) for f in found), key=lambda f: f[0] != socket.AF_INET)


def _watch(peer: socket.socket) -> None:
    """Have the kernel ask whether the other end is there."""
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, KEEPALIVE_S)
    peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, KEEPALIVE_S)
    peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, GIVE_UP_MS)
    peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def _is_gone(peer: socket.socket) -> bool:
    """Whether the other end was asked and has not answered in time."""
    info = peer.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, TCP_INFO.size)
    unanswered, data_ms, ack_ms = TCP_INFO.unpack(info)
    return bool(unanswered) and min(data_ms, ack_ms) >= GIVE_UP_MS


class _SocketPort:
    """A connected socket."""

    def __init__(self, peer: socket.socket, at: str) -> None:
        self._peer = peer
        self._at = at
        self._is_stream = peer.type == socket.SOCK_STREAM
        self._read_bytes = READ_BYTES if self._is_stream else DATAGRAM_BYTES
        self.look_every_s = LOOK_EVERY_S if self._is_stream else None

    def fileno(self) -> int:
        return self._peer.fileno()

    def read(self) -> bytes:
        try:
            data = self._peer.recv(self._read_bytes)
        except BlockingIOError:
            if self._is_stream and _is_gone(self._peer):
                raise _gone(self._at, "it no longer answers") from None
            return b""
        except OSError as error:
            raise _gone(self._at, error) from error
        if not data and self._is_stream:
            raise _gone(self._at, "the peer has hung up")
        return data

    def write(self, data: bytes) -> None:
        try:
            written = self._peer.send(data)
        except BlockingIOError:
            written = 0
        except OSError as error:
            raise _gone(self._at, error) from error
        if written != len(data):
            raise LinkError(f"{self._at} took {written} of {len(data)} bytes", "reconnect")

    def close(self) -> None:
        self._peer.close()


class _ListeningPort:
    """A listening socket and the one peer that has called it, behind one descriptor."""

    look_every_s = LOOK_EVERY_S

    def __init__(self, address: Address) -> None:
        self._at = f"{address.host}:{address.port}"
        try:
            found = ipaddress.ip_address(address.host)
        except ValueError:
            raise AddressError(
                f"'{address.host}' is no address of this machine",
                "listen on an IP address, 0.0.0.0 for all of them",
            ) from None
        self.peers = 0
        self._peer: socket.socket | None = None
        family = socket.AF_INET if found.version == 4 else socket.AF_INET6
        with _given(self._at), ExitStack() as undo:
            self._epoll = undo.enter_context(select.epoll())
            self._listener = undo.enter_context(socket.socket(family, socket.SOCK_STREAM))
            self._listen(address)
            self._epoll.register(self._listener, select.EPOLLIN)
            undo.pop_all()

    def _listen(self, address: Address) -> None:
        try:
            self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self._listener.setblocking(False)
            self._listener.bind((address.host, address.port))
            self._listener.listen(4)
        except OSError as error:
            raise LinkError(
                f"cannot listen at {self._at} ({error})",
                "choose an address of this machine and a port that is free",
            ) from error

    def fileno(self) -> int:
        return self._epoll.fileno()

    def read(self) -> bytes:
        if self._peer is None and not self._accepted():
            return b""
        assert self._peer is not None
        try:
            data = self._peer.recv(READ_BYTES)
        except BlockingIOError:
            if _is_gone(self._peer):
                self._hang_up()
            return b""
        except OSError:
            data = b""
        if not data:
            self._hang_up()
        return data

    def write(self, data: bytes) -> None:
        try:
            if self._peer is not None and self._peer.send(data) != len(data):
                self._hang_up()  # it does not read what it is answered
        except OSError:
            self._hang_up()

    def close(self) -> None:
        self._epoll.close()
        for end in (self._peer, self._listener):
            if end is not None:
                end.close()
        self._peer = None

    def _accepted(self) -> bool:
        try:
            self._peer, _ = self._listener.accept()
        except (BlockingIOError, ConnectionAbortedError):  # nobody, or he is gone already
            return False
        except OSError as error:
            raise LinkError(
                f"cannot take a call at {self._at} ({error.strerror})",
                "close what holds too many files or sockets open",
            ) from error
        self.peers += 1
        self._peer.setblocking(False)
        _watch(self._peer)
        self._epoll.modify(self._listener, 0)
        self._epoll.register(self._peer, select.EPOLLIN)
        return True

    def _hang_up(self) -> None:
        assert self._peer is not None
        self._epoll.unregister(self._peer)
        self._peer.close()
        self._peer = None
        self._epoll.modify(self._listener, select.EPOLLIN)


@contextmanager
def _given(at: str) -> Iterator[None]:
    """The system has the descriptors that are asked of it, or the port cannot be opened now."""
    try:
        yield
    except OSError as error:
        raise LinkError(
            f"no port can be opened to {at} ({error.strerror})",
            "close what holds too many files or sockets open",
        ) from error


def _unreachable(at: str, number: int) -> LinkError:
    return LinkError(
        f"{at} cannot be reached ({os.strerror(number)})",
        "switch the device on, check cable and network, correct host and port",
    )


def _gone(at: str, how: OSError | str) -> LinkError:
    said = how if isinstance(how, str) else how.strerror
    return LinkError(f"connection to {at} is gone ({said})", "check cable and network")
