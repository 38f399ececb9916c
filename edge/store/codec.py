"""Results as JSON and back, exactly: one object, tagged by `kind`.

Owns the text that journal, sinks and replay share. What JSON cannot carry exactly is refused when
it is written, not found out when it is read.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from edge.errors import BugError, StartError
from edge.types import Diagnosis, Withheld

if TYPE_CHECKING:
    from edge.types import Result

KINDS: dict[str, type[Any]] = {"diagnosis": Diagnosis, "withheld": Withheld}


@dataclass(frozen=True, slots=True)
class _Tag:
    kind: str


def kind_of(result: Result) -> str:
    """The tag of a result."""
    return "diagnosis" if isinstance(result, Diagnosis) else "withheld"


def encode_result(result: Result) -> bytes:
    """One line of JSON, `kind` first, that decodes to an equal result.

    Raises `BugError` where none does: NaN, infinity, half a surrogate pair, a foreign type.
    """
    try:
        line = b'{"kind":"%s",' % kind_of(result).encode() + msgspec.json.encode(result)[1:]
        exact = decode_result(line) == result
    except (StartError, TypeError, ValueError) as error:
        raise _inexact(result, str(error)) from error
    if not exact:
        raise _inexact(result, "a value changes on the way")
    return line


def decode_result(line: bytes) -> Result:
    """The result of one line; keys that a sink added are passed over. Raises `StartError`."""
    try:
        kind = KINDS[msgspec.json.decode(line, type=_Tag).kind]
        result: Result = msgspec.json.decode(line, type=kind)
    except (msgspec.MsgspecError, KeyError, UnicodeDecodeError) as error:
        raise StartError(f"not a result ({error})", "use a file that medge wrote") from None
    return result


def _inexact(result: Result, cause: str) -> BugError:
    return BugError(
        f"{kind_of(result)} '{result.id}' cannot be kept exactly ({cause})",
        "correct the stage that made the value",
    )
