"""Messages between core and an engine child: one SEQPACKET datagram each.

A signal's bundle: key, then each input's float32 bytes in the order of the names; the reply is key,
inference time, then each output's bytes. Any other: key and an `Ask`, with a descriptor where the
thing asked about is a file; the reply is key, time and an `Answer`, as MessagePack. The first
message from the child is `Ready` (its JSON description), or the cause why there will be none.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import msgspec

from edge.types import Finding, Reason

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    from numpy.typing import NDArray

    Tensors = Mapping[str, NDArray[np.float32]]

HEADER = struct.Struct("<QQ")
MAX_MESSAGE_BYTES = 160_000


class Contract(msgspec.Struct, frozen=True):
    """What the child needs of a bundle to judge whole things: the manifest and the words."""

    name: str
    digest: str
    files: dict[str, bytes]


class Load(msgspec.Struct, frozen=True):
    """What the child loads; sent through a memory file because a model exceeds a datagram. With a
    `contract` it answers what it is asked, without one it computes tensors."""

    backend: str
    factory: str
    precision: str
    threads: int
    model: bytes
    contract: Contract | None = None


class Ask(msgspec.Struct, frozen=True):
    """One thing to judge: a text or an image (`data`, or the descriptor that comes with it), or, on
    a course that was saved as `course` (empty: begun now), `rows`, of which the last is told."""

    data: bytes = b""
    course: bytes = b""
    rows: tuple[dict[str, float | None], ...] = ()


class Answer(msgspec.Struct, frozen=True):
    """What is told. Of a course also what was `impossible` in the last row, how many `steps` it has
    and what to save; nothing to save: it was refused and has to begin anew."""

    findings: tuple[Finding, ...] = ()
    reason: Reason | None = None
    detail: str = ""
    impossible: tuple[str, ...] = ()
    steps: int = 0
    course: bytes = b""


class Ready(msgspec.Struct, frozen=True):
    """The child's first message. `cause` is set when the engine could not be opened."""

    outputs: dict[str, tuple[int, ...]] = {}
    cause: str = ""


def pack(key: int, value: int, tensors: Tensors) -> bytes:
    """One datagram: header, then the tensors' bytes in the order of their names."""
    return HEADER.pack(key, value) + b"".join(tensors[name].tobytes() for name in sorted(tensors))


def unpack(message: memoryview, tensors: Tensors) -> tuple[int, int]:
    """Fill `tensors` in place from a datagram; returns (key, value).

    Raises `ValueError` when the length is not exactly what the tensors need.
    """
    expected = HEADER.size + sum(t.nbytes for t in tensors.values())
    if len(message) != expected:
        raise ValueError(f"message of {len(message)} bytes, expected {expected}")
    offset = HEADER.size
    for name in sorted(tensors):
        tensor = tensors[name]
        tensor.view("u1").reshape(-1)[:] = message[offset : offset + tensor.nbytes]
        offset += tensor.nbytes
    key, value = HEADER.unpack_from(message)
    return key, value


def pack_message(key: int, value: int, body: Ask | Answer) -> bytes:
    """One datagram: header, then the body as MessagePack."""
    return HEADER.pack(key, value) + msgspec.msgpack.encode(body)


def unpack_ask(message: memoryview) -> tuple[int, Ask]:
    """(key, what is asked)."""
    key, _ = HEADER.unpack_from(message)
    return key, msgspec.msgpack.decode(message[HEADER.size :], type=Ask)


def unpack_answer(message: memoryview) -> tuple[int, int, Answer]:
    """(key, value, answer). Raises `ValueError` for anything else."""
    try:
        answer = msgspec.msgpack.decode(message[HEADER.size :], type=Answer)
        return (*HEADER.unpack_from(message), answer)
    except (msgspec.MsgspecError, struct.error) as error:
        raise ValueError(str(error)) from None
