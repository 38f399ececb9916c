"""How far a synthetic set is from a real one, and whether it copies any real image.

Owns two two-sample tests (maximum mean discrepancy, Gretton et al. 2012; a classifier, Lopez-Paz
and Oquab 2017) and the nearest-neighbour check. All are evidence, not proof: a set that passes may
still tell something of who was trained on.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from edge.validation.metrics import each_alone, prepare, value_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

PERMUTATIONS = 200
FOLDS = 5
SHIFT = 2
"""Pixels by which a copy may be moved and is still found."""

COPY_SHARE = 0.5
"""An image nearer to a training image than this share of what the nearest 1 % of unseen real images
are is taken for its copy."""


@dataclass(frozen=True, slots=True)
class Discrepancy:
    """Squared maximum mean discrepancy, 0 for the same distribution, and the share `p` of random
    splits of both sets that differ as much. `auroc`: how well a linear classifier tells the sets
    apart by pixels and the steps between neighbours, 0.5 not at all; it sees textures to which
    distances between whole images are blind."""

    value: float
    p: float
    auroc: float


@dataclass(frozen=True, slots=True)
class Copies:
    """`count` of images taken for copies; `nearest` is the least distance of any to a training
    image, `usual` that of the nearest 1 % of unseen real images; 0 is the same but for brightness,
    contrast and place, 1.41 unrelated."""

    count: int
    nearest: float
    usual: float


def discrepancy(a: NDArray[np.float32], b: NDArray[np.float32], seed: int = 0) -> Discrepancy:
    """Of two sets of images `[n, ..., h, w]`; a Gaussian kernel as wide as the median distance."""
    both = np.concatenate((a.reshape(len(a), -1), b.reshape(len(b), -1))).astype(np.float64)
    squared = _squared(both, both)
    kernel = np.exp(-squared / np.median(squared[np.triu_indices(len(both), 1)]))
    first = np.arange(len(both)) < len(a)
    rng = np.random.default_rng(seed)
    value = _difference(kernel, first)
    others = [_difference(kernel, rng.permutation(first)) for _ in range(PERMUTATIONS)]
    p = (1 + sum(other >= value for other in others)) / (1 + PERMUTATIONS)
    return Discrepancy(round(value, 6), round(p, 6), round(_told_apart(a, b, rng), 4))


def _told_apart(a: NDArray[np.float32], b: NDArray[np.float32], rng: np.random.Generator) -> float:
    """The classifier's area under the curve; every image is judged by a fit without its fold."""
    x = np.concatenate((_features(a), _features(b)))
    of_a = (np.arange(len(x)) < len(a)).astype(np.int64)
    fold = rng.permutation(len(x)) % FOLDS
    found = np.empty(len(x), np.float32)
    for f in range(FOLDS):
        found[fold == f] = _ridge(x[fold != f], 2.0 * of_a[fold != f] - 1, x[fold == f])
    return value_of(prepare("auroc", each_alone(np.stack((-found, found), 1), of_a), 1), len(x))


def _features(images: NDArray[np.float32]) -> NDArray[np.float64]:
    """Pixels, and the logarithm of every step to the next one down and to the right."""
    x = images.astype(np.float64)
    steps = [np.log1p(np.abs(np.diff(x, axis=axis))) for axis in (-2, -1)]
    return np.concatenate([part.reshape(len(x), -1) for part in (x, *steps)], 1)


def _ridge(
    x: NDArray[np.float64], y: NDArray[np.float64], at: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Ridge regression of `y` on standardised `x`, as strong as the features' mean power, `at`."""
    middle, spread = x.mean(0), x.std(0) + 1e-6
    known = (x - middle) / spread
    kernel = known @ known.T
    weight = np.linalg.solve(kernel + np.eye(len(x)) * kernel.trace() / len(x), y - y.mean())
    return np.asarray((at - middle) / spread @ (known.T @ weight))


def _difference(kernel: NDArray[np.float64], first: NDArray[np.bool_]) -> float:
    """Unbiased, from the kernel of both sets together."""
    n, m = int(first.sum()), int((~first).sum())
    within = kernel[np.ix_(first, first)].sum() - n
    other = kernel[np.ix_(~first, ~first)].sum() - m
    between = kernel[np.ix_(first, ~first)].mean()
    return float(within / (n * (n - 1)) + other / (m * (m - 1)) - 2 * between)


def copies(
    made: NDArray[np.float32], trained: NDArray[np.float32], unseen: NDArray[np.float32]
) -> Copies:
    """Whether images `[n, ...]` are nearer to training images than `unseen` real ones ever are."""
    usual = float(np.quantile(_nearest(unseen, trained), 0.01))
    found = _nearest(made, trained)
    count = int((found < COPY_SHARE * usual).sum())
    return Copies(count, round(float(found.min()), 4), round(usual, 4))


def _nearest(a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.float64]:
    """From each of `a` to the nearest of `b`, wherever that lies within `SHIFT` pixels."""
    middle = _levelled(a, SHIFT, SHIFT)
    moves = range(2 * SHIFT + 1)
    alike = [(middle @ _levelled(b, y, x).T).max(1) for y in moves for x in moves]
    return np.asarray(np.sqrt(np.maximum(2 - 2 * np.max(alike, 0), 0.0)))


def _levelled(images: NDArray[np.float32], y: int, x: int) -> NDArray[np.float32]:
    """The part at `y`, `x` of each image as a row of mean 0 and length 1, so that neither
    brightness nor contrast hides a copy."""
    high, wide = (size - 2 * SHIFT for size in images.shape[-2:])
    rows = images[..., y : y + high, x : x + wide].reshape(len(images), -1)
    rows = rows - rows.mean(1, keepdims=True)
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.asarray(rows / np.maximum(length, 1e-6), np.float32)


def _squared(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """Squared distances `[len(a), len(b)]`."""
    lengths = (a**2).sum(1)[:, None] + (b**2).sum(1)[None]
    return np.asarray(np.maximum(lengths - 2 * a @ b.T, 0.0))
