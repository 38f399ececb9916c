"""The table of what bundles proved, as Markdown: what the README shows is made by this."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edge.bundle.load import REFERENCE, load

if TYPE_CHECKING:
    from collections.abc import Iterator

    from edge.bundle.load import Bundle

DONE = 0
HEAD = ("bundle", "precision", "metric", "FP32", "value", "lower bound", "judged", "kB")


def table() -> int:
    """Print the table of the reference bundles; exit code 0."""
    print(markdown())
    return DONE


def markdown() -> str:
    """One row a bundle and precision: the metric of both, the lower 95 % bound of the difference,
    answers and groups that judged, and the size of the model's file."""
    names = sorted(path.parent.name for path in REFERENCE.glob("*/manifest.json"))
    rows = [HEAD, ("---",) * len(HEAD), *(row for name in names for row in _rows(load(name)))]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _rows(bundle: Bundle) -> Iterator[tuple[str, ...]]:
    for name, precision in bundle.manifest.precisions.items():
        size = f"{len(bundle.files[precision.file]) / 1000:.0f}"
        proved = precision.gate
        if proved is None:
            yield (f"`{bundle.name}`", name, "", "", "", "", "", size)
        else:
            yield (
                "", name, proved.metric, f"{proved.reference:.4f}", f"{proved.value:.4f}",
                f"{proved.lower_bound:+.4f}", f"{proved.samples} of {proved.groups}", size,
            )  # fmt: skip
