"""From symptoms to approved advice, or why there is none.

Advice is decision support: it is never more than the approved texts that it cites, and is withheld
where the model is not sure of the disease.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from edge.bundle.integrity import TEXTS, VOCAB
from edge.pipeline.postprocess import Told
from edge.text.approved import read_approved, tree_of
from edge.text.decode import Decoder, capacity
from edge.text.encode import encode
from edge.text.vocab import read_vocabulary
from edge.text.words import words
from edge.types import Finding, Reason

if TYPE_CHECKING:
    from collections.abc import Iterator

    from edge.bundle.load import Bundle
    from edge.engines import Engine
    from edge.text.approved import Advice
    from edge.text.decode import Step

MARK = "decision support, for a clinician to judge: "


class Advisor:
    """A bundle of advice on an engine that others may use too."""

    def __init__(self, bundle: Bundle, engine: Engine) -> None:
        manifest = bundle.manifest
        self._manifest = manifest
        self._numbers = read_vocabulary(bundle.files[VOCAB]).numbers()
        self._approved = read_approved(bundle.files[TEXTS])
        self._tree = tree_of(self._approved, self._numbers, capacity(manifest))
        self._decoder = Decoder(manifest, engine)
        (self._prompt,) = (i for i in manifest.inputs if i.source == "text")

    def stream(self, raw: bytes) -> Iterator[Step]:
        """Tokens of the advice for symptoms in UTF-8, as they are decided; none where they must not
        be read."""
        assert self._manifest.text is not None
        found = encode(raw, self._manifest.text, self._numbers, self._prompt.shape[0])
        if found.reason is None:
            yield from self._decoder.run(found.ids, self._tree)

    def advise(self, raw: bytes) -> Told:
        """The disease and each approved text as findings, or the reason why not."""
        assert self._manifest.text is not None
        found = encode(raw, self._manifest.text, self._numbers, self._prompt.shape[0])
        if found.reason is not None:
            return Told((), found.reason, found.detail)
        steps = list(self._decoder.run(found.ids, self._tree))
        advice = steps[-1].advice
        if advice is None:  # every path of the tree ends in one
            return Told((), Reason.OUT_OF_RANGE, "non-finite model output")
        sure = 1.0
        for step in steps[: len(words(advice.disease))]:
            sure *= step.probability
        if sure < self._manifest.output.min_probability:
            minimum = self._manifest.output.min_probability
            detail = f"{advice.disease} {sure:.2f} < {minimum:.2f}"
            return Told((), Reason.LOW_CONFIDENCE, detail)
        return Told((Finding(advice.disease, advice.code, 0, 0, sure), *self._cited(advice)))

    def _cited(self, advice: Advice) -> Iterator[Finding]:
        """The texts, word for word, each with its id for a code."""
        for name in advice.texts:
            yield Finding("advice", name, 0, 0, text=MARK + self._approved.texts[name])
