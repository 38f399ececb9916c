"""A text to the token numbers a model takes, or the reason why it must not be read.

Owns the limits: a text that is too long, foreign or broken is withheld, never cut to fit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from edge.registry import resolve
from edge.text.vocab import PADDING, UNKNOWN
from edge.types import Reason

if TYPE_CHECKING:
    from collections.abc import Container, Mapping

    from numpy.typing import NDArray

    from edge.bundle.manifest import Text

TOKENIZERS = {
    "words": "edge.text.words:words",
    "smiles": "edge.text.smiles:tokens",
    "listed": "edge.text.words:listed",
}
MAX_BYTES = 64 << 10
"""Far more than anybody says of his complaints, little enough to be read at once."""


@dataclass(frozen=True, slots=True)
class Encoded:
    """`ids` float32 `[length]`, padded; or why there are none that may be used."""

    ids: NDArray[np.float32]
    reason: Reason | None = None
    detail: str = ""


def encode(
    raw: bytes, how: Text, numbers: Mapping[str, int], length: int, alone: Container[str] = ()
) -> Encoded:
    """The tokens of UTF-8 `raw` by the manifest's `how` and the vocabulary's `numbers`. A token of
    `alone` says enough, and must be the only one."""
    if len(raw) > MAX_BYTES:
        return _withheld(length, f"{len(raw)} bytes, {MAX_BYTES} are read")
    try:
        found = resolve(TOKENIZERS, how.tokenizer, "tokenizer")(raw.decode("utf-8"))
    except UnicodeDecodeError as error:
        return _withheld(length, f"no UTF-8 at byte {error.start}", Reason.INVALID_INPUT)
    except ValueError as error:
        return _withheld(length, str(error), Reason.INVALID_INPUT)
    ids = [numbers.get(token, UNKNOWN) for token in found]
    known = sum(i != UNKNOWN for i in ids)
    if len(ids) > length:
        return _withheld(length, f"{len(ids)} tokens, the model reads {length}")
    if any(token in alone for token in found):
        if len(found) > 1:
            return _withheld(length, "a name does not stand alone")
        return Encoded(_padded(ids, length))
    if known < how.least_known:
        return _withheld(length, f"{known} known tokens, {how.least_known} are needed")
    if len(ids) - known > how.max_unknown * len(ids):
        return _withheld(length, f"{len(ids) - known} of {len(ids)} tokens are unknown")
    return Encoded(_padded(ids, length))


def _padded(ids: list[int], length: int) -> NDArray[np.float32]:
    padded = np.full(length, PADDING, np.float32)
    padded[: len(ids)] = ids
    return padded


def _withheld(length: int, detail: str, reason: Reason = Reason.OUT_OF_DISTRIBUTION) -> Encoded:
    return Encoded(_padded([], length), reason, detail)
