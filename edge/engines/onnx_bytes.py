"""What a model's bytes may not be: anything but ONNX, or ONNX that names other files.

Both runtimes follow `external_data` also in a model that was given to them as bytes (ONNX Runtime
below its working directory and through `..`, OpenVINO anywhere), so the bytes are walked first.
Owns that walk, and reading the declared names, over the protobuf wire format and the few message
types of onnx.proto through which a tensor can be reached; whether the model is a good one is for
the runtimes, in a limited process.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from edge.errors import StartError

if TYPE_CHECKING:
    from collections.abc import Iterator

MESSAGES = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "function": {7: "node", 11: "attribute"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "node": {5: "attribute"},
    "attribute": {
        5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse",
    },
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {},
}  # fmt: skip
EXTERNAL_DATA, DATA_LOCATION = 13, 14
GRAPH, INPUT, OUTPUT, NAME = 7, 11, 12, 1
VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
SIZES = {FIXED64: 8, FIXED32: 4}
MAX_DEPTH = 64
IR_VERSION_TAG = 0x08


def require_self_contained(model: bytes) -> None:
    """Raises `StartError` unless `model` is ONNX protobuf that refers to no other file."""
    try:
        if model[:1] != bytes([IR_VERSION_TAG]):
            raise ValueError("it is not ONNX")
        _walk(memoryview(model), "model", 0)
    except ValueError as error:
        raise StartError(
            f"the model is refused: {error}", "export it as one ONNX file, weights inside"
        ) from None


def declared_names(model: bytes) -> tuple[str, ...]:
    """Names of the graph's inputs and outputs, of a model that was found self-contained."""
    graphs = [g for field, g in _fields(memoryview(model)) if field == GRAPH]
    values = [v for g in graphs for field, v in _fields(g) if field in (INPUT, OUTPUT)]  # type: ignore[arg-type]
    names = [n for v in values for field, n in _fields(v) if field == NAME]  # type: ignore[arg-type]
    return tuple(bytes(n).decode("utf-8", "replace") for n in names if isinstance(n, memoryview))


def _walk(data: memoryview, message: str, depth: int) -> None:
    if depth > MAX_DEPTH:
        raise ValueError(f"it nests deeper than {MAX_DEPTH}")
    known = MESSAGES[message]
    for field, value in _fields(data):
        if message == "tensor" and field in (EXTERNAL_DATA, DATA_LOCATION) and value != 0:
            raise ValueError("its weights lie in another file")
        if field in known and isinstance(value, memoryview):
            _walk(value, known[field], depth + 1)


def _fields(data: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """(field number, its number or its bytes) of one message; `ValueError` where it is malformed.

    Groups do not occur in onnx.proto and are refused.
    """
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        field, kind = tag >> 3, tag & 7
        if kind == VARINT:
            number, at = _varint(data, at)
            yield field, number
            continue
        size, at = _varint(data, at) if kind == BYTES else (SIZES.get(kind, -1), at)
        if size < 0 or at + size > len(data):
            raise ValueError("it is not ONNX, or truncated")
        yield field, data[at : at + size]
        at += size


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    """(value, where it ends)."""
    value = 0
    for i, byte in enumerate(data[at : at + 10]):
        value |= (byte & 0x7F) << 7 * i
        if byte < 0x80:
            return value, at + i + 1
    raise ValueError("it is not ONNX, or truncated")
