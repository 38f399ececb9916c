"""The released generator: its images calibrate as well as real ones, and copy nobody."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from calibration.collect import answers
from calibration.sets import Dataset, read_dataset
from calibration.synthetic import copies, discrepancy
from edge.bundle.load import load
from edge.synthesize import synthesize
from edge.validation.comparison import agreement, compare

pytest.importorskip("onnx", reason="INT8 models are made with onnx")

pytestmark = pytest.mark.integration
COUNT = 512


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

    trained = pneumonia.calibration(medge_data).inputs["image"]
    unseen = pneumonia.gate(medge_data).inputs["image"]
    rng = np.random.default_rng(0)
    real = trained[rng.permutation(len(trained))[:400]]
    near, far, control = (
        discrepancy(x[:400], unseen[:400])
        for x in (made.inputs["image"], noise.inputs["image"], real)
    )
    copied = copies(made.inputs["image"], trained, unseen)
    planted = made.inputs["image"].copy()
    planted[:5] = trained[:5]
    with capsys.disabled():
        print(f"\n[xray-gan] MMD2 {near.value:.4f} (p {near.p:.3f}), noise {far.value:.4f}, "
              f"real {control.value:.4f} (p {control.p:.3f}); nearest {copied.nearest:.2f}, "
              f"usual {copied.usual:.2f} levels")  # fmt: skip
    assert control.value < near.value < far.value / 5
    assert copied.count == 0
    assert copies(planted, trained, unseen).count == 5  # control


@pytest.mark.slow
def test_int8_calibrated_on_it_is_as_good_as_on_real_images(
    made: Dataset, noise: Dataset, medge_data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Within 0.01 AUROC, lower bound of the paired difference. The area is too near to 1 to fall
    under noise, the control: it shows in how far the logits stray."""
    from export.int8 import make_int8
    from export.recipes import pneumonia

    fp32 = load("pneumonia").files["model.fp32.onnx"]
    real, judged = pneumonia.calibration(medge_data), pneumonia.gate(medge_data)
    exact = answers(fp32, "logits", judged)
    found, sqnr = {}, {}
    for name, data in (("real", real), ("made", made), ("noise", noise)):
        int8 = make_int8(fp32, "logits", data, COUNT, 0, "auroc", 1, 0.005).int8
        found[name] = answers(int8, "logits", judged)
        sqnr[name] = agreement(exact, found[name], None).sqnr_db
    paired, control = (
        compare("auroc", 0.01, found["real"], found[name], judged.label, judged.group,
                ["normal", "pneumonia"], {}, 1)[0]
        for name in ("made", "noise")
    )  # fmt: skip
    with capsys.disabled():
        print(
            f"\n[xray-gan] AUROC real {paired.reference:.4f}, made {paired.value:.4f} "
            f"[{paired.low:+.4f}, {paired.high:+.4f}], noise {control.value:.4f}; SQNR dB {sqnr}"
        )
    assert paired.passes
    assert sqnr["noise"] < sqnr["made"] - 3
