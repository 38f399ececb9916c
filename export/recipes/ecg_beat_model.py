"""The beat classifier's network and its training.

Owns architecture and optimisation. The network sees how a beat differs from the patient's usual
one, scaled by that one's height, so that it need not know every normal shape; intervals add to the
logits by themselves. A few members trained from different seeds are averaged inside one graph, in
which they stand side by side as the groups of one network.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from edge.ec57 import CLASSES
from edge.signals.rr import FEATURES
from export.recipes.ecg_beat_data import SIGNAL, Beats, artefacts, without_aberrant

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

QRS_HALF = 40
"""The usual beat's height is taken within so many samples (160 ms) of its R peak."""

CHANNELS = 3
"""Of `relative_to_usual`; a member takes the last of them."""

LEAST_MV = 0.1
LIMIT = 5.0
LEAST_SPREAD = 0.03
"""Of the usual height, added to the usual deviation."""

UNUSUAL_SCALE = 0.2
"""Brings differences in usual deviations to the size of the other channels."""


@dataclass(frozen=True, slots=True)
class Plan:
    """One training: how many windows are drawn, from which classes, and how they are varied."""

    members: tuple[int, ...] = (2, 2, 3, 3)  # the last channels of `relative_to_usual`
    windows: int = 50_000
    batch: int = 128
    rate: float = 3e-3
    decay: float = 1e-2
    share: tuple[float, ...] = (0.62, 0.12, 0.21, 0.03, 0.02)
    record_power: float = 0.5
    artefacts: int = 500
    gain: float = 0.2
    noise: float = 0.02
    shift: int = 3


def network(channels: int) -> Any:
    """One member: `forward(relative [b, 3, n], rr [b, 9]) -> logits [b, 5]`."""
    from torch import nn

    def block(inputs: int, outputs: int, width: int, pool: int) -> list[Any]:
        convolution = nn.Conv1d(inputs, outputs, width, padding=width // 2)
        return [convolution, nn.BatchNorm1d(outputs), nn.ReLU(), nn.MaxPool1d(pool)]

    shape = nn.Sequential(
        *block(channels, 16, 7, 2), *block(16, 24, 7, 2), *block(24, 32, 5, 2),
        *block(32, 32, 5, 5), nn.Flatten(), nn.Dropout(0.3), nn.Linear(160, 32),
        nn.ReLU(), nn.Dropout(0.3), nn.Linear(32, len(CLASSES)),
    )  # fmt: skip
    timing = nn.Sequential(nn.Linear(len(FEATURES), 24), nn.ReLU(), nn.Linear(24, len(CLASSES)))

    def forward(self: Any, relative: Any, rr: Any) -> Any:
        return self.shape(relative[:, 3 - channels :]) + self.timing(rr)

    return _module("Member", forward, shape=shape, timing=timing)


def _module(name: str, forward: Callable[..., Any], **parts: Any) -> Any:
    """A torch module of `parts` that computes `forward(self, ...)`."""
    from torch import nn

    module: Any = type(name, (nn.Module,), {"forward": forward})()
    for part, value in parts.items():
        module.add_module(part, value)
    return module


def relative_to_usual(beat: Any) -> Any:
    """`[b, 3, n]` mV (beat, usual beat, usual deviation) to `[b, 3, n]` without unit: the beat in
    usual heights, the difference in usual heights, and the difference in usual deviations."""
    import torch

    r_peak = round(SIGNAL.before_ms * SIGNAL.rate_hz / 1000)
    window, usual, spread = beat[:, 0:1], beat[:, 1:2], beat[:, 2:3]
    height = usual[:, :, r_peak - QRS_HALF : r_peak + QRS_HALF].abs().amax(2, keepdim=True)
    height = height + LEAST_MV
    difference = window - usual
    unusual = difference / (spread + LEAST_SPREAD * height) * UNUSUAL_SCALE
    both = torch.cat((window / height, difference / height, unusual), 1)
    return both.clamp(-LIMIT, LIMIT)


def train(beats: Beats, plan: Plan, seed: int) -> list[Any]:
    """Members trained on `beats`, in evaluation mode. One thread: the same result everywhere."""
    import torch

    torch.set_num_threads(1)
    rng = np.random.default_rng(seed)
    beats = without_aberrant(beats)
    noise = artefacts(beats, plan.artefacts, rng)
    label = np.concatenate((beats.label, noise.label))
    record = np.concatenate((beats.record, noise.record))
    window = torch.from_numpy(np.concatenate((beats.window, noise.window)))
    relative = relative_to_usual(window)
    rr = torch.from_numpy(np.concatenate((beats.rr, noise.rr)))
    weight = _sampling(label, record, plan)
    return [
        _train_member(channels, relative, rr, label, weight, plan, 1000 * seed + i)
        for i, channels in enumerate(plan.members)
    ]


def _sampling(
    label: NDArray[np.int64], record: NDArray[np.str_], plan: Plan
) -> NDArray[np.float64]:
    """Probability of drawing each window: fixed class shares, and no record dominates a class."""
    weight = np.zeros(len(label))
    for c, share in enumerate(plan.share):
        at = np.flatnonzero(label == c)
        _, which, counts = np.unique(record[at], return_inverse=True, return_counts=True)
        part = counts[which] ** -plan.record_power
        weight[at] = share * part / part.sum()
    return np.asarray(weight / weight.sum())


def _train_member(
    channels: int, relative: Any, rr: Any, label: NDArray[np.int64],
    weight: NDArray[np.float64], plan: Plan, seed: int,
) -> Any:  # fmt: skip
    import torch

    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    member = network(channels)
    steps = plan.windows // plan.batch
    optimiser = torch.optim.AdamW(member.parameters(), lr=plan.rate, weight_decay=plan.decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, plan.rate, total_steps=steps)
    drawn: Any = torch.from_numpy(rng.choice(len(label), steps * plan.batch, p=weight))
    target = torch.from_numpy(label)
    member.train()
    for at in drawn.split(plan.batch):
        x, timing = _vary(
            relative[at], rr[at], plan, int(rng.integers(-plan.shift, plan.shift + 1))
        )
        loss: Any = torch.nn.functional.cross_entropy(member(x, timing), target[at])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    return member.eval()


def _vary(x: Any, rr: Any, plan: Plan, shift: int) -> tuple[Any, Any]:
    """Amplitude, noise and a small shift in time, as electrodes and triggers have them."""
    import torch

    x = x * torch.exp(plan.gain * torch.randn(len(x), 1, 1)) + plan.noise * torch.randn_like(x)
    return torch.roll(x, shift, 2), rr + plan.noise * torch.randn_like(rr)


def member_logits(members: list[Any], beats: Beats) -> NDArray[np.float32]:
    """`[members, k, 5]`."""
    import torch

    with torch.no_grad():
        relative = relative_to_usual(torch.from_numpy(beats.window))
        rr = torch.from_numpy(beats.rr)
        return np.stack([member(relative, rr).numpy() for member in members])


def released(members: list[Any], bias: NDArray[np.float64]) -> Any:
    """One module, for export: mean of the members plus `bias [5]`. Batch norms are folded, and what
    the members compute side by side is one layer with a group for each: exactly the same sums in a
    quarter of the layers, wide enough for INT8 kernels."""
    import torch
    from torch import nn

    parts = [_weighted(member.shape) for member in members]
    *convolutions, hidden, last = zip(*parts)
    pools = [layer for layer in members[0].shape if isinstance(layer, nn.MaxPool1d)]
    layers: list[Any] = []
    for i, (side, pool) in enumerate(zip(convolutions, pools)):
        layers += [_beside(side, of_all=i == 0), nn.ReLU(), pool]
    layers += [_beside([_as_convolution(one, pools) for one in hidden]), nn.ReLU()]
    shape = nn.Sequential(*layers, nn.Flatten(), _mean(last))
    first, second = zip(*[_weighted(member.timing) for member in members])
    timing = nn.Sequential(_stacked(first), nn.ReLU(), _mean(second))

    def forward(self: Any, beat: Any, rr: Any) -> Any:
        return self.shape(relative_to_usual(beat)) + self.timing(rr) + self.bias

    module = _module("Released", forward, shape=shape, timing=timing)
    module.register_buffer("bias", torch.from_numpy(bias.astype(np.float32)))
    return module.eval()


def _weighted(layers: Any) -> list[Any]:
    """Convolutions and linear layers in order, batch norms folded into them."""
    import torch
    from torch.nn.utils.fusion import fuse_conv_bn_eval

    return [
        fuse_conv_bn_eval(a, b) if isinstance(b, torch.nn.BatchNorm1d) else a
        for a, b in zip(layers, [*list(layers)[1:], None])
        if isinstance(a, torch.nn.Conv1d | torch.nn.Linear)
    ]


def _beside(side: Sequence[Any], of_all: bool = False) -> Any:
    """One convolution of one for each member: each a group, or `of_all` channels of the input, of
    which a member may take the last only."""
    import torch

    widest = CHANNELS if of_all else side[0].in_channels
    inputs = widest if of_all else sum(one.in_channels for one in side)
    outputs = sum(one.out_channels for one in side)
    (width,), (padding,) = side[0].kernel_size, side[0].padding
    groups = 1 if of_all else len(side)
    merged = torch.nn.Conv1d(inputs, outputs, width, padding=padding, groups=groups)
    weights = [
        torch.nn.functional.pad(one.weight, (0, 0, widest - one.in_channels, 0)) for one in side
    ]
    return _with(merged, torch.cat(weights), torch.cat([one.bias for one in side]))


def _as_convolution(linear: Any, pools: Sequence[Any]) -> Any:
    """A linear layer over all that the last pooling leaves, as a convolution over just that."""
    import torch

    left = round(SIGNAL.rate_hz * (SIGNAL.before_ms + SIGNAL.after_ms) / 1000)
    for pool in pools:
        left //= pool.kernel_size
    weight = linear.weight.reshape(linear.out_features, -1, left)
    made = torch.nn.Conv1d(weight.shape[1], linear.out_features, left)
    return _with(made, weight, linear.bias)


def _stacked(side: Sequence[Any]) -> Any:
    """Linear layers that take the same, as one."""
    import torch

    made = torch.nn.Linear(side[0].in_features, sum(one.out_features for one in side))
    return _with(made, torch.cat([one.weight for one in side]), torch.cat([o.bias for o in side]))


def _mean(side: Sequence[Any]) -> Any:
    """The mean of linear layers, each of its own part of the input."""
    import torch

    made = torch.nn.Linear(sum(one.in_features for one in side), side[0].out_features)
    weight = torch.cat([one.weight for one in side], 1) / len(side)
    return _with(made, weight, torch.stack([one.bias for one in side]).mean(0))


def _with(layer: Any, weight: Any, bias: Any) -> Any:
    layer.weight.data, layer.bias.data = weight.detach(), bias.detach()
    return layer
