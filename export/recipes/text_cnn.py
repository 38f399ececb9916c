"""A text classifier: embeddings, convolutions of several widths side by side, the largest and the
sum of each; and its training, shared by the text recipes.

After Kim 2014 (Convolutional neural networks for sentence classification). Owns architecture and
optimisation. Token numbers come as float32, as every engine input does.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from edge.text.vocab import FIRST, PADDING, UNKNOWN

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

SUM_SCALE = 16.0
FEWEST_TEXTS = 2
"""Of the training texts a token must be in, to be in the vocabulary."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Shape and training of one classifier that knows at most `tokens`; odd `widths` keep a text's
    length."""

    tokens: int = 768
    embedding: int = 64
    filters: int = 64
    widths: tuple[int, ...] = (1, 3, 5)
    sums: bool = False
    epochs: int = 40
    batch: int = 32
    rate: float = 3e-3
    decay: float = 1e-2
    dropout: float = 0.5
    unknown: float = 0.15
    smoothing: float = 0.1


def network(classes: int, plan: Plan) -> Any:
    """Untrained: `forward(ids [b, length]) -> logits [b, classes]`."""
    import torch
    from torch import nn

    class TextCnn(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding = nn.Embedding(FIRST + plan.tokens, plan.embedding, padding_idx=PADDING)
            self.widths = nn.ModuleList(
                nn.Conv1d(plan.embedding, plan.filters, w, padding=w // 2) for w in plan.widths
            )
            self.drop = nn.Dropout(plan.dropout)
            seen = plan.filters * len(plan.widths) * (1 + plan.sums)
            self.head = nn.Linear(seen, classes)

        def forward(self, ids: Any) -> Any:
            there = (ids > PADDING).to(ids.dtype)[:, None]
            embedded = self.embedding(ids.long()).transpose(1, 2)
            found = [torch.relu(width(embedded)) * there for width in self.widths]
            parts = [x.amax(2) for x in found]
            if plan.sums:
                parts += [x.sum(2) / SUM_SCALE for x in found]
            return self.head(self.drop(torch.cat(parts, 1)))

    return TextCnn()


def vocabulary(texts: Sequence[Sequence[str]], most: int) -> tuple[str, ...]:
    """The tokens that are in enough of the training texts, at `most` so many, commonest first."""
    count: dict[str, int] = {}
    for tokens in texts:
        for token in set(tokens):
            count[token] = count.get(token, 0) + 1
    common = sorted((-n, token) for token, n in count.items() if n >= FEWEST_TEXTS)
    return tuple(token for _, token in common[:most])


def numbered(
    texts: Sequence[Sequence[str]], tokens: Sequence[str], length: int
) -> NDArray[np.float32]:
    """`[n, length]` token numbers, padded. No text may be longer."""
    numbers = {token: FIRST + i for i, token in enumerate(tokens)}
    ids = np.full((len(texts), length), PADDING, np.float32)
    for row, text in zip(ids, texts):
        row[: len(text)] = [numbers.get(token, UNKNOWN) for token in text]
    return ids


def train(ids: NDArray[np.float32], label: NDArray[np.int64], plan: Plan, seed: int) -> Any:
    """A network trained on `ids` `[n, length]`, in evaluation mode. One thread: the same result
    everywhere. Known tokens are hidden now and then, so that unknown ones are known."""
    import torch

    torch.set_num_threads(1)
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    net = network(int(label.max()) + 1, plan)
    rounds, truth = len(ids) // plan.batch, torch.from_numpy(label)
    optimiser = torch.optim.AdamW(net.parameters(), lr=plan.rate, weight_decay=plan.decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, plan.rate, total_steps=plan.epochs * rounds
    )
    net.train()
    for _ in range(plan.epochs):
        for at in rng.permutation(len(ids))[: rounds * plan.batch].reshape(rounds, -1):
            hidden = (rng.random(ids[at].shape) < plan.unknown) & (ids[at] > PADDING)
            x = torch.from_numpy(np.where(hidden, np.float32(UNKNOWN), ids[at]))
            loss = torch.nn.functional.cross_entropy(
                net(x), truth[at], label_smoothing=plan.smoothing
            )
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
    return net.eval()


def logits(net: Any, ids: NDArray[np.float32]) -> NDArray[np.float32]:
    """`[n, classes]`."""
    import torch

    with torch.no_grad():
        return np.asarray(net(torch.from_numpy(ids)).numpy())


def spread(label: NDArray[np.int64], shares: Sequence[float], seed: int) -> NDArray[np.int64]:
    """The index of each sample's part `[n]`, the same share of every class, drawn by `seed`."""
    rng, part = np.random.default_rng(seed), np.zeros(len(label), np.int64)
    ends = np.cumsum(shares)
    for c in np.unique(label):
        mine = rng.permutation(np.flatnonzero(label == c))
        at = (np.arange(len(mine)) + 0.5) / len(mine)
        part[mine] = np.minimum(np.searchsorted(ends, at, side="right"), len(shares) - 1)
    return part
