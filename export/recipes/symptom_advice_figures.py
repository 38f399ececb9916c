"""What cross-validation says of `symptom-advice`, asked of the very path that runs at the bed.

Every symptom set is answered once by a network that never saw it, exported and decoded by
`edge.text.advise`. Lists of symptoms of two diseases, which no one disease explains, are answered
too: they fit the least probability that is told. Symptoms drawn at random are the control of the
tree.
"""

from __future__ import annotations

import math
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from edge.bundle.load import Bundle
from edge.engines import open_engine
from edge.text.advise import MARK, Advisor
from edge.text.approved import read_approved
from edge.text.decode import Decoder
from edge.text.vocab import read_vocabulary
from edge.types import Reason
from export.passes import clean
from export.to_onnx import to_onnx

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from edge.bundle.manifest import Manifest
    from edge.engines import Engine

FOREIGN_TOLD = 0.05
"""Share of lists of two diseases that may get an answer: there is none that they belong to."""

SCORE = 1.959964
"""Standard normal quantile of a two-sided 95 % interval."""


@dataclass(frozen=True, slots=True)
class Answer:
    """The disease told and its `probability`, whatever the least one is; whether every text is an
    approved one, word for word. No disease and 0 where too few of the symptoms are its own."""

    disease: str
    probability: float
    approved: bool


@dataclass(frozen=True, slots=True)
class Asked:
    """Advice of one network on an engine. `free` says what it writes where nothing is forbidden."""

    advisor: Advisor
    decoder: Decoder
    texts: Mapping[str, str]
    sequences: frozenset[tuple[int, ...]]

    def answer(self, terms: Sequence[str]) -> Answer:
        """To a list of symptoms that all are known."""
        told = self.advisor.advise(", ".join(terms).encode())
        if told.reason is Reason.OUT_OF_DISTRIBUTION:
            return Answer("", 0.0, True)
        named, *cited = told.findings
        assert named.probability is not None
        approved = bool(cited) and all(f.text == MARK + self.texts[f.code] for f in cited)
        return Answer(named.name, named.probability, approved)

    def free_is_approved(self, prompt: NDArray[np.float32]) -> bool:
        """Whether what comes without the tree is one of the approved sequences."""
        return tuple(s.token for s in self.decoder.run(prompt, None) if s.token) in self.sequences


@contextmanager
def asked(net: Any, manifest: Manifest, files: dict[str, bytes]) -> Iterator[Asked]:
    """The network exported, with the vocabulary and texts in `files`; nothing is withheld for a low
    probability."""
    output = msgspec.structs.replace(manifest.output, min_probability=0.0)
    loose = msgspec.structs.replace(manifest, output=output)
    approved = read_approved(files["texts.json"])
    number = read_vocabulary(files["vocab.json"]).numbers()
    with _engine(net, loose) as engine:
        yield Asked(
            Advisor(Bundle(Path(manifest.name), loose, "", files, ""), engine),
            Decoder(loose, engine),
            approved.texts,
            frozenset(tuple(number[w] for w in approved.sequence(a)) for a in approved.advice),
        )


@contextmanager
def _engine(net: Any, manifest: Manifest) -> Iterator[Engine]:
    example = {name: np.zeros((2, *shape), np.float32) for name, shape in manifest.taken().items()}
    data = clean(to_onnx(net, example, list(manifest.given())))
    with open_engine("onnxruntime", data, "fp32") as engine:
        yield engine


def least_probability(foreign: Sequence[Answer]) -> float:
    """The least one, in hundredths, that no more than `FOREIGN_TOLD` of foreign answers reach."""
    limit = float(np.quantile([a.probability for a in foreign], 1 - FOREIGN_TOLD))
    return math.ceil(100 * limit) / 100


def wilson(hits: int, count: int) -> tuple[float, float]:
    """95 % score interval of a share (Wilson 1927), which has a width even where all are hits."""
    share, z2 = hits / count, SCORE**2 / count
    middle = (share + z2 / 2) / (1 + z2)
    half = SCORE * math.sqrt(share * (1 - share) / count + z2 / (4 * count)) / (1 + z2)
    return max(0.0, middle - half), min(1.0, middle + half)


def said(what: str, hits: Sequence[bool]) -> str:
    """One figure with its interval, as a line."""
    low, high = wilson(sum(hits), len(hits))
    return f"{what}: {sum(hits) / len(hits):.4f} [{low:.4f}, {high:.4f}] of {len(hits)}"
