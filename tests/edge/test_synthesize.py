"""`medge synthesize`: a set that specs can name, the same for a seed, whole or not there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from calibration.sets import read_dataset
from edge.bundle.load import load
from edge.errors import StartError
from edge.synthesize import synthesize

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tmp_path_factory.mktemp("state"))


def made(
    state: str, out: Path, count: int = 6, seed: int = 1, label: str | None = None,
    bundle: str = "xray-gan",
) -> Any:  # fmt: skip
    assert synthesize(bundle, str(out), count, seed, label, state, [], True) == 0
    return np.load(out, allow_pickle=False)


def test_a_set_for_calibration(
    state: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arrays = made(state, tmp_path / "set.npz")
    document = json.loads(capsys.readouterr().out)
    assert (document["images"], document["digest"]) == (6, load("xray-gan").digest)
    data = read_dataset("set.npz", tmp_path, tmp_path)
    assert str(arrays["source"]) == data.source
    assert all(part in data.source for part in (load("xray-gan").digest, "seed 1"))
    assert data.inputs["image"].shape == (6, 1, 28, 28)
    assert data.label.tolist() == [0, 1] * 3 and len(set(data.group.tolist())) == 6
    assert 0 <= data.inputs["image"].min() < data.inputs["image"].max() <= 255


def test_a_seed_is_a_set(state: str, tmp_path: Path) -> None:
    first = made(state, tmp_path / "a.npz")["in.image"]
    made(state, tmp_path / "again.npz")
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "again.npz").read_bytes()
    longer = made(state, tmp_path / "b.npz", count=8)["in.image"]
    assert np.array_equal(first, longer[:6])
    assert not np.array_equal(first, made(state, tmp_path / "c.npz", seed=2)["in.image"])
    flat = longer.reshape(8, -1)
    assert np.abs(flat[:, None] - flat[None]).mean(2)[~np.eye(8, dtype=bool)].min() > 2


def test_one_label_only(state: str, tmp_path: Path) -> None:
    assert made(state, tmp_path / "p.npz", label="pneumonia")["label"].tolist() == [1] * 6


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"bundle": "pneumonia"}, "makes no images"),
        ({"count": 0}, "cannot be drawn"),
        ({"count": 10**9}, "cannot be drawn"),
        ({"seed": -1}, "cannot be drawn"),
        ({"label": "covid"}, "use one of: normal, pneumonia"),
    ],
)
def test_what_cannot_be_drawn(
    state: str, tmp_path: Path, changes: dict[str, Any], says: str
) -> None:
    with pytest.raises(StartError, match=says):
        made(state, tmp_path / "x.npz", **changes)
    assert not list(tmp_path.iterdir())


def test_a_place_that_cannot_be_written(state: str, tmp_path: Path) -> None:
    with pytest.raises(StartError, match="cannot be written"):
        made(state, tmp_path / "none" / "x.npz")
