"""What a step of a course costs beside its bare engine, measured interleaved."""

from __future__ import annotations

import statistics
import time
from typing import Any

import pytest

from edge.bundle.load import load
from edge.engines import open_engine
from edge.pipeline.course import Course

pytestmark = pytest.mark.benchmark
ROUNDS, STEPS = 30, 100


@pytest.mark.parametrize("name", ["icu-mortality", "icu-vitals"])
def test_a_step_costs_little_more_than_its_engine(
    name: str, budgets: dict[str, Any], report: Any
) -> None:
    bundle = load(name)
    took: dict[str, list[float]] = {"path": [], "engine": [], "again": []}
    row = {"HR": 85.0, "MAP": 75.0, "Temp": 37.0, "RespRate": 18.0}
    with open_engine("onnxruntime", bundle.files["model.fp32.onnx"], "fp32") as engine:
        course = Course(bundle.manifest, engine)
        runs = {"path": lambda: course.step(row), "engine": engine.run, "again": engine.run}
        for _ in range(ROUNDS):
            for key, run in runs.items():
                start = time.perf_counter()
                for _ in range(STEPS):
                    run()
                took[key].append((time.perf_counter() - start) / STEPS * 1e3)
    path, bare, again = (statistics.median(took[key]) for key in runs)
    aa = max(bare, again) / min(bare, again)
    report(overhead_ms=round(path - bare, 4), engine_ms=round(bare, 4), aa=round(aa, 2))
    if aa > budgets["path"]["aa_ratio"]:
        pytest.skip(f"too noisy to judge: the engine against itself is x{aa:.2f}")
    assert path - bare <= budgets["course"]["overhead_ms"]
