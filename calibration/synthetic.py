"""How far a synthetic set is from a real one, and whether it copies any real image.

Owns the two-sample test (maximum mean discrepancy, Gretton et al. 2012) and the nearest-neighbour
check. Both are evidence, not proof: a set that passes may still tell something of who was trained
on.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

PERMUTATIONS = 200
COPY_SHARE = 0.5
"""An image nearer to a training image than this share of what the nearest 1 % of unseen real images
are is taken for its copy."""


@dataclass(frozen=True, slots=True)
class Discrepancy:
    """Squared maximum mean discrepancy, 0 for the same distribution, and the share `p` of random
    splits of both sets that differ as much."""

    value: float
    p: float


@dataclass(frozen=True, slots=True)
class Copies:
    """`count` of images taken for copies; `nearest` is the least distance of any to a training
    image, `usual` that of the nearest 1 % of unseen real images; root mean squares, in levels."""

    count: int
    nearest: float
    usual: float


def discrepancy(a: NDArray[np.float32], b: NDArray[np.float32], seed: int = 0) -> Discrepancy:
    """Of two sets of images `[n, ...]`; a Gaussian kernel as wide as the median distance."""
    both = np.concatenate((a.reshape(len(a), -1), b.reshape(len(b), -1))).astype(np.float64)
    squared = _squared(both, both)
    kernel = np.exp(-squared / np.median(squared[np.triu_indices(len(both), 1)]))
    first = np.arange(len(both)) < len(a)
    rng = np.random.default_rng(seed)
    value = _difference(kernel, first)
    others = [_difference(kernel, rng.permutation(first)) for _ in range(PERMUTATIONS)]
    p = (1 + sum(other >= value for other in others)) / (1 + PERMUTATIONS)
    return Discrepancy(round(value, 6), round(p, 6))


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
    """Root mean square from each of `a` to the nearest of `b`."""
    flat = (x.reshape(len(x), -1).astype(np.float64) for x in (a, b))
    pixels = a[0].size
    return np.asarray(np.sqrt(_squared(*flat).min(1) / pixels))


def _squared(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """Squared distances `[len(a), len(b)]`."""
    lengths = (a**2).sum(1)[:, None] + (b**2).sum(1)[None]
    return np.asarray(np.maximum(lengths - 2 * a @ b.T, 0.0))
