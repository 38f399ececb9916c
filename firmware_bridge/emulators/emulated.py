"""What an emulated device is, and which there are: the registry, names to `"module:attr"`.

An `Emulator` takes a `Scene` and gives the device without its cable, which has no clock, thread or
port: `play` puts it on one, in real time, at the true baud rate, and does what the script says to
the cable.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, cast

from firmware_bridge.devices import find

if TYPE_CHECKING:
    from collections.abc import Callable, Set

    from firmware_bridge.emulators.faults import Kind
    from firmware_bridge.emulators.patient import Scene
    from firmware_bridge.types import Device

EMULATORS = {
    "bitalino": "firmware_bridge.emulators.bitalino:EMULATOR",
    "contec-cms50": "firmware_bridge.emulators.contec:EMULATOR",
    "contec-cms50-old": "firmware_bridge.emulators.contec:EMULATOR_OLD",
    "cyton": "firmware_bridge.emulators.cyton:EMULATOR",
    "ge-s5": "firmware_bridge.emulators.ge_s5:EMULATOR",
    "hl7-oru": "firmware_bridge.emulators.hl7_oru:EMULATOR",
    "ivy-450c": "firmware_bridge.emulators.ivy450c:EMULATOR",
    "masimo-ascii1": "firmware_bridge.emulators.oximeter_lines:MASIMO",
    "medibus": "firmware_bridge.emulators.medibus:EMULATOR",
    "medibus-x": "firmware_bridge.emulators.medibus:EMULATOR_X",
    "mindray-pm60": "firmware_bridge.emulators.mindray_pm60:EMULATOR",
    "nellcor": "firmware_bridge.emulators.oximeter_lines:NELLCOR",
    "nonin-13": "firmware_bridge.emulators.nonin:EMULATOR_13",
    "nonin-2": "firmware_bridge.emulators.nonin:EMULATOR_2",
    "nonin-7": "firmware_bridge.emulators.nonin:EMULATOR_7",
    "nonin-8": "firmware_bridge.emulators.nonin:EMULATOR_8",
    "openview-ads1292r": "firmware_bridge.emulators.openview:EMULATOR_ADS1292R",
    "openview-ads1293": "firmware_bridge.emulators.openview:EMULATOR_ADS1293",
    "openview-max30102": "firmware_bridge.emulators.openview:EMULATOR_MAX30102",
    "pb840": "firmware_bridge.emulators.pb840:EMULATOR",
    "pb840-waves": "firmware_bridge.emulators.pb840:EMULATOR_WAVES",
    "phd-blood-pressure": "firmware_bridge.emulators.phd:BLOOD_PRESSURE",
    "phd-oximeter": "firmware_bridge.emulators.phd:OXIMETER",
    "phd-scale": "firmware_bridge.emulators.phd:SCALE",
    "philips-intellivue": "firmware_bridge.emulators.philips_intellivue:EMULATOR",
    "philips-intellivue-lan": "firmware_bridge.emulators.philips_intellivue:EMULATOR_LAN",
}
""""module:attr" of `Emulator`s."""

MAPPED = {"modbus": "firmware_bridge.emulators.modbus:mapped"}
"""Those of devices that a map file describes: `mapped(path) -> Emulator`."""


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


@dataclass(frozen=True, slots=True)
class Emulator:
    """What stands in for `device`: `make` fastens one to a scene. `shows` are the faults of the
    scene (patient, sensors, alarms, clock) that change what it says; it ignores the others."""

    device: Device
    make: Callable[[Scene], Emulated]
    shows: Set[Kind]


def emulator(name: str, map_path: str = "") -> Emulator:
    """That of the device `name`, or of the one that the map at `map_path` describes.

    Raises `UnknownDeviceError` listing the known names, nearest first, and `MapError`.
    """
    return cast("Emulator", find(name, map_path, EMULATORS, MAPPED))


def emulated(name: str, scene: Scene) -> Emulated:
    """A new emulation of the device `name`. Raises `UnknownDeviceError`."""
    return emulator(name).make(scene)
