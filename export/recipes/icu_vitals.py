"""The recipe of `icu-vitals`: ICU stays, hour by hour, to the vital signs of the next hour, by an
LSTM with carried state.

Owns the splits and the training. `python -m export.recipes.icu_vitals [--out DIR] [--key FILE]`
trains, states for each vital sign the mean absolute error on stays it never saw against carrying
the last value forward, and for each trend what cross-validation says (`icu_trend`), and builds the
bundle as `icu_vitals.toml` says. The next hour's value is the mean of its measurements; where none
was made, or the sign was never measured before, nothing is expected.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import numpy as np

from calibration.sets import Dataset
from edge.signals.rows import NEVER_STEPS, SINCE, VALUE
from export.recipes.icu_data import COLUMNS, NAMES, SKEWED, part, read_stays, subgroups
from export.recipes.icu_mortality import CITATION, FOLDS
from export.recipes.icu_trend import lines, proofs, unproved
from export.recipes.recipe import HERE, main
from export.recipes.recurrent import Plan, answers, fit_reader, forecaster
from export.recipes.recurrent import train as fit
from export.spec import read_spec

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from export.recipes.icu_data import Stays

SEED = 7
RESAMPLES = 2000
PLAN = Plan(width=64, epochs=12, rate=4e-3, decay=1e-3, dropout=0.1)
PREDICTED = tuple(
    NAMES.index(name)
    for name in ("HR", "SysABP", "DiasABP", "MAP", "NISysABP", "NIDiasABP", "NIMAP", "RespRate",
                 "Temp", "SaO2")
)  # fmt: skip


def network() -> Any:
    """The untrained network; called, it computes one step."""
    return forecaster(len(COLUMNS), PLAN.width, PREDICTED)


def train(data: Path) -> Any:
    """The weights, or None where a vital sign is not told better than by its last value."""
    stays = read_stays(data)
    judged = part(len(stays.died), "judged")
    net = _trained(stays, ~judged)
    target = next_hour(stays)[judged]
    error = np.abs(answers(net, stays.planes[judged]) - target)
    carried = np.abs(last_known(stays.planes[judged]) - target)
    worst = -np.inf
    for i, column in enumerate(PREDICTED):
        low, high = _interval(error[..., i], carried[..., i])
        print(
            f"{NAMES[column]:<10} MAE {np.nanmean(error[..., i]):.3f}, carried forward "
            f"{np.nanmean(carried[..., i]):.3f} {COLUMNS[column].unit}, difference "
            f"[{low:.3f}, {high:.3f}], {np.isfinite(error[..., i]).sum()} hours"
        )
        worst = max(worst, high)
    if not worst < 0:
        print("target missed: a sign is told no better than by its last value", file=sys.stderr)
        return None
    wrong = _unproved_trends(stays)
    for what in wrong:
        print(what, file=sys.stderr)
    return None if wrong else net.state_dict()


def _unproved_trends(stays: Stays) -> list[str]:
    """Print what cross-validation says of each trend; where the spec says otherwise."""
    told = np.empty((*stays.values.shape[:2], len(PREDICTED)), np.float32)
    fold = np.random.default_rng(SEED).permutation(len(told)) % FOLDS
    for k in range(FOLDS):
        told[fold == k] = answers(_trained(stays, fold != k), stays.planes[fold == k])
    found = list(proofs(stays, {NAMES[c]: told[..., i] for i, c in enumerate(PREDICTED)}, fold))
    print("\n".join(lines(found)))
    trend = read_spec(HERE / "icu_vitals.toml")[1].trend
    return unproved(trend, found) if trend else []


def _interval(error: NDArray[np.float32], carried: NDArray[np.float32]) -> tuple[float, float]:
    """95 % interval of the difference of the mean errors, stays `[n, 48]` resampled."""
    known = np.isfinite(error)
    sums = np.stack([np.where(known, x, 0).sum(1) for x in (error, carried, np.ones_like(error))])
    drawn = np.random.default_rng(0).integers(0, len(error), (RESAMPLES, len(error)))
    found, before, count = sums[:, drawn].sum(2)
    low, high = np.percentile((found - before) / count, (2.5, 97.5))
    return float(low), float(high)


def next_hour(stays: Stays) -> NDArray[np.float32]:
    """`[n, 48, 10]`: what each hour is held against; NaN where nothing is expected."""
    target = np.full((*stays.values.shape[:2], len(PREDICTED)), np.nan, np.float32)
    target[:, :-1] = stays.values[:, 1:, PREDICTED]
    target[stays.planes[:, :, SINCE, PREDICTED] >= NEVER_STEPS] = np.nan
    return target


def last_known(planes: NDArray[np.float32]) -> NDArray[np.float32]:
    """`[n, 48, 10]`: the last value carried forward."""
    return planes[:, :, VALUE, PREDICTED]


def _trained(stays: Stays, kept: NDArray[np.bool_]) -> Any:
    import torch

    torch.set_num_threads(1)
    torch.manual_seed(SEED)
    net = network()
    planes, target = stays.planes[kept], next_hour(stays)[kept]
    fit_reader(net.reader, planes, SKEWED)
    spread = np.nanmean(np.abs(target - last_known(planes)), (0, 1))
    net.spread.copy_(torch.from_numpy(spread))
    net.usual.copy_(torch.from_numpy(np.nanmean(stays.values[kept][..., PREDICTED], (0, 1))))
    known = torch.from_numpy(np.isfinite(target))
    truth = torch.from_numpy(np.nan_to_num(target))

    def loss(told: Any, at: NDArray[np.int64]) -> Any:
        error = (told - truth[at]).abs() / net.spread
        return error[known[at]].mean()

    return fit(net, planes, loss, PLAN, SEED)


def calibration(data: Path) -> Dataset:
    """Stays that were trained on."""
    return _dataset(data, "train")


def gate(data: Path) -> Dataset:
    """Stays that judge."""
    return _dataset(data, "judged")


def _dataset(data: Path, name: str) -> Dataset:
    stays = read_stays(data)
    kept = part(len(stays.died), name)
    groups = {n: x[kept] for n, x in subgroups(stays).items()}
    return Dataset({"features": stays.planes[kept]}, np.zeros(int(kept.sum()), np.int64),
                   stays.record[kept], groups, f"{CITATION}, {name}",
                   next_hour(stays)[kept])  # fmt: skip


if __name__ == "__main__":
    sys.exit(main("icu_vitals", "icu-vitals", train))
