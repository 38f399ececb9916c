"""`medge bench`: the path against its own bare engine, on the same windows, interleaved.

Every round runs engine, path, engine on one window, so drift of the machine falls on all alike. The
two engine series are each other's control: where they differ, the run is too noisy to judge.
"""

from __future__ import annotations

import gc
import tempfile
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edge.bundle.admission import admitted, opened
from edge.bundle.load import load
from edge.clock import MonotonicClock
from edge.percentiles import summary
from edge.pipeline.front import Front
from edge.pipeline.pipeline import build
from edge.printed import to_json
from edge.sources.synthetic import ecg
from edge.store.journal import open_journal
from edge.types import Waveform, Window

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edge.bundle.manifest import Manifest
    from edge.engines import Engine
    from edge.pipeline.pipeline import Pipeline
    from edge.types import Result

BLOCKS = 5
NOISE_LIMIT = 1.15
COMMITS = 200
ECG_S = 120
WARM_UP = 50


@dataclass
class Series:
    """Durations in ms of the three interleaved series, block by block."""

    engine: list[list[float]] = field(default_factory=list)
    path: list[list[float]] = field(default_factory=list)
    control: list[list[float]] = field(default_factory=list)


def bench(
    bundles: list[str], windows: int, state_dir: str, as_json: bool,
    trusted_keys: Sequence[str] = (),
) -> int:  # fmt: skip
    """Measure each bundle and print a list of figures; exit code 0."""
    rows = [measure(n, windows, Path(state_dir).expanduser(), trusted_keys) for n in bundles]
    print(to_json(rows) if as_json else _lines(rows))
    return 0


def measure(
    name: str, windows: int, state_dir: Path, trusted_keys: Sequence[str] = ()
) -> dict[str, Any]:
    """Figures of one bundle on the backend and precision that were admitted here."""
    bundle = load(name, trusted_keys=trusted_keys, state_dir=state_dir)
    choice = admitted(bundle, state_dir)
    cut = cut_windows(bundle.manifest)
    with (
        opened(bundle, choice) as engine,
        build(
            bundle, backend=choice.backend, precision=choice.precision, threads=choice.threads,
            clock=MonotonicClock(),
        ) as pipeline,
    ):  # fmt: skip
        series, results = interleave(engine, pipeline, cut, windows)
    figures = ratios(series) | {"commit_ms": summary(commit_ms(results))}
    chosen = {"backend": choice.backend, "precision": choice.precision, "threads": choice.threads}
    return {"bundle": bundle.name, **chosen, **figures}


def cut_windows(manifest: Manifest) -> list[Window]:
    """Windows of two minutes of synthetic ECG, cut by the bundle's own front."""
    signal, _ = manifest.signal_part()
    samples, _, _ = ecg("NNNNV", signal.rate_hz, seed=1, seconds=ECG_S)
    block = Waveform(
        0, 0, "synthetic", signal.channel.mdc, signal.channel.unit, signal.rate_hz, 0, samples
    )
    return [item for item in Front(manifest, "synthetic").feed(block) if isinstance(item, Window)]


def interleave(
    engine: Engine, pipeline: Pipeline, windows: list[Window], count: int
) -> tuple[Series, list[Result]]:
    """Five blocks of `count` rounds: engine, path, engine. The results of the last block too."""
    series = Series()
    gc.collect()
    gc.freeze()
    gc.disable()  # as core does while it runs
    for block in (WARM_UP, *[count] * BLOCKS):
        rounds = [_round(engine, pipeline, windows[i % len(windows)]) for i in range(block)]
        results = [result for *_, result in rounds]
        for name, column in zip(("engine", "path", "control"), zip(*rounds)):
            getattr(series, name).append(list(column))
    gc.enable()
    for kept in (series.engine, series.path, series.control):
        del kept[0]
    return series, results


def _round(
    engine: Engine, pipeline: Pipeline, window: Window
) -> tuple[float, float, float, Result]:
    first_ms = _run_ms(engine)
    fresh = _stamped(window, time.monotonic_ns())
    began_ns = time.perf_counter_ns()
    result = next(pipeline.finish([fresh]))
    path_ms = (time.perf_counter_ns() - began_ns) / 1e6
    return first_ms, path_ms, _run_ms(engine), result


def _run_ms(engine: Engine) -> float:
    began_ns = time.perf_counter_ns()
    engine.run()
    return (time.perf_counter_ns() - began_ns) / 1e6


def _stamped(window: Window, now_ns: int) -> Window:
    """The same window as if its last sample had just arrived."""
    by_ns = now_ns - window.complete_ns
    return replace(
        window,
        t_ns=window.t_ns + by_ns,
        t0_ns=window.t0_ns + by_ns,
        t1_ns=window.t1_ns + by_ns,
        complete_ns=now_ns,
        acquired_ns=now_ns,
    )


def ratios(series: Series) -> dict[str, Any]:
    """Percentiles, the overhead of the path, and whether the run can be believed."""
    engine, path = np.concatenate(series.engine), np.concatenate(series.path)
    overhead_ms = float(np.median(path) - np.median(engine))
    aa = max(_off(_typical(series.engine), _typical(series.control)),
             _off(_tail(series.engine, series.control), 1.0))  # fmt: skip
    return {
        "engine_ms": summary(engine.tolist()),
        "path_ms": summary(path.tolist()),
        "overhead_ms": round(overhead_ms, 4),
        "overhead_ratio": round(float(np.median(path) / np.median(engine)), 3),
        "tail_ratio": round(_tail(series.path, series.engine), 3),
        "aa_ratio": round(aa, 3),
        "too_noisy": aa > NOISE_LIMIT,
    }


def _typical(blocks: list[list[float]]) -> float:
    return float(np.median(np.concatenate(blocks)))


def _tail(blocks: list[list[float]], against: list[list[float]]) -> float:
    """Median over the blocks of p99/p50 over the other series' p99/p50."""
    ratios = [_spread(a) / _spread(b) for a, b in zip(blocks, against)]
    return float(np.median(ratios))


def _spread(values: list[float]) -> float:
    return float(np.percentile(values, 99) / np.median(values))


def _off(a: float, b: float) -> float:
    return max(a / b, b / a)


def commit_ms(results: list[Result]) -> list[float]:
    """What committing one result to a journal takes here, each in its own transaction."""
    spent = []
    with tempfile.TemporaryDirectory() as folder, open_journal(Path(folder) / "j.db") as journal:
        for result in results[:COMMITS]:
            began_ns = time.perf_counter_ns()
            journal.append([result])
            spent.append((time.perf_counter_ns() - began_ns) / 1e6)
    return spent


def _lines(rows: list[dict[str, Any]]) -> str:
    return "\n".join(_line(row) for row in rows)


def _line(row: dict[str, Any]) -> str:
    noisy = "  (too noisy to judge)" if row["too_noisy"] else ""
    return (
        f"{row['bundle']} on {row['backend']} {row['precision']}, {row['threads']} thread(s): "
        f"engine {row['engine_ms']['p50']} ms, path {row['path_ms']['p50']} ms "
        f"(+{row['overhead_ms']} ms), p99 {row['path_ms']['p99']} ms, "
        f"tail x{row['tail_ratio']}, control x{row['aa_ratio']}, "
        f"commit {row['commit_ms']['p50']} ms{noisy}"
    )
