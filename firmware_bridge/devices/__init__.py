"""The registry of devices: names to `"module:attr"` strings, resolved on use."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from firmware_bridge.errors import MapError, UnknownDeviceError
from firmware_bridge.registry import load, nearest_first

if TYPE_CHECKING:
    from collections.abc import Mapping

    from firmware_bridge.types import Device

DEVICES = {
    "bitalino": "firmware_bridge.devices.bitalino:DEVICE",
    "contec-cms50": "firmware_bridge.devices.contec:DEVICE",
    "contec-cms50-old": "firmware_bridge.devices.contec:DEVICE_OLD",
    "cyton": "firmware_bridge.devices.cyton:DEVICE",
    "ge-s5": "firmware_bridge.devices.ge_s5:DEVICE",
    "hl7-oru": "firmware_bridge.devices.hl7_oru:DEVICE",
    "ivy-450c": "firmware_bridge.devices.ivy450c:DEVICE",
    "masimo-ascii1": "firmware_bridge.devices.masimo:DEVICE",
    "medibus": "firmware_bridge.devices.medibus:DEVICE",
    "medibus-x": "firmware_bridge.devices.medibus:DEVICE_X",
    "mindray-pm60": "firmware_bridge.devices.mindray_pm60:DEVICE",
    "nellcor": "firmware_bridge.devices.nellcor:DEVICE",
    "nonin-13": "firmware_bridge.devices.nonin_numerics:DEVICE_13",
    "nonin-2": "firmware_bridge.devices.nonin:DEVICE_2",
    "nonin-7": "firmware_bridge.devices.nonin:DEVICE_7",
    "nonin-8": "firmware_bridge.devices.nonin_numerics:DEVICE_8",
    "openview-ads1292r": "firmware_bridge.devices.openview:DEVICE_ADS1292R",
    "openview-ads1293": "firmware_bridge.devices.openview:DEVICE_ADS1293",
    "openview-max30102": "firmware_bridge.devices.openview:DEVICE_MAX30102",
    "pb840": "firmware_bridge.devices.pb840:DEVICE",
    "pb840-waves": "firmware_bridge.devices.pb840_waves:DEVICE",
    "phd-blood-pressure": "firmware_bridge.devices.phd:BLOOD_PRESSURE",
    "phd-oximeter": "firmware_bridge.devices.phd:OXIMETER",
    "phd-scale": "firmware_bridge.devices.phd:SCALE",
    "philips-intellivue": "firmware_bridge.devices.philips_intellivue:DEVICE",
    "philips-intellivue-lan": "firmware_bridge.devices.philips_intellivue:DEVICE_LAN",
}

MAPPED = {"modbus": "firmware_bridge.devices.modbus:mapped"}
"""Devices that a map file describes: `mapped(path) -> Device`."""


def device(name: str, map_path: str = "") -> Device:
    """The registered device, or the one that the map at `map_path` describes.

    Raises `UnknownDeviceError` listing the known names, nearest first, and `MapError`.
    """
    return cast("Device", find(name, map_path, DEVICES, MAPPED))


def find(name: str, map_path: str, table: Mapping[str, str], mapped: Mapping[str, str]) -> Any:
    """What stands under `name` in `table`, or what the one in `mapped` makes of the map. Raises as
    `device` does."""
    if name not in table and name not in mapped:
        nearest = ", ".join(nearest_first(name, [*table, *mapped]))
        raise UnknownDeviceError(f"unknown device '{name}'", f"use one of: {nearest}")
    require_map(name, map_path)
    return load(mapped[name])(map_path) if name in mapped else load(table[name])


def require_map(name: str, map_path: str) -> None:
    """Raises `MapError` where a device needs a map and has none, or has one and needs none."""
    if name in MAPPED and not map_path:
        fix = 'name its file: map = "map.toml" in a source, --map map.toml of a command'
        raise MapError(f"device '{name}' needs a map of its registers", fix)
    if map_path and name not in MAPPED:
        fix = f"leave it out: it is for {', '.join(MAPPED)}"
        raise MapError(f"device '{name}' takes no map", fix)
