"""Golden vectors: unusable ones are refused, and an engine is measured against the others."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from edge.bundle.golden import vectors, worst_difference
from edge.bundle.load import Bundle, load
from edge.engines import open_engine
from edge.errors import StartError


@pytest.fixture
def bundle(make_bundle: Any) -> Bundle:
    made = make_bundle()
    return load(made.folder, trusted_keys=[made.public])


def npz(**arrays: Any) -> bytes:
    out = io.BytesIO()
    np.savez_compressed(out, **{name.replace("_", "."): x for name, x in arrays.items()})
    return out.getvalue()


def zeros(*shape: int) -> np.ndarray:
    return np.zeros(shape, np.float32)


def zip_bomb() -> bytes:
    """300 MiB of zeros, deflated a thousandfold."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for i in range(300):
            archive.writestr(f"x{i}.npy", bytes(1 << 20))
    return out.getvalue()


def lying_header() -> bytes:
    """An array of 2^40 values that are not there."""
    head = b"\x93NUMPY\x01\x00v\x00"
    text = b"{'descr': '<f4', 'fortran_order': False, 'shape': (1099511627776,), }"
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("out.logits.npy", head + text.ljust(117) + b"\n")
        archive.writestr("in.beat.npy", head + text.ljust(117) + b"\n")
    return out.getvalue()


@pytest.mark.parametrize(
    "make",
    [
        lambda good: b"",
        lambda good: b"PK\x05\x06" + bytes(18),
        lambda good: good[: len(good) // 2],
        lambda good: good[:100] + bytes([good[100] ^ 255]) + good[101:],
        lambda good: npz(in_beat=zeros(2, 1, 64)),
        lambda good: npz(out_logits=zeros(2, 3)),
        lambda good: npz(in_beat=zeros(2, 1, 64), out_logits=zeros(3, 3)),
        lambda good: npz(in_beat=zeros(2, 1, 63), out_logits=zeros(2, 3)),
        lambda good: npz(in_beat=zeros(0, 1, 64), out_logits=zeros(0, 3)),
        lambda good: npz(in_beat=zeros(2, 1, 64), out_logits=np.zeros((2, 3))),
        lambda good: npz(in_beat=zeros(2, 1, 64), out_logits=np.float32(1)),
        lambda good: npz(in_beat=zeros(2, 1, 64), out_logits=zeros(2, 3) * np.nan),
        lambda good: zip_bomb(),
        lambda good: lying_header(),
    ],
)
def test_unusable(bundle: Bundle, make: Callable[[bytes], bytes]) -> None:
    with pytest.raises(StartError, match="golden vectors are unusable") as caught:
        vectors(make(bundle.files["golden.npz"]), bundle.manifest)
    assert "\n" not in str(caught.value)


def test_the_control_is_usable(bundle: Bundle) -> None:
    inputs, output = vectors(bundle.files["golden.npz"], bundle.manifest)
    assert inputs["beat"].shape == (8, 1, 64)
    assert output["logits"].shape == (8, 3)


def test_difference(bundle: Bundle) -> None:
    golden, model = bundle.files["golden.npz"], bundle.files["model.fp32.onnx"]
    with open_engine("onnxruntime", model, "fp32") as engine:
        assert worst_difference(engine, golden, bundle.manifest) < 1e-5
    inputs, output = vectors(golden, bundle.manifest)
    output["logits"][5, 1] += 0.25
    shifted = npz(in_beat=inputs["beat"], out_logits=output["logits"])
    with open_engine("onnxruntime", model, "fp32") as engine:
        assert worst_difference(engine, shifted, bundle.manifest) == pytest.approx(0.25, abs=1e-5)


def test_nan_is_infinitely_wrong(bundle: Bundle) -> None:
    with open_engine("null", bundle.files["model.fp32.onnx"], "fp32") as engine:
        difference = worst_difference(engine, bundle.files["golden.npz"], bundle.manifest)
    assert difference == float("inf")
