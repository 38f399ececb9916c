"""Messages between core and the engine child: one SEQPACKET datagram each.

Request: key, then each input's float32 bytes in the order of the names. Reply: key, inference time,
then each output's bytes. The first message from the child is `READY` (its JSON description), or
the cause why there will be none.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    from numpy.typing import NDArray

    Tensors = Mapping[str, NDArray[np.float32]]

HEADER = struct.Struct("<QQ")
MAX_MESSAGE_BYTES = 160_000


class Load(msgspec.Struct, frozen=True):
    """What the child loads; sent through a memory file because a model exceeds a datagram."""

    backend: str
    factory: str
    precision: str
    threads: int
    model: bytes


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
