"""Decide: the last step of the path. Model outputs and signal events become results.

One `Decider` per source: it owns the rhythm rules' state and the envelope (id, bed, time,
provenance). It is pure but for the injected clock. Sinks and the journal take what it returns.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from edge.clock import NS_PER_MS
from edge.pipeline.items import BadSignal, NoBeat
from edge.pipeline.postprocess import finding, verdict
from edge.pipeline.rules import Beat, RhythmRules, silence
from edge.types import Diagnosis, Finding, Latency, Reason, Withheld

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from edge.bundle.manifest import Manifest
    from edge.clock import Clock, WallAnchor
    from edge.types import Provenance, Result, Window


@dataclass(frozen=True, slots=True)
class Marks:
    """When one window passed each station, ns of the injected clock; `infer_ns` is a duration."""

    cut_ns: int
    preprocess_ns: int
    submitted_ns: int
    replied_ns: int
    infer_ns: int


class Ids:
    """Result ids, unique across restarts: `<session>-<n>`. Shared by all sources of one run."""

    def __init__(self, session: str) -> None:
        self.session = session
        self._numbers = itertools.count()

    def next(self) -> str:
        return f"{self.session}-{next(self._numbers):08d}"


@dataclass(frozen=True, slots=True)
class Envelope:
    """What every result of one source carries, answer or not."""

    ids: Ids
    bed: str
    source: str
    anchor: WallAnchor
    provenance: Provenance

    def at(self, t_ns: int, because: str | None = None) -> dict[str, Any]:
        """Fields of a `Diagnosis` or a `Withheld` about the time `t_ns`, with an id of its own;
        `because` is the id of the result that it rests on."""
        return {
            "t_ns": t_ns,
            "id": self.ids.next(),
            "bed": self.bed,
            "source": self.source,
            "utc": self.anchor.utc(t_ns),
            "time_quality": self.anchor.quality,
            "provenance": self.provenance,
            "because": because,
        }


class Decider:
    """Turns the items of one source into results, in order."""

    def __init__(
        self,
        manifest: Manifest,
        provenance: Provenance,
        *,
        ids: Ids,
        bed: str,
        source: str,
        anchor: WallAnchor,
        clock: Clock,
    ) -> None:
        self._manifest = manifest
        self._envelope = Envelope(ids, bed, source, anchor, provenance)
        self._clock = clock
        signal, rhythm = manifest.signal_part()
        self._max_age_ms = signal.max_age_ms
        self._rules = RhythmRules(rhythm)

    def answered(self, window: Window, logits: NDArray[np.float32], marks: Marks) -> Result:
        """The result of one window whose model outputs are there: `logits` is `[labels]`."""
        stale_ms = (marks.replied_ns - window.complete_ns) / NS_PER_MS
        if stale_ms > self._max_age_ms:
            return self._unseen(window, Reason.STALE, f"answered {stale_ms:.0f} ms late")
        judged = verdict(logits, self._manifest.output)
        label = None if judged.reason else judged.label.name
        rhythm = self._rules.beat(Beat(window.t_ns, label, window.rr_s))
        if judged.reason is not None:
            withheld = self._withheld(window, judged.reason, judged.detail)
            return replace(withheld, latency_ms=self._latency(window, marks))
        found = finding(judged, window.t0_ns, window.t1_ns)
        return self._diagnosis(window, (found, *rhythm), marks)

    def unanswered(self, window: Window, cause: str) -> Result:
        """The backend gave no answer for this window."""
        return self._unseen(window, Reason.BACKEND_LOST, cause)

    def signal(self, item: BadSignal | NoBeat) -> Result:
        """What the front saw without the model: unusable signal, or silence on a good one."""
        self._rules.reset()
        if isinstance(item, BadSignal):
            return self._withheld(item, item.reason, item.detail)
        found = silence(item.name, item.t0_ns, item.t1_ns, item.silent_s)
        return self._diagnosis(item, (found,), None)

    def _unseen(self, window: Window, reason: Reason, detail: str) -> Withheld:
        """A beat that was there but got no label breaks every rhythm pattern."""
        self._rules.beat(Beat(window.t_ns, None, window.rr_s))
        return self._withheld(window, reason, detail)

    def _diagnosis(
        self, item: Window | NoBeat, findings: tuple[Finding, ...], marks: Marks | None
    ) -> Diagnosis:
        return Diagnosis(
            **self._envelope.at(item.t_ns),
            findings=findings,
            age_ms=(self._clock.now_ns() - item.t1_ns) / NS_PER_MS,
            latency_ms=self._latency(item, marks),
        )

    def _withheld(self, item: Window | BadSignal, reason: Reason, detail: str) -> Withheld:
        return Withheld(
            **self._envelope.at(item.t_ns),
            reason=reason,
            detail=detail,
            t0_ns=item.t0_ns,
            t1_ns=item.t1_ns,
        )

    def _latency(self, item: Window | NoBeat, marks: Marks | None) -> Latency:
        """The parts of event to verdict; they add up to `total`."""
        if marks is None or isinstance(item, NoBeat):
            return Latency()
        now_ns = self._clock.now_ns()
        after_ms = (item.complete_ns - item.t_ns) / NS_PER_MS
        return Latency(
            filter=item.filter_delay_ms,
            window=after_ms - item.filter_delay_ms,
            acquire=(item.acquired_ns - item.complete_ns) / NS_PER_MS,
            front=(marks.cut_ns - item.acquired_ns) / NS_PER_MS,
            queue=(marks.preprocess_ns - marks.cut_ns) / NS_PER_MS,
            preprocess=(marks.submitted_ns - marks.preprocess_ns) / NS_PER_MS,
            transport=(marks.replied_ns - marks.submitted_ns - marks.infer_ns) / NS_PER_MS,
            infer=marks.infer_ns / NS_PER_MS,
            decide=(now_ns - marks.replied_ns) / NS_PER_MS,
            total=(now_ns - item.t_ns) / NS_PER_MS,
        )
