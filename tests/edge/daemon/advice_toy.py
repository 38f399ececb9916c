"""A signed bundle of advice small enough to be made here: one word of each disease for a model.

The prompt's first term decides which word comes first; what follows is the tree's.
"""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from edge.bundle.cli import sign
from edge.bundle.manifest import Input, Manifest, Output, Precision, Provenance, State, Text
from edge.engines import open_engine
from edge.text.approved import read_approved
from edge.text.vocab import FIRST, write_vocabulary

TEXTS = {
    "schema": 1,
    "source": "invented",
    "texts": {"p": "Keep the skin moist.", "m": "Rest in a dark room"},
    "advice": [
        {"disease": "Psoriasis", "texts": ["p"], "names": ["psoriasis"]},
        {"disease": "Migraine", "texts": ["m"], "names": ["migraine"]},
    ],
}
CAPACITY = 12
NAME = "toy-advice"


def make(folder: Path) -> tuple[Path, Path]:
    """The bundle's folder and its public key."""
    out = folder / NAME
    out.mkdir()
    approved = read_approved(msgspec.json.encode(TEXTS))
    said = sorted({word for advice in approved.advice for word in approved.sequence(advice)})
    tokens = FIRST + len(said)
    model = _model(tokens, [FIRST + said.index(a.names[0]) for a in approved.advice])
    (out / "model.fp32.onnx").write_bytes(model)
    (out / "texts.json").write_bytes(msgspec.json.encode(approved))
    (out / "vocab.json").write_bytes(write_vocabulary((*said, "headache", "rash")))
    (out / "card.md").write_text("# toy\n")
    _golden(model, out / "golden.npz")
    (out / "manifest.json").write_bytes(msgspec.json.encode(_manifest(tokens)))
    private, public = _keys(folder)
    sign(str(out), str(private))
    return out, public


def _model(tokens: int, names: list[int]) -> bytes:
    """Logits `[N, tokens]`: 12 for the prompt's first term where that is one of `names`."""
    from onnx import TensorProto, helper, numpy_helper

    table = np.zeros((tokens + 8, tokens), np.float32)
    for number in names:
        table[number, number] = 12.0
    kind = TensorProto.FLOAT
    nodes = [
        helper.make_node("Slice", ["terms", "zero", "one", "axis"], ["first"]),
        helper.make_node("Cast", ["first"], ["number"], to=TensorProto.INT64),
        helper.make_node("Gather", ["table", "number"], ["rows"]),
        helper.make_node("ReduceSum", ["rows", "axis"], ["known"], keepdims=0),
        helper.make_node("Mul", ["token", "nothing"], ["none"]),
        helper.make_node("Add", ["known", "none"], ["logits"]),
        helper.make_node("Add", ["keys", "step"], ["next"]),
    ]
    constants = {
        "table": table, "zero": np.array([0]), "one": np.array([1]), "axis": np.array([1]),
        "nothing": np.zeros(1, np.float32), "step": np.ones(1, np.float32),
    }  # fmt: skip
    state = ["N", 1, CAPACITY, 1]
    graph = helper.make_graph(
        nodes,
        "advice",
        [helper.make_tensor_value_info("terms", kind, ["N", 4]),
         helper.make_tensor_value_info("token", kind, ["N", 1]),
         helper.make_tensor_value_info("keys", kind, state)],
        [helper.make_tensor_value_info("logits", kind, ["N", tokens]),
         helper.make_tensor_value_info("next", kind, state)],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )  # fmt: skip
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    return bytes(made.SerializeToString())


def _golden(model: bytes, path: Path) -> None:
    with open_engine("onnxruntime", model, "fp32", batch=2) as engine:
        engine.inputs["terms"][:, 0] = 2, 3
        engine.run()
        arrays = {f"in.{name}": x for name, x in engine.inputs.items()}
        arrays |= {f"out.{name}": x for name, x in engine.outputs.items()}
        np.savez(path, **arrays)  # type: ignore[arg-type]


def _manifest(tokens: int) -> Manifest:
    return Manifest(
        schema=1, name=NAME, version="1", security_epoch=0, intended_use="tests",
        text=Text(tokenizer="listed", least_known=2, max_unknown=0.0),
        inputs=(Input(name="terms", shape=(4,), source="text"),
                Input(name="token", shape=(1,), source="token")),
        states=(State(input="keys", output="next", shape=(1, CAPACITY, 1)),),
        output=Output(name="logits", tokens=tokens, min_probability=0.5),
        precisions={"fp32": Precision(file="model.fp32.onnx", tolerance=1e-4)},
        provenance=Provenance(
            recipe="none", seed=0, data="none", trained_on=(), excluded=(), licence="none",
            citation="none",
        ),
        latency_budget_ms=1000.0, files={},
    )  # fmt: skip


def _keys(folder: Path) -> tuple[Path, Path]:
    key = Ed25519PrivateKey.generate()
    private, public = folder / "toy.pem", folder / "toy.pub"
    private.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    public.write_bytes(
        key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    )
    return private, public
