"""The lane of whole things: texts, images and rows of one source, and what chains ask because of
their results.

Owns that each thing is judged once: one request at a time, whose result is committed together with
how far the source has come (`Progress`), before the next one is made and before the thing is moved
away. A row that got no answer counts together with the next one, so that a course misses none.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import msgspec

from edge.clock import NS_PER_MS, NS_PER_S
from edge.daemon.messages import Answer, Ask
from edge.daemon.progress import Owed, Progress, pack_progress
from edge.log import log
from edge.store.journal import Kept
from edge.types import Diagnosis, Latency, Reason, SourceLost, Withheld
from firmware_bridge.session import earliest

if TYPE_CHECKING:
    from collections.abc import Mapping

    from edge.clock import Clock
    from edge.daemon.core import Outlet
    from edge.daemon.desk import Desk
    from edge.daemon.engine_link import Reply
    from edge.pipeline.decide import Envelope
    from edge.signals.rows import Row
    from edge.sources import ItemSource
    from edge.types import Finding, Given, Result

MAX_OWED = 16
"""More rows in a row without an answer, and the course begins anew."""
LATE = 1.5
"""Silence of so many times what is due is said."""
LOST_AGAIN_NS = 60 * NS_PER_S
ANEW = "the course begins anew"


@dataclass(frozen=True, slots=True)
class Stage:
    """One bundle as this source asks it, and the ids of those that its findings lead to."""

    desk: Desk
    envelope: Envelope
    leads_to: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Terms:
    """Of a course: the columns that a row may have, its step, and how often one is due."""

    columns: frozenset[str]
    step_ns: int
    due_ns: int


@dataclass(frozen=True, slots=True)
class Asked:
    """The request that is out, about the time `t_ns`; `row` where it is a course's, `owed` where a
    chain asks."""

    stage: Stage
    t_ns: int
    ready_ns: int
    row: Row | None = None
    owed: Owed | None = None


class ItemLane:
    """One source of whole things. `stages` holds the bundle it feeds, `first`, and those of chains;
    `progress` is what it left behind before, `begun_anew` why its course does not go on."""

    def __init__(
        self, source: ItemSource, stages: Mapping[str, Stage], first: str, terms: Terms | None,
        outlet: Outlet, clock: Clock, progress: Progress, begun_anew: str = "",
    ) -> None:  # fmt: skip
        self._source = source
        self._stages = stages
        self._first = stages[first]
        self._terms = terms
        self._outlet = outlet
        self._clock = clock
        self._progress = progress
        self._begun_anew = begun_anew
        self._given: Given | None = None
        self._asked: Asked | None = None
        self._ticket: int | None = None
        self._heard_ns = clock.now_ns()
        self._said_ns: int | None = None
        self._lost_again_ns = self._heard_ns

    @property
    def name(self) -> str:
        return self._source.name

    @property
    def busy(self) -> bool:
        return self._asked is not None or self._ticket is not None

    def fileno(self) -> int | None:
        return self._source.fileno()

    def next_deadline_ns(self) -> int | None:
        """When silence has to be said."""
        return earliest(self._source.next_deadline_ns(), self._silent_at_ns())

    def poll(self) -> None:
        """Take what has come, ask the next thing if none is out, say that nothing comes."""
        if self._begun_anew:
            self._refuse(f"{self._begun_anew}; {ANEW}")
            self._begun_anew = ""
        for found in self._source.poll(self._clock.now_ns()):
            if isinstance(found, SourceLost):
                self._withhold(found.t_ns, Reason.STALE, found.cause)
            else:
                self._given, self._heard_ns, self._said_ns = found, found.t_ns, None
        self._go_on()
        self._say_silence()

    def settle(self, committed: int) -> None:
        """What was kept is on the disk up to there: the next step may be made."""
        if self._ticket is not None and committed >= self._ticket:
            self._ticket = None
        self._go_on()

    def _go_on(self) -> None:
        """One thing at a time: first what chains owe, then the next part of what was given."""
        if self.busy:
            return
        if self._progress.chained:
            self._ask_chained(self._progress.chained[0])
        elif self._given is not None:
            self._go_on_with(self._given)

    def _go_on_with(self, given: Given) -> None:
        if self._progress.item != given.identity:
            self._progress = msgspec.structs.replace(
                self._progress, item=given.identity, parts=0, whole=False, result="", refused=False
            )
        if self._progress.whole:
            self._close_file()
            self._given = None
            self._source.settle(self._progress.result, self._progress.refused)
        elif given.begins:
            self._begin(given)
        elif refused := given.refused or self._unfit(given):
            self._close_file()
            self._progress = msgspec.structs.replace(self._progress, whole=True, refused=True)
            self._refuse(refused)
        elif self._has_engine(self._first):
            self._ask(given)

    def _has_engine(self, stage: Stage) -> bool:
        """Whether it may be asked; where its engine does not come up, that is said now and then,
        and nothing is taken."""
        now_ns = self._clock.now_ns()
        if stage.desk.failing and now_ns >= self._lost_again_ns:
            self._lost_again_ns = now_ns + LOST_AGAIN_NS
            detail = "the engine does not come up; what was given waits"
            self._withhold(now_ns, Reason.BACKEND_LOST, detail)
        return stage.desk.ready

    def _begin(self, given: Given) -> None:
        """Another patient: nothing of the one before is known any more."""
        log("course_begins", source=self.name)
        name = self._first.envelope.ids.next()
        self._commit(Progress(item=given.identity, result=name), None)

    def _unfit(self, given: Given) -> str:
        """Why the rows are none of this bundle's; nothing where they are."""
        if self._terms is None:
            return ""
        unknown = sorted({name for row in given.rows for name in row} - self._terms.columns)
        return f"{unknown[0][:40]!r} is no column of the bundle" if unknown else ""

    def _ask(self, given: Given) -> None:
        """The next part of it: the next row, or all that there is."""
        if self._terms is None:
            asked = Asked(self._first, given.t_ns, given.t_ns)
            ask = Ask(given.data)
        else:
            at, last = self._progress.parts, len(given.rows) - 1
            row = dict(given.rows[at])
            t_ns = given.t_ns - (last - at) * self._terms.step_ns
            asked = Asked(self._first, t_ns, given.t_ns, row)
            ask = Ask(course=self._progress.course, rows=(*self._progress.rows, row))
        self._send(asked, ask, given.file)
        self._close_file()

    def _ask_chained(self, owed: Owed) -> None:
        stage = self._stages.get(owed.to)
        if stage is None:
            log("chain_gone", source=self.name, bundle=owed.to)
            left = self._progress.chained[1:]
            self._commit(msgspec.structs.replace(self._progress, chained=left), None)
        elif self._has_engine(stage):
            now_ns = self._clock.now_ns()
            t_ns = now_ns if self._given is None else self._given.t_ns
            self._send(Asked(stage, t_ns, now_ns, owed=owed), Ask(owed.text.encode()), None)

    def _send(self, asked: Asked, ask: Ask, file: int | None) -> None:
        self._asked = asked
        asked.stage.desk.ask(ask, file, self._answered)

    def _close_file(self) -> None:
        if self._given is not None and self._given.file is not None:
            os.close(self._given.file)
            self._given = replace(self._given, file=None)

    def _answered(self, reply: Reply) -> None:
        asked, self._asked = self._asked, None
        assert asked is not None
        answer = reply.answer or Answer(reason=Reason.BACKEND_LOST, detail=reply.cause)
        if asked.owed is not None:
            left = self._progress.chained[1:]
            progress, note = msgspec.structs.replace(self._progress, chained=left), ""
        else:
            progress, note = self._advanced(asked.row, reply.answer)
        result = self._result(asked, answer, note, reply)
        owed = progress.chained + self._owed(asked.stage, result)
        self._commit(msgspec.structs.replace(progress, chained=owed, result=result.id), result)

    def _advanced(self, row: Row | None, answer: Answer | None) -> tuple[Progress, str]:
        """Where one more part has been judged, and what has to be said of it."""
        assert self._given is not None
        parts = self._progress.parts + 1
        refused = answer is not None and answer.reason is Reason.INVALID_INPUT
        progress = msgspec.structs.replace(
            self._progress, parts=parts, whole=parts >= len(self._given.rows), refused=refused
        )
        if row is None:
            return progress, ""
        if answer is None and len(progress.rows) < MAX_OWED:
            rows = (*progress.rows, row)
            return msgspec.structs.replace(progress, rows=rows), "the row counts with the next one"
        if answer is None or not answer.course:
            return msgspec.structs.replace(progress, course=b"", rows=()), ANEW
        note = f"impossible, not taken: {', '.join(answer.impossible)}" if answer.impossible else ""
        return msgspec.structs.replace(progress, course=answer.course, rows=()), note

    def _owed(self, stage: Stage, result: Result) -> tuple[Owed, ...]:
        """What chains ask because of a finding; because of none, nothing."""
        if isinstance(result, Withheld):
            return ()
        text = result.findings[0].name
        return tuple(Owed(to, text, result.id) for to in stage.leads_to)

    def _result(self, asked: Asked, answer: Answer, note: str, reply: Reply) -> Result:
        span_ns = answer.steps * self._terms.step_ns if self._terms and asked.row else 0
        t0_ns = asked.t_ns - span_ns
        because = asked.owed.because if asked.owed else None
        detail = "; ".join(part for part in (answer.detail, note) if part)
        now_ns = self._clock.now_ns()
        shared = {
            **asked.stage.envelope.at(asked.t_ns, because),
            "detail": detail,
            "latency_ms": _latency(asked, reply, now_ns),
        }
        if answer.reason is not None:
            return Withheld(**shared, reason=answer.reason, t0_ns=t0_ns, t1_ns=asked.t_ns)
        found = tuple(_moved(finding, t0_ns) for finding in answer.findings)
        return Diagnosis(**shared, findings=found, age_ms=(now_ns - asked.t_ns) / NS_PER_MS)

    def _refuse(self, detail: str) -> None:
        """What cannot be read is said, and that is all there is of it."""
        fields = self._first.envelope.at(self._clock.now_ns())
        t_ns = fields["t_ns"]
        result = Withheld(
            **fields, reason=Reason.INVALID_INPUT, detail=detail, t0_ns=t_ns, t1_ns=t_ns
        )
        self._commit(msgspec.structs.replace(self._progress, result=result.id), result)

    def _withhold(self, t_ns: int, reason: Reason, detail: str) -> None:
        """Said of the source, not of a thing."""
        fields = self._first.envelope.at(t_ns)
        self._outlet.emit(
            Withheld(**fields, reason=reason, detail=detail, t0_ns=self._heard_ns, t1_ns=t_ns)
        )

    def _commit(self, progress: Progress, result: Result | None) -> None:
        self._progress = progress
        kept = Kept(self._first.envelope.bed, self.name, pack_progress(progress))
        self._ticket = self._outlet.keep(kept, result)

    def _silent_at_ns(self) -> int | None:
        if self._terms is None or self._given is not None:
            return None
        if self._said_ns is None:
            return self._heard_ns + round(LATE * self._terms.due_ns)
        return self._said_ns + self._terms.due_ns

    def _say_silence(self) -> None:
        due_ns, now_ns = self._silent_at_ns(), self._clock.now_ns()
        if due_ns is not None and now_ns >= due_ns:
            self._said_ns = now_ns
            self._withhold(now_ns, Reason.STALE, "no row")


def _moved(finding: Finding, by_ns: int) -> Finding:
    return replace(finding, t0_ns=finding.t0_ns + by_ns, t1_ns=finding.t1_ns + by_ns)


def _latency(asked: Asked, reply: Reply, now_ns: int) -> Latency:
    """The parts from when it had come, or the chain began."""
    return Latency(
        queue=(reply.submitted_ns - asked.ready_ns) / NS_PER_MS,
        transport=(reply.replied_ns - reply.submitted_ns - reply.infer_ns) / NS_PER_MS,
        infer=reply.infer_ns / NS_PER_MS,
        decide=(now_ns - reply.replied_ns) / NS_PER_MS,
        total=(now_ns - asked.ready_ns) / NS_PER_MS,
    )
