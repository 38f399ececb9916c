"""What an emulator is told to do wrong, and when. Owns the script, not how a device acts it out."""

from __future__ import annotations

import sys
from dataclasses import dataclass, fields
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from firmware_bridge.errors import FaultScriptError
from firmware_bridge.registry import nearest_first

if TYPE_CHECKING:
    from collections.abc import Iterable, Set


class Kind(str, Enum):
    """The faults: of the patient and electrodes, of the board and radio, of the cable."""

    ASYSTOLE = "asystole"  # baseline noise of 20 uV rms only
    LEAD_OFF = "lead_off"  # the channel at its positive rail
    FLAT = "flat"  # the channel frozen at its last value
    SATURATE = "saturate"  # the channel clipped at `clip_mv`
    DROP = "drop"  # frames lost on the way: the device's counter goes on
    STALL = "stall"  # the board hangs: nothing sent or heard, its time stands still
    GARBAGE = "garbage"  # random bytes before one frame in ten
    BITFLIP = "bitflip"  # one to three bits flipped in every frame
    WRONG_BAUD = "wrong_baud"  # random bytes instead of frames
    SPLIT = "split"  # every frame in single bytes, with pauses
    UNPLUG = "unplug"  # the port vanishes and comes back
    ALARM = "alarm"  # the device raises an alarm of its own
    CLOCK_JUMP = "clock_jump"  # the device's clock is `jump_s` ahead


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault from `at_s` for `duration_s`, in seconds since the device's first frame.

    `channel` counts from 1 and matters to faults of one channel; `clip_mv` to `saturate`, `jump_s`
    (either sign) to `clock_jump`.
    """

    at_s: float
    duration_s: float
    kind: Kind
    channel: int = 1
    clip_mv: float = 1.0
    jump_s: float = 3600.0

    @property
    def end_s(self) -> float:
        """When it is over."""
        return self.at_s + self.duration_s

    def on(self, kind: Kind, t_s: float) -> bool:
        """Whether it is one of `kind` and on at `t_s`."""
        return self.kind is kind and self.at_s <= t_s < self.end_s

    def span(self, rate_hz: float) -> tuple[int, int]:
        """First faulty sample number and the first good one after it."""
        return round(self.at_s * rate_hz), round(self.end_s * rate_hz)


def load_faults(path: str | Path) -> tuple[Fault, ...]:
    """The `[[fault]]` tables of a TOML file, whose keys are the fields of `Fault`.

    Raises `FaultScriptError` for unreadable TOML, an unknown or missing key, or a bad value.
    """
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    try:
        document = tomllib.loads(Path(path).read_text("utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise FaultScriptError(f"{path} is not a readable TOML file ({error})", "fix it") from error
    _refuse_unknown(document, ("fault",), str(path))
    tables = document.get("fault", [])
    return tuple(_fault(table, f"{path}: fault {i}") for i, table in enumerate(tables, 1))


def require_shown(script: Iterable[Fault], shown: Set[Kind], what: str) -> None:
    """Raises `FaultScriptError` for a fault that could not be seen in `what`."""
    for fault in script:
        if fault.kind not in shown:
            known = ", ".join(kind.value for kind in Kind if kind in shown)
            cause = f"{what} cannot show the fault '{fault.kind.value}'"
            raise FaultScriptError(cause, f"use: {known}" if known else "leave the script out")


def _fault(table: dict[str, Any], where: str) -> Fault:
    _refuse_unknown(table, tuple(f.name for f in fields(Fault)), where)
    try:
        kind = Kind(table["kind"])
        numbers = {
            k: float(table[k]) for k in ("at_s", "duration_s", "clip_mv", "jump_s") if k in table
        }
        fault = Fault(kind=kind, channel=int(table.get("channel", 1)), **numbers)
    except (KeyError, TypeError, ValueError) as error:
        known = ", ".join(k.value for k in Kind)
        fix = f"give at_s, duration_s and a kind of: {known}"
        raise FaultScriptError(f"{where}: {error}", fix) from error
    if not (fault.at_s >= 0 and fault.duration_s > 0 and fault.channel >= 1 and fault.clip_mv > 0):
        fix = "use at_s >= 0, duration_s > 0, channel >= 1, clip_mv > 0"
        raise FaultScriptError(f"{where}: a value is out of range", fix)
    return fault


def _refuse_unknown(table: dict[str, Any], known: tuple[str, ...], where: str) -> None:
    for key in table:
        if key not in known:
            nearest = nearest_first(key, known)
            raise FaultScriptError(f"{where}: unknown key '{key}'", f"use: {', '.join(nearest)}")
