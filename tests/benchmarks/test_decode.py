"""Tokens per second of decoding beside the bare engine's runs, measured interleaved.

The network has the shape of the recipe's and is not trained: what it computes takes as long.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the network is made with torch")
pytest.importorskip("onnx")

from edge.engines import open_engine  # noqa: E402
from edge.text.approved import read_approved, tree_of  # noqa: E402
from edge.text.decode import Decoder  # noqa: E402
from edge.text.vocab import FIRST  # noqa: E402
from export.passes import clean  # noqa: E402
from export.recipes import symptom_advice  # noqa: E402
from export.spec import read_spec  # noqa: E402
from export.to_onnx import to_onnx  # noqa: E402

pytestmark = pytest.mark.benchmark
ROUNDS, ATTEMPTS = 40, 3
SPEC = Path(symptom_advice.__file__).with_suffix(".toml")
WORDS = [f"w{i}" for i in range(60)]
TEXTS = {
    "schema": 1, "source": "invented", "texts": {"a": " ".join(WORDS[2:])},
    "advice": [{"disease": f"w0 w{i}", "texts": ["a"]} for i in (0, 1)],
}  # fmt: skip


def test_tokens_per_second(budgets: dict[str, Any], report: Any) -> None:
    manifest = read_spec(SPEC)[1]
    zeros = {name: np.zeros((2, *shape), np.float32) for name, shape in manifest.taken().items()}
    torch.manual_seed(0)
    network = symptom_advice.network().eval()
    model = clean(to_onnx(network, zeros, list(manifest.given())))
    numbers = {word: FIRST + i for i, word in enumerate(WORDS)}
    root = tree_of(read_approved(msgspec.json.encode(TEXTS)), numbers, symptom_advice.PLAN.steps)
    prompt = np.arange(manifest.inputs[0].shape[0], dtype=np.float32)
    with open_engine("onnxruntime", model, "fp32") as engine:
        decoder = Decoder(manifest, engine)
        count = len(list(decoder.run(prompt, root)))

        def path() -> None:
            for _ in decoder.run(prompt, root):
                pass

        def bare() -> None:
            for _ in range(count):
                engine.run()

        for _ in range(ATTEMPTS):
            path_s, bare_s, again_s = interleaved(path, bare, bare)
            aa = max(bare_s, again_s) / min(bare_s, again_s)
            if aa <= budgets["decode"]["aa_ratio"]:
                break
    ratio = bare_s / path_s
    report(tokens=count, per_s=round(count / path_s), ratio=round(ratio, 3), aa=round(aa, 2))
    if aa > budgets["decode"]["aa_ratio"]:
        pytest.skip(f"too noisy to judge: the engine against itself is x{aa:.2f}")
    assert ratio >= budgets["decode"]["tokens_ratio"]


def interleaved(*runs: Callable[[], None]) -> list[float]:
    """Median seconds of each."""
    took: list[list[float]] = [[] for _ in runs]
    for _ in range(ROUNDS):
        for run, times in zip(runs, took):
            start = time.perf_counter()
            run()
            times.append(time.perf_counter() - start)
    return [statistics.median(times) for times in took]
