"""What a link's losses mean: technical alarm conditions, on change, for whoever raises alarms.

Owns the mapping from `Loss` to code and priority, and that an outage is told once: what cannot be
opened again after it was unplugged is the same condition. Priorities: IEC 60601-1-8, 6.1.2; a
source that no longer monitors is never merely information.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from firmware_bridge.types import Alert, AlertKind, LinkLost, LinkUp, Loss, Priority

if TYPE_CHECKING:
    from firmware_bridge.types import LinkMessage

CODES = {
    Loss.ABSENT: "medge:device-absent",
    Loss.UNPLUGGED: "medge:device-absent",
    Loss.SILENT: "medge:device-silent",
    Loss.GARBAGE: "medge:device-unintelligible",
    Loss.REFUSED: "medge:device-refuses",
    Loss.ANOTHER: "medge:device-exchanged",
}
PRIORITY = Priority.MEDIUM


class LinkCondition:
    """The one condition that a link can be in."""

    def __init__(self) -> None:
        self._active: Alert | None = None

    def on(self, message: LinkMessage) -> list[Alert]:
        """The alerts that a message of the link begins or ends, at that message's time."""
        if isinstance(message, LinkUp):
            return self._change(None, message.t_ns)
        if not isinstance(message, LinkLost):
            return []
        code = CODES[message.reason]
        if self._active is not None and self._active.code == code:
            return []
        alert = Alert(code, AlertKind.TECHNICAL, PRIORITY, True, message.text, t_ns=message.t_ns)
        return self._change(alert, message.t_ns)

    def _change(self, to: Alert | None, t_ns: int) -> list[Alert]:
        was, self._active = self._active, to
        ended = [] if was is None else [replace(was, active=False, t_ns=t_ns)]
        return ended if to is None else [*ended, to]
