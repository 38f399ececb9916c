"""Sets: seeded, stratified, whole; patients never shared; what is unusable is one error."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from calibration.sets import Dataset, digest, read_dataset, require_disjoint, stratified
from edge.errors import StartError


def some(n: int = 60, prefix: str = "p", seed: int = 0) -> Dataset:
    rng = np.random.default_rng(seed)
    label = np.where(np.arange(n) % 10 == 0, 1, 0)
    group = np.array([f"{prefix}{i % 7}" for i in range(n)])
    return Dataset({"x": rng.normal(size=(n, 4)).astype(np.float32)}, label, group)


def test_a_draw_is_balanced_and_repeats() -> None:
    data = some(100)
    a, b = stratified(data, 20, 1), stratified(data, 20, 1)
    assert np.bincount(a.label).tolist() == [10, 10]
    assert digest(a) == digest(b) != digest(stratified(data, 20, 2))


def test_the_digest_sees_every_part() -> None:
    data = some()
    flipped = data.label.copy()
    flipped[3] ^= 1
    assert digest(Dataset(data.inputs, flipped, data.group)) != digest(data)
    assert digest(Dataset(data.inputs, data.label, np.char.add(data.group, "x"))) != digest(data)


def test_shared_patients_and_shared_samples_are_refused() -> None:
    with pytest.raises(StartError, match="share 7 group"):
        require_disjoint(some(), some(seed=1), ("a", "b"))
    with pytest.raises(StartError, match="identical sample"):
        require_disjoint(some(), some(prefix="q"), ("a", "b"))
    require_disjoint(some(), some(prefix="q", seed=1), ("a", "b"))  # control


def write(path: Path, **arrays: np.ndarray) -> None:
    np.savez(path, **arrays)  # type: ignore[arg-type]


X = np.zeros((4, 2), np.float32)
L, G = np.array([0, 1, 0, 1]), np.array(["a", "b", "c", "d"])


@pytest.mark.parametrize(
    ("arrays", "says"),
    [
        ({"in.x": X, "label": L}, "no 'group'"),
        ({"in.x": X, "group": G}, "no 'label'"),
        ({"in.x": X[:3], "label": L, "group": G}, "3 rows"),
        ({"in.x": X, "label": L * 0, "group": G}, "one class"),
        ({"in.x": X * np.float32(np.nan), "label": L, "group": G}, "not finite"),
        ({"in.x": X.astype(np.float64), "label": L, "group": G}, "float64"),
        ({"in.x": X[:0], "label": L[:0], "group": G[:0]}, "empty"),
        ({"in.x": np.array([None] * 4), "label": L, "group": G}, "cannot be read"),
    ],
)
def test_unusable_sets(tmp_path: Path, arrays: dict[str, np.ndarray], says: str) -> None:
    write(tmp_path / "set.npz", **arrays)
    with pytest.raises(StartError, match=says):
        read_dataset("set.npz", tmp_path, tmp_path)


def test_a_set_from_a_file_and_from_a_function(tmp_path: Path) -> None:
    write(tmp_path / "set.npz", **{"in.x": X, "label": L, "group": G, "subgroup.sex": G})
    found = read_dataset("set.npz", tmp_path, tmp_path)
    assert (len(found), list(found.subgroups)) == (4, ["sex"])
    with pytest.raises(StartError, match="cannot be loaded"):
        read_dataset("none.at.all:here", tmp_path, tmp_path)
    with pytest.raises(StartError, match="cannot be read"):
        read_dataset("none.npz", tmp_path, tmp_path)
