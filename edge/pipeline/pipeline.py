"""The whole path in one process: the public API, the replayer and the benchmark run this.

The daemon runs the same front, preprocess and decide, with the engine in a child process between.
"""

from __future__ import annotations

import os
from contextlib import ExitStack
from typing import TYPE_CHECKING

from edge.clock import ManualClock, WallAnchor
from edge.pipeline.decide import Decider, Ids, Marks
from edge.pipeline.front import Front
from edge.pipeline.preprocess import STEPS, Preprocessor
from edge.types import Provenance, Window

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path
    from types import TracebackType

    from edge.bundle.load import Bundle
    from edge.clock import Clock
    from edge.engines import Engine
    from edge.pipeline.items import Item
    from edge.types import Result, SourceLost, Waveform

UNMEASURED = WallAnchor(0, 0, "stream time only")


class Pipeline:
    """One source's samples in, results out, in order. Made by `edge.open`."""

    def __init__(
        self, front: Front, preprocessor: Preprocessor, engine: Engine, decider: Decider,
        clock: Clock, output: str, resources: ExitStack,
    ) -> None:  # fmt: skip
        self._front = front
        self._preprocessor = preprocessor
        self._engine = engine
        self._decider = decider
        self._clock = clock
        self._output = output
        self._resources = resources

    def feed(self, samples: Waveform) -> Iterator[Result]:
        """Results that `samples` completes. Blocks of any length; time must not run backwards."""
        self._move_to(samples.received_ns)
        return self.finish(self._front.feed(samples))

    def expect(self, now_ns: int) -> None:
        """Samples are expected from now on: without them the source is stale."""
        self._front.expect(now_ns)

    def lost(self, event: SourceLost) -> Iterator[Result]:
        """The source went away: what is withheld because of it."""
        self._move_to(event.t_ns)
        return self.finish(self._front.lost(event))

    def tick(self, now_ns: int) -> Iterator[Result]:
        """Time passed without samples: what has become stale."""
        self._move_to(now_ns)
        return self.finish(self._front.tick(now_ns))

    def next_deadline_ns(self) -> int | None:
        """When `tick` has something to say if no samples come before."""
        return self._front.next_deadline_ns()

    def finish(self, items: list[Item]) -> Iterator[Result]:
        """Run the rest of the path for what the front found."""
        for item in items:
            yield (
                self._finish_window(item)
                if isinstance(item, Window)
                else self._decider.signal(item)
            )

    def _finish_window(self, window: Window) -> Result:
        preprocess_ns = self._clock.now_ns()
        self._preprocessor.fill(window.arrays, self._engine.inputs)
        submitted_ns = self._clock.now_ns()
        self._engine.run()
        replied_ns = self._clock.now_ns()
        marks = Marks(
            preprocess_ns, preprocess_ns, submitted_ns, replied_ns, replied_ns - submitted_ns
        )
        return self._decider.answered(window, self._engine.outputs[self._output][0], marks)

    def _move_to(self, t_ns: int) -> None:
        if isinstance(self._clock, ManualClock):
            self._clock.advance_to(t_ns)

    def __enter__(self) -> Pipeline:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._resources.close()


def open_pipeline(
    bundle: str | Path,
    *,
    state_dir: str | Path,
    bed: str = "unassigned",
    trusted_keys: tuple[str | Path, ...] = (),
) -> Pipeline:
    """Load, admit and open `bundle` in this process; see `edge.open`."""
    from edge.bundle.admission import admitted
    from edge.bundle.load import load

    loaded = load(bundle, trusted_keys=trusted_keys, state_dir=state_dir)
    choice = admitted(loaded, state_dir)
    return build(
        loaded, backend=choice.backend, precision=choice.precision, threads=choice.threads, bed=bed
    )


def build(
    bundle: Bundle,
    *,
    backend: str,
    precision: str,
    threads: int = 1,
    bed: str = "unassigned",
    session: str | None = None,
    source: str = "in-process",
    clock: Clock | None = None,
    anchor: WallAnchor = UNMEASURED,
    steps: Mapping[str, str] = STEPS,
) -> Pipeline:
    """The pipeline on a stated backend and precision, admission aside (replay, benchmark).

    Without a `clock`, time is the samples' own: processing takes none, and latencies are not
    measured.
    """
    from edge.engines import open_engine

    manifest = bundle.manifest
    resources = ExitStack()
    engine = resources.enter_context(
        open_engine(backend, bundle.model(precision), precision, threads=threads)
    )
    used: Clock = clock or ManualClock()
    decider = Decider(
        manifest,
        Provenance(manifest.name, bundle.digest, backend, precision),
        ids=Ids(session or os.urandom(6).hex()),
        bed=bed,
        source=source,
        anchor=anchor,
        clock=used,
    )
    front = Front(manifest, source)
    preprocessor = Preprocessor(manifest, steps)
    return Pipeline(front, preprocessor, engine, decider, used, manifest.output.name, resources)
