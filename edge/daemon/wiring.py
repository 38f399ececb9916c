"""What belongs together in one daemon: each bundle with its engine, each source with its lane.

Owns who feeds what, and refuses what does not fit. Opening and closing is `edge.daemon.run`'s.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from edge import config as configuration
from edge.bundle.admission import admitted
from edge.bundle.integrity import MANIFEST, TEXTS, VOCAB
from edge.bundle.load import load
from edge.clock import NS_PER_S
from edge.daemon.desk import Desk
from edge.daemon.engine_link import EngineLink
from edge.daemon.item_lane import ItemLane, Stage, Terms
from edge.daemon.messages import Contract, Load
from edge.daemon.progress import Progress, read_progress
from edge.daemon.signal_lane import SignalLane
from edge.daemon.watched_lane import WatchedLane
from edge.errors import StartError
from edge.log import log
from edge.pipeline.course import read_saved
from edge.pipeline.decide import Decider, Envelope, Ids
from edge.pipeline.front import Front
from edge.pipeline.preprocess import Preprocessor
from edge.types import Provenance

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from edge.bundle.admission import Admission
    from edge.bundle.load import Bundle
    from edge.bundle.manifest import Manifest
    from edge.clock import Clock, WallAnchor
    from edge.config import BundleOptions, Config, Part
    from edge.daemon.core import Lane, Outlet
    from edge.store.journal import Kept

SIGNAL = "signal"


@dataclass(frozen=True, slots=True)
class Prepared:
    """One bundle of the configuration, verified and admitted."""

    options: BundleOptions
    bundle: Bundle
    chosen: Admission

    @property
    def provenance(self) -> Provenance:
        return Provenance(
            self.bundle.name, self.bundle.digest, self.chosen.backend, self.chosen.precision
        )


@dataclass(frozen=True, slots=True)
class Served:
    """The same with its engine child running."""

    bundle: Bundle
    chosen: Admission
    provenance: Provenance
    link: EngineLink
    desk: Desk


def prepare(settings: Config) -> dict[str, Prepared]:
    """Every bundle by its id. Raises `StartError` for what cannot run or does not fit."""
    bundles = {
        options.id: load(
            options.path, trusted_keys=options.trusted_keys, state_dir=settings.state_dir
        )
        for options in settings.bundles
    }
    for part in settings.sources:
        if part.bundle:
            _require_fit(part, bundles[part.bundle])
    for link in settings.chain:
        _require_chained(bundles[link.from_], bundles[link.to])
    engines = configuration.table("engines", settings.plugins)
    return {
        options.id: Prepared(
            options, bundles[options.id], admitted(bundles[options.id], settings.state_dir, engines)
        )
        for options in settings.bundles
    }


def _require_chained(before: Bundle, after: Bundle) -> None:
    """Only what names something can be asked about, and not beat by beat."""
    output = before.manifest.output
    if before.manifest.kind == SIGNAL or not (output.labels or output.tokens):
        raise StartError(
            f"no chain can begin at bundle '{before.name}': it names nothing that was asked once",
            "begin it at a bundle of texts, images or rows that gives labels",
        )
    if after.manifest.kind != "text":
        raise StartError(
            f"no chain can lead to bundle '{after.name}': it takes no text",
            "lead it to a bundle of texts",
        )


def _require_fit(part: Part, bundle: Bundle) -> None:
    gives, takes = getattr(part.factory, "GIVES", SIGNAL), bundle.manifest.kind or "nothing"
    if gives != takes:
        raise StartError(
            f"source '{part.name}' gives {gives}, bundle '{bundle.name}' takes {takes}",
            "name another bundle, or another kind of source",
        )
    if hasattr(part.factory, "serve"):
        _serve(part.build(), bundle.manifest)


def _serve(source: Any, manifest: Manifest) -> None:
    """Tell a source that asks for it what it is to give."""
    wanted = manifest.signal or manifest.features
    if hasattr(source, "serve") and wanted is not None:
        source.serve(wanted)


@contextmanager
def serving(prepared: Prepared, settings: Config, clock: Clock) -> Iterator[Served]:
    """Its engine child, which loads while the caller goes on; ended on leaving."""
    options, bundle, chosen = prepared.options, prepared.bundle, prepared.chosen
    deadline_ms = options.deadline_ms or settings.engine.deadline_ms
    link = EngineLink(_load(settings, bundle, chosen), deadline_ms=deadline_ms, clock=clock)
    try:
        link.open()
        yield Served(bundle, chosen, prepared.provenance, link, Desk(link))
    finally:
        link.close()


def _load(settings: Config, bundle: Bundle, chosen: Admission) -> Load:
    """What the child opens: the very bytes that were verified."""
    return Load(
        backend=chosen.backend,
        factory=configuration.table("engines", settings.plugins)[chosen.backend],
        precision=chosen.precision,
        threads=settings.engine.threads,
        model=bundle.model(chosen.precision),
        contract=None if bundle.manifest.kind == SIGNAL else _contract(bundle),
    )


def _contract(bundle: Bundle) -> Contract:
    files = {name: bundle.files[name] for name in (MANIFEST, VOCAB, TEXTS) if name in bundle.files}
    return Contract(bundle.name, bundle.digest, files)


def _terms(part: Part, manifest: Manifest) -> Terms | None:
    features = manifest.features
    if features is None:
        return None
    step_ns = round(features.step_s * NS_PER_S)
    due_ns = round(getattr(part.options, "due_s", 0.0) * NS_PER_S) or step_ns
    return Terms(frozenset(column.name for column in features.columns), step_ns, due_ns)


@dataclass(frozen=True, slots=True)
class Wiring:
    """What every lane of one daemon shares; `kept` is what sources left behind before."""

    settings: Config
    served: Mapping[str, Served]
    ids: Ids
    anchor: WallAnchor
    clock: Clock
    outlet: Outlet
    kept: tuple[Kept, ...]

    def lane(self, part: Part, source: Any) -> Lane:
        """The lane of one opened source."""
        if not part.bundle:
            return WatchedLane(source, self.clock)
        served = self.served[part.bundle]
        _serve(source, served.bundle.manifest)
        if served.bundle.manifest.kind == SIGNAL:
            return self._signal(part, source, served)
        progress, begun_anew = self._left_behind(part, source.name, served)
        first = {part.bundle: self._stage(part, part.bundle, source.name)}
        chained = {
            link.to: self._stage(part, link.to, f"{source.name} > {link.to}")
            for link in self.settings.chain
        }
        terms = _terms(part, served.bundle.manifest)
        return ItemLane(
            source, {**chained, **first}, part.bundle, terms, self.outlet, self.clock, progress,
            begun_anew,
        )  # fmt: skip

    def _stage(self, part: Part, name: str, source: str) -> Stage:
        """One bundle as asked by a source, or because of one."""
        served = self.served[name]
        envelope = Envelope(self.ids, part.bed, source, self.anchor, served.provenance)
        leads_to = tuple(link.to for link in self.settings.chain if link.from_ == name)
        return Stage(served.desk, envelope, leads_to)

    def _left_behind(self, part: Part, name: str, served: Served) -> tuple[Progress, str]:
        """How far the source came before, and why its course does not go on, if it does not."""
        bodies = [k.body for k in self.kept if (k.bed, k.source) == (part.bed, name)]
        if not bodies:
            return Progress(), ""
        try:
            progress = read_progress(bodies[0])
        except ValueError as error:
            log("progress_refused", source=name, cause=str(error))
            return Progress(), f"what was kept cannot be read ({error})"
        try:
            if progress.course:
                read_saved(progress.course, served.bundle.digest, served.chosen.precision)
        except StartError as error:
            log("course_refused", source=name, cause=str(error))
            return msgspec.structs.replace(progress, course=b"", rows=()), error.cause
        return progress, ""

    def _signal(self, part: Part, source: Any, served: Served) -> SignalLane:
        manifest = served.bundle.manifest
        front = Front(manifest, source.name)
        front.expect(self.clock.now_ns())
        decider = Decider(
            manifest, served.provenance, ids=self.ids, bed=part.bed, source=source.name,
            anchor=self.anchor, clock=self.clock,
        )  # fmt: skip
        steps = configuration.table("preprocess", self.settings.plugins)
        return SignalLane(
            source, front, decider, Preprocessor(manifest, steps), manifest, served.desk,
            self.clock, self.outlet.emit,
        )  # fmt: skip
