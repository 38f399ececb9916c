"""The demo's summary: what was heard, found and withheld, how fast, and how right."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from edge.clock import NS_PER_S
from edge.demo import score
from edge.percentiles import summary
from edge.types import Diagnosis, Reason

if TYPE_CHECKING:
    from pathlib import Path

    from edge.daemon.run import Daemon
    from edge.types import Result

SIGNAL_PARTS = ("filter", "window")
"""Latency parts that are stretches of signal; all others are processing, in real time."""
EDGE_S = 0.5
"""At the ends of what was played a beat has no whole window: nobody is judged there."""
BEAT_REASONS = (Reason.UNCLASSIFIABLE, Reason.LOW_CONFIDENCE, Reason.BACKEND_LOST)
"""Reasons given to a single beat; the others are about a stretch of signal."""


@dataclass
class Collected:
    """What one demo run leaves behind."""

    seconds: float
    start_s: float
    speed: float
    results: list[Result] = field(default_factory=list)
    rss_mb: float = 0.0
    first_sample_ns: int = 0
    samples: dict[str, int] = field(default_factory=dict)
    commit_ms: list[float] = field(default_factory=list)
    chosen: dict[str, str] = field(default_factory=dict)

    def take(self, daemon: Daemon) -> None:
        """Copy the daemon's counts before it closes."""
        counts = daemon.counters()
        self.samples = {k: counts[k] for k in ("received", "lost", "gaps")}
        self.first_sample_ns = daemon.sources[0].first_ns or 0
        self.commit_ms = list(daemon.writer.commit_ms)
        (self.chosen,) = daemon.chosen()


def summarize(collected: Collected, data: Path | None) -> dict[str, Any]:
    """All figures of one run, ready for JSON."""
    results = collected.results
    diagnoses = [r for r in results if isinstance(r, Diagnosis)]
    withheld = [r for r in results if not isinstance(r, Diagnosis)]
    findings = [f for d in diagnoses for f in d.findings]
    beats = Counter(f.name for f in findings if f.probability is not None)
    return {
        "seconds": collected.seconds,
        "beats": dict(sorted(beats.items())),
        **_scores(collected, data),
        "findings": dict(Counter(f.name for f in findings if f.probability is None)),
        "diagnoses": len(diagnoses),
        "withheld": dict(Counter(w.reason.value for w in withheld)),
        "latency_ms": _latency(diagnoses, collected),
        "samples": collected.samples,
        "rss_mb": round(collected.rss_mb, 1),
        **collected.chosen,
    }


def _scores(collected: Collected, data: Path | None) -> dict[str, Any]:
    """Against record 208's annotations and sleepecg's detector, unusable stretches left out."""
    spans = [_span(collected, r) for r in collected.results if _about_signal(r)]
    spans += [(-EDGE_S, EDGE_S), (collected.seconds - EDGE_S, collected.seconds + EDGE_S)]
    beats = _keep([(_at(collected, r.t_ns), c) for r in collected.results
                   if (c := beat_class(r)) is not None], spans)  # fmt: skip
    reference = score.reference_beats(data, collected.start_s, collected.seconds)
    found: dict[str, Any] = {"against_reference": None}
    if isinstance(reference, str):
        found["against_reference_reason"] = reference
    else:
        found["against_reference"] = score.by_class(beats, _keep(reference, spans))
    detector = [(t, "") for t in score.detector_beats(collected.start_s, collected.seconds)]
    theirs = [t for t, _ in _keep(detector, spans)]
    found["against_detector"] = score.against_detector([t for t, _ in beats], theirs)
    return found


def beat_class(result: Result) -> str | None:
    """A result's beat class, "" where a beat's class was withheld, None where it is no beat."""
    if isinstance(result, Diagnosis):
        first = result.findings[0]
        return first.name if first.probability is not None else None
    return "" if result.reason in BEAT_REASONS else None


def _about_signal(result: Result) -> bool:
    return not isinstance(result, Diagnosis) and result.reason not in BEAT_REASONS


def _at(collected: Collected, t_ns: int) -> float:
    """Seconds of ECG since the first sample played."""
    return (t_ns - collected.first_sample_ns) / NS_PER_S


def _span(collected: Collected, result: Any) -> tuple[float, float]:
    return _at(collected, result.t0_ns), _at(collected, result.t1_ns)


def _keep(
    beats: list[tuple[float, str]], spans: list[tuple[float, float]]
) -> list[tuple[float, str]]:
    kept = score.outside([t for t, _ in beats], spans)
    return [beat for beat, keep in zip(beats, kept) if keep]


def _latency(diagnoses: list[Diagnosis], collected: Collected) -> dict[str, Any]:
    """Percentiles by part, in real milliseconds: at `speed` the signal's own parts last shorter."""
    parts: dict[str, list[float]] = {}
    for diagnosis in diagnoses:
        for part, value in asdict(diagnosis.latency_ms).items():
            if value is not None:
                parts.setdefault(part, []).append(value / collected.speed)
    figures = {part: summary(values, 3) for part, values in parts.items()}
    return figures | {"commit": summary(collected.commit_ms, 3)}


def report(figures: dict[str, Any]) -> str:
    """The summary as text for people."""
    lines = [f"\n{figures['seconds']:g} s of ECG, {sum(figures['beats'].values())} beats"]
    for key, value in figures.items():
        if key not in ("seconds", "latency_ms"):
            lines.append(f"  {key}: {_text(value)}")
    lines.append("  latency, ms (p50 / p99 / max)")
    for part, spread in figures["latency_ms"].items():
        if spread:
            lines.append(
                f"    {part:10} {spread['p50']:9.3f} {spread['p99']:9.3f} {spread['max']:9.3f}"
            )
    return "\n".join(lines)


def _text(value: Any) -> str:
    if not isinstance(value, dict):
        return str(value)
    return "  ".join(
        f"{k} [{_text(v)}]" if isinstance(v, dict) else f"{k} {v}" for k, v in value.items()
    )
