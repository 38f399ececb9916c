"""How far a source of whole things has come: kept in the journal with the result that it belongs
to, so that after a restart nothing is left out and nothing is judged again."""

from __future__ import annotations

from typing import Optional

import msgspec

SCHEMA = 1


class Owed(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a chain has still to ask: the bundle's id, the stage that asks, the text, and the id of
    the result it comes from."""

    to: str
    text: str
    because: str


class Progress(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The newest thing by its identity: how many results it has, whether these are all, the last
    one's id, and whether it could not be read. `course` is what `Course.save` gave, empty for one
    that begins; `rows` are those of it that got no answer and count with the next one."""

    schema: int = SCHEMA
    item: str = ""
    parts: int = 0
    whole: bool = True
    result: str = ""
    refused: bool = False
    chained: tuple[Owed, ...] = ()
    course: bytes = b""
    rows: tuple[dict[str, Optional[float]], ...] = ()


def pack_progress(progress: Progress) -> bytes:
    return msgspec.msgpack.encode(progress)


def read_progress(data: bytes) -> Progress:
    """Raises `ValueError` for what this medge does not know."""
    try:
        found = msgspec.msgpack.decode(data, type=Progress)
    except msgspec.MsgspecError as error:
        raise ValueError(str(error)) from None
    if found.schema != SCHEMA:
        raise ValueError(f"schema {found.schema}, this medge knows {SCHEMA}")
    return found
