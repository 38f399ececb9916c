"""A build: what passes is whole and proved; what does not leaves the old bundle and says why."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from edge.bundle.admission import admit
from edge.bundle.load import load
from edge.errors import MedgeError, StartError
from export import build as builder
from export.build import build
from export.cli import build_bundle, inspect
from export.precision.qdq import quantise

ROOT = Path(__file__).parents[2]


def quiet(_: str) -> None:
    pass


def shipped(spec: Path) -> Path:
    out = spec.parent / "out" / "toy"
    assert build_bundle(str(spec), str(out), None, None) == 0
    return out


def files(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in folder.iterdir()}


@pytest.mark.integration
def test_a_bundle_is_built_proved_and_admitted(project: Path) -> None:
    out = shipped(project)
    bundle = load(out, trusted_keys=list((out.parent / "keys").iterdir()))
    assert set(bundle.manifest.precisions) == {"fp32", "fp16", "int8", "int8u"}
    for name, precision in bundle.manifest.precisions.items():
        assert (precision.gate is None) == (name == "fp32")
        if precision.gate:
            assert precision.gate.lower_bound > -precision.gate.margin
    assert bundle.manifest.output.energy_limit is not None
    trials = admit(bundle, out.parent / "state").trials
    assert not [t for t in trials if t.refused]
    report = json.loads((out.parent / "toy.report.json").read_text())
    assert report["passes"]
    assert abs(report["coverage"]["overall"] - 0.95) < 0.04
    assert "<svg" in (out.parent / "toy.report.html").read_text()


@pytest.mark.integration
def test_inspect_shows_the_tree(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = shipped(project)
    capsys.readouterr()
    assert inspect(str(out), False) == 0
    said = capsys.readouterr().out
    assert "int8u" in said and "auroc" in said and "calibrated on" in said


@pytest.mark.integration
def test_control_the_gate_refuses_a_broken_quantisation(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Scales ten times too small saturate everything: exit 1, the layers named, nothing shipped."""
    out = shipped(project)
    before = files(out)

    def broken(data: bytes, limits: dict[str, float], high: tuple[str, ...] = ()) -> bytes:
        return quantise(data, {name: v / 50 for name, v in limits.items()}, high)

    monkeypatch.setattr("export.int8.quantise", broken)
    monkeypatch.setattr("export.int8.corrected", lambda fp32, int8, data: int8)
    capsys.readouterr()
    assert build_bundle(str(project), str(out), None, None) == 1
    said = capsys.readouterr().err
    assert "gate refuses int8" in said and "second" in said
    assert files(out) == before
    assert not json.loads((out.parent / "toy.report.json").read_text())["passes"]


@pytest.mark.parametrize(
    ("out", "says"),
    [("toy.onnx", "holds no bundle"), (".", "holds no bundle"), ("toy.onnx/deep", "written")],
)
def test_only_a_bundle_is_ever_replaced(project: Path, out: str, says: str) -> None:
    before = files(project.parent)
    with pytest.raises(StartError, match=says):
        build_bundle(str(project), str(project.parent / out), None, None)
    assert files(project.parent) == before


def test_a_key_that_cannot_be_read_is_said_before_the_work(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("export.cli.build", lambda *_: pytest.fail("it was built"))
    with pytest.raises(StartError, match="cannot be read"):
        build_bundle(str(project), str(project.parent / "out"), "none.pem", None)


def test_overlapping_sets_are_refused(project: Path) -> None:
    (project.parent / "gate.npz").write_bytes((project.parent / "calibration.npz").read_bytes())
    with pytest.raises(StartError, match="share"):
        build(project, project.parent, quiet)


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("shape = [1, 16, 16]", "shape = [1, 8, 8]", "in the manifest"),
        ('name = "logits"', 'name = "scores"', "no 'scores'"),
        ('onnx = "toy.onnx"', 'onnx = "none.onnx"', "cannot be read"),
        ('metric = "auroc"', 'metric = "aurok"', "unknown metric"),
        ("samples = 128", "samples = 128\nsample = 1", "sample"),
        ("margin = 0.01", 'margin = 0.01\npositive = "d"', "no label 'd'"),
        ('{ name = "c", display = "third" },', "", "labels"),
    ],
)
def test_what_does_not_fit_is_one_error(project: Path, old: str, new: str, says: str) -> None:
    text = project.read_text()
    assert old in text
    project.write_text(text.replace(old, new))
    with pytest.raises(MedgeError, match=says):
        build(project, project.parent, quiet)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_are_not_finite_are_refused(project: Path, value: float) -> None:
    import onnx
    from onnx import numpy_helper

    model = onnx.load(str(project.parent / "toy.onnx"))
    weight = next(i for i in model.graph.initializer if i.name == "w2")
    array = numpy_helper.to_array(weight).copy()
    array[0, 0, 0, 0] = value
    weight.CopyFrom(numpy_helper.from_array(array, "w2"))
    onnx.save(model, str(project.parent / "toy.onnx"))
    with pytest.raises(StartError, match="not finite"):
        build(project, project.parent, quiet)


def test_an_operator_that_no_target_has_is_refused(project: Path) -> None:
    import onnx

    model = onnx.load(str(project.parent / "toy.onnx"))
    model.graph.node[-1].domain = "com.example"
    model.opset_import.append(onnx.helper.make_opsetid("com.example", 1))
    onnx.save(model, str(project.parent / "toy.onnx"))
    with pytest.raises(StartError, match="refuses the model"):
        build(project, project.parent, quiet)


@pytest.mark.integration
@pytest.mark.slow
def test_a_killed_build_leaves_the_old_bundle_whole(project: Path) -> None:
    """Killed at ten moments of a build over an old bundle: it is the old one or the new one."""
    out = shipped(project)
    command = [sys.executable, "-m", "edge.cli", "export", "build", str(project), "--out", str(out)]
    started = time.monotonic()
    subprocess.run(command, check=True, cwd=ROOT, capture_output=True)
    whole_s = time.monotonic() - started
    for part in np.linspace(0.1, 1.0, 10):
        process = subprocess.Popen(
            command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            start_new_session=True,
        )  # fmt: skip
        time.sleep(whole_s * float(part))
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        keys = list((out.parent / "keys").glob("*.pub"))
        load(out, trusted_keys=keys)


def test_lint_stops_a_build(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(builder.TARGETS, "int8u", "tensorrt-10.3")
    with pytest.raises(StartError, match="zero point"):
        build(project, project.parent, quiet)
