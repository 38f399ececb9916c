"""`medge run` and `medge check`: a configuration becomes a running core, and stops cleanly.

The one place where the daemon's resources are opened and closed, in order, by one `ExitStack`.
"""

from __future__ import annotations

import fcntl
import gc
import os
import signal
import socket
from collections import Counter
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

import numpy as np

from edge import config as configuration
from edge.bundle.admission import admitted
from edge.bundle.load import load
from edge.clock import NS_PER_S, MonotonicClock, anchor_now
from edge.daemon.core import Core, Stream
from edge.daemon.engine_link import EngineLink
from edge.daemon.messages import Load
from edge.errors import StartError
from edge.log import log
from edge.pipeline.decide import Decider, Ids
from edge.pipeline.front import Front
from edge.pipeline.preprocess import Preprocessor
from edge.recorded_ports import RecordingPorts
from edge.recording import Header, RecordingWriter
from edge.store.writer import JournalWriter
from edge.types import Provenance

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from edge.bundle.admission import Admission
    from edge.bundle.load import Bundle
    from edge.bundle.manifest import Manifest
    from edge.clock import Clock, WallAnchor
    from edge.config import Config, Part
    from edge.types import Result

JOURNAL = "journal.db"


@dataclass(frozen=True, slots=True)
class Daemon:
    """An assembled daemon: run its `core`; the rest is for looking at it."""

    core: Core
    sources: tuple[Any, ...]
    engine: EngineLink
    writer: JournalWriter
    bundle: Bundle
    admission: Admission

    def child_pids(self) -> list[int]:
        """Processes besides this one."""
        return [self.engine.pid] if self.engine.pid is not None else []

    def counters(self) -> dict[str, int]:
        """The sources' counters, summed."""
        total: Counter[str] = Counter()
        for source in self.sources:
            total.update(source.counters())
        return dict(total)

    def chosen(self) -> dict[str, str]:
        """What computes: backend, precision, bundle."""
        a = self.admission
        return {"backend": a.backend, "precision": a.precision, "bundle": self.bundle.name}


def run(config: str, record: str | None = None, seconds: float | None = None) -> int:
    """Run until SIGTERM or SIGINT, or for `seconds`; exit code 0 when it stopped as told."""
    clock = MonotonicClock()
    with ExitStack() as stack:
        settings = configuration.load(config)
        daemon = stack.enter_context(assembled(settings, clock=clock, record=record))
        wake_fd, told = stack.enter_context(_stop_signals())
        limit_ns = None if seconds is None else clock.now_ns() + int(seconds * NS_PER_S)
        log("daemon_started", bundle=daemon.bundle.name, backend=daemon.admission.backend)
        daemon.core.run(
            lambda: told() or (limit_ns is not None and clock.now_ns() >= limit_ns), wake_fd
        )
        daemon.core.finish()
    log("daemon_stopped", results=sum(daemon.core.results.values()))
    return 0


def check(config: str) -> int:
    """Configuration, bundle, admission and ports, as `run` would use them; exit code 0."""
    clock = MonotonicClock()
    settings = configuration.load(config)
    bundle = _bundle(settings)
    chosen = admitted(bundle, settings.state_dir, _engines(settings))
    print(f"bundle {bundle.name} {bundle.digest[:12]} on {chosen.backend} {chosen.precision}")
    for part in settings.sources:
        source = part.build()
        source.open(clock.now_ns())
        source.close()
        print(f"source {source.name}: ready")
    print("ready to run")
    return 0


@contextmanager
def assembled(
    settings: Config,
    *,
    clock: Clock,
    record: str | None = None,
    sinks: Sequence[Callable[[Result], None]] = (),
) -> Iterator[Daemon]:
    """Everything of one daemon, opened; closed in reverse, what was decided being committed.

    `record` names a new file for the bytes of every port. `sinks` see results at once. Raises
    `StartError` or `LinkError` when it cannot start.
    """
    bundle = _bundle(settings)
    chosen = admitted(bundle, settings.state_dir, _engines(settings))
    with ExitStack() as stack:
        engine = EngineLink(
            _load(settings, bundle, chosen), deadline_ms=settings.engine.deadline_ms, clock=clock
        )
        stack.callback(engine.close)
        engine.open()
        ids, anchor = Ids(os.urandom(6).hex()), anchor_now(clock)
        writer = stack.enter_context(_writer(settings, bundle, ids, anchor))
        kept = stack.enter_context(_recording(record, bundle, chosen, anchor)) if record else None
        sources = [stack.enter_context(_opened(part, kept, clock)) for part in settings.sources]
        streams = _streams(settings, bundle, chosen, sources, ids, anchor, clock)
        core = _core(settings, bundle.manifest, streams, engine, clock, (*sinks, writer.submit))
        gc.collect()
        gc.freeze()
        yield Daemon(core, tuple(sources), engine, writer, bundle, chosen)


def _bundle(settings: Config) -> Bundle:
    options = settings.bundle
    return load(options.path, trusted_keys=options.trusted_keys, state_dir=settings.state_dir)


def _load(settings: Config, bundle: Bundle, chosen: Admission) -> Load:
    """What the child opens: the very bytes that were verified."""
    return Load(
        backend=chosen.backend,
        factory=_engines(settings)[chosen.backend],
        precision=chosen.precision,
        threads=settings.engine.threads,
        model=bundle.model(chosen.precision),
    )


def _engines(settings: Config) -> dict[str, str]:
    return configuration.table("engines", settings.plugins)


@contextmanager
def _writer(
    settings: Config, bundle: Bundle, ids: Ids, anchor: WallAnchor
) -> Iterator[JournalWriter]:
    """The journal's thread and the sinks behind it."""
    settings.state_dir.mkdir(parents=True, exist_ok=True)
    lock = (settings.state_dir / "lock").open("w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        lock.close()
        raise StartError(
            f"another medge runs in '{settings.state_dir}'", "stop it, or use another state_dir"
        ) from None
    started = datetime.now(timezone.utc).isoformat(timespec="milliseconds")
    with lock, ExitStack() as stack:
        sinks = [stack.enter_context(part.build()) for part in settings.sinks]
        path = settings.state_dir / JOURNAL
        writer = JournalWriter(path, sinks, (ids.session, started, bundle.digest), anchor)
        writer.start()
        stack.callback(writer.close)
        yield writer


@contextmanager
def _opened(part: Part, kept: RecordingWriter | None, clock: Clock) -> Iterator[Any]:
    source = _built(part, kept)
    source.open(clock.now_ns())
    try:
        yield source
    finally:
        source.close()


def _built(part: Part, kept: RecordingWriter | None) -> Any:
    if kept is None:
        return part.build()
    if part.kind != "monitor":
        raise StartError(f"source kind '{part.kind}' has no port to record", "record monitors only")
    return part.factory(part.options, RecordingPorts(part.options.name, kept))


def _recording(path: str, bundle: Bundle, chosen: Admission, anchor: WallAnchor) -> RecordingWriter:
    created = anchor.utc(anchor.t_ns)
    header = Header(created, bundle.digest, chosen.backend, chosen.precision, anchor)
    return RecordingWriter(path, header)


def _streams(
    settings: Config, bundle: Bundle, chosen: Admission, sources: Sequence[Any], ids: Ids,
    anchor: WallAnchor, clock: Clock,
) -> list[Stream]:  # fmt: skip
    provenance = Provenance(bundle.name, bundle.digest, chosen.backend, chosen.precision)
    streams = []
    for source in sources:
        front = Front(bundle.manifest, source.name)
        front.expect(clock.now_ns())
        decider = Decider(
            bundle.manifest, provenance, ids=ids, bed=settings.bed, source=source.name,
            anchor=anchor, clock=clock,
        )  # fmt: skip
        streams.append(Stream(source.name, source, front, decider))
    return streams


def _core(
    settings: Config, manifest: Manifest, streams: Sequence[Stream], engine: EngineLink,
    clock: Clock, sinks: Sequence[Callable[[Result], None]],
) -> Core:  # fmt: skip
    steps = configuration.table("preprocess", settings.plugins)
    tensors = {i.name: np.zeros((1, *i.shape), np.float32) for i in manifest.inputs}
    preprocessor = Preprocessor(manifest, steps)
    return Core(streams, engine, preprocessor, tensors, manifest.output.name, clock, sinks)


@contextmanager
def _stop_signals() -> Iterator[tuple[int, Callable[[], bool]]]:
    """A descriptor that becomes readable on SIGTERM or SIGINT, and whether one came."""
    ours, theirs = socket.socketpair()
    for end in (ours, theirs):
        end.setblocking(False)
    told: list[int] = []
    before = {
        s: signal.signal(s, lambda n, _: told.append(n)) for s in (signal.SIGTERM, signal.SIGINT)
    }
    old_fd = signal.set_wakeup_fd(theirs.fileno())
    try:
        yield ours.fileno(), lambda: bool(told)
    finally:
        signal.set_wakeup_fd(old_fd)
        for number, handler in before.items():
            signal.signal(number, handler)
        ours.close()
        theirs.close()
