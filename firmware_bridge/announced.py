"""Monitors that make themselves known on a network: heard, never asked.

Owns the socket and how long it is listened to; what an indication says is its device's file's.
"""

from __future__ import annotations

import ipaddress
import select
import socket
import struct
import time
from dataclasses import dataclass

from firmware_bridge.address import parse
from firmware_bridge.devices import philips_indication
from firmware_bridge.devices.big_endian import Malformed
from firmware_bridge.errors import AddressError, LinkError

DEVICE = "philips-intellivue-lan"
LISTEN_S = 5.0  # a monitor says it every second
MOST = 256  # monitors on one network
DATAGRAM_BYTES = 65_536


@dataclass(frozen=True, slots=True)
class Announced:
    """One monitor: which device it is (its registered name), the address at which it is asked, and
    its model and MAC address as it says them."""

    device: str
    port: str
    model: str
    mac: str


def announced(address: str, listen_s: float = LISTEN_S) -> tuple[Announced, ...]:
    """The monitors heard at `udp://host:port` in `listen_s` seconds; a multicast group is joined.

    Raises `AddressError` for what is no IPv4 address and port, `LinkError` where nobody can listen.
    """
    at = parse(address)
    found: dict[tuple[str, int], Announced] = {}
    with _opened(at.host, at.port) as heard:
        end_s = time.monotonic() + listen_s
        while (left_s := end_s - time.monotonic()) > 0 and len(found) < MOST:
            if not select.select([heard], [], [], left_s)[0]:
                continue
            try:
                data, (host, _) = heard.recvfrom(DATAGRAM_BYTES)
                told = philips_indication.parse(data)
            except (BlockingIOError, Malformed):
                continue
            where = f"udp://{host}:{told.port}"
            found[host, told.port] = Announced(DEVICE, where, told.model, told.mac)
    return tuple(found[key] for key in sorted(found))


def _opened(host: str, port: int) -> socket.socket:
    usual = f"listen at udp://{philips_indication.GROUP}:{philips_indication.PORT}"
    try:
        wanted = ipaddress.IPv4Address(host)
    except ValueError:
        wanted = None
    if wanted is None or not port:
        raise AddressError(f"'{host}:{port}' is no IPv4 address and port", usual)
    made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        made.setblocking(False)
        if wanted.is_multicast:  # others may hear the same
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            made.bind(("", port))
            _join(made, wanted)
        else:
            made.bind((host, port))
    except OSError as error:
        made.close()
        raise LinkError(
            f"cannot listen at {host}:{port} ({error})", f"{usual}, or at this machine's address"
        ) from error
    return made


def _join(made: socket.socket, group: ipaddress.IPv4Address) -> None:
    """On every network that this machine is in. Raises `OSError` when none but itself takes it."""
    refused: OSError | None = OSError("this machine is in no network")
    for index, name in socket.if_nameindex():
        try:
            membership = struct.pack("=4s4si", group.packed, bytes(4), index)  # ip_mreqn
            made.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, membership)
        except OSError as error:
            refused = refused and error
        else:
            refused = refused if name == "lo" else None
    if refused is not None:
        raise refused
