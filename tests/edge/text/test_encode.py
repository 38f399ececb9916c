"""Texts to token numbers; what must not be read is withheld with the reason, and never guessed."""

from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.bundle.manifest import Text
from edge.errors import StartError
from edge.text.encode import MAX_BYTES, encode
from edge.text.vocab import read_vocabulary, write_vocabulary
from edge.text.words import words
from edge.types import Reason

NUMBERS = {token: 2 + i for i, token in enumerate(("my", "head", "hurts", "don't", "3"))}
WORDS = Text(tokenizer="words", least_known=2, max_unknown=0.5)
SMILES = Text(tokenizer="smiles", least_known=1, max_unknown=0.0)


def test_numbers_and_padding() -> None:
    found = encode(b"My HEAD hurts, badly!", WORDS, NUMBERS, 6)
    assert (found.reason, found.ids.dtype) == (None, np.float32)
    assert found.ids.tolist() == [2, 3, 4, 1, 0, 0]


def test_words_of_any_script_without_signs() -> None:
    assert words("Ich don\u2019t KNOW\x07x_y 38.5\u00a0°C \ufb01t") == [
        "ich", "don't", "know", "x", "y", "38", "5", "c", "fit",
    ]  # fmt: skip


OUT = Reason.OUT_OF_DISTRIBUTION
REFUSED = {
    "empty": (b"", OUT, "0 known"),
    "blank": (b" \n\t ", OUT, "0 known"),
    "control characters": (b"\x00\x1b[2J\x07\x08", OUT, "0 known"),
    "one known word": (b"head", OUT, "1 known"),
    "another language": (b"mein Kopf tut head my weh", OUT, "4 of 6"),
    "another script": ("我头疼 my head".encode(), None, ""),
    "long": (b"my head " * 4, OUT, "8 tokens"),
    "a megabyte": (b"my head " * (1 << 17), OUT, "bytes"),
    "no UTF-8": (b"my head \xff", Reason.INVALID_INPUT, "byte 8"),
    "half a character": ("my head é".encode()[:-1], Reason.INVALID_INPUT, "byte 8"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_must_not_be_read(case: str) -> None:
    raw, reason, detail = REFUSED[case]
    found = encode(raw, WORDS, NUMBERS, 6)
    assert found.reason is reason
    assert detail in found.detail
    assert (found.ids.sum() > 0) == (reason is None)


def test_an_invalid_molecule_is_invalid_input() -> None:
    numbers = {"C": 2, "O": 3}
    assert encode(b"CCO\n", SMILES, numbers, 8).ids.tolist() == [2, 2, 3, 0, 0, 0, 0, 0]
    found = encode(b"C(CO", SMILES, numbers, 8)
    assert (found.reason, found.detail) == (
        Reason.INVALID_INPUT,
        "a branch, a ring or a bond is left open",
    )
    assert encode(b"CCN", SMILES, numbers, 8).reason is OUT  # unknown atom


@given(st.binary(max_size=300))
@pytest.mark.parametrize("how", [WORDS, SMILES], ids=["words", "smiles"])
def test_any_bytes_give_numbers_or_a_reason(how: Text, raw: bytes) -> None:
    found = encode(raw, how, NUMBERS, 16)
    assert found.ids.shape == (16,) and found.ids.min() >= 0 and found.ids.max() <= 6
    assert (found.reason is None) == (found.ids.sum() > 0)


@pytest.mark.parametrize(
    "raw", [b"a" * MAX_BYTES, b"(" * MAX_BYTES, b"C1" * (MAX_BYTES // 2), b"[" * MAX_BYTES,
            ("\u0301" * (MAX_BYTES // 2)).encode(), b"a'" * (MAX_BYTES // 2)],
    ids=["letters", "branches", "rings", "brackets", "accents", "apostrophes"],
)  # fmt: skip
@pytest.mark.parametrize("how", [WORDS, SMILES], ids=["words", "smiles"])
def test_the_worst_of_the_longest_is_read_at_once(how: Text, raw: bytes) -> None:
    began = time.perf_counter()
    assert encode(raw, how, NUMBERS, 16).reason is not None
    assert time.perf_counter() - began < 2.0


WRONG = {
    "no JSON": b"{",
    "no schema": b'{"tokens":["a"]}',
    "newer": b'{"schema":2,"tokens":["a"]}',
    "none": b'{"schema":1,"tokens":[]}',
    "twice": b'{"schema":1,"tokens":["a","a"]}',
    "empty token": b'{"schema":1,"tokens":[""]}',
    "drives a terminal": b'{"schema":1,"tokens":["\\u001b[2J"]}',
    "long": b'{"schema":1,"tokens":["' + b"a" * 65 + b'"]}',
    "more": b'{"schema":1,"tokens":["a"],"merges":[]}',
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_vocabulary_is_refused(case: str) -> None:
    with pytest.raises(StartError, match="vocabulary is wrong"):
        read_vocabulary(WRONG[case])


def test_a_vocabulary_survives_the_round_trip() -> None:
    assert read_vocabulary(write_vocabulary(("head", "hurts"))).numbers() == {"head": 2, "hurts": 3}
