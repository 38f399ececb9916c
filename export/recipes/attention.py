"""An attention encoder-decoder that writes a sequence token by token, with a cache of fixed size.

After Vaswani et al. 2017, norms first. Owns architecture and optimisation. Attention is written out
as matrix products and softmax, which every engine knows; the cache is written by a one-hot mask, so
that a step has no index that depends on data. The few inputs of the encoder are a set: it has no
positions, and is computed again in every step, which costs less than carrying it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from edge.text.vocab import PADDING

if TYPE_CHECKING:
    from numpy.typing import NDArray

BLOCKED = 1e4
"""Taken from the score of what must not be seen: FP16 holds it."""

STATES = ("position", "keys", "values")


@dataclass(frozen=True, slots=True)
class Plan:
    """Shape and training. A sequence has at most `steps` tokens."""

    tokens: int
    steps: int
    width: int = 64
    heads: int = 4
    layers: int = 2
    updates: int = 300
    batch: int = 32
    rate: float = 2e-3
    decay: float = 1e-2
    dropped: float = 0.25


def network(plan: Plan) -> Any:
    """Untrained. `sequence(prompt [b, n], tokens [b, t])` gives logits `[b, t, tokens]` of the next
    tokens; called, it computes one step: `(prompt, token [b, 1], position [b, 1], keys and values
    [b, layers, steps, width])` to logits `[b, tokens]` and the next states."""
    import torch
    from torch import nn

    def attention() -> Any:
        names = ("query", "key", "value", "out")
        return nn.ModuleDict({name: nn.Linear(plan.width, plan.width) for name in names})

    def forward_part() -> Any:
        wide = 2 * plan.width
        return nn.Sequential(nn.Linear(plan.width, wide), nn.ReLU(), nn.Linear(wide, plan.width))

    def block(norms: int, attentions: int) -> Any:
        return nn.ModuleDict({
            "norms": nn.ModuleList(nn.LayerNorm(plan.width) for _ in range(norms)),
            "attentions": nn.ModuleList(attention() for _ in range(attentions)),
            "mix": forward_part(),
        })  # fmt: skip

    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding = nn.Embedding(plan.tokens, plan.width)
            self.places = nn.Parameter(0.1 * torch.randn(plan.steps, plan.width))
            self.register_buffer("numbers", torch.arange(plan.steps, dtype=torch.float32))
            self.encoder = nn.ModuleList(block(2, 1) for _ in range(plan.layers))
            self.decoder = nn.ModuleList(block(3, 2) for _ in range(plan.layers))
            self.norm = nn.LayerNorm(plan.width)
            self.head = nn.Linear(plan.width, plan.tokens)

        def encode(self, prompt: Any) -> tuple[Any, Any]:
            hidden = BLOCKED * (prompt <= PADDING).to(self.places.dtype)[:, None, None, :]
            x = self.embedding(prompt.long())
            for layer in self.encoder:
                seen = layer["norms"][0](x)
                x = x + _attend(layer["attentions"][0], seen, seen, hidden, plan.heads)
                x = x + layer["mix"](layer["norms"][1](x))
            return x, hidden

        def sequence(self, prompt: Any, tokens: Any) -> Any:
            memory, hidden = self.encode(prompt)
            count = tokens.shape[1]
            future = BLOCKED * torch.triu(torch.ones(count, count), 1)[None, None]
            x = self.embedding(tokens.long()) + self.places[:count]
            for layer in self.decoder:
                seen = layer["norms"][0](x)
                x = x + _attend(layer["attentions"][0], seen, seen, future, plan.heads)
                asked = layer["norms"][1](x)
                x = x + _attend(layer["attentions"][1], asked, memory, hidden, plan.heads)
                x = x + layer["mix"](layer["norms"][2](x))
            return self.head(self.norm(x))

        def forward(self, prompt: Any, token: Any, position: Any, keys: Any, values: Any) -> Any:
            memory, hidden = self.encode(prompt)
            here = torch.relu(1 - (self.numbers - position).abs())  # [b, steps], one-hot
            future = BLOCKED * torch.relu(torch.sign(self.numbers - position))[:, None, None, :]
            x = self.embedding(token.long()) + (here @ self.places)[:, None]
            written = here[..., None]
            kept: list[tuple[Any, Any]] = []
            for i, layer in enumerate(self.decoder):
                seen, own = layer["norms"][0](x), layer["attentions"][0]
                k = keys[:, i] * (1 - written) + written * own["key"](seen)
                v = values[:, i] * (1 - written) + written * own["value"](seen)
                kept.append((k, v))
                x = x + _mixed(own, seen, k, v, future, plan.heads)
                asked = layer["norms"][1](x)
                x = x + _attend(layer["attentions"][1], asked, memory, hidden, plan.heads)
                x = x + layer["mix"](layer["norms"][2](x))
            keys, values = (torch.stack(part, 1) for part in zip(*kept))
            return self.head(self.norm(x))[:, 0], position + 1, keys, values

    return Network()


def _attend(parts: Any, x: Any, memory: Any, hidden: Any, heads: int) -> Any:
    return _mixed(parts, x, parts["key"](memory), parts["value"](memory), hidden, heads)


def _mixed(parts: Any, x: Any, keys: Any, values: Any, hidden: Any, heads: int) -> Any:
    """Values weighed by how well their keys answer `x`; `hidden` is taken from the scores."""
    query, keys, values = (_split(y, heads) for y in (parts["query"](x), keys, values))
    scores = query @ keys.transpose(-1, -2) * float(query.shape[-1]) ** -0.5 - hidden
    mixed = (scores.softmax(-1) @ values).transpose(1, 2)
    return parts["out"](mixed.flatten(2))


def _split(x: Any, heads: int) -> Any:
    """`[b, n, width]` to `[b, heads, n, width / heads]`."""
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)


def train(prompts: NDArray[np.float32], wanted: NDArray[np.int64], plan: Plan, seed: int) -> Any:
    """A network trained on `prompts` `[n, k]` and the sequences they want `[n, steps]`, padded with
    -1, in evaluation mode. Terms are left out of the prompts now and then. One thread: the same
    result everywhere."""
    import torch

    torch.set_num_threads(1)
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    net = network(plan)
    truth = torch.from_numpy(wanted)
    before = torch.from_numpy(np.concatenate((np.zeros((len(wanted), 1)), wanted[:, :-1]), 1))
    optimiser = torch.optim.AdamW(net.parameters(), lr=plan.rate, weight_decay=plan.decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, plan.rate, total_steps=plan.updates)
    net.train()
    for _ in range(plan.updates):
        at = rng.integers(0, len(prompts), plan.batch)
        kept = rng.random(prompts[at].shape) >= plan.dropped
        kept[np.arange(plan.batch), rng.integers(0, (prompts[at] > 0).sum(1))] = True
        x = torch.from_numpy(np.where(kept, prompts[at], np.float32(PADDING)))
        logits = net.sequence(x, before[at].clamp(min=0).float())
        loss = torch.nn.functional.cross_entropy(
            logits.flatten(0, 1), truth[at].flatten(), ignore_index=-1
        )
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimiser.step()
        schedule.step()
    return net.eval()
