"""Models as users have them: a torch module with its weights, a program, a file; never a pickle."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from calibration.sets import Dataset
from edge.bundle.load import load
from edge.errors import StartError
from export.cli import build_bundle
from export.graph import read
from export.source import fp32
from export.spec import Model, Scale, read_spec

torch = pytest.importorskip("torch")
pytest.importorskip("onnxscript")


def network(classes: int = 3) -> torch.nn.Module:
    from torch import nn

    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Dropout(0.5), nn.Linear(8, classes),
    )  # fmt: skip


IMAGES = np.random.default_rng(0).uniform(0, 255, (16, 1, 16, 16)).astype(np.float32)
REAL = Dataset({"image": IMAGES}, np.zeros(16, np.int64), np.zeros(16, np.str_))


@pytest.fixture
def trained(project: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Beside the spec: a user's module `mine.py`, its checkpoint and its program."""
    net = network().eval()
    folder = project.parent
    torch.save(net.state_dict(), folder / "weights.pt")
    torch.save(net, folder / "pickled.pt")
    batch = torch.export.Dim("batch", min=1, max=1024)
    example = (torch.from_numpy(IMAGES[:2]),)
    torch.export.save(
        torch.export.export(net, example, dynamic_shapes=({0: batch},)), folder / "program.pt2"
    )
    monkeypatch.setattr("export.source.load", lambda target, what: network)
    return project


MODULE = Model(torch="mine:network", checkpoint="weights.pt")


@pytest.mark.parametrize("model", [MODULE, Model(program="program.pt2")])
def test_a_module_and_a_program_become_the_same_clean_file(trained: Path, model: Model) -> None:
    _, manifest = read_spec(trained)
    data = fp32(model, trained.parent, manifest, REAL)
    kinds = [n.op_type for n in read(data).graph.node]
    assert "BatchNormalization" not in kinds and "Dropout" not in kinds
    assert str(trained.parent).encode() not in data


def test_scaling_goes_into_the_file(trained: Path) -> None:
    _, manifest = read_spec(trained)
    scale = {"image": Scale(mean=(127.5,), deviation=(64.0,))}
    model = Model(torch="mine:network", checkpoint="weights.pt", scale=scale)
    kinds = [n.op_type for n in read(fp32(model, trained.parent, manifest, REAL)).graph.node]
    assert kinds[:2] == ["Sub", "Mul"]


@pytest.mark.parametrize(
    ("model", "says"),
    [
        (Model(torch="mine:network", checkpoint="pickled.pt"), "needs a pickle"),
        (Model(torch="mine:network", checkpoint="none.pt"), "does not fit"),
        (Model(torch="mine:network", checkpoint="calibration.npz"), "checkpoint"),
        (Model(program="weights.pt"), "not a program"),
        (Model(program="none.pt2"), "not a program"),
    ],
)
def test_what_cannot_be_loaded_is_one_error(trained: Path, model: Model, says: str) -> None:
    _, manifest = read_spec(trained)
    with pytest.raises(StartError, match=says):
        fp32(model, trained.parent, manifest, REAL)


def test_a_module_that_cannot_be_exported_is_one_error(
    trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Branches(torch.nn.Sequential):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x) if float(x.sum()) > 0 else x

    monkeypatch.setattr("export.source.load", lambda target, what: lambda: Branches(*network()))
    _, manifest = read_spec(trained)
    with pytest.raises(StartError, match="cannot export"):
        fp32(MODULE, trained.parent, manifest, REAL)


@pytest.mark.integration
def test_a_users_module_becomes_a_bundle(trained: Path) -> None:
    text = trained.read_text().replace(
        'onnx = "toy.onnx"', 'torch = "mine:network"\ncheckpoint = "weights.pt"'
    )
    trained.write_text(text.replace("margin = 0.01", "margin = 0.2"))
    out = trained.parent / "out" / "mine"
    assert build_bundle(str(trained), str(out), None, None) == 0
    assert load(out, trusted_keys=list((out.parent / "keys").iterdir())).name == "toy"
