"""Core: one loop over ports, the engine child and deadlines; no thread but the journal's writer.

Owns the order of results: items leave in the order the front found them, whatever the engine does.
Everything it calls is non-blocking; disk is the journal writer's.
"""

from __future__ import annotations

import gc
import select
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from edge.clock import NS_PER_S
from edge.pipeline.decide import Marks
from edge.types import Diagnosis, SourceLost, Window

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from edge.clock import Clock
    from edge.daemon.engine_link import EngineLink, Reply
    from edge.pipeline.decide import Decider
    from edge.pipeline.front import Front
    from edge.pipeline.items import Item
    from edge.pipeline.preprocess import Preprocessor
    from edge.sources import Source
    from edge.types import Result

IDLE_S = 0.5
COLLECT_S = 10.0


@dataclass(frozen=True, slots=True)
class Stream:
    """One source and its part of the path."""

    name: str
    source: Source
    front: Front
    decider: Decider


@dataclass(slots=True)
class Entry:
    """One item on its way out; a window waits here for its reply."""

    stream: Stream
    item: Item
    complete_ns: int
    key: int = -1
    preprocess_ns: int = 0
    reply: Reply | None = None

    @property
    def settled(self) -> bool:
        return self.reply is not None or not isinstance(self.item, Window)


class Core:
    """Built and closed by `edge.daemon.run.assembled`."""

    def __init__(
        self,
        streams: Sequence[Stream],
        engine: EngineLink,
        preprocessor: Preprocessor,
        tensors: dict[str, np.ndarray[tuple[int, ...], np.dtype[np.float32]]],
        output: str,
        clock: Clock,
        sinks: Iterable[Callable[[Result], None]],
    ) -> None:
        self._streams = streams
        self._engine = engine
        self._preprocessor = preprocessor
        self._tensors = tensors
        self._output = output
        self._clock = clock
        self._sinks = tuple(sinks)
        self._queue: deque[Entry] = deque()
        self._by_key: dict[int, Entry] = {}
        self._keys = 0
        self._collect_ns = 0
        self.results: Counter[str] = Counter()

    def run(self, stop: Callable[[], bool], wake_fd: int | None = None) -> None:
        """Loop until `stop()`; `wake_fd` becoming readable makes it look at once."""
        gc.disable()  # a collection may take longer than a window's whole path
        try:
            while not stop():
                self._wait(wake_fd)
                self.step()
                self._collect_when_idle()
        finally:
            gc.enable()

    def step(self) -> None:
        """Take what is there, pass on what is settled."""
        for stream in self._streams:
            self._poll_source(stream)
        for reply in self._engine.poll():
            self._by_key.pop(reply.key).reply = reply
        self._drain()

    def finish(self, timeout_s: float = 2.0) -> None:
        """Wait for the answers still out, at most `timeout_s`."""
        limit_ns = self._clock.now_ns() + int(timeout_s * NS_PER_S * self._clock.speed)
        while self._queue and self._clock.now_ns() < limit_ns:
            self._wait(None, sources=False)
            for reply in self._engine.poll():
                self._by_key.pop(reply.key).reply = reply
            self._drain()

    def _poll_source(self, stream: Stream) -> None:
        now_ns = self._clock.now_ns()
        for block in stream.source.poll(now_ns):
            if isinstance(block, SourceLost):
                self._take(stream, stream.front.lost(block))
            else:
                self._take(stream, stream.front.feed(block))
        self._take(stream, stream.front.tick(self._clock.now_ns()))

    def _take(self, stream: Stream, items: list[Item]) -> None:
        complete_ns = self._clock.now_ns()
        for item in items:
            entry = Entry(stream, item, complete_ns)
            self._queue.append(entry)
            if isinstance(item, Window):
                self._submit(entry, item)

    def _submit(self, entry: Entry, window: Window) -> None:
        entry.preprocess_ns = self._clock.now_ns()
        self._preprocessor.fill(window.arrays, self._tensors)
        self._keys += 1
        entry.key = self._keys
        self._by_key[entry.key] = entry
        self._engine.submit(entry.key, self._tensors)

    def _drain(self) -> None:
        while self._queue and self._queue[0].settled:
            entry = self._queue.popleft()
            self._emit(self._decide(entry))

    def _decide(self, entry: Entry) -> Result:
        decider, item, reply = entry.stream.decider, entry.item, entry.reply
        if not isinstance(item, Window):
            return decider.signal(item)
        assert reply is not None
        if reply.outputs is None:
            return decider.unanswered(item, reply.cause)
        marks = Marks(
            entry.complete_ns,
            entry.preprocess_ns,
            reply.submitted_ns,
            reply.replied_ns,
            reply.infer_ns,
        )
        return decider.answered(item, reply.outputs[self._output][0], marks)

    def _emit(self, result: Result) -> None:
        self.results["diagnosis" if isinstance(result, Diagnosis) else "withheld"] += 1
        for sink in self._sinks:
            sink(result)

    def _collect_when_idle(self) -> None:
        """Between windows, now and then: what was there at the start is frozen, the rest small."""
        now_ns = self._clock.now_ns()
        if not self._queue and now_ns >= self._collect_ns:
            self._collect_ns = now_ns + int(COLLECT_S * NS_PER_S * self._clock.speed)
            gc.collect()

    def _wait(self, wake_fd: int | None, sources: bool = True) -> None:
        """Sleep until a descriptor is readable or the nearest deadline."""
        fds = [self._engine.fileno(), wake_fd]
        fds += [stream.source.fileno() for stream in self._streams] if sources else []
        select.select([fd for fd in fds if fd is not None], [], [], self._pause_s())

    def _pause_s(self) -> float:
        due = [self._engine.next_deadline_ns()]
        for stream in self._streams:
            due += [stream.source.next_deadline_ns(), stream.front.next_deadline_ns()]
        now_ns = self._clock.now_ns()
        waits = [(t - now_ns) / NS_PER_S / self._clock.speed for t in due if t is not None]
        return max(0.0, min([*waits, IDLE_S]))
