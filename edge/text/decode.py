"""Greedy decoding, step by step through a model that carries its cache as states.

With a tree only approved sequences can come out. Owns the loop and the confidence in it; which
texts are approved is `edge.text.approved`'s. Ties go to the lowest token: the same input gives the
same output everywhere.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from edge.errors import StartError
from edge.pipeline.carried import Carried
from edge.text.vocab import PADDING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from edge.bundle.manifest import Manifest
    from edge.engines import Engine
    from edge.text.approved import Advice, Node

END = PADDING
"""Begins and ends a sequence."""


class Step(NamedTuple):
    """One token, its probability before anything was forbidden, and the advice it ends, if any."""

    token: int
    probability: float
    advice: Advice | None = None


class Decoder:
    """Sequences on an engine that others may use too, each with states of its own: many may be
    under way at once, as every step writes all that it needs."""

    def __init__(self, manifest: Manifest, engine: Engine) -> None:
        by_source = {i.source: i.name for i in manifest.inputs}
        if not manifest.output.tokens or not {"text", "token"} <= by_source.keys():
            raise StartError(f"bundle '{manifest.name}' writes no texts", "choose one that does")
        self._engine = engine
        self._prompt, self._token = by_source["text"], by_source["token"]
        self._output = manifest.output.name
        self._states = manifest.states
        self.capacity = capacity(manifest)

    def run(self, prompt: NDArray[np.float32], tree: Node | None) -> Iterator[Step]:
        """Tokens as they come, `prompt` `[length]` being what they answer to. Ends with the
        sequence, or, without a tree, when the cache is full; an end of probability NaN says that
        the model's output was not finite."""
        carried, engine = Carried(self._states), self._engine
        asked, before = engine.inputs[self._prompt], engine.inputs[self._token]
        logits: NDArray[np.float32] = engine.outputs[self._output][0]
        ones = np.ones_like(logits)  # a product with them is the quickest sum
        weights = np.empty_like(logits)
        token, node = END, tree
        for _ in range(self.capacity):
            asked[0], before[0] = prompt, token
            carried.before(engine)
            engine.run()
            carried.after(engine)
            if not math.isfinite(logits.dot(ones)):  # whatever of them is not finite
                yield Step(END, math.nan)
                return
            token = _likeliest(logits, node)
            np.subtract(logits, logits[logits.argmax()], weights)
            np.exp(weights, weights)
            probability = float(weights[token] / weights.dot(ones))
            node = node.follow[token] if node is not None else None
            ended = node is not None and not node.follow
            yield Step(token, probability, node.advice if ended and node is not None else None)
            if ended or token == END:
                return


def capacity(manifest: Manifest) -> int:
    """Steps that fit into the carried cache: the shortest second axis of a state with three."""
    lengths = [s.shape[1] for s in manifest.states if len(s.shape) == 3]
    if not lengths:
        raise StartError(
            f"bundle '{manifest.name}' carries no cache", "carry one state [layers, steps, width]"
        )
    return min(lengths)


def _likeliest(logits: NDArray[np.float32], node: Node | None) -> int:
    """The likeliest token that may follow."""
    if node is None:
        return int(logits.argmax())
    if len(node.follow) == 1:
        (token,) = node.follow
        return token
    allowed = sorted(node.follow)
    return allowed[int(logits[allowed].argmax())]
