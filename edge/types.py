"""The stage types of one diagnosis: frozen values, time first, the unit in every physical name.

Samples -> Window -> tensors -> outputs -> Findings -> Diagnosis | Withheld. Nothing here computes;
`edge.pipeline` turns one stage into the next.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Union

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    from numpy.typing import NDArray


class Reason(str, Enum):
    """Why there is no answer. No answer is an answer: it is journalled like a diagnosis."""

    STALE = "stale"
    GAP = "gap"
    LEADS_OFF = "leads_off"
    SATURATED = "saturated"
    FLAT = "flat"
    NOISE = "noise"
    OUT_OF_RANGE = "out_of_range"
    UNCLASSIFIABLE = "unclassifiable"
    LOW_CONFIDENCE = "low_confidence"
    OUT_OF_DISTRIBUTION = "out_of_distribution"
    INVALID_INPUT = "invalid_input"
    BACKEND_LOST = "backend_lost"


@dataclass(frozen=True, slots=True)
class Waveform:
    """Equidistant samples of one channel.

    `t_ns` is the time of `samples[0]`, `received_ns` when its last byte arrived at the host.
    `seq` counts samples since the source was opened, lost ones included, so `seq` jumping ahead of
    the previous block's end is a gap of that many samples. `samples` is float32 `[n]` in `unit`.
    `channel` is its MDC reference id. `leads_off`: the device reports a fault of this channel, of
    whatever kind. `rail` is the magnitude, in `unit`, at which the converter saturates (None:
    unknown).
    """

    t_ns: int
    received_ns: int
    source: str
    channel: str
    unit: str
    rate_hz: float
    seq: int
    samples: NDArray[np.float32]
    rail: float | None = None
    leads_off: bool = False


@dataclass(frozen=True, slots=True)
class SourceLost:
    """The source went away at `t_ns` (unplugged, silent, end of file), or sends what is not wanted;
    it may come back."""

    t_ns: int
    source: str
    cause: str


@dataclass(frozen=True, slots=True)
class Window:
    """The inputs of one inference, cut but not yet preprocessed.

    `t_ns` is the event (an R peak), corrected for the filters' group delay; `t0_ns..t1_ns` the span
    of signal it rests on; `complete_ns` the time of the sample that completed it (later than
    `t1_ns` where the trigger had to look further) and `acquired_ns` when its last byte arrived.
    `rr_s` is the interval to the beat before (None: not known).
    `arrays` maps the manifest's sources ("window", "rr") to float32 arrays without batch axis.
    """

    t_ns: int
    t0_ns: int
    t1_ns: int
    complete_ns: int
    acquired_ns: int
    source: str
    rr_s: float | None
    filter_delay_ms: float
    arrays: Mapping[str, NDArray[np.float32]]


@dataclass(frozen=True, slots=True)
class Given:
    """One thing handed to a source at `t_ns`: a text or an encoded image (`data`, or the open
    descriptor `file`, which is its taker's to close), `rows` of values by column name, or that
    another patient comes (`begins`). `refused`: why it cannot be read. `identity` is its own, and
    the same when it is found again after a restart.
    """

    t_ns: int
    source: str
    identity: str
    data: bytes = b""
    file: int | None = None
    rows: tuple[Mapping[str, float | None], ...] = ()
    begins: bool = False
    refused: str = ""


@dataclass(frozen=True, slots=True)
class Latency:
    """Event to verdict in parts, milliseconds. `None`: that part did not take place.

    filter: group delay of the causal filters. window: signal needed after the event. acquire: last
    needed sample to bytes at the host. front: codec, filters, trigger, cutting. queue: window cut
    to preprocess begun. transport: to the engine process and back, less infer. total: event to
    decided; commit comes after it.
    """

    filter: float | None = None
    window: float | None = None
    acquire: float | None = None
    front: float | None = None
    queue: float | None = None
    preprocess: float | None = None
    transport: float | None = None
    infer: float | None = None
    decide: float | None = None
    total: float | None = None


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing found, with the evidence span it rests on.

    `probability` is calibrated; None where a rule, not a model, found it. `prediction_set` is the
    conformal set of labels (empty where none was fitted). `value`/`unit`: UCUM, for measured ones.
    `text` is shown for it word for word: advice, whose `code` names the approved text.
    """

    name: str
    code: str
    t0_ns: int
    t1_ns: int
    probability: float | None = None
    prediction_set: tuple[str, ...] = ()
    value: float | None = None
    unit: str | None = None
    text: str | None = None


@dataclass(frozen=True, slots=True)
class Provenance:
    """What computed a result: enough to repeat it."""

    bundle: str
    bundle_digest: str
    backend: str
    precision: str
    degraded: bool = False


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """Findings with a verdict. `t_ns` is the event's time; `age_ms` that of its evidence's end.
    `detail` says what else must be known (values that were not taken); `because` is the id of the
    result that this one rests on, where a chain led to it."""

    t_ns: int
    id: str
    bed: str
    source: str
    utc: str
    time_quality: str
    findings: tuple[Finding, ...]
    provenance: Provenance
    age_ms: float
    latency_ms: Latency = field(default_factory=Latency)
    detail: str = ""
    because: str | None = None


@dataclass(frozen=True, slots=True)
class Withheld:
    """The same envelope without an answer: why, and from when to when."""

    t_ns: int
    id: str
    bed: str
    source: str
    utc: str
    time_quality: str
    reason: Reason
    detail: str
    t0_ns: int
    t1_ns: int
    provenance: Provenance
    latency_ms: Latency = field(default_factory=Latency)
    because: str | None = None


Result = Union[Diagnosis, Withheld]
