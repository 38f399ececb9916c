"""A model that names another file is refused before a runtime sees it.

Invariant under fuzzing: any bytes are accepted or refused with `StartError`, nothing else.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.engines import open_engine
from edge.engines.onnx_bytes import require_self_contained
from edge.errors import StartError

PLACES = ["initializer", "constant", "function", "sparse", "subgraph"]


@pytest.mark.parametrize("where", PLACES)
def test_external_data_is_refused(where: str, make_referring: Callable[[str], bytes]) -> None:
    with pytest.raises(StartError, match="another file"):
        require_self_contained(make_referring(where))


@pytest.mark.parametrize("where", PLACES)
def test_the_control_weights_inside_pass(where: str, make_whole: Callable[[str], bytes]) -> None:
    require_self_contained(make_whole(where))


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino", "null"])
def test_no_backend_opens_it(
    backend: str,
    make_referring: Callable[[str], bytes],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The file is there to be read: the runtimes by themselves do read it."""
    (tmp_path / "w.bin").write_bytes(np.ones(4, np.float32).tobytes())
    monkeypatch.chdir(tmp_path)
    with (
        pytest.raises(StartError, match="another file"),
        open_engine(backend, make_referring("initializer"), "fp32"),
    ):
        pass


def nested(depth: int) -> bytes:
    """If within If: graph (5) of attribute (5, 6) of node (1) and so on."""
    inner = b""
    for field in [6, 5, 1] * depth:
        inner = bytes([field << 3 | 2]) + length(len(inner)) + inner
    return b"\x08\x08\x3a" + length(len(inner)) + inner


def length(size: int) -> bytes:
    out = bytearray()
    while size > 0x7F:
        out.append(size & 0x7F | 0x80)
        size >>= 7
    return bytes([*out, size])


def test_deep_nesting_is_refused() -> None:
    with pytest.raises(StartError, match="deeper"):
        require_self_contained(nested(1000))


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200), st.booleans())
def test_any_bytes(data: bytes, like_onnx: bool) -> None:
    try:
        require_self_contained(b"\x08\x08\x3a" + data if like_onnx else data)
    except StartError:
        pass


@settings(max_examples=300, deadline=None)
@given(at=st.integers(0, 10_000), bit=st.integers(0, 7))
def test_any_flip(at: int, bit: int, model: bytes) -> None:
    damaged = bytearray(model)
    damaged[at % len(damaged)] ^= 1 << bit
    try:
        require_self_contained(bytes(damaged))
    except StartError:
        pass


def test_large_weights_are_not_walked() -> None:
    tensor = b"\x4a" + length(64 << 20) + bytes(64 << 20)  # raw_data
    initializer = b"\x2a" + length(len(tensor)) + tensor
    began_s = time.perf_counter()
    require_self_contained(b"\x08\x08\x3a" + length(len(initializer)) + initializer)
    assert time.perf_counter() - began_s < 0.5
