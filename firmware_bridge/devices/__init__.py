"""The registry of devices: names to `"module:attr"` strings, resolved on use."""

from __future__ import annotations

import difflib
import importlib
from typing import TYPE_CHECKING, cast

from firmware_bridge.errors import UnknownDeviceError

if TYPE_CHECKING:
    from firmware_bridge.types import Device

DEVICES = {
    "cyton": "firmware_bridge.devices.cyton:DEVICE",
    "ge-s5": "firmware_bridge.devices.ge_s5:DEVICE",
    "philips-intellivue": "firmware_bridge.devices.philips_intellivue:DEVICE",
    "philips-intellivue-lan": "firmware_bridge.devices.philips_intellivue:DEVICE_LAN",
}


def device(name: str) -> Device:
    """The registered device. Raises `UnknownDeviceError` listing the known names, nearest first."""
    if name not in DEVICES:
        nearest = sorted(DEVICES, key=lambda k: -difflib.SequenceMatcher(None, name, k).ratio())
        raise UnknownDeviceError(f"unknown device '{name}'", f"use one of: {', '.join(nearest)}")
    module_name, _, attr = DEVICES[name].partition(":")
    return cast("Device", getattr(importlib.import_module(module_name), attr))
