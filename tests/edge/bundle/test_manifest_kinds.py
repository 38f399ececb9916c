"""Manifests of texts, rows, states and images: parts that do not fit are refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from edge.bundle.decode import decode
from edge.bundle.load import load
from edge.errors import StartError

QUANTITY = {"name": "HR", "code": "", "unit": "/min", "low": 1.0, "high": 2.0}
TREND = {"horizon_steps": 1, "source": "", "signs": [{"name": "HR", "by": 1, "low": 9, "worse": 0}]}
WRONG = [
    ("icu-vitals", "features", None, "features must be there"),
    ("icu-vitals", "features.step_s", 0, "step_s"),
    ("icu-vitals", "features.stale_steps", 0, "stale_steps"),
    ("icu-vitals", "features.columns", [QUANTITY], "[3, columns]"),
    ("icu-vitals", "features.columns.0.low", 999.0, "low under high"),
    ("icu-vitals", "features.columns.1.name", "HR", "distinct"),
    ("icu-vitals", "states.0.shape", [0], "shape of 'h'"),
    ("icu-vitals", "trend.horizon_steps", 0, "horizon_steps"),
    ("icu-vitals", "trend.signs", [], "signs"),
    ("icu-vitals", "trend.signs.1.name", "SysABP", "distinct"),
    ("icu-vitals", "trend.signs.0.name", "GCS", "column and a quantity"),
    ("icu-vitals", "features.columns.1.unit", "kPa", "column and a quantity"),
    ("icu-vitals", "trend.signs.0.low", 300.0, "under its high"),
    ("icu-vitals", "trend.signs.1.low", None, "low or high"),
    ("icu-vitals", "trend.signs.0.by", 0, "by of the trend"),
    ("icu-vitals", "trend.signs.0.worse", None, "recovery alone"),
    ("icu-mortality", "trend", TREND, "column and a quantity"),
    ("icu-vitals", "states.0.input", "c", "distinct names"),
    ("icu-vitals", "states.0.output", "next_hour", "called as the output"),
    ("icu-vitals", "trend.horizon_steps", 0, "horizon_steps"),
    ("icu-vitals", "trend.signs", [], "signs"),
    ("icu-vitals", "trend.signs.1.name", "SysABP", "distinct"),
    ("icu-vitals", "trend.signs.0.name", "GCS", "column and a quantity"),
    ("icu-vitals", "features.columns.1.unit", "kPa", "column and a quantity"),
    ("icu-vitals", "trend.signs.0.low", 300.0, "under its high"),
    ("icu-vitals", "trend.signs.1.low", None, "low or high"),
    ("icu-vitals", "trend.signs.0.by", 0, "by of the trend"),
    ("icu-vitals", "trend.signs.0.worse", None, "recovery alone"),
    ("icu-mortality", "trend", TREND, "column and a quantity"),
    ("icu-vitals", "states.0.input", "features", "distinct names"),
    ("icu-vitals", "output.quantities.0.low", 999.0, "low under high"),
    ("icu-vitals", "output.quantities", [], "shape of 'next_hour'"),
    ("icu-vitals", "output.tokens", 5, "vocab.json"),
    ("icu-vitals", "output.tokens", -1, "one of labels"),
    ("icu-vitals", "output.image", [1, 2, 2], "one of labels"),
    ("symptom-text", "text", None, "text must be there"),
    ("symptom-text", "text.tokenizer", "python", "tokenizer"),
    ("symptom-text", "text.least_known", 0, "least_known"),
    ("symptom-text", "text.max_unknown", 1.5, "max_unknown"),
    ("symptom-text", "inputs.0.shape", [8, 8], "one axis"),
    ("symptom-text", "inputs.0.source", "image", "text must be there"),
    ("symptom-text", "files.vocab.json", None, "vocab.json must be there"),
    ("symptom-text", "output", {"name": "logits", "tokens": 9}, "texts.json must be there"),
    ("xray-gan", "inputs.1.shape", [3], "image_labels"),
    ("xray-gan", "output.image_labels", [], "image_labels"),
    ("xray-gan", "inputs.0.source", "image", "from noise"),
    ("xray-gan", "output.image", [1, 0, 28], "shape of 'image'"),
    ("pneumonia", "features", {"columns": [QUANTITY], "step_s": 1.0}, "features must be there"),
    ("pneumonia", "text", {"tokenizer": "words"}, "text must be there"),
    ("ecg-beat", "states", [{"input": "h", "output": "g", "shape": [1]}], "carry no states"),
]


@pytest.mark.parametrize(("bundle", "at", "value", "words"), WRONG)
def test_parts_that_do_not_fit(bundle: str, at: str, value: Any, words: str) -> None:
    tree = msgspec.json.decode(load(bundle).files["manifest.json"])
    assert decode(msgspec.json.encode(tree), Path("b")).name == bundle  # control
    node, path = tree, at.split(".", 1) if at.startswith("files") else at.split(".")
    *way, last = [int(k) if k.isdigit() else k for k in path]
    for key in way:
        node = node[key]
    if value is None:
        del node[last]
    else:
        node[last] = value
    with pytest.raises(StartError) as caught:
        decode(msgspec.json.encode(tree), Path("b"))
    assert words in str(caught.value) and "\n" not in str(caught.value)
