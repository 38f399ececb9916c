"""The two-sample test and the copy check, each with a control that must be found."""

from __future__ import annotations

import numpy as np

from calibration.synthetic import copies, discrepancy


def blobs(count: int, seed: int, size: float = 3.0) -> np.ndarray:
    """Images of one soft spot somewhere."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:12, :12]
    at = rng.uniform(3, 9, (count, 2, 1, 1))
    away = (y - at[:, 0]) ** 2 + (x - at[:, 1]) ** 2
    return (200 * np.exp(-away / size) + rng.normal(0, 5, away.shape)).astype(np.float32)


def test_the_same_kind_is_not_told_apart_and_another_is() -> None:
    same = discrepancy(blobs(150, 1), blobs(150, 2))
    wider = discrepancy(blobs(150, 1, 5.0), blobs(150, 2))
    drawn = np.random.default_rng(3).uniform(0, 200, (150, 12, 12)).astype(np.float32)
    noise = discrepancy(drawn, blobs(150, 2))
    assert same.p > 0.05
    assert wider.p < 0.01 and noise.p < 0.01
    assert same.value < wider.value < noise.value
    assert abs(same.auroc - 0.5) < 0.1 and wider.auroc > 0.9 and noise.auroc > 0.99


def test_a_texture_to_which_distances_are_blind_is_told_by_the_classifier() -> None:
    """Every other pixel off by a little: lost among what images differ by anyhow."""
    made = blobs(150, 1)
    made += np.where(np.indices((12, 12)).sum(0) % 2, 4, -4).astype(np.float32)
    found = discrepancy(made, blobs(150, 2))
    assert found.p > 0.05 and found.auroc > 0.9


def test_the_order_of_the_sets_does_not_matter() -> None:
    a, b = blobs(60, 1), blobs(90, 2, 4.0)
    assert discrepancy(a, b).value == discrepancy(b, a).value


def test_planted_copies_are_counted() -> None:
    trained, unseen, made = blobs(400, 1), blobs(200, 2), blobs(200, 3)
    assert copies(made, trained, unseen).count == 0
    rng = np.random.default_rng(0)
    made[:7] = trained[100:107] + rng.normal(0, 1, trained[:7].shape)
    found = copies(made, trained, unseen)
    assert found.count == 7 and found.nearest < 0.5 * found.usual


def test_a_copy_hides_neither_by_brightness_nor_by_its_place() -> None:
    trained, unseen, made = blobs(400, 1), blobs(200, 2), blobs(200, 3)
    made[:7] = 1.3 * np.roll(trained[100:107], (2, -1), (1, 2)) + 20
    assert copies(made, trained, unseen).count == 7
    made[:7] = np.roll(trained[100:107], (5, -5), (1, 2))  # control: moved away altogether
    assert copies(made, trained, unseen).count == 0


def test_flat_images_are_no_copies() -> None:
    trained, unseen = blobs(100, 1), blobs(50, 2)
    assert copies(np.full_like(unseen, 100), trained, unseen).count == 0
