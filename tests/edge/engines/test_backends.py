"""Every backend gives the same numbers in the same arrays, and allocates nothing while serving."""

from __future__ import annotations

import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from importlib.util import find_spec

import numpy as np
import pytest

from edge.engines import Engine, open_engine
from edge.errors import StartError

REAL = [name for name in ("onnxruntime", "openvino") if find_spec(name)]
EVERY = [*REAL, "null"]

LOGIT_BOUND = 1e-5  # across backends and batch sizes, float32


def cases(count: int) -> np.ndarray:
    return np.random.default_rng(7).normal(0, 1, (count, 1, 40)).astype(np.float32)


def answers(backend: str, model: bytes, x: np.ndarray, batch: int = 1) -> np.ndarray:
    with open_engine(backend, model, "fp32", batch=batch) as engine:
        found = []
        for at in range(0, len(x), batch):
            engine.inputs["x"][:] = x[at : at + batch]
            engine.run()
            found.append(engine.outputs["logits"].copy())
    return np.concatenate(found)


@pytest.mark.parametrize("backend", REAL)
def test_backends_agree(backend: str, model: bytes) -> None:
    x = cases(16)
    difference = np.abs(answers(backend, model, x) - answers("onnxruntime", model, x))
    assert difference.max() < LOGIT_BOUND


def test_the_control_other_inputs_differ(model: bytes) -> None:
    x = cases(16)
    difference = np.abs(answers(REAL[-1], model, x) - answers("onnxruntime", model, x[::-1]))
    assert difference.max() > 100 * LOGIT_BOUND


@pytest.mark.parametrize("backend", REAL)
def test_batches_agree(backend: str, model: bytes) -> None:
    x = cases(16)
    difference = np.abs(answers(backend, model, x, 8) - answers(backend, model, x, 1))
    assert difference.max() < LOGIT_BOUND


@pytest.mark.parametrize("backend", EVERY)
@pytest.mark.parametrize("batch", [1, 4])
def test_arrays_are_the_same_objects_for_life(backend: str, batch: int, model: bytes) -> None:
    with open_engine(backend, model, "fp32", batch=batch) as engine:
        before = {**engine.inputs, **engine.outputs}
        assert {name: x.shape for name, x in before.items()} == {
            "x": (batch, 1, 40),
            "logits": (batch, 3),
        }
        engine.run()
        after = {**engine.inputs, **engine.outputs}
        assert all(after[name] is before[name] for name in before)
        for array in before.values():
            assert array.dtype == np.float32 and array.flags.c_contiguous and array.flags.writeable
        assert (engine.backend, engine.precision, engine.threads) == (backend, "fp32", 1)


def growth_bytes(engine: Engine, times: int = 3) -> int:
    """What Python and numpy hold more of after many runs, the least of some times: other threads
    of the process may have allocated too, what piles up does so every time."""
    for _ in range(200):
        engine.run()
    return min(_growth_bytes(engine) for _ in range(times))


def _growth_bytes(engine: Engine, runs: int = 3000) -> int:
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    for _ in range(runs):
        engine.run()
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return after - before


@pytest.mark.parametrize("backend", EVERY)
def test_nothing_piles_up(backend: str, model: bytes) -> None:
    with open_engine(backend, model, "fp32") as engine:
        assert growth_bytes(engine) < 2048


def test_the_control_a_leak_shows(model: bytes) -> None:
    kept: list[object] = []

    class Leaky:
        def run(self) -> None:
            kept.append(bytearray(8))

    assert growth_bytes(Leaky()) > 2048  # type: ignore[arg-type]


@pytest.mark.parametrize("backend", EVERY)
@pytest.mark.parametrize(
    ("batch", "length"), [(5, 40), ("N", "L")], ids=["another fixed batch", "open length"]
)
def test_shapes_that_cannot_be_fixed(
    backend: str, batch: object, length: object, make_cnn: Callable[..., bytes]
) -> None:
    with (
        pytest.raises(StartError, match=r"batch axis|batch first"),
        open_engine(backend, make_cnn(batch, length), "fp32"),
    ):
        pass


@pytest.mark.parametrize("backend", EVERY)
@pytest.mark.parametrize(
    "damage",
    [
        lambda m: b"",
        lambda m: m[: len(m) // 2],
        lambda m: b"<?xml version='1.0'?><net name='x' version='11'></net>",
        lambda m: b"\x18\0\0\0ORTM" + m,
        lambda m: m.replace(b"ReduceMean", b"ReduceMeme"),
        lambda m: b"\x08\x08",
    ],
    ids=["empty", "truncated", "OpenVINO IR", "ORT format", "unknown operator", "no graph"],
)
def test_what_is_no_model(backend: str, damage: Callable[[bytes], bytes], model: bytes) -> None:
    with pytest.raises(StartError) as caught, open_engine(backend, damage(model), "fp32"):
        pass
    assert "\n" not in str(caught.value) and "; " in str(caught.value)


def run_python(code: str) -> str:
    command = [sys.executable, "-c", code]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def test_importing_is_light() -> None:
    heavy = "{'numpy', 'onnx', 'onnxruntime', 'openvino', 'torch', 'cryptography'}"
    code = f"import sys, edge.bundle, edge.engines; print({heavy} & set(sys.modules))"
    assert run_python(code) == "set()"


def test_openvino_that_is_not_installed(monkeypatch: pytest.MonkeyPatch, model: bytes) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    with (
        pytest.raises(StartError, match=r"\.\[openvino\]"),
        open_engine("openvino", model, "fp32"),
    ):
        pass


@pytest.mark.skipif("openvino" not in REAL, reason="openvino is not installed")
def test_openvino_is_loaded_without_what_phones_home() -> None:
    code = (
        "import sys; from edge.engines.openvino import _import_silent; "
        "print(_import_silent().Core is not None, "
        "[m for m in sys.modules if 'telemetry' in m or m == 'openvino.tools.ovc'])"
    )
    assert run_python(code) == "True []"
