"""`medge mcu`: what the microcontroller on a port is and how it is, and new firmware for it."""

from __future__ import annotations

import select
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from edge.errors import LinkError, StartError
from edge.printed import to_json
from firmware_bridge.mcu.cable import Cable
from firmware_bridge.mcu.dfu import Result, Step, update
from firmware_bridge.mcu.events import Beat, Code, Identified
from firmware_bridge.mcu.host import Mcu, new_session
from firmware_bridge.mcu.image import read_image

if TYPE_CHECKING:
    from firmware_bridge.mcu.image import Image

LISTEN_S = 4.0  # longer than heartbeats may be away
LOOK_S = 0.05
DONE, FAILED = 0, 1


def mcu(port: str, firmware: str | None, as_json: bool) -> int:
    """Say who is there, or bring `firmware` onto it; exit code 0 when it speaks our wire, or runs
    and keeps the firmware. Sends no heartbeat of a host but while new firmware is on trial: the
    alarm stays on. Raises `LinkError` where the port or the device is not there, `UpdateError`."""
    if firmware is not None:
        return _update(port, firmware, as_json)
    identity, beat, conditions = _heard(port)
    if as_json:
        found = {"port": port, "identity": identity, "heartbeat": beat, "conditions": conditions}
        print(to_json(found))
    else:
        print(_text(port, identity, beat, conditions))
    return DONE if identity and beat else FAILED


def _heard(port: str) -> tuple[Identified | None, Beat | None, dict[str, str]]:
    """Its hello, its last heartbeat, and the conditions that hold, their codes with details."""
    host = Mcu([], session=new_session())
    identity, beat = None, None
    deadline_s = time.monotonic() + LISTEN_S
    with closing(Cable(port, host)) as cable:
        while time.monotonic() < deadline_s and not (identity and beat):
            for event in cable.poll(time.monotonic_ns()):
                identity = event if isinstance(event, Identified) else identity
                beat = event if isinstance(event, Beat) else beat
            if Code.UNPLUGGED in host.conditions:
                raise LinkError.of(host.conditions[Code.UNPLUGGED])
            if Code.REFUSED in host.conditions:
                break
            fd = cable.fileno()
            select.select([] if fd is None else [fd], [], [], LOOK_S)
    return identity, beat, {code.value: detail for code, detail in host.conditions.items()}


def _text(
    port: str, identity: Identified | None, beat: Beat | None, conditions: dict[str, str]
) -> str:
    lines = [f"{port}: no microcontroller that speaks this medge_link.h"]
    if identity:
        lines = [
            f"{port}: device {identity.device_id:016x}, firmware {identity.firmware}, "
            f"last reset {identity.reset}"
        ]
    if beat:
        sound = "sounds" if beat.sound else "silent"
        lines += [
            f"state {beat.state}, alarm {beat.level} ({sound}), line {beat.line}, "
            f"read back {beat.line_read}",
            f"dropped {beat.dropped_samples} samples and {beat.dropped_frames} frames, "
            f"rejected {beat.rejects} frames",
        ]
    return "\n".join([*lines, *(f"{code}: {detail}" for code, detail in conditions.items())])


def _update(port: str, firmware: str, as_json: bool) -> int:
    try:
        image = read_image(Path(firmware).read_bytes())
    except OSError as error:
        raise StartError(f"{firmware}: {error.strerror}", "name a signed .bin of imgtool") from None
    outcome = update(port, image, on_progress=_Progress())
    if as_json:
        found = {"port": port, "version": image.version, "outcome": outcome}
        print(msgspec.json.encode(found).decode())
    else:
        print(f"{port}: {_said(outcome.result, image)}{outcome.detail and f': {outcome.detail}'}")
    return FAILED if outcome.result is Result.REVERTED else DONE


def _said(result: Result, image: Image) -> str:
    return {
        Result.UPDATED: f"firmware {image.version} runs, is well and is kept",
        Result.ALREADY: f"firmware {image.version} ran already",
        Result.REVERTED: f"firmware {image.version} was tried, and the one before runs again",
    }[result]


class _Progress:
    """Each step once, and each tenth of an upload, on stderr."""

    def __init__(self) -> None:
        self._told = ""

    def __call__(self, step: Step, done: int, total: int) -> None:
        tenths = f" {done * 10 // max(1, total) * 10} %" if step is Step.UPLOAD else ""
        told, self._told = self._told, f"{step.value}{tenths}"
        if self._told != told and step is not Step.DONE:
            print(self._told, file=sys.stderr)
