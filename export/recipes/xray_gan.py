"""The recipe of `xray-gan`: chest x-rays that belong to nobody, normal or pneumonia.

Owns the data of its build. `python -m export.recipes.xray_gan [--out DIR] [--key FILE]` trains on
what `pneumonia` trains on, states how far its images are from real ones and whether it copies any,
and builds the bundle as `xray_gan.toml` says.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import numpy as np

from calibration.sets import Dataset
from calibration.synthetic import copies, discrepancy
from export.recipes import dcgan, pneumonia
from export.recipes.dcgan import Plan
from export.recipes.recipe import main

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

SEED = 7
CLASSES = 2
PLAN = Plan()
COMPARED = 400


def network() -> Any:
    """The untrained generator."""
    return dcgan.generator(CLASSES, PLAN)


def train(data: Path) -> Any:
    """The weights, or None where an image is a copy."""
    real = pneumonia.calibration(data)
    images = real.inputs["image"][:, 0]
    net = dcgan.train(images.astype(np.uint8), real.label, PLAN, SEED)
    made = _images(net, gate(data))[:COMPARED]
    unseen = pneumonia.gate(data).inputs["image"][:, 0]
    found = discrepancy(made, unseen[:COMPARED])
    print(f"discrepancy from unseen real images {found.value:.4f} (p {found.p:.4f}), "
          f"of noise {discrepancy(_noise(COMPARED), unseen[:COMPARED]).value:.4f}")  # fmt: skip
    copied = copies(made, images, unseen)
    print(f"{copied.count} copies; nearest training image at {copied.nearest:.2f} levels, "
          f"{copied.usual:.2f} for unseen real images")  # fmt: skip
    return None if copied.count else net.state_dict()


def _images(net: Any, data: Dataset) -> NDArray[np.float32]:
    import torch

    with torch.no_grad():
        made = net(*(torch.from_numpy(data.inputs[name]) for name in ("noise", "label")))
    return np.asarray(made[:, 0].numpy())


def _noise(count: int) -> NDArray[np.float32]:
    return np.random.default_rng(SEED).uniform(0, 255, (count, 28, 28)).astype(np.float32)


def calibration(data: Path) -> Dataset:
    """Noise and labels that set the INT8 scales."""
    return _drawn(256, 1)


def gate(data: Path) -> Dataset:
    """Other noise and labels, whose FP32 images judge."""
    return _drawn(512, 2)


def _drawn(count: int, seed: int) -> Dataset:
    rng = np.random.default_rng((SEED, seed))
    label = np.arange(count) % CLASSES
    inputs = {
        "noise": rng.standard_normal((count, PLAN.noise)).astype(np.float32),
        "label": np.eye(CLASSES, dtype=np.float32)[label],
    }
    group = np.array([f"draw {seed}-{i}" for i in range(count)])
    return Dataset(inputs, label, group, {}, f"standard normal noise, seed {(SEED, seed)}")


if __name__ == "__main__":
    sys.exit(main("xray_gan", "xray-gan", train))
