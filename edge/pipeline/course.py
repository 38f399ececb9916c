"""The course of one patient: rows of values in, step by step, findings or why there are none out.

Owns the session: the rows' memory and the carried states, which are saved and restored together and
only ever for the very bundle and precision they came from.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import numpy as np

from edge.clock import NS_PER_S
from edge.errors import StartError
from edge.pipeline.carried import Carried
from edge.pipeline.postprocess import Told, told
from edge.pipeline.trend import trends
from edge.signals.rows import NEVER_STEPS, SINCE, VALUE, FeatureRows
from edge.types import Finding, Reason

if TYPE_CHECKING:
    from collections.abc import Mapping

    from edge.bundle.manifest import Features, Manifest
    from edge.engines import Engine

SCHEMA = 1


class Saved(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A session between two runs: `arrays` are float32, little-endian, in C order."""

    schema: int
    bundle: str
    precision: str
    steps: int
    arrays: dict[str, bytes]


class Course:
    """One patient on an engine that may be shared. `impossible` names the columns of the newest row
    whose values were impossible and therefore not taken."""

    def __init__(self, manifest: Manifest, engine: Engine) -> None:
        if manifest.features is None:
            raise StartError(
                f"bundle '{manifest.name}' takes no rows of values", "choose a bundle that does"
            )
        self._manifest = manifest
        self._features: Features = manifest.features
        self._engine = engine
        self._rows = FeatureRows(self._features.columns)
        self._carried = Carried(manifest.states)
        self._into = [i.name for i in manifest.inputs if i.source == "features"]
        self.steps = 0
        self.impossible: tuple[str, ...] = ()

    def step(self, values: Mapping[str, float | None]) -> Told:
        """One row (see `FeatureRows.step`) through the model."""
        self.impossible = self._rows.step(values)
        self._carried.before(self._engine)
        for name in self._into:
            self._engine.inputs[name][0] = self._rows.planes
        self._engine.run()
        self._carried.after(self._engine)
        step_ns = round(self._features.step_s * NS_PER_S)
        t1_ns = (self.steps + 1) * step_ns
        self.steps += 1
        if not all(np.isfinite(x).all() for x in self._carried.values.values()):
            self.reset()
            return Told((), Reason.OUT_OF_RANGE, "non-finite state; begun anew")
        row = self._engine.outputs[self._manifest.output.name][0]
        return self._fit_to_be_told(told(row, self._manifest.output, 0, t1_ns))

    def reset(self) -> None:
        """Another patient, or one whose past no longer counts."""
        self._rows.reset()
        self._carried.reset()
        self.steps = 0

    def _fit_to_be_told(self, found: Told) -> Told:
        """Nothing is told after long silence, nor of a quantity that itself was silent so long."""
        limit, since = self._features.stale_steps, self._rows.planes[SINCE]
        if since.min() >= NEVER_STEPS:
            return Told((), Reason.STALE, "nothing measured yet")
        if since.min() >= limit:
            return Told((), Reason.STALE, f"nothing measured for {since.min():g} steps")
        silent = {c.name for c, s in zip(self._features.columns, since) if s >= limit}
        kept = tuple(f for f in found.findings if f.value is None or f.name not in silent)
        if found.findings and not kept:
            return Told((), Reason.STALE, f"none of them measured for {limit} steps")
        return Told((*kept, *self._trends(kept)), found.reason, found.detail)

    def _trends(self, kept: tuple[Finding, ...]) -> tuple[Finding, ...]:
        """Of what is told: nothing is said of a sign that is not."""
        if self._manifest.trend is None:
            return ()
        names = [column.name for column in self._features.columns]
        last = dict(zip(names, self._rows.planes[VALUE].tolist()))
        return tuple(trends(last, kept, self._manifest.trend))

    def save(self, digest: str) -> bytes:
        """The session, for `restore` on the bundle with this `digest`."""
        arrays = {name: value.tobytes() for name, value in self._arrays().items()}
        return msgspec.msgpack.encode(
            Saved(SCHEMA, digest, self._engine.precision, self.steps, arrays)
        )

    def restore(self, data: bytes, digest: str) -> None:
        """Go on where `save` stopped. Raises `StartError` for what is not of this very bundle."""
        saved = read_saved(data, digest, self._engine.precision)
        arrays = self._arrays()
        sizes = {name: len(raw) for name, raw in saved.arrays.items()}
        if sizes != {name: value.nbytes for name, value in arrays.items()} or saved.steps < 0:
            raise _refused("its parts do not fit")
        found = {n: np.frombuffer(raw, np.float32) for n, raw in saved.arrays.items()}
        if not all(np.isfinite(x).all() for x in found.values()):
            raise _refused("it holds values that are not finite")
        for name, value in arrays.items():
            value[...] = found[name].reshape(value.shape)
        self.steps = saved.steps

    def _arrays(self) -> dict[str, np.ndarray[tuple[int, ...], np.dtype[np.float32]]]:
        return {"rows": self._rows.planes} | {
            f"state.{name}": value for name, value in self._carried.values.items()
        }


def read_saved(data: bytes, digest: str, precision: str) -> Saved:
    """What `Course.save` gave. Raises `StartError` for another bundle's or precision's."""
    try:
        saved = msgspec.msgpack.decode(data, type=Saved)
    except msgspec.MsgspecError as error:
        raise _refused(f"it cannot be read ({error})") from None
    if (saved.schema, saved.bundle) != (SCHEMA, digest):
        raise _refused(f"it comes from bundle {saved.bundle[:16]}, this is {digest[:16]}")
    if saved.precision != precision:
        raise _refused(f"it was made at {saved.precision}, this is {precision}")
    return saved


def _refused(why: str) -> StartError:
    return StartError(f"the saved state is refused: {why}", "begin without it: a new course")
