"""`vocab.json`: the tokens a model knows, in the order of its embedding.

Number 0 is padding, 1 every unknown token; the listed ones follow.
"""

from __future__ import annotations

import msgspec

from edge.errors import StartError

SCHEMA = 1
PADDING, UNKNOWN, FIRST = 0, 1, 2
MAX_TOKENS = 1 << 20
MAX_TOKEN_CHARACTERS = 64


class Vocabulary(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`tokens[i]` has the number `FIRST + i`."""

    schema: int
    tokens: tuple[str, ...]

    def numbers(self) -> dict[str, int]:
        """The number of each token."""
        return {token: FIRST + i for i, token in enumerate(self.tokens)}


def read_vocabulary(data: bytes) -> Vocabulary:
    """From the bytes of `vocab.json`. Raises `StartError` for anything else."""
    try:
        found = msgspec.json.decode(data, type=Vocabulary)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise _wrong(str(error)) from None
    tokens = found.tokens
    if found.schema != SCHEMA:
        raise _wrong(f"schema {found.schema}, this medge knows {SCHEMA}")
    if not 0 < len(tokens) <= MAX_TOKENS or len(set(tokens)) != len(tokens):
        raise _wrong("tokens must be distinct, one or more")
    if not all(0 < len(token) <= MAX_TOKEN_CHARACTERS and token.isprintable() for token in tokens):
        raise _wrong(f"tokens must be printable, of 1 to {MAX_TOKEN_CHARACTERS} characters")
    return found


def write_vocabulary(tokens: tuple[str, ...]) -> bytes:
    """The bytes of `vocab.json`."""
    return msgspec.json.encode(Vocabulary(SCHEMA, tokens)) + b"\n"


def _wrong(why: str) -> StartError:
    return StartError(f"the bundle's vocabulary is wrong: {why}", "pack the bundle again")
