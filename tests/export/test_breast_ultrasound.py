"""The recipe's folds and how it states its coverage."""

from __future__ import annotations

import numpy as np
import pytest

from export.recipes import breast_ultrasound as recipe


def rotations(
    label: np.ndarray, fold: np.ndarray, of_judged: float, of_back: float
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Logits of fold `turn` and of the next; how clearly the model tells the classes in each."""
    rng = np.random.default_rng(1)

    def logits(f: int, clear: float) -> np.ndarray:
        true = np.eye(3)[label[fold == f % recipe.FOLDS]]
        return (clear * true + rng.normal(size=true.shape)).astype(np.float32)

    return [(logits(t, of_judged), logits(t + 1, of_back)) for t in range(recipe.FOLDS)]


def test_coverage_is_of_both_unseen_folds_each_fitted_on_the_other() -> None:
    rng = np.random.default_rng(0)
    label, fold = rng.integers(0, 3, 3000), np.arange(3000) % recipe.FOLDS
    group = np.char.mod("g%d", np.arange(3000) // 2)
    hits, groups = recipe._covered(rotations(label, fold, 2.0, 2.0), label, group, fold)
    assert len(hits) == 6000 and (np.unique(groups, return_counts=True)[1] == 4).all()
    assert hits.mean() == pytest.approx(recipe.COVERAGE, abs=0.02)
    harder, _ = recipe._covered(rotations(label, fold, 0.0, 4.0), label, group, fold)
    assert harder.mean() < recipe.COVERAGE - 0.05  # control: a fold that is unlike the other


def test_near_duplicates_are_one_group() -> None:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 255, (6, 128, 128)).astype(np.uint8)
    images[3] = np.clip(images[0] * 0.9 + 5, 0, 255)
    group = recipe.near_duplicates(images)
    assert group[0] == group[3] and len(set(group.tolist())) == 5
