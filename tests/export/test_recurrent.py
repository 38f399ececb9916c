"""Recurrent bundles: steps carried one by one against the same steps run at once, and the network's
step against its training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge.bundle.load import load
from edge.engines import open_engine
from edge.pipeline.carried import Carried
from edge.signals.rows import NEVER_STEPS

onnx = pytest.importorskip("onnx", reason="models are put together with onnx")

STEPS = 10_000
BOUND = 1e-4
"""Of a carried step against the same step at once, as a share of the output's spread."""

MEAN_ERROR = {"fp16": 5e-3, "int8": 2e-2}
"""Of a precision against FP32, as a share of the output's spread."""


def course(columns: int, steps: int, seed: int = 0) -> np.ndarray:
    """Planes `[steps, 3, columns]` that wander, with holes."""
    rng = np.random.default_rng(seed)
    value = 50 + 30 * np.cumsum(rng.normal(0, 0.05, (steps, columns)), 0).clip(-1, 1)
    measured = rng.random((steps, columns)) < 0.5
    since = np.full(columns, NEVER_STEPS)
    planes = np.zeros((steps, 3, columns), np.float32)
    last = np.zeros(columns)
    for t in range(steps):
        since = np.where(measured[t], 0.0, np.minimum(since + 1, NEVER_STEPS))
        last = np.where(measured[t], value[t], last)
        planes[t] = last, measured[t], since
    return planes


def carried(name: str, precision: str, planes: np.ndarray) -> np.ndarray:
    bundle = load(name)
    m = bundle.manifest
    states = Carried(m.states)
    found = np.empty((len(planes), *m.output.shape), np.float32)
    with open_engine("onnxruntime", bundle.files[m.precisions[precision].file], precision) as e:
        for t, row in enumerate(planes):
            e.inputs["features"][0] = row
            states.before(e)
            e.run()
            states.after(e)
            found[t] = e.outputs[m.output.name][0]
    return found


def at_once(name: str, precision: str, planes: np.ndarray) -> np.ndarray:
    """The very graph as the body of one ONNX `Scan` over all steps, in one run."""
    import onnxruntime as ort
    from onnx import TensorProto, helper

    bundle = load(name)
    m = bundle.manifest
    step = onnx.load_from_string(bundle.files[m.precisions[precision].file])
    body = onnx.GraphProto()
    body.CopyFrom(step.graph)
    ins, outs = ({v.name: v for v in values} for values in (step.graph.input, step.graph.output))
    takes = [ins[s.input] for s in m.states] + [ins["features"]]
    gives = [outs[s.output] for s in m.states] + [outs[m.output.name]]
    for field, order in ((body.input, takes), (body.output, gives)):
        del field[:]
        field.extend(order)
    first = [f"first_{s.input}" for s in m.states]
    scan = helper.make_node(
        "Scan", [*first, "rows"], [*(f"last_{s.input}" for s in m.states), "all"],
        body=body, num_scan_inputs=1,
    )  # fmt: skip
    value, kind = helper.make_tensor_value_info, TensorProto.FLOAT
    graph = helper.make_graph(
        [scan], "at-once",
        [*(value(n, kind, [1, *s.shape]) for n, s in zip(first, m.states)),
         value("rows", kind, [len(planes), 1, *planes.shape[1:]])],
        [value("all", kind, [len(planes), 1, *m.output.shape])],
    )  # fmt: skip
    model = helper.make_model(
        graph, opset_imports=list(step.opset_import), ir_version=step.ir_version
    )
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    fed: dict[str, Any] = {n: np.zeros((1, *s.shape), np.float32) for n, s in zip(first, m.states)}
    return np.asarray(session.run(["all"], {**fed, "rows": planes[:, None]})[0][:, 0])


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8", "int8u"])
@pytest.mark.parametrize("name", ["icu-mortality", "icu-vitals"])
def test_ten_thousand_carried_steps_are_the_steps_at_once(
    name: str, precision: str, capsys: pytest.CaptureFixture[str]
) -> None:
    planes = course(load(name).manifest.inputs[0].shape[1], STEPS)
    one_by_one, together = carried(name, precision, planes), at_once(name, precision, planes)
    spread = together.std(0)
    error = (np.abs(one_by_one - together) / spread).max(1)
    with capsys.disabled():
        print(f"\n[{name} {precision}] largest {error.max():.2g} of the spread, "
              f"last thousand {error[-1000:].max():.2g}")  # fmt: skip
    assert error.max() <= BOUND
    forgetful = carried(name, precision, planes[STEPS // 2 :])  # control: begun in the middle
    assert (np.abs(forgetful - together[STEPS // 2 :]) / spread).max() > BOUND


@pytest.mark.parametrize("precision", ["fp16", "int8"])
@pytest.mark.parametrize("name", ["icu-mortality", "icu-vitals"])
def test_the_error_of_a_precision_does_not_grow_with_the_steps(
    name: str, precision: str, medge_data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Against FP32, through judged stays one after the other as one endless course: the second
    5,000 carried steps are no worse than the first."""
    from export.recipes.icu_data import part, read_stays

    stays = read_stays(medge_data)
    planes = stays.planes[part(len(stays.died), "judged")].reshape(-1, *stays.planes.shape[2:])
    planes = planes[:STEPS]
    exact = carried(name, "fp32", planes)
    error = (np.abs(carried(name, precision, planes) - exact) / exact.std(0)).mean(1)
    first, second = error[: STEPS // 2].mean(), error[STEPS // 2 :].mean()
    with capsys.disabled():
        print(f"\n[{name} {precision}] mean error {first:.3g}, then {second:.3g} of the spread")
    assert second <= 1.25 * first
    assert max(first, second) <= MEAN_ERROR[precision]


@pytest.mark.parametrize("recipe", ["icu_mortality", "icu_vitals"])
def test_a_step_is_what_was_trained(recipe: str) -> None:
    """Stepping through a stay gives what the sequence gives that training saw."""
    torch = pytest.importorskip("torch")
    from importlib import import_module

    torch.manual_seed(0)
    net = import_module(f"export.recipes.{recipe}").network().eval()
    for parameter in net.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    planes = torch.from_numpy(course(net.reader.mean.numel(), 48)[None])
    width = net.cell.hidden_size
    states = [torch.zeros(1, width) for _ in range(2 if recipe == "icu_vitals" else 1)]
    with torch.no_grad():
        together = net.sequence(planes)[0]
        for t in range(48):
            answer, *states = net(planes[:, t], *states)
            assert torch.allclose(answer[0], together[t], atol=1e-4, rtol=1e-4)
        alone, *_ = net(planes[:, 47], *(torch.zeros(1, width) for _ in states))
        assert not torch.allclose(alone[0], together[47], atol=1e-4, rtol=1e-4)  # control
