"""`medge doctor`: what is connected to this machine. Only listens."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from edge.printed import to_json
from edge.sources.monitor import COUNTS, ECG
from firmware_bridge.address import parse
from firmware_bridge.announced import announced
from firmware_bridge.devices import device
from firmware_bridge.probe import probe

if TYPE_CHECKING:
    from firmware_bridge.probe import Probed
    from firmware_bridge.types import Feed, Wire


def doctor(port: str, as_json: bool) -> int:
    """Say which device is on `port`, or, where that is a UDP port, which monitors make themselves
    known there. Exit code 0 when one was recognised, or any is known, 1 when none or several were.
    """
    if parse(port).scheme == "udp":
        return _monitors(port, as_json)
    probed = probe(port, told=lambda line: print(line, file=sys.stderr))
    if as_json:
        print(to_json(_document(probed)))
    else:
        print(_text(probed))
    return 0 if len(probed.found) == 1 else 1


def _document(probed: Probed) -> dict[str, object]:
    return {
        "port": probed.port,
        "stable_port": probed.stable,
        "found": [
            {"device": f.name, "setting": _setting(f.wire), "frames": f.frames,
             "share": round(f.share, 3)} for f in probed.found
        ],
        "heard_bytes": {_setting(wire): n for wire, n in probed.heard_bytes.items()},
        "not_found_by_listening": list(probed.mute),
        "config": _config(probed) if len(probed.found) == 1 else None,
    }  # fmt: skip


def _text(probed: Probed) -> str:
    lines = []
    if len(probed.found) == 1:
        (one,) = probed.found
        lines.append(
            f"{probed.port}: {one.name}{f' at {one.wire}' if one.wire else ''}"
            f" ({one.frames} frames in a row, {one.share:.0%} of the bytes)"
        )
    elif probed.found:
        names = " or ".join(f.name for f in probed.found)
        lines.append(f"{probed.port}: {names}, which sound alike; say which one it is")
    elif any(probed.heard_bytes.values()):
        lines.append(f"{probed.port}: nothing recognised, though something speaks there")
    else:
        lines.append(f"{probed.port}: nothing recognised; silence")
    if probed.stable and probed.stable != probed.port:
        lines.append(f"its name that stays when devices are plugged in anew: {probed.stable}")
    if len(probed.found) == 1:
        lines += ["", _config(probed)]
    elif not probed.found:
        lines.append(f"who speaks only when asked is never found: {', '.join(probed.mute)}")
    return "\n".join(lines)


def _setting(wire: Wire | None) -> str:
    return str(wire) if wire else "no setting"


def _monitors(port: str, as_json: bool) -> int:
    print("listening", file=sys.stderr)
    found = announced(port)
    if as_json:
        heard = [
            {"device": m.device, "port": m.port, "model": m.model, "mac": m.mac,
             "config": _snippet(m.device, m.port)} for m in found
        ]  # fmt: skip
        print(to_json({"port": port, "found": heard}))
    else:
        said = [f"{m.port}: {m.model or m.device} ({m.mac or 'no MAC address'})\n\n"
                f"{_snippet(m.device, m.port)}" for m in found]  # fmt: skip
        nobody = f"{port}: nobody makes himself known; a monitor does on its own network alone"
        print("\n\n".join(said or [nobody]))
    return 0 if found else 1


def _config(probed: Probed) -> str:
    return _snippet(probed.found[0].name, probed.stable or probed.port)


def _snippet(name: str, port: str) -> str:
    """The lines of a configuration for what was found: its ECG, else its values, else neither."""
    found = device(name)
    ecg = next((feed for feed in found.feeds if _may_be_ecg(feed)), None)
    kind = "monitor" if ecg else "vitals" if found.numerics else "device"
    lines = [
        "[[sources]]",
        f'kind = "{kind}"',
        f'device = "{found.name}"',
        f'port = "{port}"',
    ]
    if ecg:
        said = ecg.channels[0]
        mdc = f'"{said}"' if said.startswith(ECG) else f'"{ECG}II"  # what is wired to it'
        lines += ["channel = 1", f"mdc = {mdc}", 'unit = "mV"']
        if ecg.unit == COUNTS:
            lines.append("# and gain = the counts of its board in one mV")
    return "\n".join(lines)


def _may_be_ecg(feed: Feed) -> bool:
    """By its name, or, where the device does not know what it is, as no count of a converter."""
    name = feed.channels[0]
    return f"{name}_".startswith(ECG) if name else feed.unit != COUNTS
