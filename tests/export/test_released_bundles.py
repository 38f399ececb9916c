"""The released bundles: proved, admitted, small, and refused where a signal is needed."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

import pytest

import edge
from edge.bundle.admission import admit
from edge.bundle.load import REFERENCE, load
from edge.errors import StartError
from export.spec import read_spec

RECIPES = Path(__file__).parents[2] / "export" / "recipes"
RELEASED = {
    "pneumonia": ("pneumonia", "auroc", 0.95),
    "breast-ultrasound": ("breast_ultrasound", "auroc", 0.85),
    "icu-mortality": ("icu_mortality", "auroc", 0.83),
    "icu-vitals": ("icu_vitals", "mae_skill", 0.4),
    "symptom-text": ("symptom_text", "auroc", 0.99),
    "blood-brain-barrier": ("blood_brain_barrier", "auroc", 0.85),
    "xray-gan": ("xray_gan", "image_agreement", 1.0),
}
"""Recipe, primary metric, and what FP32 reaches on the gate's data at least."""


@pytest.mark.parametrize("name", RELEASED)
def test_every_precision_is_proved_within_its_margin(name: str) -> None:
    manifest = load(name).manifest
    assert set(manifest.precisions) == {"fp32", "fp16", "int8", "int8u"}
    for precision, promised in manifest.precisions.items():
        if precision == "fp32":
            continue
        assert promised.gate is not None
        assert promised.gate.lower_bound > -0.01 == -promised.gate.margin
        assert promised.gate.metric == RELEASED[name][1]


@pytest.mark.parametrize("name", RELEASED)
def test_the_reference_diagnoses(name: str) -> None:
    proved = load(name).manifest.precisions["int8"].gate
    assert proved is not None and proved.reference >= RELEASED[name][2]
    assert proved.value >= RELEASED[name][2] - proved.margin


@pytest.mark.integration
@pytest.mark.parametrize("name", ["ecg-beat", *RELEASED])
def test_every_backend_admits_every_precision(name: str, tmp_path: Path) -> None:
    admission = admit(load(name), tmp_path)
    assert not [t for t in admission.trials if t.refused]
    assert {t.precision for t in admission.trials} == {"fp32", "fp16", "int8", "int8u"}


@pytest.mark.parametrize("name", RELEASED)
def test_the_spec_says_what_the_bundle_says(name: str) -> None:
    _, wanted = read_spec(RECIPES / f"{RELEASED[name][0]}.toml")
    found = load(name).manifest
    for field in ("name", "version", "intended_use", "inputs", "states", "provenance", "signal",
                  "features", "text", "trend"):  # fmt: skip
        assert getattr(found, field) == getattr(wanted, field)
    assert (found.output.names, found.output.quantities) == (
        wanted.output.names,
        wanted.output.quantities,
    )
    card = (RECIPES / f"{RELEASED[name][0]}.md").read_bytes()
    assert load(name).files["card.md"] == card


@pytest.mark.slow
@pytest.mark.parametrize("name", RELEASED)
def test_it_is_refused_where_a_signal_is_needed(name: str, tmp_path: Path) -> None:
    with pytest.raises(StartError, match="takes no signal"), edge.open(name, state_dir=tmp_path):
        pass


def test_all_released_bundles_are_small() -> None:
    assert sum(f.stat().st_size for f in REFERENCE.rglob("*") if f.is_file()) < 10e6


def test_training_never_saw_what_judges(medge_data: Path) -> None:
    from calibration.sets import require_disjoint

    for name, _, _ in RELEASED.values():
        recipe = import_module(f"export.recipes.{name}")
        judged = recipe.gate(medge_data)
        require_disjoint(recipe.calibration(medge_data), judged, ("calibration", "gate"))
        if name not in ("icu_vitals", "xray_gan"):  # no classes to be sure of
            require_disjoint(recipe.held_back(medge_data), judged, ("held back", "gate"))
