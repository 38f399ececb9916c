"""Export: the file computes what the module does, at any batch, and tells nothing of its maker."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from edge.errors import BugError

torch = pytest.importorskip("torch")
onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxscript")

from export.recipes.ecg_beat_model import network, released  # noqa: E402
from export.to_onnx import require_same, to_onnx  # noqa: E402

OUTPUTS = ["logits"]


def inputs(rows: int, seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    beat = rng.normal(size=(rows, 3, 200)).astype(np.float32)
    beat[:, 2] = np.abs(beat[:, 2])
    return {"beat": beat, "rr": rng.normal(size=(rows, 9)).astype(np.float32)}


def source(module: Any) -> Callable[[dict[str, np.ndarray]], np.ndarray]:
    """The module as a function of its inputs by name."""
    return lambda x: module(*map(torch.from_numpy, x.values())).detach().numpy()


@pytest.fixture(scope="module")
def module() -> object:
    torch.manual_seed(0)
    members = [network(2).eval(), network(3).eval()]
    return released(members, np.array([0.0, 0.5, -0.5, -2, -1]))


@pytest.fixture(scope="module")
def exported(module: object) -> bytes:
    return to_onnx(module, inputs(2), OUTPUTS)


@pytest.mark.parametrize("rows", [1, 2, 17])
def test_same_at_any_batch(module: object, exported: bytes, rows: int) -> None:
    assert require_same(exported, source(module), inputs(rows, rows), OUTPUTS, 1e-4) <= 1e-4


def test_another_model_is_noticed(exported: bytes) -> None:
    """Control: the comparison fails for a module that is not the exported one."""
    torch.manual_seed(1)
    other = released([network(2).eval()], np.zeros(5))
    with pytest.raises(BugError):
        require_same(exported, source(other), inputs(3), OUTPUTS, 1e-4)


def test_a_blind_comparison_is_noticed() -> None:
    class Deaf(torch.nn.Module):
        def forward(self, beat: torch.Tensor, rr: torch.Tensor) -> torch.Tensor:
            return (beat.mean((1, 2)).unsqueeze(1) + rr) * 1e-9

    module = Deaf().eval()
    data = to_onnx(module, inputs(2), OUTPUTS)
    with pytest.raises(BugError, match="changed input"):
        require_same(data, source(module), inputs(3), OUTPUTS, 1e-4)


def test_the_file_tells_nothing_of_its_maker(exported: bytes) -> None:
    for word in (b"site-packages", b".py", b"Traceback", b"pkg.torch", b"/export"):
        assert word not in exported
    model = onnx.load_from_string(exported)
    assert model.graph.node
    assert not any(node.metadata_props or node.doc_string for node in model.graph.node)
