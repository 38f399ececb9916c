"""Philips IntelliVue on a network: the indication by which a monitor says that it may be asked.

Implements "IntelliVue Data Export Interface Programming Guide" (4535 642 59271), connect indication
event: one datagram, to the multicast group 224.0.23.63 or to all, UDP port 24005. It is a remote
operation without the session header, behind the number of the nomenclature. Of its attributes the
network address, the supported protocols and the model are read.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from ipaddress import IPv4Address

from firmware_bridge.devices.big_endian import Malformed, Reader
from firmware_bridge.devices.philips_messages import (
    EVENT,
    ROIV,
    attribute_list,
    attributes,
    counted,
    items_of,
    parse_operation,
)

GROUP, PORT = "224.0.23.63", 24005
NOMENCLATURE = bytes.fromhex("00000100")
CONNECT_INDICATION = 0x0D17
SYSTEM = (0x23, 0, 0)
NETWORK_ADDRESS, PROTOCOLS, MODEL = 0xF100, 0xF101, 0x0928
DATA_EXPORT, OVER_UDP = 5, 1
MAC_BYTES = 6


@dataclass(frozen=True, slots=True)
class Indication:
    """At which UDP `port` the monitor is asked; its MAC address and its maker's and model's names,
    empty where it does not say them."""

    port: int
    mac: str = ""
    model: str = ""


def parse(data: bytes) -> Indication:
    """What a datagram says. Raises `Malformed` for another one, and for a monitor that exports no
    data over UDP."""
    if data[:4] != NOMENCLATURE:
        raise Malformed("nomenclature")
    event = parse_operation(data[4:])
    if (event.kind, event.command, event.operation) != (ROIV, EVENT, CONNECT_INDICATION):
        raise Malformed("operation")
    body = Reader(event.body)
    found = attributes(body)
    body.end()
    mac = found.get(NETWORK_ADDRESS, b"")[:MAC_BYTES]
    return Indication(_port(found.get(PROTOCOLS, b"")), mac.hex(":"), _model(found.get(MODEL, b"")))


def _port(protocols: bytes) -> int:
    entries = [tuple(item.u16() for _ in range(4)) for item in items_of(protocols)]
    for what, how, port, _ in entries:
        if (what, how) == (DATA_EXPORT, OVER_UDP) and port:
            return port
    raise Malformed("protocols")


def _model(data: bytes) -> str:
    """Both names, each behind its length; none where it is otherwise, as nothing rests on them."""
    reader = Reader(data)
    try:
        names = [reader.octets().decode("ascii", "replace") for _ in range(2)]
    except Malformed:
        return ""
    return " ".join("".join(c if c.isprintable() else " " for c in " ".join(names)).split())


def encode(mac: bytes, address: str, port: int, maker: str, model: str) -> bytes:
    """The datagram of a monitor at an IPv4 `address`."""
    names = [name.encode("ascii") for name in (maker, model)]
    told = attribute_list({
        NETWORK_ADDRESS: mac + IPv4Address(address).packed + bytes(4),
        PROTOCOLS: counted([struct.pack(">4H", DATA_EXPORT, OVER_UDP, port, 0)]),
        MODEL: b"".join(struct.pack(">H", len(name)) + name for name in names),
    })  # fmt: skip
    event = struct.pack(">3HIHH", *SYSTEM, 0, CONNECT_INDICATION, len(told)) + told
    operation = struct.pack(">HHH", 0, EVENT, len(event)) + event
    return NOMENCLATURE + struct.pack(">HH", ROIV, len(operation)) + operation
