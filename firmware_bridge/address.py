"""Where a device is: `serial:///dev/ttyUSB0?device=nonin-7`, or a bare path of a serial port.

Owns the text of addresses; opening them is `ports`'.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, urlsplit

from firmware_bridge.errors import AddressError

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class Address:
    """One place. `path` of a file or serial port, else `host` and `port`; `device` is a registered
    name, "" where none was given. `options` are the other parameters."""

    scheme: str
    path: str = ""
    host: str = ""
    port: int = 0
    device: str = ""
    options: Mapping[str, str] = field(default_factory=dict)


def parse(text: str) -> Address:
    """The parts of an address. Raises `AddressError` with what it should look like."""
    if "://" not in text:
        return Address("serial", path=text)
    try:
        parts = urlsplit(text)
        port = parts.port or 0
        pairs = parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query))
    except ValueError as error:
        raise AddressError(
            f"'{text}' is no address ({error})", "write it as tcp://host:port?device=name"
        ) from None
    options = dict(pairs)
    if len(options) != len(pairs):
        raise AddressError(f"'{text}' says something twice", "give each parameter once")
    path = (parts.netloc if parts.scheme == "file" else "") + parts.path
    return Address(
        parts.scheme, path, parts.hostname or "", port, options.pop("device", ""), options
    )
