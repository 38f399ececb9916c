"""From symptoms, or the name of a disease, to approved advice, or why there is none.

Advice is decision support: it is never more than the approved texts that it cites, and is withheld
where the model is not sure of the disease. Nothing of it is told before that is known.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from edge.bundle.integrity import TEXTS, VOCAB
from edge.errors import StartError
from edge.pipeline.postprocess import Told
from edge.text.approved import read_approved, tree_of
from edge.text.decode import Decoder, capacity
from edge.text.encode import encode
from edge.text.vocab import PADDING, read_vocabulary
from edge.text.words import words
from edge.types import Finding, Reason

if TYPE_CHECKING:
    from collections.abc import Iterator

    from edge.bundle.load import Bundle
    from edge.engines import Engine
    from edge.text.approved import Advice
    from edge.text.decode import Step
    from edge.text.encode import Encoded

MARK = "decision support, for a clinician to judge: "


class Advisor:
    """A bundle of advice on an engine that others may use too."""

    def __init__(self, bundle: Bundle, engine: Engine) -> None:
        manifest = bundle.manifest
        if TEXTS not in bundle.files:
            raise StartError(f"bundle '{bundle.name}' has no {TEXTS}", "pack approved texts too")
        self._decoder = Decoder(manifest, engine)
        self._output, self._text = manifest.output, manifest.text
        self._numbers = read_vocabulary(bundle.files[VOCAB]).numbers()
        self._approved = read_approved(bundle.files[TEXTS])
        said = {word: n for word, n in self._numbers.items() if n < manifest.output.tokens}
        self._tree = tree_of(self._approved, said, capacity(manifest))
        self._names = frozenset(name for a in self._approved.advice for name in a.names)
        if unknown := sorted(self._names - self._numbers.keys()):
            raise StartError(
                f"the name '{unknown[0]}' is not in the vocabulary", "pack the bundle again"
            )
        (self._prompt,) = (i for i in manifest.inputs if i.source == "text")

    def stream(self, raw: bytes) -> Iterator[Step]:
        """Tokens of the advice for symptoms in UTF-8, as they are decided; those of the disease
        come once it is sure. None where `advise` withholds it; an end of probability NaN takes back
        what came before."""
        found = self._encoded(raw)
        if found.reason is not None:
            return
        steps = self._decoder.run(found.ids, self._tree)
        held, advice, sure = self._named(steps)
        if advice is not None and self._withheld(found, advice, sure) is None:
            yield from held
            yield from steps

    def advise(self, raw: bytes) -> Told:
        """The disease and each approved text as findings, or the reason why not."""
        found = self._encoded(raw)
        if found.reason is not None:
            return Told((), found.reason, found.detail)
        steps = self._decoder.run(found.ids, self._tree)
        held, advice, sure = self._named(steps)
        if advice is None or [*held, *steps][-1].advice is None:
            return Told((), Reason.OUT_OF_RANGE, "non-finite model output")
        if (why := self._withheld(found, advice, sure)) is not None:
            return why
        return Told((Finding(advice.disease, advice.code, 0, 0, sure), *self._cited(advice)))

    def _encoded(self, raw: bytes) -> Encoded:
        assert self._text is not None
        return encode(raw, self._text, self._numbers, self._prompt.shape[0], self._names)

    def _named(self, steps: Iterator[Step]) -> tuple[list[Step], Advice | None, float]:
        """The steps up to where the disease is said and no other advice can come, that advice, and
        the probability of the disease's words; no advice where the model gives no numbers."""
        held: list[Step] = []
        node = self._tree
        for step in steps:
            held.append(step)
            if step.token not in node.follow:
                break
            node = node.follow[step.token]
            if node.only is not None and len(held) >= (count := len(words(node.only.disease))):
                return held, node.only, math.prod(s.probability for s in held[:count])
        return held, None, math.nan

    def _withheld(self, found: Encoded, advice: Advice, sure: float) -> Told | None:
        """Why this advice may not be told for the terms in `found`, if there is a reason."""
        if not sure >= self._output.min_probability:
            detail = f"{advice.disease} {sure:.2f} < {self._output.min_probability:.2f}"
            return Told((), Reason.LOW_CONFIDENCE, detail)
        named = {int(n) for n in found.ids} - {PADDING}
        known = (*advice.symptoms, *advice.names)
        listed = named & {self._numbers.get(term, PADDING) for term in known}
        if len(listed) < self._output.least_listed * len(named):
            detail = f"{advice.disease} lists {len(listed)} of {len(named)} symptoms"
            return Told((), Reason.OUT_OF_DISTRIBUTION, detail)
        return None

    def _cited(self, advice: Advice) -> Iterator[Finding]:
        """The texts, word for word, each with its id for a code."""
        for name in advice.texts:
            yield Finding("advice", name, 0, 0, text=MARK + self._approved.texts[name])
