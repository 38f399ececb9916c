"""What belongs together in one daemon: each bundle with its engine, each source with its lane.

Owns who feeds what, and refuses what does not fit. Opening and closing is `edge.daemon.run`'s.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edge import config as configuration
from edge.bundle.admission import admitted
from edge.bundle.load import load
from edge.daemon.desk import Desk
from edge.daemon.engine_link import EngineLink
from edge.daemon.messages import Load
from edge.daemon.signal_lane import SignalLane
from edge.errors import StartError
from edge.pipeline.decide import Decider, Ids
from edge.pipeline.front import Front
from edge.pipeline.preprocess import Preprocessor
from edge.types import Provenance

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from edge.bundle.admission import Admission
    from edge.bundle.load import Bundle
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
    engines = configuration.table("engines", settings.plugins)
    prepared = {}
    for options in settings.bundles:
        bundle = load(options.path, trusted_keys=options.trusted_keys, state_dir=settings.state_dir)
        prepared[options.id] = Prepared(
            options, bundle, admitted(bundle, settings.state_dir, engines)
        )
    for part in settings.sources:
        _require_fit(part, prepared[part.bundle].bundle)
    return prepared


def _require_fit(part: Part, bundle: Bundle) -> None:
    gives, takes = getattr(part.factory, "GIVES", SIGNAL), bundle.manifest.kind or "nothing"
    if gives != takes:
        raise StartError(
            f"source '{part.name}' gives {gives}, bundle '{bundle.name}' takes {takes}",
            "name another bundle, or another kind of source",
        )


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
    )


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
        return self._signal(part, source, self.served[part.bundle])

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
