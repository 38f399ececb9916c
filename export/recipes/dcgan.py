"""A conditional generator of small grey images and the discriminator that trains it.

After Radford et al. 2016 (DCGAN) and Miyato and Koyama 2018 (projection), with upsampling and
convolutions, which INT8 kernels know, in the place of transposed ones. Owns architecture and
optimisation.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

HALF = 127.5
"""Levels 0..255 are -1..1 times this, plus this."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Shape and training; images are `[28, 28]`."""

    noise: int = 64
    channels: int = 40
    updates: int = 1400
    batch: int = 64
    generator_rate: float = 2e-4
    discriminator_rate: float = 4e-4
    averaging: float = 0.01


def generator(classes: int, plan: Plan) -> Any:
    """Untrained: `forward(noise [b, n], label [b, classes] one-hot) -> levels [b, 1, 28, 28]`."""
    import torch
    from torch import nn

    wide, narrow = 2 * plan.channels, plan.channels // 2

    class Generator(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Sequential(nn.Linear(plan.noise + classes, wide * 49))
            self.images = nn.Sequential(
                nn.BatchNorm2d(wide), nn.ReLU(), nn.Upsample(scale_factor=2),
                nn.Conv2d(wide, plan.channels, 3, padding=1), nn.BatchNorm2d(plan.channels),
                nn.ReLU(), nn.Upsample(scale_factor=2),
                nn.Conv2d(plan.channels, narrow, 3, padding=1), nn.BatchNorm2d(narrow), nn.ReLU(),
                nn.Conv2d(narrow, 1, 3, padding=1), nn.Tanh(),
            )  # fmt: skip

        def forward(self, noise: Any, label: Any) -> Any:
            seeds = self.first(torch.cat((noise, label), 1)).unflatten(1, (wide, 7, 7))
            return self.images(seeds) * HALF + HALF

    return Generator()


def discriminator(classes: int) -> Any:
    """Untrained: `forward(levels [b, 1, 28, 28], label [b, classes]) -> score [b]`."""
    from torch import nn
    from torch.nn.utils.parametrizations import spectral_norm as bound

    class Discriminator(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.seen = nn.Sequential(
                bound(nn.Conv2d(1, 32, 4, 2, 1)), nn.LeakyReLU(0.2),
                bound(nn.Conv2d(32, 64, 4, 2, 1)), nn.LeakyReLU(0.2),
                bound(nn.Conv2d(64, 128, 3, 2, 1)), nn.LeakyReLU(0.2), nn.Flatten(),
            )  # fmt: skip
            self.real = bound(nn.Linear(2048, 1))
            self.fits = bound(nn.Linear(classes, 2048))

        def forward(self, levels: Any, label: Any) -> Any:
            seen = self.seen((levels - HALF) / HALF)
            return self.real(seen)[:, 0] + (seen * self.fits(label)).sum(1) / 16

    return Discriminator()


def train(images: NDArray[np.uint8], label: NDArray[np.int64], plan: Plan, seed: int) -> Any:
    """A generator trained on `images` `[n, 28, 28]`, its weights averaged over the updates, in
    evaluation mode. Classes are drawn equally often. One thread: the same result everywhere."""
    import torch

    torch.set_num_threads(1)
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    classes = int(label.max()) + 1
    made, kept, judge = generator(classes, plan), generator(classes, plan), discriminator(classes)
    kept.load_state_dict(made.state_dict())
    slow = torch.optim.Adam(made.parameters(), plan.generator_rate, betas=(0.0, 0.9))
    fast = torch.optim.Adam(judge.parameters(), plan.discriminator_rate, betas=(0.0, 0.9))
    weight = 1 / np.bincount(label)[label]
    drawn = rng.choice(len(label), (plan.updates, plan.batch), p=weight / weight.sum())
    for at in drawn:
        real = torch.from_numpy(images[at][:, None].astype(np.float32))
        hot = torch.eye(classes)[torch.from_numpy(label[at])]
        with torch.no_grad():
            false = made(torch.randn(plan.batch, plan.noise), hot)
        loss = torch.relu(1 - judge(real, hot)).mean() + torch.relu(1 + judge(false, hot)).mean()
        _step(fast, loss)
        _step(slow, -judge(made(torch.randn(plan.batch, plan.noise), hot), hot).mean())
        _average(kept, made, plan.averaging)
    return kept.eval()


def _step(optimiser: Any, loss: Any) -> None:
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()


def _average(kept: Any, made: Any, share: float) -> None:
    """Move the averaged weights a little towards the newest."""
    import torch

    with torch.no_grad():
        for old, new in zip(kept.state_dict().values(), made.state_dict().values()):
            if old.dtype.is_floating_point:
                old.lerp_(new, share)
            else:
                old.copy_(new)
