"""What the front hands on besides `Window`: events that need no model, in stream order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Union

from edge.types import Window

if TYPE_CHECKING:
    from edge.types import Reason


@dataclass(frozen=True, slots=True)
class BadSignal:
    """No answer is possible from `t0_ns` to `t1_ns`: why, seen at `t_ns`."""

    t_ns: int
    t0_ns: int
    t1_ns: int
    reason: Reason
    detail: str


@dataclass(frozen=True, slots=True)
class NoBeat:
    """Good signal and no beat for `silent_s`: `name` is `pause` or `asystole`."""

    t_ns: int
    t0_ns: int
    t1_ns: int
    name: str
    silent_s: float


Item = Union[Window, BadSignal, NoBeat]
