"""Ports: what they are, which there are, and the serial one. The only file that knows pyserial.

Reads never block; waiting belongs to the caller's loop, which has `fileno()`. Every way a port can
go away (unplugged, hung up, end of file) is one `LinkError`.

A terminal that is closed waits until the other end has taken what was sent, 30 s where it takes
nothing (the kernel's closing_wait). So what was not taken is thrown away first, unless it was said
last of all, with nothing read since: such a stop or answer has `CLOSING_S` to leave.
"""

from __future__ import annotations

import fcntl
import os
import struct
import termios
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from firmware_bridge.address import parse
from firmware_bridge.errors import AddressError, LinkError
from firmware_bridge.registry import load

if TYPE_CHECKING:
    from collections.abc import Callable

    import serial

    from firmware_bridge.address import Address
    from firmware_bridge.types import Wire

READ_BYTES = 4096
CLOSING_S = 0.3
LOOK_S = 0.005

BY_ID = Path("/dev/serial/by-id")

PORTS = {
    "serial": "firmware_bridge.ports:open_serial",
    "tcp": "firmware_bridge.network_ports:open_tcp",
    "tcp-listen": "firmware_bridge.network_ports:open_tcp_listen",
    "udp": "firmware_bridge.network_ports:open_udp",
    "file": "firmware_bridge.file_port:open_file",
}
"""Schemes of addresses and what opens them: `open(address, wire) -> Port | Connecting`."""


class Port(Protocol):
    """A byte stream to a device. `read` returns b"" when nothing is there; both raise LinkError.

    One at whose other end several may call, one after the other, has `peers` besides: how many did
    (see `peers_of`). One that must be read now and then to notice that nobody is there any more
    says how often: `look_every_s`. One that would begin again with the same bytes has `once`.
    """

    def fileno(self) -> int: ...

    def read(self) -> bytes: ...

    def write(self, data: bytes) -> None: ...

    def close(self) -> None: ...


@runtime_checkable
class Connecting(Protocol):
    """A port that is still being made. Its descriptor becomes readable when `settled` has news."""

    def fileno(self) -> int: ...

    def settled(self) -> Port | None:
        """The port, None while it is not yet known; raises `LinkError` when there will be none."""
        ...

    def close(self) -> None: ...


def peers_of(port: Port) -> int:
    """How many have been at the other end: what one of them began, no other ends."""
    return int(getattr(port, "peers", 1))


def look_every_s(port: Port) -> float | None:
    """How often to read a port that has nothing to say; None: it becomes readable by itself."""
    every_s: float | None = getattr(port, "look_every_s", None)
    return every_s


def is_once(port: Port) -> bool:
    """Whether it is a recording: opened again it would say old things as if they were new."""
    return bool(getattr(port, "once", False))


def open_port(address: str, wire: Wire) -> Port | Connecting:
    """Open a port by its address (see `address.parse`); `wire` is how a serial one is set.

    Raises `AddressError` for an address that cannot be, `LinkError` when it is not there now.
    """
    parsed = parse(address)
    if parsed.scheme not in PORTS:
        raise AddressError(f"no port of kind '{parsed.scheme}'", f"use one of: {', '.join(PORTS)}")
    opener: Callable[[Address, Wire], Port | Connecting] = load(PORTS[parsed.scheme])
    return opener(parsed, wire)


def open_serial(address: Address, wire: Wire) -> Port:
    """Open a serial port for this process alone, with what was buffered thrown away.

    `?baud=` sets another rate than the device's usual one. Raises `LinkError` when it is absent,
    forbidden or in use.
    """
    path, wire = address.path, _rated(address, wire)
    try:
        import serial
    except ImportError as error:
        raise LinkError("pyserial is not installed", "install pyserial") from error
    opened = None
    try:
        opened = serial.Serial(
            path, wire.baud, wire.bytesize, _parity(path, wire), wire.stopbits, timeout=0,
            write_timeout=0, rtscts=wire.rtscts, exclusive=True,
        )  # fmt: skip
        _tell_empty_from_gone(opened.fileno())
    except (OSError, ValueError, termios.error) as error:
        if opened is not None:
            opened.close()
        raise LinkError(
            f"port {path} cannot be opened ({error})",
            "plug the device in, allow this user to read it, close other programs that use it",
        ) from error
    return _SerialPort(opened, path)


def stable_path(path: str, by_id: Path = BY_ID) -> str | None:
    """The name of this port that stays when devices are plugged in in another order (udev's
    /dev/serial/by-id), or None where it has none."""
    real = Path(path).resolve()
    links = sorted(by_id.iterdir()) if by_id.is_dir() else []
    return next((str(link) for link in links if link.resolve() == real), None)


def _rated(address: Address, wire: Wire) -> Wire:
    options = dict(address.options)
    baud = options.pop("baud", str(wire.baud))
    if options or not baud.isdigit() or address.host or not address.path:
        wrong = next(iter(options), address.host or f"baud={baud}")
        raise AddressError(
            f"'{wrong}' is nothing a serial port can have",
            "write it as serial:///dev/ttyUSB0?device=name, with &baud=9600 for another rate",
        )
    return replace(wire, baud=int(baud))


def _parity(path: str, wire: Wire) -> str:
    """A pseudo-terminal has none; to ask it twice for one is an error (glibc tcsetattr)."""
    return "N" if os.path.realpath(path).startswith("/dev/pts/") else wire.parity


def _tell_empty_from_gone(fd: int) -> None:
    """Set VMIN to 1 (pyserial: 0), so that reading nothing means EAGAIN when the port is only quiet
    and end of file when it has hung up (termios(3), non-canonical mode)."""
    attributes = termios.tcgetattr(fd)
    attributes[6][termios.VMIN] = 1
    termios.tcsetattr(fd, termios.TCSANOW, attributes)


class _SerialPort:
    """A port that pyserial has set up; its descriptor is non-blocking and is read directly.

    pyserial's own `read` waits in select(), which refuses descriptors above 1023. Who reads until
    nothing is left is told so after a read of few bytes, without asking the system again.
    """

    def __init__(self, opened: serial.Serial, path: str) -> None:
        self._serial = opened
        self._path = path
        self._spoke_last = False
        self._is_empty = False

    def fileno(self) -> int:
        return int(self._serial.fileno())

    def read(self) -> bytes:
        self._spoke_last = False
        if self._is_empty:
            self._is_empty = False
            return b""
        try:
            data = os.read(self.fileno(), READ_BYTES)
        except BlockingIOError:
            return b""
        except OSError as error:
            raise self._unplugged(str(error)) from error
        if not data:
            raise self._unplugged("end of file")
        self._is_empty = len(data) < READ_BYTES // 2  # a terminal gives 4095 at the most
        return data

    def write(self, data: bytes) -> None:
        self._spoke_last = False
        try:
            written = os.write(self.fileno(), data)
        except BlockingIOError:
            written = 0
        except OSError as error:
            raise self._unplugged(str(error)) from error
        if written != len(data):
            raise LinkError(f"port {self._path} took {written} of {len(data)} bytes", "reconnect")
        self._spoke_last = True

    def close(self) -> None:
        with suppress(OSError, termios.error):  # gone or closed already
            if not (self._spoke_last and _has_left(self.fileno())):
                termios.tcflush(self.fileno(), termios.TCOFLUSH)
        self._serial.close()

    def _unplugged(self, how: str) -> LinkError:
        return LinkError(
            f"unplugged: port {self._path} is gone ({how})", "plug the device in again"
        )


def _has_left(fd: int) -> bool:
    """Wait until all that was written is sent, `CLOSING_S` at most; whether it is."""
    until_s = time.monotonic() + CLOSING_S
    while _unsent_bytes(fd):
        if time.monotonic() >= until_s:
            return False
        time.sleep(LOOK_S)
    return True


def _unsent_bytes(fd: int) -> int:
    """What the driver still holds (tty_ioctl(4), TIOCOUTQ)."""
    (n,) = struct.unpack("i", fcntl.ioctl(fd, termios.TIOCOUTQ, bytes(4)))
    return int(n)
