"""Each emulator shows the faults of the scene that it says it shows, and no other.

A fault that is on changes what is said exactly when its kind is in `Emulator.shows`.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from firmware_bridge.emulators.cable import KINDS
from firmware_bridge.emulators.capture import captured
from firmware_bridge.emulators.emulated import EMULATORS, Emulator, emulator
from firmware_bridge.emulators.faults import Fault, Kind, require_shown
from firmware_bridge.emulators.patient import Scene
from firmware_bridge.errors import FaultScriptError

SECONDS = 5.5  # the slowest measures every five
MAP = Path(__file__).parents[1] / "devices" / "modbus.toml"
CLIP_MV = 0.2  # below every lead's R wave


def said(found: Emulator, *faults: Fault) -> list[bytes]:
    return [frame.data for frame in captured(found, Scene(faults=faults), SECONDS)[0]]


def seen(found: Emulator) -> set[Kind]:
    """The faults of the scene that change what it says."""
    clean = said(found)
    assert clean == said(found)
    faults = [Fault(0.5, 60.0, kind, clip_mv=CLIP_MV) for kind in set(Kind) - KINDS]
    return {fault.kind for fault in faults if said(found, fault) != clean}


@pytest.mark.slow
@pytest.mark.parametrize("each", [*map(emulator, EMULATORS), emulator("modbus", str(MAP))])
def test_what_it_says_it_shows_is_seen_and_nothing_else(each: Emulator) -> None:
    assert seen(each) == each.shows


def test_a_map_without_a_missing_value_shows_no_lead_off(tmp_path: Path) -> None:
    lines = MAP.read_text("utf-8").splitlines()
    (tmp_path / "map.toml").write_text("\n".join(x for x in lines if "missing" not in x))
    each = emulator("modbus", str(tmp_path / "map.toml"))
    assert seen(each) == each.shows == set()


def test_control_one_that_does_not_look_at_its_script_shows_nothing() -> None:
    found = emulator("masimo-ascii1")
    assert seen(replace(found, make=lambda scene: found.make(Scene()))) == set()


def test_a_script_that_cannot_be_shown_is_refused_with_what_can() -> None:
    script = (Fault(0.0, 1.0, Kind.FLAT), Fault(0.0, 1.0, Kind.ALARM))
    require_shown(script, {Kind.ALARM, Kind.FLAT}, "'x'")
    with pytest.raises(FaultScriptError, match=r"'x' cannot show the fault 'alarm'; use: flat"):
        require_shown(script, {Kind.FLAT}, "'x'")


def test_a_channel_that_the_device_has_not_is_refused() -> None:
    for channel in (1, 8):
        emulator("cyton").make(Scene(faults=(Fault(0.0, 1.0, Kind.LEAD_OFF, channel),)))
    with pytest.raises(FaultScriptError, match="no channel 9; use 1 to 8"):
        emulator("cyton").make(Scene(faults=(Fault(0.0, 1.0, Kind.LEAD_OFF, 9),)))
