"""The recipe of `pneumonia`: chest x-rays of PneumoniaMNIST to normal or pneumonia.

Owns the splits and the training. `python -m export.recipes.pneumonia [--out DIR] [--key FILE]`
trains, states the area under the curve on the official validation split, and builds the bundle as
`pneumonia.toml` says. Training images that also lie in the validation split are left out; 15 % are
held back for confidence.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import numpy as np

from calibration.sets import Dataset
from edge.errors import StartError
from edge.validation.comparison import interval
from export.recipes import image_cnn
from export.recipes.recipe import main

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

SEED = 7
HELD_BACK = 0.15
TARGET = 0.95
PLAN = image_cnn.Plan(epochs=12, shift=2, flip=False, contrast=0.15, noise=3.0)
CITATION = "PneumoniaMNIST (Yang 2023, Kermany 2018), CC BY 4.0"


def network() -> Any:
    """The untrained network."""
    return image_cnn.network(2)


def train(data: Path) -> Any:
    """The weights, or None where they miss the target on the validation split."""
    images, label = _training(data)
    kept = ~_held_back(len(label))
    net = image_cnn.seeded(2, 1, SEED)
    net = image_cnn.train(net, images[kept], label[kept], PLAN, SEED)
    unseen = gate(data)
    answers = image_cnn.logits(net, unseen.inputs["image"][:, 0].astype(np.uint8))
    value, low, high = interval("auroc", answers, unseen.label, unseen.group, 1)
    print(f"AUROC {value:.4f} [{low:.4f}, {high:.4f}] on {len(unseen)} validation images")
    if value < TARGET:
        print(f"target {TARGET} missed", file=sys.stderr)
        return None
    return net.state_dict()


def calibration(data: Path) -> Dataset:
    """Training images."""
    images, label = _training(data)
    kept = ~_held_back(len(label))
    return _dataset(images[kept], label[kept], "train")


def held_back(data: Path) -> Dataset:
    """Images of the training split that training never saw."""
    images, label = _training(data)
    kept = _held_back(len(label))
    return _dataset(images[kept], label[kept], "held back")


def gate(data: Path) -> Dataset:
    """The official validation split, without images that it holds twice."""
    arrays = _arrays(data)
    images, label = arrays["val_images"], arrays["val_labels"].reshape(-1).astype(np.int64)
    first = np.sort(np.unique(_flat(images), axis=0, return_index=True)[1])
    return _dataset(images[first], label[first], "val")


def _training(data: Path) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """The training split, every image once and none that validation holds too."""
    arrays = _arrays(data)
    images, label = arrays["train_images"], arrays["train_labels"].reshape(-1).astype(np.int64)
    judged = {image.tobytes() for image in arrays["val_images"]}
    first = np.sort(np.unique(_flat(images), axis=0, return_index=True)[1])
    kept = np.array([i for i in first if images[i].tobytes() not in judged])
    return images[kept], label[kept]


def _held_back(count: int) -> NDArray[np.bool_]:
    return np.random.default_rng(SEED).random(count) < HELD_BACK


def _flat(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return images.reshape(len(images), -1)


def _arrays(data: Path) -> Any:
    try:
        return np.load(data / "pneumoniamnist" / "pneumoniamnist.npz", allow_pickle=False)
    except OSError as error:
        raise StartError(f"no PneumoniaMNIST in '{data}' ({error})", "set MEDGE_DATA") from None


def _dataset(images: NDArray[np.uint8], label: NDArray[np.int64], split: str) -> Dataset:
    """The set names no patients, so each image is a group of its own."""
    group = np.array([f"{split} {i}" for i in range(len(label))])
    levels = images[:, None].astype(np.float32)
    return Dataset({"image": levels}, label, group, {}, f"{CITATION}, {split}")


if __name__ == "__main__":
    sys.exit(main("pneumonia", "pneumonia", train, image_cnn.SCALE))
