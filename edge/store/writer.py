"""The journal's one thread: commits each result as it comes, then lets the sinks have it.

Core never waits for a disk. A sink that fails is tried again from the journal; a journal that fails
is reported through `failure`, because then nothing may be claimed any more.
"""

from __future__ import annotations

import os
import queue
import threading
import time
from collections import Counter, deque
from contextlib import suppress
from typing import TYPE_CHECKING

from edge.errors import BugError
from edge.log import log
from edge.store.delivery import Delivery
from edge.store.journal import open_journal

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from edge.clock import WallAnchor
    from edge.sinks import Sink
    from edge.store.journal import Journal, Kept
    from edge.types import Result

QUEUE_RESULTS = 4096
KEPT = 4096
LAST_DELIVERY_S = 5.0
"""How long closing goes on delivering; the sinks get the rest at the next start."""


class JournalWriter:
    """Owns the journal's connection from `start` to `close`; `submit` from one thread.

    `session` is (id, UTC start, the bundles' digests); the sinks are open already. `commit_ms`
    holds the newest 4096 commits' durations; `counts` has submitted and committed results, and
    overflows; `kept` what the sources left behind before this start.
    """

    def __init__(
        self,
        path: Path,
        sinks: Sequence[Sink],
        session: tuple[str, str, str],
        anchor: WallAnchor | None = None,
    ) -> None:
        self._path = path
        self._deliveries = [Delivery(sink) for sink in sinks]
        self._session = session
        self._anchor = anchor
        self._queue: queue.Queue[tuple[Result | None, Kept | None] | None]
        self._queue = queue.Queue(QUEUE_RESULTS)
        self._thread = threading.Thread(target=self._run, name="journal")
        self._opened = threading.Event()
        self._accepting = False
        self._told = False
        self._woken = -1
        self._promised = 0
        self.kept: tuple[Kept, ...] = ()
        self.kept_commits = 0
        self.failure: Exception | None = None
        self.commit_ms: deque[float] = deque(maxlen=KEPT)
        self.counts: Counter[str] = Counter()

    @property
    def sink_failures(self) -> int:
        """Deliveries that failed, of all sinks; each is tried again."""
        return sum(delivery.failures for delivery in self._deliveries)

    def start(self) -> None:
        """Open the journal in the thread. Raises what opening raised."""
        self._woken = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._thread.start()
        self._opened.wait()
        self._raise_failure()
        self._accepting = True

    def fileno(self) -> int:
        """Readable when something kept has been committed; `acknowledge` makes it quiet again."""
        return self._woken

    def acknowledge(self) -> None:
        with suppress(BlockingIOError):
            os.eventfd_read(self._woken)

    def keep(self, kept: Kept, result: Result | None = None) -> int:
        """Hand over what a source must know after a restart, with the result that it belongs to, if
        any. It is committed when `kept_commits` has reached the number returned."""
        self._hand_over(result, kept)
        self._promised += 1
        return self._promised

    def submit(self, result: Result) -> None:
        """Hand over one result; never waits. Raises `BugError` when it cannot be kept."""
        self._hand_over(result, None)

    def _hand_over(self, result: Result | None, kept: Kept | None) -> None:
        self._raise_failure()
        if not self._accepting:
            raise BugError("a result for a journal that is not open", "start the writer first")
        try:
            self._queue.put_nowait((result, kept))
            self.counts["submitted"] += result is not None
        except queue.Full:
            self.counts["overflows"] += 1
            log("journal_overflow", count=self.counts["overflows"])
            raise BugError(
                f"{QUEUE_RESULTS} results wait for the disk", "use a faster disk"
            ) from None

    def close(self) -> None:
        """Commit what waits, then end the thread. Raises a failure that `submit` has not."""
        self._accepting = False
        while self._thread.is_alive():
            try:
                self._queue.put(None, timeout=0.1)
                self._thread.join()
            except queue.Full:
                continue
        if self._woken >= 0:
            os.close(self._woken)
            self._woken = -1
        if not self._told:
            self._raise_failure()

    def _raise_failure(self) -> None:
        if self.failure is not None:
            self._told = True
            raise self.failure

    def _run(self) -> None:
        try:
            with open_journal(self._path) as journal:
                journal.begin_session(*self._session, self._anchor)
                self.kept = tuple(journal.kept())
                for delivery in self._deliveries:
                    delivery.begin(journal)
                self._opened.set()
                self._serve(journal)
        except Exception as error:
            self.failure = error
            log("journal_failed", cause=str(error))
        finally:
            self._opened.set()

    def _serve(self, journal: Journal) -> None:
        """Commits come first; a batch for each sink follows each, or when its time has come."""
        due_s: float | None = time.monotonic()
        while True:
            try:
                handed = self._queue.get(timeout=_until(due_s))
                if handed is None:
                    break
                self._commit(journal, *handed)
            except queue.Empty:
                pass
            due_s = self._deliver(journal)
        self._deliver_last(journal)

    def _commit(self, journal: Journal, result: Result | None, kept: Kept | None) -> None:
        began_ns = time.perf_counter_ns()
        journal.append([] if result is None else [result], kept)
        self.commit_ms.append((time.perf_counter_ns() - began_ns) / 1e6)
        self.counts["committed"] += result is not None
        if kept is not None:
            self.kept_commits += 1
            os.eventfd_write(self._woken, 1)

    def _deliver(self, journal: Journal) -> float | None:
        """One batch to each sink; when the first of them wants to go on, None if none does."""
        now_s = time.monotonic()
        due = [delivery.step(journal, now_s) for delivery in self._deliveries]
        return min((due_s for due_s in due if due_s is not None), default=None)

    def _deliver_last(self, journal: Journal) -> None:
        """What can still be delivered, sinks that failed having one last try."""
        limit_s = time.monotonic() + LAST_DELIVERY_S
        for delivery in self._deliveries:
            delivery.retry_now()
            while (now_s := time.monotonic()) < limit_s and delivery.step(journal, now_s) == now_s:
                pass


def _until(due_s: float | None) -> float | None:
    return None if due_s is None else max(0.0, due_s - time.monotonic())
