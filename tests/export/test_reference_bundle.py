"""The released bundle: its figures, its file, and what it does on a record it never saw."""

from __future__ import annotations

import io
import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

from edge.bundle.load import Bundle, load
from edge.ec57 import CLASSES
from edge.signals.rr import FEATURES
from export.recipes import ecg_beat_figures as figures
from export.recipes.ecg_beat_data import SIGNAL
from export.recipes.ecg_beat_data import load as load_beats
from export.spec import read_spec

RECIPES = Path(__file__).parents[2] / "export" / "recipes"

OPERATORS = {
    "Abs", "Add", "Clip", "Concat", "Constant", "Conv", "Div", "Flatten", "Gemm", "MaxPool", "Mul",
    "ReduceMax", "Relu", "Reshape", "Slice", "Sub",
}  # fmt: skip
"""Small operators that every backend has, TensorRT 10.3 included."""


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return load("ecg-beat")


@pytest.fixture(scope="module")
def stated(bundle: Bundle) -> dict[str, Any]:
    card = bundle.files["card.md"].decode()
    found: dict[str, Any] = json.loads(card.split("```json\n")[1].split("```")[0])
    return found


def run(bundle: Bundle, beat: np.ndarray, rr: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(
        bundle.files["model.fp32.onnx"], providers=["CPUExecutionProvider"]
    )
    (logits,) = session.run(None, {"beat": beat, "rr": rr})
    return np.asarray(logits)


def test_leave_records_out_reaches_the_targets(stated: dict[str, Any]) -> None:
    assert figures.shortfall(stated["classes"]) == []
    worse = json.loads(json.dumps(stated["classes"]))
    worse["V"]["sensitivity"]["value"] = 0.84  # control
    assert figures.shortfall(worse)


@pytest.mark.parametrize("name", CLASSES)
def test_stated_rates_follow_from_the_stated_counts(stated: dict[str, Any], name: str) -> None:
    c = CLASSES.index(name)
    counts = np.array([stated["confusion"][n] for n in CLASSES])
    true = counts[c].sum() + stated["missed_by_trigger"][name]
    rates = stated["classes"][name]
    assert rates["sensitivity"]["value"] == pytest.approx(counts[c, c] / true, abs=1e-4)
    answered = max(1, counts[:, c].sum())
    expected = counts[c, c] / answered
    assert rates["positive_predictivity"]["value"] == pytest.approx(expected, abs=1e-4)
    for rate in rates.values():
        assert rate["interval"][0] <= rate["value"] <= rate["interval"][1]


def test_provenance(bundle: Bundle, stated: dict[str, Any]) -> None:
    provenance = bundle.manifest.provenance
    assert "208" in provenance.excluded
    assert "208" not in provenance.trained_on
    assert list(provenance.trained_on) == stated["records"]
    assert len(provenance.trained_on) == 21


def test_the_bundle_is_cut_with_what_the_recipe_trained_on(bundle: Bundle) -> None:
    assert bundle.manifest.signal == SIGNAL
    by_name = {i.name: i for i in bundle.manifest.inputs}
    assert by_name["rr"].shape == (len(FEATURES),)
    assert by_name["beat"].shape == (3, 200)
    assert [label.name for label in bundle.manifest.output.labels] == list(CLASSES)
    assert [label.name for label in bundle.manifest.output.labels if label.withhold] == ["Q"]


def test_every_precision_is_proved_within_its_margin(bundle: Bundle) -> None:
    precisions = bundle.manifest.precisions
    assert set(precisions) == {"fp32", "fp16", "int8", "int8u"}
    for name, promised in precisions.items():
        assert (promised.gate is None) == (name == "fp32")
        if promised.gate is not None:
            assert promised.gate.lower_bound > -0.01 == -promised.gate.margin
            assert (promised.gate.metric, promised.gate.groups) == ("f1", 14)


def test_the_spec_says_what_the_bundle_says(bundle: Bundle, stated: dict[str, Any]) -> None:
    _, wanted = read_spec(RECIPES / "ecg_beat.toml")
    found = bundle.manifest
    for field in ("name", "version", "intended_use", "signal", "inputs", "rhythm", "provenance"):
        assert getattr(found, field) == getattr(wanted, field)
    assert found.output == wanted.output
    assert (found.output.temperature, found.output.conformal_quantile) == (
        stated["temperature"],
        stated["quantile"],
    )


def test_size_and_what_the_file_tells(bundle: Bundle) -> None:
    assert sum(len(data) for data in bundle.files.values()) < 2_000_000
    model = onnx.load_from_string(bundle.files["model.fp32.onnx"])
    onnx.checker.check_model(model, full_check=True)
    assert {node.op_type for node in model.graph.node} <= OPERATORS
    assert model.ir_version <= 10
    assert next(o.version for o in model.opset_import if o.domain == "") in range(17, 21)
    assert all(i.type.tensor_type.shape.dim[0].dim_param for i in model.graph.input)
    assert not model.metadata_props
    assert not any(n.doc_string or n.metadata_props for n in model.graph.node)
    assert b".py" not in bundle.files["model.fp32.onnx"]


def test_golden_vectors(bundle: Bundle) -> None:
    with np.load(io.BytesIO(bundle.files["golden.npz"])) as golden:
        beat, rr, expected = (golden[n] for n in ("in.beat", "in.rr", "out.logits"))
    assert len(beat) >= 32
    tolerance = bundle.manifest.precisions["fp32"].tolerance
    assert np.abs(run(bundle, beat, rr) - expected).max() <= tolerance
    assert np.abs(run(bundle, beat * np.float32(1.05), rr) - expected).max() > tolerance  # control
    assert len(set(expected.argmax(1))) >= 4


def test_a_drowned_beat_is_withheld_more_often_than_a_clean_one(stated: dict[str, Any]) -> None:
    counts = np.array([stated["confusion"][n] for n in CLASSES])
    clean = counts[0, [CLASSES.index("Q"), 5]].sum() / counts[0].sum()
    assert stated["artefact_share"] > 0.3 > clean


def test_record_208_which_it_never_saw(bundle: Bundle, medge_data: Path) -> None:
    """992 V in half an hour: most are found, and most V answers are V (fusion beats aside)."""
    beats = load_beats(medge_data, ["208"])
    logits = run(bundle, beats.window, beats.rr)
    answer = np.array(CLASSES)[logits.argmax(1)]
    true = np.array(CLASSES)[beats.label]
    v_found = int(((answer == "V") & (true == "V")).sum())
    assert v_found >= 0.8 * 992
    told = Counter(true[answer == "V"].tolist())
    assert told["V"] >= 0.8 * (told["V"] + told["N"] + told["S"])
    shuffled = np.random.default_rng(0).permutation(answer)
    assert int(((shuffled == "V") & (true == "V")).sum()) < v_found / 2  # control
