"""The lane of a signal: samples of one source to windows, and their answers to results.

Owns the order of results: items leave in the order the front found them, whatever the engine does.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from edge.pipeline.decide import Marks
from edge.types import SourceLost, Window
from firmware_bridge.session import earliest

if TYPE_CHECKING:
    from collections.abc import Callable

    from edge.bundle.manifest import Manifest
    from edge.clock import Clock
    from edge.daemon.desk import Desk
    from edge.daemon.engine_link import Reply
    from edge.pipeline.decide import Decider
    from edge.pipeline.front import Front
    from edge.pipeline.items import Item
    from edge.pipeline.preprocess import Preprocessor
    from edge.sources import Source
    from edge.types import Result


@dataclass(slots=True)
class Entry:
    """One item on its way out; a window waits here for its reply."""

    item: Item
    cut_ns: int
    preprocess_ns: int = 0
    reply: Reply | None = None

    @property
    def settled(self) -> bool:
        return self.reply is not None or not isinstance(self.item, Window)


class SignalLane:
    """One source of samples; `emit` takes the results."""

    def __init__(
        self, source: Source, front: Front, decider: Decider, preprocessor: Preprocessor,
        manifest: Manifest, desk: Desk, clock: Clock, emit: Callable[[Result], None],
    ) -> None:  # fmt: skip
        self._source = source
        self._front = front
        self._decider = decider
        self._preprocessor = preprocessor
        self._tensors = {i.name: np.zeros((1, *i.shape), np.float32) for i in manifest.inputs}
        self._output = manifest.output.name
        self._desk = desk
        self._clock = clock
        self._emit = emit
        self._queue: deque[Entry] = deque()

    @property
    def name(self) -> str:
        return self._source.name

    @property
    def busy(self) -> bool:
        return bool(self._queue)

    def fileno(self) -> int | None:
        return self._source.fileno()

    def next_deadline_ns(self) -> int | None:
        return earliest(self._source.next_deadline_ns(), self._front.next_deadline_ns())

    def poll(self) -> None:
        """Samples in, windows to the engine."""
        for block in self._source.poll(self._clock.now_ns()):
            if isinstance(block, SourceLost):
                self._take(self._front.lost(block))
            else:
                self._take(self._front.feed(block))
        self._take(self._front.tick(self._clock.now_ns()))
        self._drain()

    def settle(self, committed: int) -> None:
        """Nothing of a signal is kept for a restart."""

    def _take(self, items: list[Item]) -> None:
        cut_ns = self._clock.now_ns()
        for item in items:
            entry = Entry(item, cut_ns)
            self._queue.append(entry)
            if isinstance(item, Window):
                self._submit(entry, item)

    def _submit(self, entry: Entry, window: Window) -> None:
        entry.preprocess_ns = self._clock.now_ns()
        self._preprocessor.fill(window.arrays, self._tensors)

        def answered(reply: Reply) -> None:
            entry.reply = reply
            self._drain()

        self._desk.compute(self._tensors, answered)

    def _drain(self) -> None:
        while self._queue and self._queue[0].settled:
            self._emit(self._decide(self._queue.popleft()))

    def _decide(self, entry: Entry) -> Result:
        item, reply = entry.item, entry.reply
        if not isinstance(item, Window):
            return self._decider.signal(item)
        assert reply is not None
        if reply.outputs is None:
            return self._decider.unanswered(item, reply.cause)
        marks = Marks(
            entry.cut_ns,
            entry.preprocess_ns,
            reply.submitted_ns,
            reply.replied_ns,
            reply.infer_ns,
        )
        return self._decider.answered(item, reply.outputs[self._output][0], marks)
