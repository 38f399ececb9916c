"""Every device whose plug is pulled behind an adapter that stays: when silence is noticed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from firmware_bridge.conditions import LinkCondition
from firmware_bridge.devices import DEVICES, device
from firmware_bridge.emulators.emulated import EMULATORS, Emulator, emulator
from firmware_bridge.emulators.patient import Scene
from firmware_bridge.session import NS_PER_S, State
from firmware_bridge.types import AlertKind, LinkLost, LinkUp

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

WARM_S = 12.0
AIM_S = 2.0
MAP = Path(__file__).with_name("modbus.toml")
PROTOCOLS_OWN_S = {
    "ge-s5": 6.0,  # displayed values every 5 s at the most (M1017617 chapter 3): one of them
    "hl7-oru": 120.0,  # gateways report once a minute; neither HL7 nor MLLP keeps alive: two
    "ivy-450c": 2.5,  # a message a second: two
    "masimo-ascii1": 3.0,  # a line a second: three
    "medibus": 3.0,  # RS 232 MEDIBUS 6.00: who is silent for 3 s is lost
    "medibus-x": 3.0,
    "mindray-pm60": 3.0,  # a message a second: three
    "nellcor": 5.0,  # a line every two seconds: two
    "nonin-13": 600.0,  # spot checks, when somebody makes one
    "nonin-8": 5.0,  # a reading a second: five
    "pb840": 7.0,  # asked every 2 s, and 1.3 s of answer: three
    "phd-blood-pressure": 300.0,  # measures when somebody wants it
    "phd-oximeter": 300.0,  # 20601 has no pace; values that were of one are stale after three
    "phd-scale": 300.0,
}
"""Where it may be longer: the pace of the protocol, and how much of it is missing by then."""


@pytest.mark.parametrize("each", [*map(emulator, EMULATORS), emulator("modbus", str(MAP))])
def test_a_pulled_plug_is_a_condition_in_two_seconds_or_the_protocols_own(
    each: Emulator, wire_to: Callable[..., Any]
) -> None:
    wired, condition = wire_to(each.device, each.make(Scene())), LinkCondition()
    assert any(isinstance(m, LinkUp) for m in wired.run(WARM_S))
    assert condition.on(LinkUp(0)) == []
    wired.cable._take = lambda frames: None
    limit_s = PROTOCOLS_OWN_S.get(each.device.name, AIM_S)
    messages = wired.run(limit_s + 0.1)
    [lost] = [m for m in messages if isinstance(m, LinkLost)][:1]
    [alert] = condition.on(lost)
    assert alert.active and alert.kind is AlertKind.TECHNICAL
    assert lost.t_ns / NS_PER_S - WARM_S <= limit_s + 0.02


def test_no_device_is_waited_for_longer_than_the_table_says() -> None:
    longer = {
        name: device(name).dialogue.timeout_s[State.STREAMING]
        for name in DEVICES
        if device(name).dialogue.timeout_s[State.STREAMING] > AIM_S
    }
    assert longer == PROTOCOLS_OWN_S
