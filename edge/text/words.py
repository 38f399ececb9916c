"""Words of any script, folded: what a classifier reads of a sentence, or of a list of terms."""

from __future__ import annotations

import re
import unicodedata

WORD = re.compile(r"[^\W_]+(?:'[^\W_]+)?")
BETWEEN = re.compile(r"[,;\n]")
APOSTROPHES = {ord("\u2019"): "'", ord("\u02bc"): "'"}


def words(text: str) -> list[str]:
    """The words and numbers of `text` in order, lower case, compatibility forms unified (NFKC).
    Control characters and signs separate words and are no part of any."""
    return WORD.findall(unicodedata.normalize("NFKC", text).casefold().translate(APOSTROPHES))


def listed(text: str) -> list[str]:
    """The terms between commas, semicolons and line ends, each once, as words with one space."""
    terms = (" ".join(words(term.replace("_", " "))) for term in BETWEEN.split(text))
    return list(dict.fromkeys(term for term in terms if term))
