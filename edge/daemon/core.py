"""Core: one loop over sources, engine children and deadlines; no thread but the journal's writer
and what waits for a spool folder.

Owns when each lane of sources and each engine is looked at. In which order the results of a source
leave is its lane's. Everything it calls is non-blocking; disk is the journal writer's.
"""

from __future__ import annotations

import gc
import select
from collections import Counter
from typing import TYPE_CHECKING, Protocol

from edge.clock import NS_PER_S
from edge.store.codec import kind_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from edge.clock import Clock
    from edge.daemon.desk import Desk
    from edge.store.journal import Kept
    from edge.store.writer import JournalWriter
    from edge.types import Result

IDLE_S = 0.5
COLLECT_S = 10.0


class Lane(Protocol):
    """One source and its part of the path."""

    @property
    def name(self) -> str: ...

    @property
    def busy(self) -> bool:
        """An answer is still out."""
        ...

    def fileno(self) -> int | None:
        """What to wait on for reading."""
        ...

    def next_deadline_ns(self) -> int | None:
        """When `poll` has something to do even if nothing arrives."""
        ...

    def poll(self) -> None:
        """Take what has come, ask the engines, pass on what is decided."""
        ...

    def settle(self, committed: int) -> None:
        """So much of what was kept is on the disk: see `Outlet.keep`."""
        ...


class Outlet:
    """Where results go: at once to the listeners in this process, then to the journal."""

    def __init__(
        self, writer: JournalWriter, listeners: Iterable[Callable[[Result], None]]
    ) -> None:
        self._writer = writer
        self._listeners = tuple(listeners)
        self.results: Counter[str] = Counter()

    def emit(self, result: Result) -> None:
        """One result."""
        self._tell(result)
        self._writer.submit(result)

    def keep(self, kept: Kept, result: Result | None = None) -> int:
        """The same, with what its source must know after a restart: see `JournalWriter.keep`."""
        if result is not None:
            self._tell(result)
        return self._writer.keep(kept, result)

    def _tell(self, result: Result) -> None:
        self.results[kind_of(result)] += 1
        for listener in self._listeners:
            listener(result)


class Core:
    """Built and closed by `edge.daemon.run.assembled`."""

    def __init__(
        self, lanes: Sequence[Lane], desks: Sequence[Desk], outlet: Outlet, writer: JournalWriter,
        clock: Clock,
    ) -> None:  # fmt: skip
        self._lanes = lanes
        self._desks = desks
        self._outlet = outlet
        self._writer = writer
        self._clock = clock
        self._collect_ns = 0

    @property
    def results(self) -> Counter[str]:
        """How many of each kind have left."""
        return self._outlet.results

    def run(
        self, stop: Callable[[], bool], wake_fd: int | None = None,
        also: Callable[[int], None] | None = None,
    ) -> None:  # fmt: skip
        """Loop until `stop()`; `wake_fd` becoming readable makes it look at once. `also` is told
        the time in each round, every `IDLE_S` at least."""
        gc.disable()  # a collection may take longer than a window's whole path
        try:
            while not stop():
                self._wait(wake_fd)
                self.step()
                if also is not None:
                    also(self._clock.now_ns())
                self._collect_when_idle()
        finally:
            gc.enable()

    def step(self) -> None:
        """Take what is there, pass on what is settled."""
        for lane in self._lanes:
            lane.poll()
        self._answers()

    def finish(self, timeout_s: float = 2.0) -> None:
        """Wait for the answers still out, at most `timeout_s`."""
        limit_ns = self._clock.now_ns() + int(timeout_s * NS_PER_S * self._clock.speed)
        while self._busy() and self._clock.now_ns() < limit_ns:
            self._wait(None, sources=False)
            self._answers()

    def _answers(self) -> None:
        for desk in self._desks:
            desk.poll()
        self._writer.acknowledge()
        for lane in self._lanes:
            lane.settle(self._writer.kept_commits)

    def _busy(self) -> bool:
        return any(lane.busy for lane in self._lanes)

    def _collect_when_idle(self) -> None:
        """Between windows, now and then: what was there at the start is frozen, the rest small."""
        now_ns = self._clock.now_ns()
        if now_ns >= self._collect_ns and not self._busy():
            self._collect_ns = now_ns + int(COLLECT_S * NS_PER_S * self._clock.speed)
            gc.collect()

    def _wait(self, wake_fd: int | None, sources: bool = True) -> None:
        """Sleep until a descriptor is readable or the nearest deadline."""
        fds = [self._writer.fileno(), wake_fd, *(desk.fileno() for desk in self._desks)]
        fds += [lane.fileno() for lane in self._lanes] if sources else []
        select.select([fd for fd in fds if fd is not None], [], [], self._pause_s())

    def _pause_s(self) -> float:
        due = [desk.next_deadline_ns() for desk in self._desks]
        due += [lane.next_deadline_ns() for lane in self._lanes]
        now_ns = self._clock.now_ns()
        waits = [(t - now_ns) / NS_PER_S / self._clock.speed for t in due if t is not None]
        return max(0.0, min([*waits, IDLE_S]))
