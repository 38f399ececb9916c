"""The recipe of `symptom-text`: a patient's own words to one of 24 diseases.

Owns the splits and the training. `python -m export.recipes.symptom_text [--out DIR] [--key FILE]`
states the accuracy by five-fold cross-validation, trains on the part that is neither held back nor
judged, and builds the bundle as `symptom_text.toml` says.
"""

from __future__ import annotations

import csv
import sys
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from calibration.sets import Dataset
from edge.errors import StartError
from edge.text.vocab import write_vocabulary
from edge.text.words import words
from edge.validation.comparison import interval
from export.recipes import text_cnn
from export.recipes.recipe import main
from export.recipes.text_cnn import Plan

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

SEED = 7
FOLDS = 5
TARGET = 0.93
LENGTH = 64
DISEASES = 24
PLAN = Plan()
PARTS = {"train": 0.6, "held back": 0.15, "judged": 0.25}
CITATION = "Symptom2Disease, CC0 as published"


def network() -> Any:
    """The untrained network."""
    return text_cnn.network(DISEASES, PLAN)


def train(data: Path) -> Any:
    """The weights, or None where cross-validation misses the target."""
    texts, label, _ = _read(data)
    fold = text_cnn.spread(label, [1 / FOLDS] * FOLDS, SEED)
    logits = np.empty((len(texts), DISEASES), np.float32)
    for k in range(FOLDS):
        net, tokens = _trained(texts, label, fold != k)
        judged = np.flatnonzero(fold == k)
        ids = text_cnn.numbered([texts[i] for i in judged], tokens, LENGTH)
        logits[judged] = text_cnn.logits(net, ids)
    group = np.arange(len(texts)).astype(str)
    value, low, high = interval("accuracy", logits, label, group)
    each = [float((logits.argmax(1) == label)[fold == k].mean()) for k in range(FOLDS)]
    print(f"accuracy {value:.4f} [{low:.4f}, {high:.4f}] on {len(texts)} texts, "
          f"folds {min(each):.3f} to {max(each):.3f}")  # fmt: skip
    if float(np.mean(each)) < TARGET:
        print(f"target {TARGET} missed", file=sys.stderr)
        return None
    return _trained(texts, label, _part(label, "train"))[0].state_dict()


def files(data: Path) -> dict[str, bytes]:
    """The vocabulary that goes with the weights."""
    return {"vocab.json": write_vocabulary(vocabulary(data))}


def vocabulary(data: Path) -> tuple[str, ...]:
    """Of the training part."""
    texts, label, _ = _read(data)
    return text_cnn.vocabulary([texts[i] for i in np.flatnonzero(_part(label, "train"))],
                               PLAN.tokens)  # fmt: skip


def calibration(data: Path) -> Dataset:
    """Texts of the training part."""
    return _dataset(data, "train")


def held_back(data: Path) -> Dataset:
    """Texts that fit confidence."""
    return _dataset(data, "held back")


def gate(data: Path) -> Dataset:
    """Texts that judge."""
    return _dataset(data, "judged")


def _trained(
    texts: list[list[str]], label: NDArray[np.int64], kept: NDArray[np.bool_]
) -> tuple[Any, tuple[str, ...]]:
    some = [texts[i] for i in np.flatnonzero(kept)]
    tokens = text_cnn.vocabulary(some, PLAN.tokens)
    ids = text_cnn.numbered(some, tokens, LENGTH)
    return text_cnn.train(ids, label[kept], PLAN, SEED), tokens


def _dataset(data: Path, name: str) -> Dataset:
    texts, label, _ = _read(data)
    kept = np.flatnonzero(_part(label, name))
    ids = text_cnn.numbered([texts[i] for i in kept], vocabulary(data), LENGTH)
    group = np.array([f"text {i}" for i in kept])
    return Dataset({"ids": ids}, label[kept], group, {}, f"{CITATION}, {name}")


def _part(label: NDArray[np.int64], name: str) -> NDArray[np.bool_]:
    return np.asarray(text_cnn.spread(label, list(PARTS.values()), SEED) == list(PARTS).index(name))


@lru_cache(1)
def _read(data: Path) -> tuple[list[list[str]], NDArray[np.int64], tuple[str, ...]]:
    """Words of each text, its label, and the labels' names in order."""
    path = data / "symptom2disease" / "symptom2disease.csv"
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
    except OSError as error:
        raise StartError(f"no Symptom2Disease in '{data}' ({error})", "set MEDGE_DATA") from None
    names = tuple(sorted({row["label"] for row in rows}))
    label = np.array([names.index(row["label"]) for row in rows])
    return [words(row["text"])[:LENGTH] for row in rows], label, names


if __name__ == "__main__":
    sys.exit(main("symptom_text", "symptom-text", train, files=files))
