"""What a device says, as frozen values, and what a device is, as data.

No clock here: a decoder does not know when its bytes arrived, its caller does. Times are added by
`link` (`t_ns`, monotonic nanoseconds of the caller's clock).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import numpy as np
    from numpy.typing import NDArray

    from firmware_bridge.session import Dialogue


@dataclass(frozen=True, slots=True, eq=False)
class SampleBlock:
    """Consecutive, equidistant samples of all channels of one feed.

    `seq` numbers the first sample; it counts lost samples too and never wraps, so `seq` minus the
    end of the block before is the size of the gap. `lost` is how many samples the device's own
    counter shows missing just before this block (0 inside a run). `samples` is float32
    `[n, channels]` in `unit`, n >= 1.
    """

    seq: int
    lost: int
    rate_hz: float
    unit: str
    samples: NDArray[np.float32] = field(repr=False)  # no waveform in any log


@dataclass(frozen=True, slots=True)
class Text:
    """A message for people, without its terminator (a banner, a failure)."""

    text: str


Message = SampleBlock | Text


@dataclass(frozen=True, slots=True)
class Counters:
    """What became of every byte: `received` = accepted frames and duplicates + text + skipped +
    the few bytes still pending.

    `rejects` counts frames by what was wrong with them; `resyncs` is how often a frame was found
    again after at least one byte had to be skipped.
    """

    received_bytes: int = 0
    text_bytes: int = 0
    skipped_bytes: int = 0
    frames: int = 0
    duplicates: int = 0
    lost: int = 0
    resyncs: int = 0
    rejects: Mapping[str, int] = field(default_factory=dict)


class Decoder(Protocol):
    """Bytes in, messages out, no I/O. How the bytes were cut changes no sample and no count."""

    @property
    def counters(self) -> Counters: ...

    def feed(self, data: bytes) -> list[Message]: ...


@dataclass(frozen=True, slots=True)
class Device:
    """All that a generic link and source need to know about one kind of device.

    `unit` is UCUM, `mdc_unit` its ISO/IEEE 11073-10101 dimension. One count of the converter is
    `lsb` in `unit`; readings at `rail_low` or `rail_high` mean that it is saturated (or that a lead
    is off). `decoder` makes a decoder whose first sample is number 0.
    """

    name: str
    title: str
    baud: int
    rate_hz: float
    channels: int
    unit: str
    mdc_unit: str
    lsb: float
    rail_low: float
    rail_high: float
    dialogue: Dialogue
    decoder: Callable[[], Decoder]


class Loss(str, Enum):
    """Why a link is down."""

    ABSENT = "absent"  # the port cannot be opened
    UNPLUGGED = "unplugged"  # the port was there and vanished
    SILENT = "silent"  # the port is open and nothing comes
    GARBAGE = "garbage"  # bytes come, none of them are what was waited for
    REFUSED = "refused"  # the device itself says that it cannot


@dataclass(frozen=True, slots=True)
class LinkUp:
    """The first trusted samples arrived at `t_ns`; they follow this message."""

    t_ns: int


@dataclass(frozen=True, slots=True)
class LinkLost:
    """The link is down since `t_ns`. Retries that fail for the same reason are not repeated."""

    t_ns: int
    reason: Loss
    detail: str


@dataclass(frozen=True, slots=True)
class LinkCounters:
    """The life of a link. `reconnects` are the times it came up again; `losses` by reason."""

    opens: int = 0
    failed_opens: int = 0
    reconnects: int = 0
    losses: Mapping[str, int] = field(default_factory=dict)
    stream: Counters = field(default_factory=Counters)


LinkMessage = SampleBlock | Text | LinkUp | LinkLost
