"""A conditional generator of small grey images and the discriminator that trains it.

After Radford et al. 2016 (DCGAN), with upsampling and convolutions, which INT8 kernels and DLA
take, in the place of transposed ones; Miyato et al. 2018 (spectral norm), Miyato and Koyama 2018
(projection of the label), Zhao et al. 2020 (both real and made images are varied before they are
judged, so that few real ones suffice). Owns architecture and optimisation.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

HALF = 127.5
"""Levels 0..255 are -1..1 times this, plus this."""

SETTLING = 32


@dataclass(frozen=True, slots=True)
class Plan:
    """Shape and training; images are `[28, 28]`. `channels` are those of the generator's layers;
    rates fall to nothing over the second half; `averaging` is the share of the newest weights; the
    discriminator sees images moved by up to `shift` pixels, contrast and brightness changed by up
    to `vary`."""

    noise: int = 32
    channels: tuple[int, int, int, int] = (48, 64, 48, 16)
    updates: int = 1800
    batch: int = 64
    generator_rate: float = 5e-4
    discriminator_rate: float = 1e-3
    averaging: float = 0.002
    shift: int = 1
    vary: float = 0.1


def generator(classes: int, plan: Plan) -> Any:
    """Untrained: `forward(noise [b, n], label [b, classes] one-hot) -> levels [b, 1, 28, 28]`."""
    import torch
    from torch import nn

    first, second, third, last = plan.channels

    def layer(inputs: int, outputs: int) -> list[Any]:
        convolution = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
        return [convolution, nn.BatchNorm2d(outputs), nn.ReLU()]

    class Generator(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Sequential(nn.Linear(plan.noise + classes, first * 49), nn.ReLU())
            self.images = nn.Sequential(
                *layer(first, second), nn.Upsample(scale_factor=2),
                *layer(second, third), nn.Upsample(scale_factor=2),
                *layer(third, last), nn.Conv2d(last, 1, 3, padding=1), nn.Tanh(),
            )  # fmt: skip

        def forward(self, noise: Any, label: Any) -> Any:
            seeds = self.first(torch.cat((noise, label), 1)).unflatten(1, (first, 7, 7))
            return self.images(seeds) * HALF + HALF

    return Generator()


def discriminator(classes: int) -> Any:
    """Untrained: `forward(image in -1..1 [b, 1, 28, 28], label [b, classes]) -> score [b]`."""
    from torch import nn
    from torch.nn.utils.parametrizations import spectral_norm as bound

    def layer(inputs: int, outputs: int) -> list[Any]:
        return [bound(nn.Conv2d(inputs, outputs, 4, 2, 1)), nn.LeakyReLU(0.1)]

    class Discriminator(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.seen = nn.Sequential(*layer(1, 32), *layer(32, 64), *layer(64, 128), nn.Flatten())
            self.real = bound(nn.Linear(1152, 1))
            self.fits = bound(nn.Linear(classes, 1152, bias=False))

        def forward(self, image: Any, label: Any) -> Any:
            seen = self.seen(image)
            return self.real(seen)[:, 0] + (seen * self.fits(label)).sum(1)

    return Discriminator()


def train(images: NDArray[np.uint8], label: NDArray[np.int64], plan: Plan, seed: int) -> Any:
    """A generator trained on `images` `[n, 28, 28]`, its weights averaged over the updates, in
    evaluation mode. Classes are drawn equally often. One thread: the same result everywhere."""
    import torch

    torch.set_num_threads(1)
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    classes = int(label.max()) + 1
    net, judge = generator(classes, plan), discriminator(classes)
    kept = copy.deepcopy(net)
    slow = torch.optim.Adam(net.parameters(), plan.generator_rate, betas=(0.0, 0.99))
    fast = torch.optim.Adam(judge.parameters(), plan.discriminator_rate, betas=(0.0, 0.99))
    falls = [torch.optim.lr_scheduler.LambdaLR(x, lambda i: min(1.0, 2 * (1 - i / plan.updates)))
             for x in (slow, fast)]  # fmt: skip
    weight = 1 / np.bincount(label)[label]
    for at in rng.choice(len(label), (plan.updates, plan.batch), p=weight / weight.sum()):
        real = torch.from_numpy(images[at][:, None].astype(np.float32)) / HALF - 1
        hot = torch.eye(classes)[torch.from_numpy(label[at])]
        made = net(torch.randn(plan.batch, plan.noise), hot) / HALF - 1
        shown = _varied(torch.cat((real, made.detach())), plan)
        of_real, of_made = judge(shown, hot.repeat(2, 1)).chunk(2)
        _step(fast, torch.relu(1 - of_real).mean() + torch.relu(1 + of_made).mean())
        _step(slow, -judge(_varied(made, plan), hot).mean())
        for fall in falls:
            fall.step()
        _average(kept, net, plan.averaging)
    return _settled(kept, classes, plan)


def _step(optimiser: Any, loss: Any) -> None:
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()


def _average(kept: Any, net: Any, share: float) -> None:
    """Move the averaged weights a little towards the newest."""
    import torch

    with torch.no_grad():
        for old, new in zip(kept.parameters(), net.parameters()):
            old.lerp_(new, share)


def _varied(images: Any, plan: Plan) -> Any:
    """Each image moved, its contrast and brightness changed, all in a way that gradients pass."""
    import torch

    padded = torch.nn.functional.pad(images, [plan.shift] * 4, mode="replicate")
    at = torch.randint(0, 2 * plan.shift + 1, (len(images), 2, 1)) + torch.arange(images.shape[-1])
    rows = torch.arange(len(images))[:, None, None]
    moved = padded[rows, 0, at[:, 0, :, None], at[:, 1, None, :]][:, None]
    contrast, brightness = plan.vary * (2 * torch.rand(2, len(images), 1, 1, 1) - 1)
    return moved * (1 + contrast) + brightness


def _settled(net: Any, classes: int, plan: Plan) -> Any:
    """The averaged weights with batch norms measured for them, in evaluation mode."""
    import torch

    for layer in net.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.reset_running_stats()
            layer.momentum = None  # a plain mean over the batches
    net.train()
    with torch.no_grad():
        for _ in range(SETTLING):
            hot = torch.eye(classes).repeat(64, 1)
            net(torch.randn(len(hot), plan.noise), hot)
    return net.eval()
