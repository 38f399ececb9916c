"""Recurrent networks over rows of values with holes, trained on whole stays, exported as one step.

Owns architecture and optimisation. `reader` makes of the three planes (value, measured, steps
since) what a cell takes: values without a unit, fading to the mean as they age (after GRU-D, Che et
al. 2018). A step takes its states as inputs and gives the next ones, so that a bed runs it forever.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from edge.signals.rows import MEASURED, NEVER_STEPS, SINCE, VALUE

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

LIMIT = 5.0
"""Deviations from the mean beyond which a value counts as this far."""

LONGEST_STEPS = 48.0
DAY_STEPS = 24.0
LEAST_DEVIATION = 1e-2


@dataclass(frozen=True, slots=True)
class Plan:
    """One training: states a cell carries, how often the stays are seen, and how."""

    width: int = 48
    epochs: int = 10
    batch: int = 64
    rate: float = 3e-3
    decay: float = 1e-2
    dropout: float = 0.3


def classifier(columns: int, width: int, classes: int) -> Any:
    """A GRU, untrained; a torch module. `sequence(planes [b, t, 3, columns])` gives logits
    `[b, t, classes]`; called, it computes one step: `(planes [b, 3, columns], h [b, width])` to
    logits and the next `h`."""
    from torch import nn

    class Classifier(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.reader = reader(columns)
            self.drop = nn.Dropout()
            self.cell = nn.GRU(3 * columns, width, batch_first=True)
            self.head = nn.Linear(width, classes)

        def sequence(self, planes: Any) -> Any:
            hidden, _ = self.cell(self.drop(self.reader(planes)))
            return self.head(self.drop(hidden))

        def forward(self, planes: Any, h: Any) -> Any:
            h = _gru_step(self.cell, self.reader(planes), h)
            return self.head(h), h

    return Classifier()


def forecaster(columns: int, width: int, predicted: Sequence[int]) -> Any:
    """An LSTM that tells the `predicted` columns one step ahead, as changes of the last value known
    (of the mean where none is); called as `classifier` is, with states `h` and `c`."""
    import torch
    from torch import nn

    class Forecaster(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.reader = reader(columns)
            self.drop = nn.Dropout()
            self.cell = nn.LSTM(3 * columns, width, batch_first=True)
            self.head = nn.Linear(width + 3 * columns, len(predicted))
            self.register_buffer("spread", torch.ones(len(predicted)))
            self.register_buffer("usual", torch.zeros(len(predicted)))
            nn.init.zeros_(self.head.weight)
            nn.init.zeros_(self.head.bias)

        def sequence(self, planes: Any) -> Any:
            read = self.reader(planes)
            hidden, _ = self.cell(self.drop(read))
            return self._told(planes, read, hidden)

        def forward(self, planes: Any, h: Any, c: Any) -> Any:
            read = self.reader(planes)
            h, c = _lstm_step(self.cell, read, h, c)
            return self._told(planes, read, h), h, c

        def _told(self, planes: Any, read: Any, hidden: Any) -> Any:
            change = self.head(torch.cat((hidden, read), -1)) * self.spread
            last, since = (planes[..., i, :][..., list(predicted)] for i in (VALUE, SINCE))
            never = torch.relu(torch.sign(since - NEVER_STEPS + 1))
            return last + never * self.usual + change

    return Forecaster()


def reader(columns: int) -> Any:
    """`[..., 3, columns]` planes to `[..., 3 * columns]`; its buffers are set by `fit_reader`."""
    import torch
    from torch import nn

    class Reader(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            for name in ("skewed", "mean"):
                self.register_buffer(name, torch.zeros(columns))
            self.register_buffer("deviation", torch.ones(columns))
            self.fading = nn.Parameter(torch.full((columns,), 0.5))
            self.fading_bias = nn.Parameter(torch.zeros(columns))

        def forward(self, planes: Any) -> Any:
            value, measured, since = (planes[..., i, :] for i in (VALUE, MEASURED, SINCE))
            small = torch.log1p(torch.relu(value))
            value = value + self.skewed * (small - value)
            value = ((value - self.mean) / self.deviation).clamp(-LIMIT, LIMIT)
            known = torch.relu(torch.sign(NEVER_STEPS - since))
            age = since.clamp(max=LONGEST_STEPS) / DAY_STEPS
            fresh = torch.exp(-torch.relu(self.fading * age + self.fading_bias)) * known
            held = value * known * (measured + (1 - measured) * fresh)
            return torch.cat((held, measured, fresh), -1)

    return Reader()


def _gru_step(cell: Any, x: Any, h: Any) -> Any:
    """What `nn.GRU` computes in one step, written as matrix products that can be quantised."""
    import torch
    from torch.nn.functional import linear

    given = linear(x, cell.weight_ih_l0, cell.bias_ih_l0)
    kept = linear(h, cell.weight_hh_l0, cell.bias_hh_l0)
    (xr, xz, xn), (hr, hz, hn) = given.chunk(3, -1), kept.chunk(3, -1)
    reset, update = torch.sigmoid(xr + hr), torch.sigmoid(xz + hz)
    new = torch.tanh(xn + reset * hn)
    return new + update * (h - new)


def _lstm_step(cell: Any, x: Any, h: Any, c: Any) -> tuple[Any, Any]:
    """What `nn.LSTM` computes in one step, written as matrix products that can be quantised."""
    import torch
    from torch.nn.functional import linear

    gates = linear(x, cell.weight_ih_l0, cell.bias_ih_l0)
    gates = gates + linear(h, cell.weight_hh_l0, cell.bias_hh_l0)
    take, forget, new, give = gates.chunk(4, -1)
    c = torch.sigmoid(forget) * c + torch.sigmoid(take) * torch.tanh(new)
    return torch.sigmoid(give) * torch.tanh(c), c


def fit_reader(found: Any, planes: NDArray[np.float32], skewed: Sequence[int]) -> None:
    """Set a reader's buffers from training `planes` `[n, t, 3, columns]`; `skewed` columns are
    taken as logarithms."""
    import torch

    value, measured = planes[:, :, 0].astype(np.float64), planes[:, :, 1] > 0
    value[:, :, list(skewed)] = np.log1p(np.maximum(value[:, :, list(skewed)], 0))
    count = np.maximum(measured.sum((0, 1)), 1)
    mean = (value * measured).sum((0, 1)) / count
    spread = np.sqrt((((value - mean) ** 2) * measured).sum((0, 1)) / count) + LEAST_DEVIATION
    found.mean.copy_(torch.from_numpy(mean))
    found.deviation.copy_(torch.from_numpy(spread))
    found.skewed[list(skewed)] = 1.0


def train(
    net: Any, planes: NDArray[np.float32], loss: Callable[[Any, NDArray[np.int64]], Any],
    plan: Plan, seed: int,
) -> Any:  # fmt: skip
    """`net` (made after seeding) trained on stays `[n, t, 3, columns]`, in evaluation mode. `loss`
    takes the answers `[b, t, outputs]` of the stays at an index `[b]`. One thread: the same result
    everywhere."""
    import torch

    rng = np.random.default_rng(seed)
    x = torch.from_numpy(planes)
    rounds = len(planes) // plan.batch
    optimiser = torch.optim.AdamW(net.parameters(), lr=plan.rate, weight_decay=plan.decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, plan.rate, total_steps=plan.epochs * rounds
    )
    net.drop.p = plan.dropout
    net.train()
    for _ in range(plan.epochs):
        for at in rng.permutation(len(planes))[: rounds * plan.batch].reshape(rounds, -1):
            optimiser.zero_grad()
            loss(net.sequence(x[at]), at).backward()
            torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
            optimiser.step()
            schedule.step()
    return net.eval()


def answers(net: Any, planes: NDArray[np.float32]) -> NDArray[np.float32]:
    """`[n, t, outputs]` of whole stays."""
    import torch

    with torch.no_grad():
        return np.asarray(net.sequence(torch.from_numpy(planes)).numpy())
