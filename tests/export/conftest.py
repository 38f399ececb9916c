"""A small convolutional classifier and labelled images for it, made with onnx and numpy alone."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest

from calibration.collect import activations
from calibration.sets import Dataset

SIZE, CLASSES = 16, 3


def images(count: int, seed: int, patients: int = 20, prefix: str = "p") -> Dataset:
    """Three patterns in noise, levels around 0..255; `patients` groups."""
    rng = np.random.default_rng(seed)
    template = np.random.default_rng(99).normal(size=(CLASSES, 1, SIZE, SIZE))
    label = rng.integers(0, CLASSES, count)
    x = 127 + 40 * template[label] + 60 * rng.normal(size=(count, 1, SIZE, SIZE))
    owner = rng.integers(0, patients, count)
    group = np.array([f"{prefix}{seed}-{i}" for i in owner])
    sex = np.where(owner % 2, "female", "male")
    return Dataset({"image": x.astype(np.float32)}, label, group, {"sex": sex}, "toy")


@lru_cache(1)
def model() -> bytes:
    """Takes raw levels `[b, 1, 16, 16]`, gives logits `[b, 3]`; its last layer is fitted."""
    train = images(600, 1)
    plain = _graph(np.zeros((CLASSES, 16), np.float32), np.zeros(CLASSES, np.float32))
    (features,) = (
        np.concatenate([v["features"] for v in activations(plain, ["features"], train)]),
    )
    ones = np.concatenate((features, np.ones((len(features), 1))), 1)
    target = 6.0 * np.eye(CLASSES)[train.label] - 3.0
    solved = np.linalg.lstsq(ones, target, rcond=None)[0].astype(np.float32)
    return _graph(solved[:-1].T.copy(), solved[-1])


def _graph(head: np.ndarray, bias: np.ndarray) -> bytes:
    from onnx import TensorProto, checker, helper, numpy_helper

    rng = np.random.default_rng(5)
    first = rng.normal(size=(8, 1, 3, 3)).astype(np.float32) / 3
    second = rng.normal(size=(16, 8, 7, 7)).astype(np.float32) / 20
    constants = {
        "mean": np.float32([[[[127.0]]]]),
        "gain": np.float32([[[[1 / 64]]]]),
        "w1": first,
        "b1": rng.normal(size=8).astype(np.float32) / 10,
        "w2": second,
        "b2": rng.normal(size=16).astype(np.float32) / 10,
        "w3": head,
        "b3": bias,
    }
    node = helper.make_node
    nodes = [
        node("Sub", ["image", "mean"], ["centred"]),
        node("Mul", ["centred", "gain"], ["scaled"]),
        node("Conv", ["scaled", "w1", "b1"], ["c1"], "first", pads=[1, 1, 1, 1]),
        node("Relu", ["c1"], ["r1"]),
        node("MaxPool", ["r1"], ["m1"], kernel_shape=[2, 2], strides=[2, 2]),
        node("Conv", ["m1", "w2", "b2"], ["c2"], "second"),
        node("Relu", ["c2"], ["r2"]),
        node("GlobalAveragePool", ["r2"], ["g"]),
        node("Flatten", ["g"], ["features"]),
        node("Gemm", ["features", "w3", "b3"], ["logits"], "head", transB=1),
    ]
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "toy",
        [value("image", TensorProto.FLOAT, ["batch", 1, SIZE, SIZE])],
        [value("logits", TensorProto.FLOAT, ["batch", CLASSES])],
        [numpy_helper.from_array(v, k) for k, v in constants.items()],
    )
    opset = [helper.make_opsetid("", 18)]
    made = helper.make_model(graph, opset_imports=opset, ir_version=10)
    checker.check_model(made, full_check=True)
    return bytes(made.SerializeToString())


@pytest.fixture(scope="session")
def toy_model() -> bytes:
    pytest.importorskip("onnx", reason="test models are made with onnx")
    return model()


@pytest.fixture(scope="session")
def toy_images() -> Callable[..., Dataset]:
    return images


SPEC = """
schema = 1
[model]
onnx = "toy.onnx"
[data]
calibration = "calibration.npz"
gate = "gate.npz"
held_back = "held_back.npz"
samples = 128
[gate]
metric = "auroc"
margin = 0.01
[manifest]
name = "toy"
version = "1.0.0"
security_epoch = 1
intended_use = "tests"
latency_budget_ms = 100.0
[[manifest.inputs]]
name = "image"
shape = [1, 16, 16]
source = "image"
[manifest.output]
name = "logits"
labels = [
  { name = "a", display = "first" }, { name = "b", display = "second" },
  { name = "c", display = "third" },
]
[manifest.provenance]
recipe = "none"
seed = 0
data = "made"
trained_on = ["made"]
excluded = []
licence = "none"
citation = "none"
"""


def save(path: Path, data: Dataset) -> None:
    """A data set as a user would save it."""
    arrays = {f"in.{n}": x for n, x in data.inputs.items()}
    arrays |= {f"subgroup.{n}": x for n, x in data.subgroups.items()}
    np.savez(path, label=data.label, group=data.group, **arrays)


@pytest.fixture
def project(tmp_path: Path, toy_model: bytes) -> Path:
    """A folder with a spec, its model and its data; the spec's path."""
    (tmp_path / "toy.onnx").write_bytes(toy_model)
    for seed, (name, count) in enumerate(
        {"calibration": 200, "gate": 400, "held_back": 400}.items(), 10
    ):
        save(tmp_path / f"{name}.npz", images(count, seed))
    spec = tmp_path / "toy.toml"
    spec.write_text(SPEC)
    return spec
