"""Words of any script, folded: what a text classifier reads of a sentence."""

from __future__ import annotations

import re
import unicodedata

WORD = re.compile(r"[^\W_]+(?:'[^\W_]+)?")
APOSTROPHES = {ord("\u2019"): "'", ord("\u02bc"): "'"}


def words(text: str) -> list[str]:
    """The words and numbers of `text` in order, lower case, compatibility forms unified (NFKC).
    Control characters and signs separate words and are no part of any."""
    return WORD.findall(unicodedata.normalize("NFKC", text).casefold().translate(APOSTROPHES))
