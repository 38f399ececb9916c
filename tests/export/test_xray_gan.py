"""The released generator: its images calibrate as real ones do, show their label, copy nobody."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from calibration.collect import answers
from calibration.sets import Dataset, read_dataset
from calibration.synthetic import copies
from edge.bundle.load import REFERENCE, load
from edge.pipeline.postprocess import probabilities, verdict
from edge.synthesize import synthesize
from edge.validation.comparison import agreement, compare
from export.build import build

pytest.importorskip("onnx", reason="INT8 models are made with onnx")

pytestmark = pytest.mark.integration
COUNT = 512
RECIPES = Path(__file__).parents[2] / "export" / "recipes"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    folder = tmp_path_factory.mktemp("gan")
    args = (str(folder / "made.npz"), COUNT, 5, None, str(folder / "state"), [], True)
    assert synthesize("xray-gan", *args) == 0
    return read_dataset("made.npz", folder, folder)


@pytest.fixture(scope="module")
def noise(made: Dataset) -> Dataset:
    drawn = np.random.default_rng(1).uniform(0, 255, made.inputs["image"].shape)
    return Dataset({"image": drawn.astype(np.float32)}, made.label, made.group)


def test_it_is_near_real_images_and_noise_is_far(
    made: Dataset, noise: Dataset, medge_data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from export.recipes import pneumonia
    from export.recipes.xray_gan import alike, unseen

    other = unseen(medge_data)
    near, far, control = (alike(x, other) for x in (made, noise, pneumonia.calibration(medge_data)))
    with capsys.disabled():
        print(f"\n[xray-gan] made {near}, noise {far}, real {control}")
    assert control.value < near.value < far.value / 20
    assert control.p > 0.05 > far.p
    assert abs(control.auroc - 0.5) < 0.1 and far.auroc > 0.99


def test_it_copies_nobody(
    made: Dataset, medge_data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Control: training images, brighter, moved by a pixel and noisy, are found."""
    from export.recipes import pneumonia
    from export.recipes.xray_gan import unseen

    trained = pneumonia.calibration(medge_data).inputs["image"]
    other = unseen(medge_data).inputs["image"]
    images = made.inputs["image"]
    copied = copies(images, trained, other)
    planted = images.copy()
    noise = np.random.default_rng(0).normal(0, 2, (100, 1, 28, 28))
    planted[:100] = np.clip(1.15 * np.roll(trained[:100], (1, -1), (2, 3)) + 8 + noise, 0, 255)
    found = copies(planted, trained, other).count
    with capsys.disabled():
        print(f"\n[xray-gan] {copied}; {found} of 100 planted found")
    assert copied.count == 0
    assert found >= 95


def test_its_labels_show(made: Dataset, capsys: pytest.CaptureFixture[str]) -> None:
    """Read by the released `pneumonia`, in every precision; shuffled labels are the control."""
    from export.recipes.xray_gan import gate, told_apart

    drawn = gate(Path())
    found = {}
    for name, precision in load("xray-gan").manifest.precisions.items():
        model = load("xray-gan").files[precision.file]
        images = answers(model, "image", drawn).reshape(-1, 1, 28, 28)
        found[name] = told_apart(replace(drawn, inputs={"image": images}))
    mixed = np.random.default_rng(0).permutation(made.label)
    with capsys.disabled():
        print(f"\n[xray-gan] AUROC of pneumonia on its images {found}")
    assert min(found.values()) > 0.95 and max(found.values()) - min(found.values()) < 0.01
    assert abs(told_apart(replace(made, label=mixed)) - 0.5) < 0.15


def test_control_the_gate_refuses_images_of_other_noise() -> None:
    """And INT8 of the same noise passes, for each label too."""
    from export.recipes.xray_gan import gate

    drawn, released = gate(Path()), load("xray-gan")
    exact = answers(released.files["model.fp32.onnx"], "image", drawn)
    int8 = answers(released.files["model.int8.onnx"], "image", drawn)
    rows, others = (
        compare("image_agreement", 0.01, exact, x, drawn.label, drawn.group, (), drawn.subgroups,
                target=exact)
        for x in (int8, np.roll(exact, 2, 0))
    )  # fmt: skip
    assert [row.name for row in rows] == ["overall", "label normal", "label pneumonia"]
    assert all(row.passes for row in rows) and not any(row.passes for row in others)


@pytest.mark.slow
def test_a_bundle_is_built_without_a_real_calibration_image(
    made: Dataset, medge_data: Path, tmp_path: Path
) -> None:
    """A spec that names what `medge synthesize` wrote: gated on real images, its record names the
    generator's digest."""
    arrays = {"in.image": made.inputs["image"], "label": made.label, "group": made.group}
    np.savez(tmp_path / "synthetic.npz", source=made.source, **arrays)
    recipe = (RECIPES / "pneumonia.toml").read_text()
    for old, new in (
        ("../../edge", str(REFERENCE.parent)),
        ("export.recipes.pneumonia:calibration", "synthetic.npz"),
        ('card = "pneumonia.md"\n', ""),
        ('"fp16", ', ""),
    ):
        assert old in recipe
        recipe = recipe.replace(old, new)
    (tmp_path / "spec.toml").write_text(recipe)
    built = build(tmp_path / "spec.toml", medge_data, lambda _: None)
    assert built.passes and built.int8 is not None
    assert load("xray-gan").digest in built.int8.record.source
    assert b"synthetic, by xray-gan" in built.files["calibration.json"]


def shown(logits: np.ndarray) -> np.ndarray:
    """The probability of pneumonia that `pneumonia` shows, `[n]`."""
    temperature = load("pneumonia").manifest.output.temperature
    return np.array([probabilities(row, temperature)[1] for row in logits.tolist()])


def otherwise(exact: np.ndarray, found: np.ndarray) -> np.ndarray:
    """Which images are told otherwise than by `exact`: label, why withheld, or prediction set."""
    output = load("pneumonia").manifest.output
    both = [[verdict(row, output) for row in logits] for logits in (exact, found)]
    said = [[(v.label, v.reason, v.prediction_set) for v in verdicts] for verdicts in both]
    return np.array([a != b for a, b in zip(*said)])


def more(one: np.ndarray, other: np.ndarray) -> tuple[float, float]:
    """95 % interval of the mean of `one - other` `[n]`, images resampled."""
    drawn = np.random.default_rng(0).integers(0, len(one), (2000, len(one)))
    low, high = np.percentile((one.astype(float) - other)[drawn].mean(1), (2.5, 97.5))
    return float(low), float(high)


@pytest.mark.slow
def test_int8_calibrated_on_it_is_as_good_as_on_real_images(
    made: Dataset, noise: Dataset, medge_data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Within 0.01 AUROC, lower bound of the paired difference. Noise, the control, is worse in the
    probability that is shown, and in how far the logits stray. Not in the area: it counts only
    whether one image ranks above another, and at 0.998 hardly any two are near enough to change
    places."""
    from export.int8 import make_int8
    from export.recipes import pneumonia

    fp32 = load("pneumonia").files["model.fp32.onnx"]
    real, judged = pneumonia.calibration(medge_data), pneumonia.gate(medge_data)
    exact = answers(fp32, "logits", judged)
    found, sqnr, moved, other = {}, {}, {}, {}
    for name, data in (("real", real), ("made", made), ("noise", noise)):
        int8 = make_int8(fp32, "logits", data, COUNT, 0, "auroc", 1, 0.005).int8
        found[name] = answers(int8, "logits", judged)
        sqnr[name] = agreement(exact, found[name], None).sqnr_db
        moved[name] = np.abs(shown(found[name]) - shown(exact))
        other[name] = otherwise(exact, found[name])
    paired, control = (
        compare("auroc", 0.01, found["real"], found[name], judged.label, judged.group,
                ["normal", "pneumonia"], {}, 1)[0]
        for name in ("made", "noise")
    )  # fmt: skip
    with capsys.disabled():
        print(
            f"\n[xray-gan] AUROC real {paired.reference:.4f}, made {paired.value:.4f} "
            f"[{paired.low:+.4f}, {paired.high:+.4f}], noise {control.value:.4f} "
            f"[{control.low:+.4f}, {control.high:+.4f}]; SQNR dB {sqnr}; probability moved by "
            f"{ ({n: round(float(x.mean()), 5) for n, x in moved.items()}) }, noise more than made "
            f"{more(moved['noise'], moved['made'])}, than real "
            f"{more(moved['noise'], moved['real'])}; told otherwise "
            f"{ ({n: int(x.sum()) for n, x in other.items()}) } of {len(exact)}, noise more than "
            f"made {more(other['noise'], other['made'])}"
        )
    assert paired.passes
    assert more(moved["made"], moved["real"])[1] < 0.01
    assert min(more(moved["noise"], moved[name])[0] for name in ("made", "real")) > 0
    assert sqnr["noise"] < sqnr["made"] - 3


def test_a_seed_is_a_generator() -> None:
    torch = pytest.importorskip("torch", reason="recipes train with torch")
    from export.recipes.dcgan import Plan, train

    images = np.random.default_rng(0).integers(0, 255, (40, 28, 28)).astype(np.uint8)
    threads = torch.get_num_threads()
    first, same, other = (
        train(images, np.arange(40) % 2, Plan(updates=3, batch=8), seed).state_dict()
        for seed in (1, 1, 2)
    )
    torch.set_num_threads(threads)
    assert all(torch.equal(first[name], same[name]) for name in first)
    assert not torch.equal(first["first.0.weight"], other["first.0.weight"])
