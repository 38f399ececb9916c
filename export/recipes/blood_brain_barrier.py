"""The recipe of `blood-brain-barrier`: a molecule as SMILES to whether it reaches the brain.

Owns the splits and the training. `python -m export.recipes.blood_brain_barrier [--out DIR]
[--key FILE]` states the area under the curve by five-fold cross-validation, at random and by
scaffold, trains on the part that is neither held back nor judged, and builds the bundle as
`blood_brain_barrier.toml` says. Writings of the same molecule stay in one part.
"""

from __future__ import annotations

import csv
import sys
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from calibration.sets import Dataset
from edge.errors import StartError
from edge.text.smiles import tokens
from edge.text.vocab import write_vocabulary
from edge.validation.comparison import interval
from export.recipes import text_cnn
from export.recipes.recipe import main
from export.recipes.scaffolds import same, scaffold
from export.recipes.text_cnn import Plan

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

SEED = 7
FOLDS = 5
TARGET = 0.85
LENGTH = 160
PLAN = Plan(
    tokens=64, embedding=32, filters=64, widths=(1, 3, 5, 7), sums=True, epochs=15, unknown=0.1,
    smoothing=0.0,
)  # fmt: skip
PARTS = {"train": 0.65, "held back": 0.1, "judged": 0.25}
CITATION = "BBBP of MoleculeNet (Wu 2018, Martins 2012)"


def network() -> Any:
    """The untrained network."""
    return text_cnn.network(2, PLAN)


def train(data: Path) -> Any:
    """The weights, or None where the random split misses the target."""
    smiles, label = _read(data)
    found = {}
    for name, group_of in (("random", same), ("scaffold", scaffold)):
        found[name] = _validated(smiles, label, group_of)
        value, low, high = found[name]
        print(f"AUROC {value:.4f} [{low:.4f}, {high:.4f}] on {len(smiles)} molecules, {name} split")
    if found["random"][0] < TARGET:
        print(f"target {TARGET} missed", file=sys.stderr)
        return None
    return _trained(smiles, label, _part(smiles, "train"))[0].state_dict()


def files(data: Path) -> dict[str, bytes]:
    """The vocabulary that goes with the weights."""
    return {"vocab.json": write_vocabulary(vocabulary(data))}


def vocabulary(data: Path) -> tuple[str, ...]:
    """Of the training part."""
    smiles, _ = _read(data)
    kept = np.flatnonzero(_part(smiles, "train"))
    return text_cnn.vocabulary([tokens(smiles[i]) for i in kept], PLAN.tokens)


def calibration(data: Path) -> Dataset:
    """Molecules of the training part."""
    return _dataset(data, "train")


def held_back(data: Path) -> Dataset:
    """Molecules that fit confidence."""
    return _dataset(data, "held back")


def gate(data: Path) -> Dataset:
    """Molecules that judge."""
    return _dataset(data, "judged")


def _validated(
    smiles: list[str], label: NDArray[np.int64], group_of: Callable[[str], str]
) -> tuple[float, float, float]:
    """Cross-validated AUROC with its interval; what shares a group is never on both sides."""
    group = np.array([group_of(s) for s in smiles])
    fold = _drawn(group, [1 / FOLDS] * FOLDS)
    logits = np.empty((len(smiles), 2), np.float32)
    for k in range(FOLDS):
        net, known = _trained(smiles, label, fold != k)
        judged = np.flatnonzero(fold == k)
        ids = text_cnn.numbered([tokens(smiles[i]) for i in judged], known, LENGTH)
        logits[judged] = text_cnn.logits(net, ids)
    return interval("auroc", logits, label, group, 1)


def _drawn(group: NDArray[np.str_], shares: list[float]) -> NDArray[np.int64]:
    """The index of each sample's part `[n]`, whole groups together."""
    names, where = np.unique(group, return_inverse=True)
    drawn = np.random.default_rng(SEED).random(len(names))
    part = np.searchsorted(np.cumsum(shares), drawn, side="right")
    return np.asarray(np.minimum(part, len(shares) - 1)[where.reshape(-1)])


def _trained(
    smiles: list[str], label: NDArray[np.int64], kept: NDArray[np.bool_]
) -> tuple[Any, tuple[str, ...]]:
    some = [tokens(smiles[i]) for i in np.flatnonzero(kept)]
    known = text_cnn.vocabulary(some, PLAN.tokens)
    ids = text_cnn.numbered(some, known, LENGTH)
    return text_cnn.train(ids, label[kept], PLAN, SEED), known


def _part(smiles: list[str], name: str) -> NDArray[np.bool_]:
    group = np.array([same(s) for s in smiles])
    return np.asarray(_drawn(group, list(PARTS.values())) == list(PARTS).index(name))


def _dataset(data: Path, name: str) -> Dataset:
    smiles, label = _read(data)
    kept = np.flatnonzero(_part(smiles, name))
    ids = text_cnn.numbered([tokens(smiles[i]) for i in kept], vocabulary(data), LENGTH)
    first = np.sort(np.unique(ids, axis=0, return_index=True)[1])
    group = np.array([same(smiles[i]) for i in kept])
    return Dataset({"ids": ids[first]}, label[kept][first], group[first], {},
                   f"{CITATION}, {name}")  # fmt: skip


@lru_cache(1)
def _read(data: Path) -> tuple[list[str], NDArray[np.int64]]:
    """Molecules that fit the model's length, and their labels."""
    path = data / "molecules" / "bbbp.csv"
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
    except OSError as error:
        raise StartError(f"no BBBP in '{data}' ({error})", "set MEDGE_DATA") from None
    short = [row for row in rows if len(tokens(row["smiles"])) <= LENGTH]
    return [row["smiles"] for row in short], np.array([int(row["BBBP"]) for row in short])


if __name__ == "__main__":
    sys.exit(main("blood_brain_barrier", "blood-brain-barrier", train, files=files))
