"""INT8 and FP16 files: the dialect, the arithmetic, and what is kept out of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

onnx = pytest.importorskip("onnx", reason="test models are made with onnx")

from onnx import helper, numpy_helper  # noqa: E402

from calibration.collect import answers, watch  # noqa: E402
from calibration.sets import Dataset  # noqa: E402
from edge.validation.comparison import agreement  # noqa: E402
from export.graph import Graph, read, write  # noqa: E402
from export.int8 import make_int8  # noqa: E402
from export.lint import lint  # noqa: E402
from export.passes import clean  # noqa: E402
from export.precision.bias import corrected  # noqa: E402
from export.precision.fp16 import overflowing, to_fp16  # noqa: E402
from export.precision.qdq import (  # noqa: E402
    LEAST_SCALE,
    layers,
    quantise,
    quantised_inputs,
    weight_codes,
)
from export.precision.uint8 import as_uint8  # noqa: E402


@pytest.fixture(scope="module")
def fp32(toy_model: bytes) -> bytes:
    return clean(toy_model)


@pytest.fixture(scope="module")
def data(toy_images: Callable[..., Dataset]) -> Dataset:
    return toy_images(200, 4)


@pytest.fixture(scope="module")
def limits(fp32: bytes, data: Dataset) -> dict[str, float]:
    seen = watch(fp32, list(quantised_inputs(read(fp32), ())), data)
    return {name: h.amax for name, h in seen.items()}


@pytest.fixture(scope="module")
def int8(fp32: bytes, limits: dict[str, float]) -> bytes:
    return quantise(fp32, limits)


def sqnr(fp32: bytes, other: bytes, data: Dataset) -> float:
    pair = [answers(m, "logits", data) for m in (fp32, other)]
    return agreement(*pair, data.label).sqnr_db


def test_every_layer_is_quantised_once_and_cleanly(fp32: bytes, int8: bytes) -> None:
    assert [layer.name for layer in layers(read(fp32))] == ["first", "second", "head"]
    graph = Graph(read(int8))
    quantised = [n.name for n in graph.nodes if n.op_type == "QuantizeLinear"]
    assert len(quantised) == len(set(quantised)) == 4  # three inputs, and the pooling's
    weights = [i for i in graph.model.graph.initializer if i.name.endswith("_int8")]
    assert {numpy_helper.to_array(w).dtype for w in weights} == {np.dtype(np.int8)}
    assert lint(int8, "tensorrt-10.3") == ()
    assert len(int8) < 0.5 * len(fp32)


def test_answers_stay_near_and_a_broken_scale_shows(
    fp32: bytes, int8: bytes, data: Dataset, limits: dict[str, float]
) -> None:
    assert sqnr(fp32, int8, data) > 25
    narrow = quantise(fp32, {name: v / 20 for name, v in limits.items()})
    assert sqnr(fp32, narrow, data) < 10  # control


def test_high_layers_stay_as_they_are(fp32: bytes, limits: dict[str, float], data: Dataset) -> None:
    mixed = quantise(fp32, limits, {"second"})
    node = next(n for n in read(mixed).graph.node if n.name == "second")
    assert node.input[1] == "w2"
    assert sqnr(fp32, mixed, data) > sqnr(fp32, quantise(fp32, limits), data)
    assert quantise(fp32, limits, {"first", "second", "head"}) == fp32


def unfused(model: bytes, x: np.ndarray) -> np.ndarray:
    """By ONNX Runtime without any rewriting: the arithmetic that is written in the file."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"image": x})[0])


@pytest.mark.parametrize("gain", [1.0, 3.0])
def test_uint8_is_the_same_arithmetic(
    int8: bytes, data: Dataset, gain: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bit for bit, also where activations saturate (`gain` 3), biases left aside."""
    monkeypatch.setattr("export.precision.uint8._quantise_bias", lambda *_: None)
    x = (data.inputs["image"] - 127) * np.float32(gain) + 127
    np.testing.assert_array_equal(unfused(int8, x), unfused(as_uint8(int8), x))


def test_rectifying_codes_is_what_lets_the_runtime_fuse(int8: bytes) -> None:
    """Each layer is followed by its own quantisation, and no Relu is left in floating point."""
    graph = Graph(read(as_uint8(int8)))
    kinds = [n.op_type for n in graph.nodes]
    assert "Relu" not in kinds and kinds.count("Clip") == 2
    for layer in ("first", "second"):
        made = next(n for n in graph.nodes if n.name == layer)
        assert [n.op_type for n in graph.consumers[made.output[0]]] == ["QuantizeLinear"]
    assert [n.op_type for n in Graph(read(int8)).nodes].count("Relu") == 2  # control


def before_pool(model: bytes) -> str:
    graph = Graph(read(model))
    pool = next(n for n in graph.nodes if n.op_type == "MaxPool")
    return str(graph.producer[pool.input[0]].op_type)


@pytest.mark.parametrize("gain", [1.0, 3.0])
def test_pooling_codes_is_the_same_arithmetic(
    fp32: bytes, int8: bytes, limits: dict[str, float], data: Dataset, gain: float,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr("export.precision.qdq._pool_alone", lambda *_: None)
    behind = quantise(fp32, limits)
    assert before_pool(int8) == "DequantizeLinear" and before_pool(behind) == "Relu"
    x = (data.inputs["image"] - 127) * np.float32(gain) + 127
    np.testing.assert_array_equal(unfused(int8, x), unfused(behind, x))


def test_a_pooling_that_others_take_too_stays_in_floating_point(
    fp32: bytes, limits: dict[str, float]
) -> None:
    model: Any = read(fp32)
    pool = next(n for n in model.graph.node if n.op_type == "MaxPool")
    model.graph.output.append(
        helper.make_tensor_value_info(pool.output[0], onnx.TensorProto.FLOAT, ["n", 8, 8, 8])
    )
    assert before_pool(quantise(write(model), limits)) == "Relu"


def test_its_biases_are_rounded_to_a_step_far_finer_than_an_activation(
    int8: bytes, data: Dataset
) -> None:
    graph = Graph(read(as_uint8(int8)))
    biases = [n for n in graph.nodes if n.name.endswith("_bias_DQ")]
    assert len(biases) == 3
    for made, name in zip(biases, ("b1", "b2", "b3")):
        codes, scale = (graph.constant(n) for n in made.input[:2])
        wanted = Graph(read(int8)).constant(name)
        assert np.abs(codes * scale.astype(float) - wanted).max() <= scale.max() / 2 * 1.001
    pair = [unfused(m, data.inputs["image"]) for m in (int8, as_uint8(int8))]
    assert np.median(np.abs(pair[0] - pair[1])) < 1e-3
    zeros = {graph.constant(n.input[2]).dtype for n in graph.nodes if n.op_type == "QuantizeLinear"}
    assert zeros == {np.dtype(np.uint8)}


def test_control_another_zero_point_is_seen(int8: bytes, data: Dataset) -> None:
    model = read(as_uint8(int8))
    zero = next(i for i in model.graph.initializer if i.name == "uint8_zero")
    graph = Graph(model)
    moved = helper.make_tensor("moved", zero.data_type, [], [120])
    model.graph.initializer.append(moved)
    last = [
        n for n in graph.nodes if n.op_type == "DequantizeLinear" and n.input[2] == "uint8_zero"
    ]
    last[-1].input[2] = "moved"
    x = data.inputs["image"]
    assert np.abs(unfused(int8, x) - unfused(write(model), x)).max() > 0.1


def test_bias_correction_moves_means_back(fp32: bytes, int8: bytes, data: Dataset) -> None:
    def shift(model: bytes) -> float:
        pair = [answers(m, "logits", data).mean(0) for m in (fp32, model)]
        return float(np.abs(pair[0] - pair[1]).max())

    assert shift(corrected(fp32, int8, data)) < 0.3 * shift(int8)


def test_weight_scales_have_a_floor() -> None:
    weight = np.zeros((3, 4), np.float32)
    weight[0] = 1.0
    weight[1] = 1e-30
    codes, scale = weight_codes(weight, 0)
    assert (scale >= LEAST_SCALE).all() and codes[0].max() == 127
    assert (weight_codes(weight * 0, 0)[1] >= LEAST_SCALE).all()


def test_the_search_ends_in_a_mix_that_is_proved(fp32: bytes, data: Dataset) -> None:
    found = make_int8(fp32, "logits", data, 120, 0, "auroc", None, 0.005)
    assert found.record.samples <= 120 and found.record.calibrator
    assert {c.layer for c in found.costs} == {"first", "second", "head"}
    assert any(m.high == found.record.high for m in found.mixes)
    assert sqnr(fp32, found.int8, data) > 25


@pytest.mark.parametrize("fast", [0, 1])
def test_the_mix_is_chosen_by_what_was_measured(
    fp32: bytes, data: Dataset, monkeypatch: pytest.MonkeyPatch, fast: int
) -> None:
    """The same search, once with the first mix the fastest and once with the second."""

    def measured(models: dict[str, bytes], _: Any) -> dict[str, dict[str, float]]:
        near = {name: 2.0 if name.startswith(str(fast)) else 3.0 for name in models}
        return {"near": near | {"fp32": 9.0}, "far": dict.fromkeys(models, 10.0)}

    monkeypatch.setattr("export.int8.latencies_ms", measured)
    found = make_int8(fp32, "logits", data, 120, 0, "auroc", None, 0.005)
    assert [m.latency_ms for m in found.mixes] == [2.0, 3.0] if fast == 0 else [3.0, 2.0]
    assert found.record.high == found.mixes[fast].high


def test_fp16_is_near_and_keeps_its_inputs(fp32: bytes, data: Dataset) -> None:
    half = to_fp16(fp32)
    model = read(half)
    assert model.graph.input[0].type.tensor_type.elem_type == onnx.TensorProto.FLOAT
    assert sqnr(fp32, half, data) > 50
    assert len(half) < 0.6 * len(fp32)


def test_what_fp16_cannot_hold_stays_in_float32(fp32: bytes, data: Dataset) -> None:
    model: Any = read(fp32)
    weight = next(i for i in model.graph.initializer if i.name == "b2")
    large = numpy_helper.to_array(weight).copy()
    large[0] = 1e6
    weight.CopyFrom(numpy_helper.from_array(large, "b2"))
    loud = write(model)
    assert not np.isfinite(answers(to_fp16(loud), "logits", data)).all()  # control
    tensors = [o for n in read(loud).graph.node for o in n.output]
    keep = overflowing(read(loud), watch(loud, tensors, data))
    assert "second" in keep and "first" not in keep
    half = to_fp16(loud, keep)
    assert np.isfinite(answers(half, "logits", data)).all()
    assert lint(half, "tensorrt-10.3") == ()
