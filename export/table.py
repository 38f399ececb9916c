"""The table of what bundles proved, as Markdown: what the README shows is made by this.

What was proved is the bundles' own; latency is measured here and now, and says on what.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from edge.bundle.admission import processor
from edge.bundle.golden import NAME, vectors
from edge.bundle.load import REFERENCE, load
from export.latency import latencies_ms

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from edge.bundle.load import Bundle

    Took = Mapping[str, Mapping[str, float]]

DONE = 0
HEAD = ("bundle", "precision", "metric", "FP32", "value", "difference", "judged", "kB")
AGAIN = "fp32 again"
NOISE, TRIES = 0.15, 3
"""FP32 against itself may differ by so much; beyond it nothing is said of that backend."""


def table(bundles: Sequence[str]) -> int:
    """Print the table of the reference bundles, and of `bundles`, with their latencies; exit code
    0."""
    found = [*_released(), *(load(path, allow_unsigned=True) for path in bundles)]
    print(markdown(found, [_latencies(bundle) for bundle in found]))
    print(
        "\nLatency: how many times as fast as FP32, in turns in one measurement, and the median "
        f"of one run, batch 1, one thread of {processor()}. Where FP32 against itself is off by "
        f"more than {NOISE:.0%} it is too noisy to say."
    )
    return DONE


def markdown(bundles: Sequence[Bundle] = (), took: Sequence[Took] = ()) -> str:
    """One row a bundle (the reference ones unless told) and precision: the metric of both, the
    95 % interval of the difference, answers and groups that judged, the size of the model's file,
    and, where `took` gives them, latencies of each."""
    backends = tuple(dict.fromkeys(backend for times in took for backend in times))
    head = (*HEAD, *backends)
    rows = [head, ("---",) * len(head)]
    for i, bundle in enumerate(bundles or _released()):
        for proved, name in zip(_rows(bundle), bundle.manifest.precisions):
            rows.append((*proved, *(_cell(took[i], x, name) for x in backends)))
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _released() -> list[Bundle]:
    return [load(path.parent.name) for path in sorted(REFERENCE.glob("*/manifest.json"))]


def _latencies(bundle: Bundle) -> Took:
    """`[backend][precision]` milliseconds, on the first golden vector; measured again while it is
    too noisy, a few times."""
    m = bundle.manifest
    models = {name: bundle.files[p.file] for name, p in m.precisions.items()}
    inputs, _ = vectors(bundle.files[NAME], m)
    again = {AGAIN: models["fp32"]} if "fp32" in models else {}
    took: dict[str, dict[str, float]] = {}
    for _ in range(TRIES):
        found = latencies_ms({**models, **again}, {name: x[0] for name, x in inputs.items()})
        took |= {backend: times for backend, times in found.items() if not _quiet(took, backend)}
        if all(_quiet(took, backend) for backend in took):
            break
    return took


def _quiet(took: Took, backend: str) -> bool:
    """Whether FP32 took as long as itself."""
    times = took.get(backend, {})
    return AGAIN in times and abs(times[AGAIN] / times["fp32"] - 1) <= NOISE


def _cell(took: Took, backend: str, name: str) -> str:
    """How many times as fast as FP32, and the time itself."""
    times = took.get(backend, {})
    if not {name, "fp32", AGAIN} <= times.keys():
        return "none"
    if not _quiet(took, backend):
        return "too noisy"
    return f"{times['fp32'] / times[name]:.2f}x, {times[name]:.3f} ms"


def _rows(bundle: Bundle) -> Iterator[tuple[str, ...]]:
    for name, precision in bundle.manifest.precisions.items():
        size = f"{len(bundle.files[precision.file]) / 1000:.0f}"
        proved = precision.gate
        if proved is None:
            yield (f"`{bundle.name}`", name, "", "", "", "", "", size)
        else:
            yield (
                "", name, proved.metric, f"{proved.reference:.4f}", f"{proved.value:.4f}",
                f"[{proved.lower_bound:+.4f}, {proved.upper_bound:+.4f}]",
                f"{proved.samples} of {proved.groups}", size,
            )  # fmt: skip
