"""What the microcontroller link says, as frozen values, time first.

`t_ns` is the host's monotonic time. Names (of states, levels, resets) are those of medge_link.h
without their prefix; a number without a name there stands for itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from firmware_bridge.types import SampleBlock


@dataclass(frozen=True, slots=True)
class Identified:
    """The device has started, or we have found it; its layout is ours."""

    t_ns: int
    device_id: int
    firmware: str
    reset: str


@dataclass(frozen=True, slots=True)
class Rebooted:
    """The device has started again, as its session or a clock that ran backwards shows."""

    t_ns: int
    uptime_us: int


@dataclass(frozen=True, slots=True)
class Beat:
    """The device's heartbeat. `line` is what it drives, `line_read` what it reads back."""

    t_ns: int
    uptime_us: int
    state: str
    level: str
    sound: bool
    line: str
    line_read: str
    faults: int
    dropped_samples: int
    dropped_frames: int
    rejects: int
    reset: str


@dataclass(frozen=True, slots=True)
class Samples:
    """A block whose first sample was taken at `t_ns`, give or take `uncertainty_ns`.

    Before the first time exchange `t_ns` is from the time of arrival, `uncertainty_ns` None.
    `faults` are the sensor fault bits that held during the block.
    """

    t_ns: int
    uncertainty_ns: int | None
    stream: int
    faults: int
    block: SampleBlock


@dataclass(frozen=True, slots=True)
class Answered:
    """The end of a command: a STATUS_ name, or "UNANSWERED" after all tries, or after none."""

    t_ns: int
    action: str
    argument: int
    status: str


class Code(str, Enum):
    """Technical conditions of the link."""

    UNPLUGGED = "mcu-unplugged"  # its port cannot be opened, or has gone
    SILENT = "mcu-silent"  # three of its heartbeats are missing
    REFUSED = "mcu-refused"  # it speaks another definition of the wire
    UNTRUSTED = "mcu-untrusted"  # it does not trust us: its alarm is on
    LINE_WRONG = "mcu-line-wrong"  # the alarm line is not what was asked for
    SENSOR_FAULT = "mcu-sensor-fault"
    DROPPED = "mcu-dropped"  # it could not send all it had
    UNANSWERED = "mcu-unanswered"  # a command was never answered


@dataclass(frozen=True, slots=True)
class Condition:
    """A technical condition that begins (`active`), changes its detail, or ends at `t_ns`."""

    t_ns: int
    code: Code
    active: bool
    detail: str = ""


Event = Identified | Rebooted | Beat | Samples | Answered | Condition
