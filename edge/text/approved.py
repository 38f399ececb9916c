"""`texts.json`: the texts that somebody approved to be shown, and which of them belong together.

A model may choose among them, it may not write its own. Owns reading, and the tree of token
sequences that a decoder walks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from edge.errors import StartError
from edge.text.words import words

if TYPE_CHECKING:
    from collections.abc import Mapping

SCHEMA = 1
MAX_ADVICE = 4096
MAX_CHARACTERS = 4096


class Advice(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is said of one `disease` (its name, and code if there is one): `texts` by their ids, in
    the order in which they are said. `symptoms` are the terms that are listed for it. Somebody who
    says one of `names`, terms of the vocabulary too, and nothing else, asks about this disease."""

    disease: str
    texts: tuple[str, ...]
    code: str = ""
    symptoms: tuple[str, ...] = ()
    names: tuple[str, ...] = ()


class Approved(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`texts` word for word by id; `source` says where they come from and who approved them."""

    schema: int
    source: str
    texts: dict[str, str]
    advice: tuple[Advice, ...]

    def sequence(self, advice: Advice) -> list[str]:
        """The words of one advice, the disease first."""
        return words(" . ".join([advice.disease, *(self.texts[i] for i in advice.texts)]))


def read_approved(data: bytes) -> Approved:
    """From the bytes of `texts.json`. Raises `StartError` for anything else."""
    try:
        found = msgspec.json.decode(data, type=Approved)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise _wrong(str(error)) from None
    shown = [*found.texts.values(), *(a.disease for a in found.advice)]
    if found.schema != SCHEMA:
        raise _wrong(f"schema {found.schema}, this medge knows {SCHEMA}")
    if not 0 < len(found.advice) <= MAX_ADVICE:
        raise _wrong(f"it must hold 1 to {MAX_ADVICE} pieces of advice")
    if not all(0 < len(text) <= MAX_CHARACTERS and text.isprintable() for text in shown):
        raise _wrong(f"texts must be printable, of 1 to {MAX_CHARACTERS} characters")
    names = [name for a in found.advice for name in a.names]
    if len(set(names)) != len(names):
        raise _wrong("a name stands for two diseases, or twice for one")
    if unknown := {i for a in found.advice for i in a.texts} - found.texts.keys():
        raise _wrong(f"there is no text '{sorted(unknown)[0]}'")
    return found


class Node:
    """A place in the tree: the tokens that may follow, the advice that ends here, and the `only`
    one that can still come."""

    __slots__ = ("advice", "follow", "only")

    def __init__(self) -> None:
        self.follow: dict[int, Node] = {}
        self.advice: Advice | None = None
        self.only: Advice | None = None


def tree_of(approved: Approved, numbers: Mapping[str, int], capacity: int) -> Node:
    """Every advice as a path of token numbers, which ends where nothing may follow. Raises
    `StartError` for a word that has no number, for a piece of advice that says what another one
    says or begins with, and for one that is longer than `capacity` steps."""
    root = Node()
    for advice in approved.advice:
        sequence = approved.sequence(advice)
        if len(sequence) >= capacity:
            raise _wrong(f"'{advice.disease}' has {len(sequence)} words, {capacity - 1} fit")
        node = root
        for word in sequence:
            if word not in numbers:
                raise _wrong(f"'{word}' is not in the vocabulary")
            node = _follow(node, numbers[word], advice)
        if node.advice is not None:
            raise _wrong(f"'{advice.disease}' says what '{node.advice.disease}' says")
        if node.only is not advice:
            raise _wrong(f"'{advice.disease}' ends where another advice goes on")
        node.advice = advice
    return root


def _follow(node: Node, number: int, advice: Advice) -> Node:
    """The place after `number`, on the way to `advice`."""
    if node.advice is not None:
        raise _wrong(f"'{advice.disease}' goes on where '{node.advice.disease}' ends")
    there = node.follow.get(number)
    if there is None:
        there = node.follow[number] = Node()
        there.only = advice
    else:
        there.only = None
    return there


def _wrong(why: str) -> StartError:
    return StartError(f"the bundle's approved texts are wrong: {why}", "pack the bundle again")
