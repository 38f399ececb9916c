"""`medge listen`: what a device says, second by second, before any model hears it."""

from __future__ import annotations

import select
import time
from collections import defaultdict
from contextlib import closing
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from edge.clock import NS_PER_S
from edge.sources.attached import Attached, find_device
from firmware_bridge.types import Alert, LinkLost, LinkUp, Numeric, SampleBlock, Text

if TYPE_CHECKING:
    from collections.abc import Iterable

    from firmware_bridge.types import Device, LinkMessage

HEARD, NOTHING = 0, 1


def listen(port: str, device: str, map_path: str, seconds: float | None, as_json: bool) -> int:
    """Print what comes until `seconds` are over, or for ever; exit code 0 when a value or a sample
    did, 1 when none. Raises `StartError`, or `LinkError` where the port is not there."""
    found = find_device(device, port, map_path)
    attached = Attached(found, port, found.name)
    began_ns = time.monotonic_ns()
    end_ns = None if seconds is None else began_ns + int(seconds * NS_PER_S)
    heard = False
    with closing(attached):
        attached.open(began_ns)
        while end_ns is None or time.monotonic_ns() < end_ns:
            messages = _second(attached)
            heard = heard or any(isinstance(m, (Numeric, SampleBlock)) for m in messages)
            t_s = round((time.monotonic_ns() - began_ns) / NS_PER_S, 1)
            said = {"t_s": t_s, **summary(found, messages)}
            print(msgspec.json.encode(said).decode() if as_json else _text(said), flush=True)
    return HEARD if heard else NOTHING


def _second(attached: Attached) -> list[LinkMessage]:
    out: list[LinkMessage] = []
    end_ns = time.monotonic_ns() + NS_PER_S
    while (now_ns := time.monotonic_ns()) < end_ns:
        due_ns = attached.next_deadline_ns()
        wait_ns = min(end_ns, due_ns if due_ns is not None else end_ns) - now_ns
        fd = attached.fileno()
        select.select([] if fd is None else [fd], [], [], max(0, wait_ns) / NS_PER_S)
        out += attached.poll(time.monotonic_ns())
    return out


def summary(device: Device, messages: Iterable[LinkMessage]) -> dict[str, Any]:
    """The last of each value, how many samples of each channel between which bounds, and all that
    was told besides, in order."""
    values: dict[str, str] = {}
    waves: defaultdict[str, list[np.ndarray]] = defaultdict(list)
    units: dict[str, str] = {}
    told: list[str] = []
    for message in messages:
        if isinstance(message, Numeric):
            value = "-" if message.value is None else f"{message.value:g}"
            sure = "" if message.validity.value == "valid" else f" ({message.validity.value})"
            values[message.channel] = f"{value} {message.unit}{sure}"
        elif isinstance(message, SampleBlock):
            feed = next(f for f in device.feeds if f.name == message.feed)
            for i, channel in enumerate(message.channels or feed.channels):
                name = f"{feed.name} {channel or i + 1}"
                waves[name].append(message.samples[:, i])
                units[name] = message.unit
        else:
            told += _told(message)
    bounds = {name: _bounds(np.concatenate(blocks), units[name]) for name, blocks in waves.items()}
    return {"values": values, "waves": bounds, "told": told}


def _bounds(samples: np.ndarray, unit: str) -> str:
    usable = samples[np.isfinite(samples)]
    if not len(usable):
        return f"{len(samples)} samples, none usable"
    return f"{len(samples)} samples, {usable.min():.4g} to {usable.max():.4g} {unit}"


def _told(message: LinkMessage) -> list[str]:
    if isinstance(message, LinkUp):
        return ["link up"]
    if isinstance(message, LinkLost):
        return [f"link lost: {message.text}"]
    if isinstance(message, Alert):
        what = "began" if message.active else "ended"
        about = f" of {message.channel}" if message.channel else ""
        return [f"{message.kind.value} alert {what}: {message.code}{about}: {message.text}"]
    return [f"says: {message.text}"] if isinstance(message, Text) else []


def _text(said: dict[str, Any]) -> str:
    lines = [*said["told"], *(f"{k}  {v}" for k, v in (said["values"] | said["waves"]).items())]
    return "\n".join(f"{said['t_s']:7.1f} s  {line}" for line in lines or ["nothing"])
