"""`medge devices`: every device medge speaks to, what it gives, and what is proved of it.

The README's table is made by this.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from edge.printed import to_json
from firmware_bridge.devices import DEVICES, device

if TYPE_CHECKING:
    from firmware_bridge.types import Device

DONE = 0
HEAD = ("device", "name", "gives", "proved by", "not proved")
BY_MAP = ("Modbus RTU", "modbus", "what the map file names", "pymodbus and mbpoll",
          "a real device; whether a map is true is whoever wrote it")  # fmt: skip


def devices(as_json: bool) -> int:
    """Print the table, as Markdown or JSON; exit code 0."""
    if as_json:
        found = [_document(device(name)) for name in DEVICES]
        print(to_json(found))
    else:
        print(markdown())
    return DONE


def markdown() -> str:
    """One row a device."""
    rows = [HEAD, ("---",) * len(HEAD), *(_row(device(name)) for name in DEVICES), BY_MAP]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _row(found: Device) -> tuple[str, ...]:
    return (found.title, f"`{found.name}`", "; ".join(_gives(found)), found.proved_by,
            found.unproved)  # fmt: skip


def _gives(found: Device) -> list[str]:
    """Waves by feed, and how many values."""
    waves = [
        f"{len(feed.channels)} x {feed.name}" if len(feed.channels) > 1 else feed.name
        for feed in found.feeds
    ]
    values = [f"{len(found.numerics)} values"] if found.numerics else []
    return ([f"waves: {', '.join(waves)}"] if waves else []) + values


def _document(found: Device) -> dict[str, object]:
    return {
        "name": found.name,
        "title": found.title,
        "spec": found.spec,
        "baud": found.wire.baud,
        "feeds": [
            {"name": f.name, "channels": f.channels, "rate_hz": f.rate_hz, "unit": f.unit}
            for f in found.feeds
        ],
        "numerics": found.numerics,
        "proved_by": found.proved_by,
        "unproved": found.unproved,
    }
