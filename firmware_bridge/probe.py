"""Which device is on a port: found by listening alone. Not one byte is ever sent.

Owns the settings that are tried and when a device counts as recognised: its decoder must take
`Device.sure_frames` frames one after the other with nothing between them, and leave at most one
byte in ten of all that came since its first frame. A device that speaks only when asked cannot be
found this way, and is named instead.
"""

from __future__ import annotations

import select
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from firmware_bridge.address import parse
from firmware_bridge.devices import DEVICES, device
from firmware_bridge.errors import AddressError, LinkError
from firmware_bridge.ports import Connecting, open_port, stable_path

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from firmware_bridge.ports import Port
    from firmware_bridge.types import Device, Wire

LISTEN_S = 10.0  # at each setting: two messages of a device that speaks every four seconds
QUIET_S = 5.0  # nothing at all for this long is silence
HOPELESS_BYTES = 2000  # this many without one frame of anybody: not at this setting
SHARE = 0.9
SLICE_BYTES = 16  # how finely frames and what lies between them are told apart
LISTENED_TO = ("serial", "tcp", "file")


@dataclass(frozen=True, slots=True)
class Recognised:
    """A device that was heard: at which setting (None: the port has none), how many frames in a
    row, and which share of the bytes since the first frame they explain."""

    name: str
    wire: Wire | None
    frames: int
    share: float


@dataclass(frozen=True, slots=True)
class Probed:
    """What was found on a port: nothing, a device, or several that cannot be told apart.

    `stable` is the name that the port keeps (None: it has no other). `heard_bytes` at each setting
    (None: the port has none); `mute` are the devices that nobody who only listens can recognise.
    """

    port: str
    stable: str | None
    found: tuple[Recognised, ...]
    heard_bytes: dict[Wire | None, int]
    mute: tuple[str, ...]


class Ear:
    """One device's decoder, and how well it fits what is heard."""

    def __init__(self, made: Device) -> None:
        self.device = made
        self._decoder = made.decoder()
        self._counters = self._decoder.counters
        self._before_first = 0
        self._skipped_first = 0
        self._run = 0
        self.longest_run = 0

    def hear(self, data: bytes) -> None:
        for at in range(0, len(data), SLICE_BYTES):
            self._hear(data[at : at + SLICE_BYTES])

    @property
    def share(self) -> float:
        """Of the bytes since the first frame, those that are not skipped."""
        counters = self._counters
        received = counters.received_bytes - self._before_first
        if not counters.frames or not received:
            return 0.0
        return 1.0 - (counters.skipped_bytes - self._skipped_first) / received

    @property
    def hopeless(self) -> bool:
        counters = self._counters
        return not counters.frames and counters.received_bytes >= HOPELESS_BYTES

    @property
    def sure(self) -> bool:
        return self.longest_run >= self.device.sure_frames and self.share >= SHARE

    def _hear(self, data: bytes) -> None:
        before = self._counters
        self._decoder.feed(data)
        after = self._counters = self._decoder.counters
        if not before.frames and after.frames:
            self._before_first = before.received_bytes
            self._skipped_first = after.skipped_bytes
        torn = after.skipped_bytes > before.skipped_bytes
        if before.frames and (torn or sum(after.rejects.values()) > sum(before.rejects.values())):
            self._run = 0
        self._run += after.frames - before.frames
        self.longest_run = max(self.longest_run, self._run)


def probe(
    address: str,
    *,
    listen_s: float = LISTEN_S,
    quiet_s: float = QUIET_S,
    told: Callable[[str], None] = lambda line: None,
    open_port: Callable[[str, Wire], Port | Connecting] = open_port,
) -> Probed:
    """Listen at every setting that a known device speaks at, until one is recognised.

    `told` hears what is being tried. Raises `AddressError` for what cannot be listened to,
    `LinkError` when the port is not there.
    """
    parsed = parse(address)
    if parsed.scheme not in LISTENED_TO:
        raise AddressError(
            f"'{parsed.scheme}' cannot be probed", f"use one of: {', '.join(LISTENED_TO)}"
        )
    devices = [device(name) for name in DEVICES]
    known = [made for made in devices if made.sure_frames and not made.datagrams]
    heard_bytes: dict[Wire | None, int] = {}
    found: tuple[Recognised, ...] = ()
    for wire in settings(known) if parsed.scheme == "serial" else [None]:
        told(f"listening at {wire}" if wire else "listening")
        ears = [Ear(d) for d in known if wire in (d.wire, None)]
        port = open_port(address, wire or known[0].wire)
        heard_bytes[wire] = _listen(port, ears, listen_s, quiet_s)
        found = recognised(ears, wire)
        if found:
            break
    mute = tuple(made.name for made in devices if made not in known)
    stable = stable_path(parsed.path) if parsed.scheme == "serial" else None
    return Probed(address, stable, found, heard_bytes, mute)


def settings(devices: Iterable[Device]) -> list[Wire]:
    """Every setting once."""
    return list(dict.fromkeys(made.wire for made in devices))


def recognised(ears: Iterable[Ear], wire: Wire | None) -> tuple[Recognised, ...]:
    """Who is sure of what was heard, the best explanation first."""
    sure = [Recognised(e.device.name, wire, e.longest_run, e.share) for e in ears if e.sure]
    return tuple(sorted(sure, key=lambda found: (-found.share, -found.frames)))


def _listen(opened: Port | Connecting, ears: list[Ear], listen_s: float, quiet_s: float) -> int:
    """Read until somebody is sure, the time is over or the port ends; how many bytes came. Closes
    the port."""
    began_s, heard = time.monotonic(), 0
    try:
        while not any(ear.sure for ear in ears) and not all(ear.hopeless for ear in ears):
            left_s = began_s + (listen_s if heard else quiet_s) - time.monotonic()
            if left_s <= 0:
                break
            select.select([opened.fileno()], [], [], left_s)
            if isinstance(opened, Connecting):
                opened = opened.settled() or opened
                continue
            data = opened.read()
            heard += len(data)
            for ear in ears:
                ear.hear(data)
    except LinkError:
        if not heard:
            raise
    finally:
        opened.close()
    return heard
