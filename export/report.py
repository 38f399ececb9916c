"""The gate report of a build: one document, as JSON, as text and as a page with plots."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from edge.validation import page

if TYPE_CHECKING:
    from collections.abc import Iterator

    from export.build import Built
    from export.gate import Verdict

COSTLIEST = 5
SAYS = {True: "passes", False: "FAILS", None: "too few to judge"}
AGREEMENT = {
    "flip_rate": "flip rate", "only_reference_right": "right only in FP32",
    "only_new_right": "right only now", "mcnemar_p": "McNemar p",
    "largest_difference": "largest difference", "sqnr_db": "SQNR, dB",
}  # fmt: skip


def document(built: Built) -> dict[str, Any]:
    """Everything that was found, as plain data."""
    found = built.int8
    return {
        "bundle": built.manifest.name,
        "version": built.manifest.version,
        "passes": built.passes,
        "metric": built.spec.gate.metric,
        "positive": built.spec.gate.positive,
        "margin": built.spec.gate.margin,
        "precisions": {
            v.precision: {
                "passes": v.passes,
                "backend": v.backend,
                "lower_bounds": v.lower_bounds,
                "failures": v.failures(),
                "comparisons": msgspec.to_builtins(v.comparisons),
                "agreement": msgspec.to_builtins(v.agreement),
            }
            for v in built.verdicts
        },
        "bytes": {name: len(data) for name, data in built.models.items()},
        "latency_ms": built.latency_ms,
        "coverage": built.coverage,
        "calibration": msgspec.to_builtins(found.record) if found else None,
        "layer_costs": msgspec.to_builtins(found.costs) if found else [],
        "mixes": msgspec.to_builtins(found.mixes) if found else [],
        "seconds": built.seconds,
    }


def text(built: Built) -> str:
    """The report for a terminal."""
    return "\n".join(_lines(built)) + "\n"


def _lines(built: Built) -> Iterator[str]:
    gate = built.spec.gate
    of = f" of {gate.positive}" if gate.positive else ""
    m = built.manifest
    yield f"{m.name} {m.version}: {gate.metric}{of}, margin {gate.margin:g}"
    for verdict in built.verdicts:
        yield f"{verdict.precision}: {'passes' if verdict.passes else 'FAILS'}, {_judged(verdict)}"
        for c in verdict.comparisons:
            yield (
                f"  {c.name:<24} {c.reference:.4f} -> {c.value:.4f}  {c.difference:+.4f} "
                f"[{c.low:+.4f}, {c.high:+.4f}]  {SAYS[c.passes]} "
                f"(n {c.samples}, {c.groups} groups)"
            )
        yield "  " + ", ".join(f"{name} {value}" for name, value in _agreement(verdict))
        if not verdict.passes and built.int8 and verdict.precision.startswith("int8"):
            yield f"  layers that cost most: {', '.join(costliest(built))}"
    for backend, took in built.latency_ms.items():
        parts = (f"{n} {ms:g} ms ({took['fp32'] / ms:.2f}x)" for n, ms in took.items())
        yield f"{backend}: {', '.join(parts)}"
    if covered := built.coverage:
        yield (
            f"conformal coverage {covered['overall']:.3f} of nominal {covered['nominal']:g}; "
            f"taken for foreign {covered['foreign_share']:.3f}"
        )
    yield f"built in {sum(built.seconds.values()):.1f} s"


def costliest(built: Built) -> list[str]:
    """The layers whose quantisation costs most, the costliest first."""
    return [c.layer for c in built.int8.costs[:COSTLIEST]] if built.int8 else []


def html(built: Built) -> str:
    """The report as a page."""
    gate = built.spec.gate
    title = f"Gate report: {built.manifest.name} {built.manifest.version}"
    of = f" of {gate.positive}" if gate.positive else ""
    parts = [
        page.paragraph(
            f"Primary metric {gate.metric}{of}. Each precision must lose less than {gate.margin:g} "
            "against FP32: lower 95 % bound of the paired difference, patients resampled."
        )
    ]
    for verdict in built.verdicts:
        parts += _precision(verdict, gate.margin)
    if built.int8:
        rows = [(c.layer, c.sqnr_db) for c in sorted(built.int8.costs, key=lambda c: c.sqnr_db)]
        parts += [
            page.heading("Layers quantised alone, noisiest first"),
            page.bars(rows[:16], "dB"),
            page.heading("Mixes that were tried"),
            page.table(
                ("layers kept high", "fall of the metric", "SQNR, dB", "latency, ms"),
                [(", ".join(m.high) or "none", m.metric_fall, m.sqnr_db, m.latency_ms)
                 for m in built.int8.mixes],
            ),
        ]  # fmt: skip
    for backend, took in built.latency_ms.items():
        parts += [page.heading(f"Latency, {backend}"), page.bars(list(took.items()), "ms")]
    if built.coverage:
        rows_ = [(k, v) for k, v in built.coverage.items()]
        parts += [page.heading("Confidence"), page.table(("what", "value"), rows_)]
    return page.page(title, parts)


def _precision(verdict: Verdict, margin: float) -> list[str]:
    ok = verdict.passes
    rows = [(c.name, c.difference, c.low, c.high) for c in verdict.comparisons]
    return [
        page.heading(verdict.precision),
        page.paragraph("passes" if ok else f"FAILS: {', '.join(verdict.failures())}",
                       "pass" if ok else "fail"),
        page.paragraph(_judged(verdict)),
        page.intervals(rows, margin),
        page.table(
            ("", "FP32", verdict.precision, "difference", "95 % interval", "n", "groups", ""),
            [(c.name, f"{c.reference:.4f}", f"{c.value:.4f}", f"{c.difference:+.4f}",
              f"{c.low:+.4f} to {c.high:+.4f}", c.samples, c.groups, SAYS[c.passes])
             for c in verdict.comparisons],
        ),
        page.table(("agreement", ""), _agreement(verdict)),
    ]  # fmt: skip


def _judged(verdict: Verdict) -> str:
    """On which backend the shown figures were worst, and how the others did."""
    bounds = (f"{backend} {low:+.4f}" for backend, low in verdict.lower_bounds.items())
    return f"judged by {verdict.backend}; lower bounds: {', '.join(bounds)}"


def _agreement(verdict: Verdict) -> list[tuple[str, str]]:
    """What there is of it, by its name."""
    found = msgspec.to_builtins(verdict.agreement)
    return [(name, f"{found[k]:g}") for k, name in AGREEMENT.items() if found[k] is not None]
