"""The gate: a precision is shipped only when it has proved to diagnose as well as FP32.

Owns the verdict. FP32 in ONNX Runtime is the reference; each precision is judged on every backend
that is here and takes it, as admission may choose any, and the worst one decides.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from calibration.collect import answers
from edge.bundle.admission import present
from edge.bundle.manifest import Gate as Proof
from edge.errors import StartError
from edge.validation.comparison import Agreement, Comparison, agreement, compare
from export.backends import taken

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from calibration.sets import Dataset
    from edge.bundle.manifest import Manifest
    from export.spec import Gate


@dataclass(frozen=True, slots=True)
class Verdict:
    """What one precision showed on its worst backend. `comparisons[0]` is the primary metric over
    everybody; `lower_bounds` are its bounds on every backend that was judged."""

    precision: str
    backend: str
    comparisons: tuple[Comparison, ...]
    agreement: Agreement
    lower_bounds: dict[str, float]

    @property
    def passes(self) -> bool:
        """Overall judged and passed, and no class or subgroup that could be judged failed."""
        return bool(self.comparisons[0].passes) and all(
            c.passes is not False for c in self.comparisons
        )

    def failures(self) -> tuple[str, ...]:
        """The names of what failed."""
        failed = [c.name for c in self.comparisons if c.passes is False]
        unjudged = [] if self.comparisons[0].passes is not None else ["overall, too few to judge"]
        return (*failed, *unjudged)


def judge_all(
    models: Mapping[str, bytes], reference: NDArray[np.float32], data: Dataset, manifest: Manifest,
    gate: Gate,
) -> tuple[Verdict, ...]:  # fmt: skip
    """The worst verdict on each of `models`, by precision, against the FP32 answers `reference`
    `[n, k]` on the gate's data."""
    takes = {backend: taken(backend, models) for backend in present()}
    return tuple(
        worst([
            judge(precision, backend, model, reference, data, manifest, gate)
            for backend, names in takes.items() if precision in names
        ])
        for precision, model in models.items()
    )  # fmt: skip


def worst(verdicts: Sequence[Verdict]) -> Verdict:
    """The verdict of one precision that decides: a failed one, then the least lower bound."""
    first = min(verdicts, key=lambda v: (v.passes, v.comparisons[0].low))
    return replace(first, lower_bounds={v.backend: v.comparisons[0].low for v in verdicts})


def judge(
    precision: str, backend: str, model: bytes, reference: NDArray[np.float32], data: Dataset,
    manifest: Manifest, gate: Gate,
) -> Verdict:  # fmt: skip
    """`model` on one backend against the FP32 answers `reference` `[n, k]` on the gate's data."""
    found = answers(model, manifest.output.name, data, backend)
    if not np.isfinite(found).all():
        raise StartError(
            f"{precision} gives answers that are not finite ({backend})",
            f"leave {precision} out of precisions",
        )
    names = manifest.output.names
    positive = names.index(gate.positive) if gate.positive else None
    expected = data.expected()
    rows = compare(
        gate.metric, gate.margin, reference, found, expected.label, expected.group, names,
        expected.subgroups, positive, expected.target,
    )  # fmt: skip
    label = expected.label if expected.target is None else None
    agrees = agreement(reference, found, label)
    return Verdict(precision, backend, rows, agrees, {backend: rows[0].low})


def proof(verdict: Verdict, gate: Gate) -> Proof:
    """What the manifest says of a precision that passed."""
    first = verdict.comparisons[0]
    return Proof(
        metric=gate.metric,
        reference=first.reference,
        value=first.value,
        lower_bound=first.low,
        upper_bound=first.high,
        margin=gate.margin,
        samples=first.samples,
        groups=first.groups,
    )
