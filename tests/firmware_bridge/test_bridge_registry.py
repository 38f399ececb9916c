"""The device registry, and that importing the bridge costs nothing."""

from __future__ import annotations

import subprocess
import sys

import pytest

from firmware_bridge.devices import DEVICES, device
from firmware_bridge.errors import UnknownDeviceError


@pytest.mark.parametrize("name", DEVICES)
def test_every_registered_device_resolves_to_its_name(name: str) -> None:
    assert device(name).name == name


def test_unknown_device_lists_the_known_ones() -> None:
    with pytest.raises(UnknownDeviceError, match="unknown device 'cyto'; use one of: cyton"):
        device("cyto")


def test_importing_loads_no_heavy_library_and_starts_no_thread() -> None:
    code = (
        "import sys, threading, firmware_bridge, firmware_bridge.link, firmware_bridge.devices;"
        "heavy = {'numpy', 'serial', 'brainflow'} & set(sys.modules);"
        "threads = threading.active_count();"
        "sys.exit(f'{heavy} {threads}' if heavy or threads > 1 else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
