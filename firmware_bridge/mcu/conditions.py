"""Which technical conditions hold, told once when they begin, change their detail, or end."""

from __future__ import annotations

from typing import TYPE_CHECKING

from firmware_bridge.mcu.events import Code, Condition

if TYPE_CHECKING:
    from firmware_bridge.mcu.events import Event


class Conditions:
    """The conditions of one link. What changes is appended to the events of the caller."""

    def __init__(self) -> None:
        self._details: dict[Code, str] = {}

    def __contains__(self, code: Code) -> bool:
        return code in self._details

    def details(self) -> dict[Code, str]:
        """A copy of those that hold, with their details."""
        return dict(self._details)

    def set(self, code: Code, detail: str, now_ns: int, out: list[Event]) -> None:
        if self._details.get(code) != detail:
            self._details[code] = detail
            out.append(Condition(now_ns, code, True, detail))

    def clear(self, code: Code, now_ns: int, out: list[Event]) -> None:
        if self._details.pop(code, None) is not None:
            out.append(Condition(now_ns, code, False))

    def hold(self, code: Code, active: bool, detail: str, now_ns: int, out: list[Event]) -> None:
        """Set or clear."""
        if active:
            self.set(code, detail, now_ns, out)
        else:
            self.clear(code, now_ns, out)
