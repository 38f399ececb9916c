"""What a device says, as frozen values, and what a device is, as data.

No clock here: a decoder does not know when its bytes arrived, its caller does. `t_ns`, monotonic
nanoseconds of the caller's clock, is added by `link` to alerts and to what becomes of the link;
values and samples have none but that of the poll that gave them, and are placed in time by who
hears them (`clockmodel`). `device_ns` is the
device's own clock in nanoseconds, whatever its epoch: times of one device compare, others do not.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import numpy as np
    from numpy.typing import NDArray

    from firmware_bridge.session import Dialogue, Event


class Validity(str, Enum):
    """How far a value may be trusted. Only VALID and QUESTIONABLE come with a number."""

    VALID = "valid"
    QUESTIONABLE = "questionable"
    INVALID = "invalid"
    OVER = "over"
    UNDER = "under"
    UNAVAILABLE = "unavailable"


@dataclass(frozen=True, slots=True, eq=False)
class SampleBlock:
    """Consecutive, equidistant samples of all channels of one feed.

    `seq` numbers the first sample; it counts lost samples too and never wraps, so `seq` minus the
    end of the block before is the size of the gap. `lost` is how many samples the device's own
    counter shows missing just before this block (0 inside a run). `samples` is float32
    `[n, channels]` in `unit` (UCUM), n >= 1; NaN where the device marks a sample as not usable.
    `feed` is a `Feed.name` of the device, whose channels these are. Where somebody chooses on the
    device what a channel is, `channels` are the MDC ids that it says now, "" for one it does not.
    """

    seq: int
    lost: int
    rate_hz: float
    unit: str
    samples: NDArray[np.float32] = field(repr=False)  # no waveform in any log
    feed: str = ""
    channels: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Numeric:
    """One value. `channel` is its MDC reference id, `unit` UCUM; made by `nomenclature.numeric`.

    `value` is None unless `validity` is VALID or QUESTIONABLE: a sentinel, or a value outside what
    is possible, is never a number.
    """

    channel: str
    value: float | None
    unit: str
    validity: Validity
    device_ns: int | None = None


class AlertKind(str, Enum):
    """What an alert is about, in the words of IEEE 11073-10207 (AlertConditionKind)."""

    PHYSIOLOGICAL = "physiological"
    TECHNICAL = "technical"
    OTHER = "other"


class Priority(str, Enum):
    """IEC 60601-1-8 priorities; NONE is advisory."""

    HIGH = "high"
    MEDIUM = "medium"
    LOW = "low"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Alert:
    """An alarm condition that a device reports, or a fault it reports about itself, on change.

    `code` is an MDC event id (MDC_EVT_...) where there is one, else "<device>:<its own code>";
    `text` is as the device says it. `channel` is the MDC id of the measurement concerned, "" for
    none; of samples that became stale, their `Feed.name`. `active` False ends it. A device that
    only shows levels is watched: each change is said once. `t_ns` is when it was heard, or its
    cause was noticed; None until a link has heard it.
    """

    code: str
    kind: AlertKind
    priority: Priority
    active: bool
    text: str
    channel: str = ""
    device_ns: int | None = None
    t_ns: int | None = None


@dataclass(frozen=True, slots=True)
class Text:
    """A message for people, without its terminator (a banner, a failure)."""

    text: str


@dataclass(frozen=True, slots=True)
class Send:
    """What the protocol demands as an answer, at once (an acknowledgement, a configuration)."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Sign:
    """Something that moves the dialogue and is no value: an association accepted, a refusal."""

    event: Event
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Another:
    """What comes from now on is of another patient, or from another device; `detail` says why."""

    detail: str


Value = SampleBlock | Numeric | Alert
"""What is handed on to the user of a link, besides texts."""

Message = SampleBlock | Numeric | Alert | Text | Send | Sign | Another


@dataclass(frozen=True, slots=True)
class Counters:
    """What became of every byte: `received` = accepted frames and duplicates + text + skipped +
    the few bytes still pending.

    `rejects` counts frames by what was wrong with them; `resyncs` is how often a frame was found
    again after at least one byte had to be skipped. `lost` are samples, where the device numbers
    them.
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
    """Bytes in, messages out, no I/O. How the bytes were cut changes no value and no count.

    Of a device on datagrams each `feed` is one whole datagram. One decoder lives as long as one
    connection; it may remember what was negotiated, and answers by `Send` and `Sign`. One that has
    `after_loss` gives the decoder that goes on after a loss of the link, with no byte of before.
    """

    @property
    def counters(self) -> Counters: ...

    def feed(self, data: bytes) -> list[Message]: ...


@dataclass(frozen=True, slots=True)
class Wire:
    """How a serial port is set; written as "9600 8N1"."""

    baud: int
    parity: str = "N"
    stopbits: int = 1
    bytesize: int = 8
    rtscts: bool = False

    def __str__(self) -> str:
        return f"{self.baud} {self.bytesize}{self.parity}{self.stopbits}"

    @property
    def bytes_per_s(self) -> float:
        """The most that the line carries: start bit, data, parity and stop bits for each byte."""
        return self.baud / (1 + self.bytesize + (self.parity != "N") + self.stopbits)


@dataclass(frozen=True, slots=True)
class Feed:
    """One stream of equidistant samples that a device can send.

    `channels` are MDC reference ids, "" where only whoever wired it knows. `rate_hz` 0: the device
    says at run time (then it is in each block). One count of the converter is `lsb` in `unit`
    (UCUM; 0: said at run time); readings at `rail_low` or `rail_high` mean that it is saturated.
    """

    name: str
    channels: tuple[str, ...]
    rate_hz: float
    unit: str
    lsb: float
    rail_low: float
    rail_high: float


@dataclass(frozen=True, slots=True)
class Device:
    """All that a generic link and source need to know about one kind of device.

    `spec` cites the documents it implements. `feeds` and `numerics` (MDC ids) are what it can
    send: its capability list. `decoder` makes a decoder whose first sample is number 0.
    `sure_frames` is how many frames in a row, heard without being asked, tell this device from any
    other; 0: it says nothing unasked, or nothing that could be told apart. `datagrams`: each read
    of its port is one whole message. `outlives_calls`: its messages stand for themselves, so one
    decoder hears all who call, one after the other. `at` makes the device of one place, where many
    report together. `proved_by` and `unproved` name the independent evidence, and what has none.
    """

    name: str
    title: str
    spec: str
    wire: Wire
    dialogue: Dialogue
    decoder: Callable[[], Decoder]
    feeds: tuple[Feed, ...] = ()
    numerics: tuple[str, ...] = ()
    sure_frames: int = 0
    datagrams: bool = False
    outlives_calls: bool = False
    at: Callable[[str], Device] | None = None
    proved_by: str = ""
    unproved: str = ""


class Loss(str, Enum):
    """Why a link is down, or has begun anew."""

    ABSENT = "absent"  # the port cannot be opened
    UNPLUGGED = "unplugged"  # the port was there and vanished
    SILENT = "silent"  # the port is open and nothing comes
    GARBAGE = "garbage"  # bytes come, none of them are what was waited for
    REFUSED = "refused"  # the device itself says that it cannot, or has begun anew
    ANOTHER = "another"  # somebody else is at the other end now: a patient, or a device


@dataclass(frozen=True, slots=True)
class LinkUp:
    """The first trusted values arrived at `t_ns`; they follow this message."""

    t_ns: int


@dataclass(frozen=True, slots=True)
class LinkLost:
    """The link is down since `t_ns`. Retries that fail for the same reason are not repeated."""

    t_ns: int
    reason: Loss
    detail: str

    @property
    def text(self) -> str:
        """For people."""
        return f"{self.reason.value}: {self.detail}"


@dataclass(frozen=True, slots=True)
class LinkCounters:
    """The life of a link. `reconnects` are the times it came up again; `losses` by reason."""

    opens: int = 0
    failed_opens: int = 0
    reconnects: int = 0
    losses: Mapping[str, int] = field(default_factory=dict)
    stream: Counters = field(default_factory=Counters)


LinkMessage = SampleBlock | Numeric | Alert | Text | LinkUp | LinkLost
