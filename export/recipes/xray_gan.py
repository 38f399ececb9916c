"""The recipe of `xray-gan`: chest x-rays that belong to nobody, normal or pneumonia.

Owns the data of its build. `python -m export.recipes.xray_gan [--out DIR] [--key FILE]` trains on
what `pneumonia` trains on, states how far its images are from real ones, whether it copies any and
whether they show their label, and builds the bundle as `xray_gan.toml` says.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import numpy as np

from calibration.collect import answers
from calibration.sets import Dataset, stratified
from calibration.synthetic import Discrepancy, copies, discrepancy
from edge.bundle.load import load
from edge.validation.comparison import interval
from export.recipes import dcgan, pneumonia
from export.recipes.dcgan import Plan
from export.recipes.recipe import main

if TYPE_CHECKING:
    from pathlib import Path

SEED = 7
LABELS = ("normal", "pneumonia")
PLAN = Plan()
COMPARED = 500
TOLD = 0.95


def network() -> Any:
    """The untrained generator."""
    return dcgan.generator(len(LABELS), PLAN)


def train(data: Path) -> Any:
    """The weights, or None where an image is a copy or the labels do not show in the images."""
    real, other = pneumonia.calibration(data), unseen(data)
    net = dcgan.train(real.inputs["image"][:, 0].astype(np.uint8), real.label, PLAN, SEED)
    made = _images(net, gate(data))
    for name, some in (("made", made), ("noise", _noise(made)), ("training", real)):
        print(f"{name} images against unseen real ones: {alike(some, other)}")
    copied = copies(*(x.inputs["image"] for x in (made, real, other)))
    print(f"{copied.count} copies; nearest training image at {copied.nearest}, "
          f"{copied.usual} for the nearest 1 % of unseen real images")  # fmt: skip
    told = told_apart(made)
    print(f"`pneumonia` tells the labels apart with AUROC {told:.4f}")
    return None if copied.count or told < TOLD else net.state_dict()


def unseen(data: Path) -> Dataset:
    """Real images that training never saw: validation, and what `pneumonia` held back."""
    a, b = pneumonia.gate(data), pneumonia.held_back(data)
    return Dataset(
        {"image": np.concatenate((a.inputs["image"], b.inputs["image"]))},
        np.concatenate((a.label, b.label)),
        np.concatenate((a.group, b.group)),
    )


def told_apart(made: Dataset) -> float:
    """How well the released `pneumonia` tells which label an image was made for: AUROC."""
    logits = answers(load("pneumonia").files["model.fp32.onnx"], "logits", made)
    return interval("auroc", logits, made.label, made.group, 1)[0]


def alike(a: Dataset, b: Dataset) -> Discrepancy:
    """Of the same number of each class, so that only the images count."""
    few = 2 * min(int(np.bincount(x.label).min()) for x in (a, b))
    one, other = (stratified(x, min(few, COMPARED), SEED).inputs["image"] for x in (a, b))
    return discrepancy(one, other)


def _images(net: Any, data: Dataset) -> Dataset:
    import torch

    with torch.no_grad():
        made = net(*(torch.from_numpy(data.inputs[name]) for name in ("noise", "label")))
    return Dataset({"image": made.numpy()}, data.label, data.group)


def _noise(like: Dataset) -> Dataset:
    drawn = np.random.default_rng(SEED).uniform(0, 255, like.inputs["image"].shape)
    return Dataset({"image": drawn.astype(np.float32)}, like.label, like.group)


def calibration(data: Path) -> Dataset:
    """Noise and labels that set the INT8 scales."""
    return _drawn(256, 1)


def gate(data: Path) -> Dataset:
    """Other noise and labels, whose FP32 images judge."""
    return _drawn(512, 2)


def _drawn(count: int, seed: int) -> Dataset:
    rng = np.random.default_rng((SEED, seed))
    label = np.arange(count) % len(LABELS)
    inputs = {
        "noise": rng.standard_normal((count, PLAN.noise)).astype(np.float32),
        "label": np.eye(len(LABELS), dtype=np.float32)[label],
    }
    group = np.array([f"draw {seed}-{i}" for i in range(count)])
    source = f"standard normal noise, seed {(SEED, seed)}"
    return Dataset(inputs, label, group, {"label": np.array(LABELS)[label]}, source)


if __name__ == "__main__":
    sys.exit(main("xray_gan", "xray-gan", train))
