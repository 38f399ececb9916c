"""The gate: a precision is shipped only when it has proved to diagnose as well as FP32.

Owns the verdict. Answers come from ONNX Runtime, which runs Q/DQ and FP16 files as they are
written; that another backend computes the same is for admission, on the device.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from calibration.collect import answers
from edge.bundle.manifest import Gate as Proof
from edge.errors import StartError
from edge.validation.comparison import Agreement, Comparison, agreement, compare

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from calibration.sets import Dataset
    from edge.bundle.manifest import Manifest
    from export.spec import Gate


@dataclass(frozen=True, slots=True)
class Verdict:
    """What one precision showed. `comparisons[0]` is the primary metric over everybody."""

    precision: str
    comparisons: tuple[Comparison, ...]
    agreement: Agreement

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


def judge(
    precision: str, model: bytes, reference: NDArray[np.float32], data: Dataset,
    manifest: Manifest, gate: Gate,
) -> Verdict:  # fmt: skip
    """`model` against the FP32 answers `reference` `[n, k]` on the gate's data."""
    found = answers(model, manifest.output.name, data)
    if not np.isfinite(found).all():
        raise StartError(
            f"{precision} gives answers that are not finite", f"leave {precision} out of precisions"
        )
    names = manifest.output.names
    positive = names.index(gate.positive) if gate.positive else None
    expected = data.expected()
    rows = compare(
        gate.metric, gate.margin, reference, found, expected.label, expected.group, names,
        expected.subgroups, positive, expected.target,
    )  # fmt: skip
    label = expected.label if expected.target is None else None
    return Verdict(precision, rows, agreement(reference, found, label))


def proof(verdict: Verdict, gate: Gate) -> Proof:
    """What the manifest says of a precision that passed."""
    first = verdict.comparisons[0]
    return Proof(
        metric=gate.metric,
        reference=first.reference,
        value=first.value,
        lower_bound=first.low,
        margin=gate.margin,
        samples=first.samples,
        groups=first.groups,
    )
