"""The registry of devices: names to `"module:attr"` strings, resolved on use."""

from __future__ import annotations

import difflib
import importlib
from typing import TYPE_CHECKING, cast

from firmware_bridge.errors import UnknownDeviceError

if TYPE_CHECKING:
    from firmware_bridge.types import Device

DEVICES = {
    "bitalino": "firmware_bridge.devices.bitalino:DEVICE",
    "cyton": "firmware_bridge.devices.cyton:DEVICE",
    "ivy-450c": "firmware_bridge.devices.ivy450c:DEVICE",
    "medibus": "firmware_bridge.devices.medibus:DEVICE",
    "medibus-x": "firmware_bridge.devices.medibus:DEVICE_X",
    "openview-ads1292r": "firmware_bridge.devices.openview:DEVICE_ADS1292R",
    "openview-ads1293": "firmware_bridge.devices.openview:DEVICE_ADS1293",
    "openview-max30102": "firmware_bridge.devices.openview:DEVICE_MAX30102",
    "pb840": "firmware_bridge.devices.pb840:DEVICE",
    "pb840-waves": "firmware_bridge.devices.pb840_waves:DEVICE",
}


def device(name: str) -> Device:
    """The registered device. Raises `UnknownDeviceError` listing the known names, nearest first."""
    if name not in DEVICES:
        nearest = sorted(DEVICES, key=lambda k: -difflib.SequenceMatcher(None, name, k).ratio())
        raise UnknownDeviceError(f"unknown device '{name}'", f"use one of: {', '.join(nearest)}")
    module_name, _, attr = DEVICES[name].partition(":")
    return cast("Device", getattr(importlib.import_module(module_name), attr))
