"""One sink's way through the journal: batches in order, failures counted and tried again later.

The journal is the queue, so nothing is lost by a sink that is down. A sink that blocks, blocks its
thread: what speaks to a network does not belong here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from edge.errors import StartError
from edge.log import log

if TYPE_CHECKING:
    from edge.sinks import Sink
    from edge.store.journal import Journal

BATCH_ROWS = 256
FIRST_RETRY_S = 0.1
LAST_RETRY_S = 30.0


class Delivery:
    """One sink; times are monotonic seconds, passed in."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._wait_s = FIRST_RETRY_S
        self._not_before_s: float | None = None
        self.failures = 0

    def begin(self, journal: Journal) -> None:
        """Raises `StartError` where the sink has rows that this journal never had."""
        at, last = self._sink.resume_after(), journal.last_rowid()
        if at > last:
            raise StartError(
                f"a sink has row {at}, the journal ends at {last}: not of this journal",
                "move the sink's file away, or bring the journal back",
            )

    def step(self, journal: Journal, now_s: float) -> float | None:
        """Hand over one batch; when to come back: `now_s` for more, later after a failure.

        None when the sink has all there is. Raises what reading the journal raises.
        """
        if self._not_before_s is not None and now_s < self._not_before_s:
            return self._not_before_s
        try:
            at = self._sink.resume_after()
        except Exception as error:
            return self._failed(str(error), now_s)
        rows = journal.after(at, BATCH_ROWS)
        cause = self._deliver(rows, at) if rows else None
        if cause is not None:
            return self._failed(cause, now_s)
        self._wait_s, self._not_before_s = FIRST_RETRY_S, None
        return now_s if len(rows) == BATCH_ROWS else None

    def retry_now(self) -> None:
        """Forget that the sink is to be left alone for a while."""
        self._not_before_s = None

    def _deliver(self, rows: list[tuple[int, bytes]], at: int) -> str | None:
        """Why the sink did not take any of `rows`, None where it took some."""
        try:
            self._sink.deliver(rows)
            return None if self._sink.resume_after() > at else "the sink took nothing"
        except Exception as error:
            return f"{type(error).__name__}: {error}"

    def _failed(self, cause: str, now_s: float) -> float:
        self.failures += 1
        log("sink_failed", cause=cause, count=self.failures)
        self._not_before_s = now_s + self._wait_s
        self._wait_s = min(2 * self._wait_s, LAST_RETRY_S)
        return self._not_before_s
