"""What an emulated device is, and which there are: the registry, names to `"module:attr"`.

A maker takes a `Scene` and gives the device without its cable, which has no clock, thread or port:
`play` puts it on one, in real time, at the true baud rate, and does what the script says to the
cable.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from firmware_bridge.errors import UnknownDeviceError
from firmware_bridge.registry import load

if TYPE_CHECKING:
    from collections.abc import Callable

    from firmware_bridge.emulators.patient import Scene

EMULATORS = {
    "bitalino": "firmware_bridge.emulators.bitalino:make",
    "contec-cms50": "firmware_bridge.emulators.contec:make",
    "contec-cms50-old": "firmware_bridge.emulators.contec:make_old",
    "cyton": "firmware_bridge.emulators.cyton:make",
    "ge-s5": "firmware_bridge.emulators.ge_s5:make",
    "hl7-oru": "firmware_bridge.emulators.hl7_oru:Gateway",
    "ivy-450c": "firmware_bridge.emulators.ivy450c:make",
    "masimo-ascii1": "firmware_bridge.emulators.oximeter_lines:make_masimo",
    "medibus": "firmware_bridge.emulators.medibus:make",
    "medibus-x": "firmware_bridge.emulators.medibus:make_x",
    "mindray-pm60": "firmware_bridge.emulators.mindray_pm60:make",
    "nellcor": "firmware_bridge.emulators.oximeter_lines:make_nellcor",
    "nonin-13": "firmware_bridge.emulators.nonin:make",
    "nonin-2": "firmware_bridge.emulators.nonin:make",
    "nonin-7": "firmware_bridge.emulators.nonin:make",
    "nonin-8": "firmware_bridge.emulators.nonin:make",
    "openview-ads1292r": "firmware_bridge.emulators.openview:make_ads1292r",
    "openview-ads1293": "firmware_bridge.emulators.openview:make_ads1293",
    "openview-max30102": "firmware_bridge.emulators.openview:make_max30102",
    "pb840": "firmware_bridge.emulators.pb840:make",
    "pb840-waves": "firmware_bridge.emulators.pb840:make_waves",
    "phd-blood-pressure": "firmware_bridge.emulators.phd:blood_pressure",
    "phd-oximeter": "firmware_bridge.emulators.phd:oximeter",
    "phd-scale": "firmware_bridge.emulators.phd:scale",
    "philips-intellivue": "firmware_bridge.emulators.philips_intellivue:make",
    "philips-intellivue-lan": "firmware_bridge.emulators.philips_intellivue:make_lan",
}
""""module:attr" of makers: `make(scene) -> Emulated`."""


class Emulated(Protocol):
    """A device, told the time: `t_s` is seconds since it was switched on and never runs backwards.

    Frames (or datagrams) are handed out one by one: what the script does to the cable, it does to
    whole frames.
    """

    def hear(self, data: bytes, t_s: float) -> list[bytes]:
        """Take the host's bytes, however they were cut, and give the answer."""
        ...

    def say(self, t_s: float) -> list[bytes]:
        """All frames that are due by `t_s` and were not given yet."""
        ...

    def next_s(self) -> float | None:
        """When the next frame is due; None while nothing will be said unasked."""
        ...


def emulated(name: str, scene: Scene) -> Emulated:
    """A new emulation of the device `name`. Raises `UnknownDeviceError`."""
    if name not in EMULATORS:
        raise UnknownDeviceError(f"no emulator of '{name}'", f"use one of: {', '.join(EMULATORS)}")
    make: Callable[[Scene], Emulated] = load(EMULATORS[name])
    return make(scene)
