"""A small signed bundle made here: a convolution over a beat window, with golden vectors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from edge.bundle.manifest import (
    SCHEMA,
    Channel,
    Input,
    Label,
    Manifest,
    Output,
    Precision,
    Provenance,
    Rhythm,
    Signal,
    Step,
)

onnx = pytest.importorskip("onnx", reason="test models are made with onnx")
LENGTH, LABELS = 64, ("N", "V", "Q")


def model(scale: float = 1.0, kernel: int = 5) -> bytes:
    """Conv, Relu, mean, Gemm on `[N, 1, 64]` to `[N, 3]`, random weights times `scale`."""
    from onnx import TensorProto, helper, numpy_helper

    rng = np.random.default_rng(1)
    weights = {
        "w1": rng.normal(0, scale, (4, 1, kernel)),
        "w2": rng.normal(0, scale, (4, len(LABELS))),
    }
    nodes = [
        helper.make_node("Conv", ["beat", "w1"], ["c"], pads=[kernel // 2, kernel // 2]),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("GlobalAveragePool", ["r"], ["p"]),
        helper.make_node("Flatten", ["p"], ["f"]),
        helper.make_node("Gemm", ["f", "w2"], ["logits"]),
    ]
    graph = helper.make_graph(
        nodes,
        "beat",
        [helper.make_tensor_value_info("beat", TensorProto.FLOAT, ["N", 1, LENGTH])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", len(LABELS)])],
        [numpy_helper.from_array(w.astype(np.float32), name) for name, w in weights.items()],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    return bytes(made.SerializeToString())


def manifest(**changes: Any) -> Manifest:
    made = Manifest(
        schema=SCHEMA,
        name="tiny",
        version="1",
        security_epoch=0,
        intended_use="tests",
        signal=Signal(
            channel=Channel(mdc="MDC_ECG_ELEC_POTL_II", unit="mV", low=-5, high=5),
            rate_hz=250.0,
            filters=(Step(name="bandpass", params={"low_hz": 0.5, "high_hz": 40.0}),),
            trigger=Step(name="qrs"),
            before_ms=120,
            after_ms=136,
            max_age_ms=1500,
        ),
        inputs=(Input(name="beat", shape=(1, LENGTH), source="window"),),
        output=Output(
            name="logits",
            labels=tuple(Label(name=n, display=n, withhold=n == "Q") for n in LABELS),
        ),
        rhythm=Rhythm(),
        precisions={"fp32": Precision(file="model.fp32.onnx", tolerance=1e-4)},
        provenance=Provenance(
            recipe="none", seed=0, data="none", trained_on=(), excluded=(), licence="none",
            citation="none",
        ),
        latency_budget_ms=1000.0,
        files={},
    )  # fmt: skip
    return msgspec.structs.replace(made, **changes)


@dataclass(frozen=True)
class Made:
    """A signed bundle folder and the keys that belong to it."""

    folder: Path
    private: Path
    public: Path


@pytest.fixture
def make_bundle(tmp_path: Path) -> Callable[..., Made]:
    """Write and sign a bundle; `model_bytes` may differ from the one that made the golden."""

    def make(name: str = "tiny", /, model_bytes: bytes | None = None, **changes: Any) -> Made:
        from edge.bundle.cli import sign
        from edge.engines import open_engine

        folder = tmp_path / name
        folder.mkdir()
        good = model()
        (folder / "model.fp32.onnx").write_bytes(model_bytes or good)
        beats = np.random.default_rng(2).normal(0, 1, (8, 1, LENGTH)).astype(np.float32)
        with open_engine("onnxruntime", good, "fp32", batch=8) as engine:
            engine.inputs["beat"][...] = beats
            engine.run()
            np.savez(
                folder / "golden.npz", **{"in.beat": beats, "out.logits": engine.outputs["logits"]}
            )
        (folder / "card.md").write_text("# tiny\n")
        (folder / "manifest.json").write_bytes(msgspec.json.encode(manifest(**changes)))
        private, public = keys(tmp_path, name)
        sign(str(folder), str(private))
        return Made(folder, private, public)

    return make


def keys(folder: Path, name: str) -> tuple[Path, Path]:
    """A fresh key pair as files: PEM private, PEM public."""
    from cryptography.hazmat.primitives.serialization import PublicFormat

    key = Ed25519PrivateKey.generate()
    private, public = folder / f"{name}.pem", folder / f"{name}.pub"
    private.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    public.write_bytes(
        key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    )
    return private, public


@pytest.fixture
def key_pair(tmp_path: Path) -> Callable[[str], tuple[Path, Path]]:
    return lambda name: keys(tmp_path, name)


@pytest.fixture
def model_bytes() -> Callable[[float], bytes]:
    """The bundle's model with its weights scaled."""
    return model
