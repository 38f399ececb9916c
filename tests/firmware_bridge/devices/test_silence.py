"""Every device whose plug is pulled behind an adapter that stays: when silence is noticed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from firmware_bridge.conditions import LinkCondition
from firmware_bridge.devices import device
from firmware_bridge.emulators.emulated import EMULATORS
from firmware_bridge.session import NS_PER_S, State
from firmware_bridge.types import AlertKind, LinkLost, LinkUp

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

WARM_S = 12.0
AIM_S = 2.0


@pytest.mark.parametrize("name", EMULATORS)
def test_a_pulled_plug_is_a_condition_in_two_seconds_or_the_protocols_own(
    name: str, wire: Callable[..., Any]
) -> None:
    wired, condition = wire(name), LinkCondition()
    assert any(isinstance(m, LinkUp) for m in wired.run(WARM_S))
    assert condition.on(LinkUp(0)) == []
    wired.cable._take = lambda frames: None
    patience_s = device(name).dialogue.timeout_s[State.STREAMING]
    messages = wired.run(max(AIM_S, patience_s) + 0.1)
    [lost] = [m for m in messages if isinstance(m, LinkLost)][:1]
    [alert] = condition.on(lost)
    assert alert.active and alert.kind is AlertKind.TECHNICAL
    assert lost.t_ns / NS_PER_S - WARM_S <= max(AIM_S, patience_s) + 0.02
