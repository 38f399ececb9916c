"""A small image classifier and its training, shared by the image recipes.

Owns architecture and optimisation. Convolutions of 32 to 128 channels with batch norms that fold
away: what INT8 kernels are made for.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from export.spec import Scale

if TYPE_CHECKING:
    from numpy.typing import NDArray

MEAN, DEVIATION = np.float32(127.5), np.float32(64)
SCALE = {"image": Scale(mean=(float(MEAN),), deviation=(float(DEVIATION),))}


@dataclass(frozen=True, slots=True)
class Plan:
    """One training, and how its images are varied: shift in pixels, flip left to right, contrast
    (relative deviation), noise in levels."""

    epochs: int
    shift: int
    flip: bool
    contrast: float
    noise: float
    batch: int = 64
    rate: float = 3e-3
    decay: float = 5e-2
    smoothing: float = 0.05


def network(classes: int, shrink: int = 1) -> Any:
    """Scaled levels `[b, 1, h, w]` to logits `[b, classes]`; the image is averaged over
    squares of `shrink` first."""
    from torch import nn

    def block(inputs: int, outputs: int) -> list[Any]:
        convolution = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
        return [convolution, nn.BatchNorm2d(outputs), nn.ReLU()]

    return nn.Sequential(
        nn.AvgPool2d(shrink) if shrink > 1 else nn.Identity(),
        *block(1, 32), *block(32, 32), nn.MaxPool2d(2),
        *block(32, 64), *block(64, 64), nn.MaxPool2d(2),
        *block(64, 128), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Dropout(0.3), nn.Linear(128, classes),
    )  # fmt: skip


def scaled(levels: NDArray[np.float32]) -> NDArray[np.float32]:
    """What the network takes of raw levels 0..255; the specs tell the export to build it in."""
    return np.asarray((levels - MEAN) / DEVIATION, np.float32)


def train(
    net: Any, images: NDArray[np.uint8], label: NDArray[np.int64], plan: Plan, seed: int
) -> Any:
    """`net` (made after seeding) trained on `images` `[n, h, w]`, in evaluation mode. One thread:
    the same result everywhere. Classes are drawn equally often."""
    import torch

    rng = np.random.default_rng(seed)
    steps = plan.epochs * max(1, len(label) // plan.batch)
    weight = 1 / np.bincount(label)[label]
    drawn = rng.choice(len(label), (steps, plan.batch), p=weight / weight.sum())
    optimiser = torch.optim.AdamW(net.parameters(), lr=plan.rate, weight_decay=plan.decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, plan.rate, total_steps=steps)
    net.train()
    for at in drawn:
        x = torch.from_numpy(_vary(images[at], plan, rng))
        loss = torch.nn.functional.cross_entropy(
            net(x), torch.from_numpy(label[at]), label_smoothing=plan.smoothing
        )
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    return net.eval()


def seeded(classes: int, shrink: int, seed: int) -> Any:
    """A new network whose weights come from `seed`; training goes on on one thread."""
    import torch

    torch.set_num_threads(1)
    torch.manual_seed(seed)
    return network(classes, shrink)


def _vary(images: NDArray[np.uint8], plan: Plan, rng: np.random.Generator) -> NDArray[np.float32]:
    """`[b, 1, h, w]` scaled levels, each image varied on its own."""
    out = np.empty((len(images), 1, *images.shape[1:]), np.float32)
    for i, image in enumerate(images):
        padded = np.pad(image.astype(np.float32), plan.shift, mode="edge")
        y, x = rng.integers(0, 2 * plan.shift + 1, 2)
        cut = padded[y : y + image.shape[0], x : x + image.shape[1]]
        cut = cut[:, ::-1] if plan.flip and rng.random() < 0.5 else cut
        gain = np.exp(plan.contrast * rng.normal())
        out[i, 0] = (cut - cut.mean()) * gain + cut.mean() + 20 * plan.contrast * rng.normal()
    out += np.asarray(plan.noise * rng.normal(size=out.shape), np.float32)
    return scaled(np.asarray(np.clip(out, 0, 255), np.float32))


def logits(net: Any, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """`[n, classes]` of raw images `[n, h, w]`."""
    import torch

    with torch.no_grad():
        parts = [
            net(torch.from_numpy(scaled(images[i : i + 64, None].astype(np.float32)))).numpy()
            for i in range(0, len(images), 64)
        ]
    return np.concatenate(parts)
