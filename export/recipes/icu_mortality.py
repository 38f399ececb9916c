"""The recipe of `icu-mortality`: ICU stays, hour by hour, to in-hospital death, by a GRU.

Owns the splits and the training. `python -m export.recipes.icu_mortality [--out DIR] [--key FILE]`
states the area under the curve by five-fold cross-validation over stays, trains on the part that
is neither held back nor judged, and builds the bundle as `icu_mortality.toml` says.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import numpy as np

from calibration.sets import Dataset
from edge.validation.comparison import interval
from export.recipes.icu_data import COLUMNS, HOURS, SKEWED, part, read_stays, subgroups
from export.recipes.recipe import main
from export.recipes.recurrent import Plan, answers, classifier, fit_reader
from export.recipes.recurrent import train as fit

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from export.recipes.icu_data import Stays

SEED = 7
FOLDS = 5
TARGET = 0.83
PLAN = Plan()
EARLY_SHARE = 0.3
"""Of the loss, over all hours and more so the later; the rest is the last hour's."""

CITATION = "PhysioNet/CinC Challenge 2012 set A (Silva 2012, Goldberger 2000), ODC-BY 1.0"


def network() -> Any:
    """The untrained network; called, it computes one step."""
    return classifier(len(COLUMNS), PLAN.width, 2)


def train(data: Path) -> Any:
    """The weights, or None where cross-validation misses the target."""
    stays = read_stays(data)
    logits = np.empty((len(stays.died), 2), np.float32)
    fold = np.random.default_rng(SEED).permutation(len(stays.died)) % FOLDS
    for k in range(FOLDS):
        logits[fold == k] = answers(_trained(stays, fold != k), stays.planes[fold == k])[:, -1]
    value, low, high = interval("auroc", logits, stays.died, stays.record, 1)
    print(f"AUROC {value:.4f} [{low:.4f}, {high:.4f}] on {len(logits)} stays, cross-validated")
    if value < TARGET:
        print(f"target {TARGET} missed", file=sys.stderr)
        return None
    return _trained(stays, part(len(stays.died), "train")).state_dict()


def _trained(stays: Stays, kept: NDArray[np.bool_]) -> Any:
    import torch

    torch.set_num_threads(1)
    torch.manual_seed(SEED)
    net = network()
    fit_reader(net.reader, stays.planes[kept], SKEWED)
    died = torch.from_numpy(stays.died[kept])
    weight = torch.linspace(0, 1, HOURS) ** 2
    weight = EARLY_SHARE * weight / weight.sum()
    weight[-1] += 1 - EARLY_SHARE

    def loss(logits: Any, at: NDArray[np.int64]) -> Any:
        truth = died[at].repeat_interleave(HOURS)
        each = torch.nn.functional.cross_entropy(logits.flatten(0, 1), truth, reduction="none")
        return (each.view(len(at), HOURS) * weight).sum(1).mean()

    return fit(net, stays.planes[kept], loss, PLAN, SEED)


def calibration(data: Path) -> Dataset:
    """Stays of the training part."""
    return _dataset(data, "train")


def held_back(data: Path) -> Dataset:
    """Stays that fit confidence."""
    return _dataset(data, "held back")


def gate(data: Path) -> Dataset:
    """Stays that judge."""
    return _dataset(data, "judged")


def _dataset(data: Path, name: str) -> Dataset:
    stays = read_stays(data)
    kept = part(len(stays.died), name)
    groups = {n: x[kept] for n, x in subgroups(stays).items()}
    return Dataset({"features": stays.planes[kept]}, stays.died[kept], stays.record[kept], groups,
                   f"{CITATION}, {name}")  # fmt: skip


if __name__ == "__main__":
    sys.exit(main("icu_mortality", "icu-mortality", train))
