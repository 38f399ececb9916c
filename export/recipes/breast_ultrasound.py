"""The recipe of `breast-ultrasound`: BUSI images to normal, benign or malignant.

Owns the folds and the training. `python -m export.recipes.breast_ultrasound [--out DIR] [--key
FILE]` cross-validates, states the area under the curve over all images, and builds the bundle of
the first rotation as `breast_ultrasound.toml` says. BUSI holds near duplicates: images alike are
one group and never split. Of five folds each rotation trains on three, holds one back for
confidence and is judged on one.
"""

from __future__ import annotations

import sys
from concurrent.futures import ProcessPoolExecutor
from functools import lru_cache
from multiprocessing import get_context
from typing import TYPE_CHECKING, Any

import numpy as np

from calibration import confidence
from calibration.sets import Dataset
from edge.errors import StartError
from edge.validation.comparison import interval, share
from export.recipes import image_cnn
from export.recipes.recipe import main

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

SEED = 11
FOLDS = 5
ALIKE = 0.95
"""Correlation of two images shrunk to 32x32 from which on they are near duplicates."""

SHRINK = 2
TARGET = 0.85
COVERAGE = 0.9
PLAN = image_cnn.Plan(epochs=60, shift=10, flip=True, contrast=0.2, noise=4.0, batch=32)
CITATION = "BUSI (Al-Dhabyani 2020), CC BY 4.0"


def network() -> Any:
    """The untrained network."""
    return image_cnn.network(3, SHRINK)


def train(data: Path) -> Any:
    """The weights of the first rotation, or None where cross-validation misses the target."""
    _, label, group, fold = _read(data)
    turns = []
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        for job in [pool.submit(_rotation, data, turn) for turn in range(FOLDS)]:
            turns.append(job.result())
            print(f"rotation {len(turns) - 1}: done", flush=True)
    answers = np.concatenate([of_judged for _, of_judged, _ in turns])
    at = np.concatenate([np.flatnonzero(fold == turn) for turn in range(FOLDS)])
    value, low, high = interval("auroc", answers, label[at], group[at])
    print(f"cross-validated macro AUROC {value:.4f} [{low:.4f}, {high:.4f}], {len(label)} images")
    covered, low, high = share(*_covered([t[1:] for t in turns], label, group, fold))
    print(f"conformal coverage {covered:.4f} [{low:.4f}, {high:.4f}] of nominal {COVERAGE}, "
          "either unseen fold of each rotation by the fit on the other")  # fmt: skip
    if value < TARGET:
        print(f"target {TARGET} missed", file=sys.stderr)
        return None
    return turns[0][0]


def _covered(
    turns: Sequence[tuple[NDArray[np.float32], NDArray[np.float32]]], label: NDArray[np.int64],
    group: NDArray[np.str_], fold: NDArray[np.int64],
) -> tuple[NDArray[np.bool_], NDArray[np.str_]]:  # fmt: skip
    """Whether each prediction set holds the truth, and its image's group. A rotation's model saw
    neither of its two folds, so confidence is fitted on the one and tried on the other, both ways:
    each image is tried by two models. `turns` are the logits of fold `turn` and of the next."""
    hits, groups = [], []
    for turn, (judged, back) in enumerate(turns):
        folds = [np.flatnonzero(fold == f % FOLDS) for f in (turn, turn + 1)]
        for mine, others in (((judged, folds[0]), (back, folds[1])),
                             ((back, folds[1]), (judged, folds[0]))):  # fmt: skip
            fitted = confidence.fit(others[0], label[others[1]], COVERAGE)
            inside = confidence.sets(mine[0], fitted)
            hits.append(inside[np.arange(len(inside)), label[mine[1]]])
            groups.append(group[mine[1]])
    return np.concatenate(hits), np.concatenate(groups)


def _rotation(data: Path, turn: int) -> tuple[Any, NDArray[np.float32], NDArray[np.float32]]:
    """Weights of the model that saw neither fold `turn` nor the next, and its logits of both."""
    images, label, _, fold = _read(data)
    judged, back = fold == turn, fold == (turn + 1) % FOLDS
    seen = ~(judged | back)
    net = image_cnn.seeded(3, SHRINK, SEED + turn)
    net = image_cnn.train(net, images[seen], label[seen], PLAN, SEED + turn)
    return (
        net.state_dict(),
        image_cnn.logits(net, images[judged]),
        image_cnn.logits(net, images[back]),
    )


def calibration(data: Path) -> Dataset:
    """The images the released model was trained on."""
    return _set(data, (2, 3, 4))


def held_back(data: Path) -> Dataset:
    """Images that it never saw, for confidence."""
    return _set(data, (1,))


def gate(data: Path) -> Dataset:
    """Images that it never saw, to judge it."""
    return _set(data, (0,))


def _set(data: Path, folds: tuple[int, ...]) -> Dataset:
    images, label, group, fold = _read(data)
    kept = np.isin(fold, folds)
    levels = images[kept][:, None].astype(np.float32)
    source = f"{CITATION}, folds {', '.join(map(str, folds))} of {FOLDS}"
    return Dataset({"image": levels}, label[kept], group[kept], {}, source)


@lru_cache(1)
def _read(
    data: Path,
) -> tuple[NDArray[np.uint8], NDArray[np.int64], NDArray[np.str_], NDArray[np.int64]]:
    """Images `[n, 128, 128]`, label, group of near duplicates, and fold of each."""
    try:
        arrays = np.load(data / "busi_ultrasound" / "busi128_gray.npz", allow_pickle=False)
    except OSError as error:
        raise StartError(f"no BUSI images in '{data}' ({error})", "set MEDGE_DATA") from None
    images, label = arrays["images"], arrays["labels"].astype(np.int64)
    group = near_duplicates(images)
    return images, label, np.char.mod("group %d", group), _folds(group, label)


def near_duplicates(images: NDArray[np.uint8]) -> NDArray[np.int64]:
    """The group `[n]` of each image: images alike, and those alike to them."""
    small = images.reshape(len(images), 32, images.shape[1] // 32, 32, -1).mean((2, 4))
    rows = small.reshape(len(images), -1)
    rows = rows - rows.mean(1, keepdims=True)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True) + 1e-9
    alike = rows @ rows.T > ALIKE
    group = np.arange(len(images))
    while True:  # the smallest index spreads until nothing changes
        spread = np.where(alike, group[None, :], len(images)).min(1)
        if (spread == group).all():
            return group
        group = spread


def _folds(group: NDArray[np.int64], label: NDArray[np.int64]) -> NDArray[np.int64]:
    """Groups dealt to folds class by class, largest first, each to the fold with least of it."""
    rng = np.random.default_rng(SEED)
    fold = np.zeros(len(group), np.int64)
    for c in np.unique(label):
        counts = np.zeros(FOLDS, int)
        groups = [g for g in rng.permutation(np.unique(group)) if label[group == g][0] == c]
        for g in sorted(groups, key=lambda g: -int((group == g).sum())):
            at = int(counts.argmin())
            fold[group == g] = at
            counts[at] += int((group == g).sum())
    return fold


if __name__ == "__main__":
    sys.exit(main("breast_ultrasound", "breast-ultrasound", train, image_cnn.SCALE))
