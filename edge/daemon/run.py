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

from edge import config as configuration
from edge.clock import NS_PER_S, MonotonicClock, anchor_now
from edge.daemon.clocks import ClockReport
from edge.daemon.core import Core, Outlet
from edge.daemon.wiring import Wiring, prepare, serving
from edge.errors import StartError
from edge.log import log
from edge.pipeline.decide import Ids
from edge.recorded_ports import RECORDED, RecordingPorts
from edge.recording import Header, RecordingWriter
from edge.sources.monitor import Monitor
from edge.store.writer import JournalWriter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from edge.clock import Clock, WallAnchor
    from edge.config import Config, Part
    from edge.daemon.wiring import Served
    from edge.types import Result

JOURNAL = "journal.db"


@dataclass(frozen=True, slots=True)
class Daemon:
    """An assembled daemon: run its `core`; the rest is for looking at it."""

    core: Core
    sources: tuple[Any, ...]
    served: tuple[Served, ...]
    writer: JournalWriter

    def child_pids(self) -> list[int]:
        """Processes besides this one."""
        return [each.link.pid for each in self.served if each.link.pid is not None]

    def counters(self) -> dict[str, int]:
        """The sources' counters, summed."""
        total: Counter[str] = Counter()
        for source in self.sources:
            total.update(source.counters())
        return dict(total)

    def chosen(self) -> list[dict[str, str]]:
        """What computes, for each bundle: backend, precision, bundle."""
        return [
            {"backend": each.chosen.backend, "precision": each.chosen.precision,
             "bundle": each.bundle.name}
            for each in self.served
        ]  # fmt: skip


def run(config: str, record: str | None = None, seconds: float | None = None) -> int:
    """Run until SIGTERM or SIGINT, or for `seconds`; exit code 0 when it stopped as told."""
    clock = MonotonicClock()
    with ExitStack() as stack:
        settings = configuration.load(config)
        daemon = stack.enter_context(assembled(settings, clock=clock, record=record))
        wake_fd, told = stack.enter_context(_stop_signals())
        limit_ns = None if seconds is None else clock.now_ns() + int(seconds * NS_PER_S)
        for chosen in daemon.chosen():
            log("daemon_started", bundle=chosen["bundle"], backend=chosen["backend"])
        clocks = ClockReport([s for s in daemon.sources if isinstance(s, Monitor)])
        daemon.core.run(
            lambda: told() or (limit_ns is not None and clock.now_ns() >= limit_ns),
            wake_fd,
            clocks.look,
        )
        daemon.core.finish()
        clocks.say()
    log("daemon_stopped", results=sum(daemon.core.results.values()))
    return 0


def check(config: str) -> int:
    """Configuration, bundles, admission and sources, as `run` would use them; exit code 0."""
    clock = MonotonicClock()
    settings = configuration.load(config)
    prepared = prepare(settings)
    for name, each in prepared.items():
        digest, chosen = each.bundle.digest[:12], each.chosen
        print(f"bundle {name} {digest} on {chosen.backend} {chosen.precision}")
    with ExitStack() as stack:  # all at once, as two may want the same port
        for part in settings.sources:
            source = stack.enter_context(_opened(part, None, clock))
            how = source.reached(clock) if hasattr(source, "reached") else "ready"
            print(f"source {source.name}: {how}, for {part.bundle or 'the log alone'}")
    for link in settings.chain:
        print(f"chain {link.from_} > {link.to}")
    print("ready to run")
    return 0


@contextmanager
def assembled(
    settings: Config,
    *,
    clock: Clock,
    record: str | None = None,
    listeners: Sequence[Callable[[Result], None]] = (),
) -> Iterator[Daemon]:
    """Everything of one daemon, opened; closed in reverse, what was decided being committed.

    `record` names a new file for the bytes of monitors' ports. `listeners` see results at once.
    Raises `StartError` or `LinkError` when it cannot start.
    """
    prepared = prepare(settings)
    with ExitStack() as stack:
        served = {
            name: stack.enter_context(serving(each, settings, clock))
            for name, each in prepared.items()
        }
        ids, anchor = Ids(os.urandom(6).hex()), anchor_now(clock)
        digests = " ".join(each.bundle.digest for each in served.values())
        writer = stack.enter_context(_writer(settings, digests, ids, anchor))
        kept = stack.enter_context(_recording(record, settings, served, anchor)) if record else None
        sources = [stack.enter_context(_opened(part, kept, clock)) for part in settings.sources]
        outlet = Outlet(writer, listeners)
        wiring = Wiring(settings, served, ids, anchor, clock, outlet, writer.kept)
        lanes = [wiring.lane(p, source) for p, source in zip(settings.sources, sources)]
        core = Core(lanes, [each.desk for each in served.values()], outlet, writer, clock)
        gc.collect()
        gc.freeze()
        yield Daemon(core, tuple(sources), tuple(served.values()), writer)


@contextmanager
def _writer(
    settings: Config, digests: str, ids: Ids, anchor: WallAnchor
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
        writer = JournalWriter(path, sinks, (ids.session, started, digests), anchor)
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
    """Only a monitor's port is recorded; the rest runs beside it."""
    if kept is None or part.kind != RECORDED:
        return part.build()
    return part.factory(part.options, RecordingPorts(part.options.name, kept))


def _recording(
    path: str, settings: Config, served: Mapping[str, Served], anchor: WallAnchor
) -> RecordingWriter:
    """Of the ports; a replay needs to know the one bundle that they feed."""
    ports = {part.bundle for part in settings.sources if part.kind == RECORDED}
    if len(ports) != 1:
        raise StartError(
            f"sources with a port feed {len(ports)} bundles", "record a configuration with just one"
        )
    for part in settings.sources:
        if part.kind != RECORDED:
            log("not_recorded", source=part.name, cause="only a monitor's port is recorded")
    (name,) = ports
    each = served[name]
    created = anchor.utc(anchor.t_ns)
    header = Header(created, each.bundle.digest, each.chosen.backend, each.chosen.precision, anchor)
    return RecordingWriter(path, header)


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
