"""INT8 against FP32 on the same backend, and what calibrating and building cost."""

from __future__ import annotations

import importlib.util
import io
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

onnx = pytest.importorskip("onnx", reason="bench models are made with onnx")

from onnx import TensorProto, helper, numpy_helper  # noqa: E402

from calibration.collect import watch  # noqa: E402
from calibration.sets import Dataset  # noqa: E402
from edge.bundle.load import load  # noqa: E402
from export.graph import read  # noqa: E402
from export.latency import latencies_ms  # noqa: E402
from export.passes import clean  # noqa: E402
from export.precision.qdq import quantise, quantised_inputs  # noqa: E402
from export.precision.uint8 import as_uint8  # noqa: E402

pytestmark = pytest.mark.benchmark
ROOT = Path(__file__).parents[2]
ATTEMPTS = 3
RECIPES = ["ecg_beat", "pneumonia", "breast_ultrasound", "icu_mortality", "icu_vitals",
           "symptom_text", "blood_brain_barrier", "xray_gan"]  # fmt: skip


def has(*flags: str) -> bool:
    """Whether this CPU has one of `flags`."""
    return bool(set(flags) & set(Path("/proc/cpuinfo").read_text(encoding="utf-8").split()))


@pytest.fixture(autouse=True)
def _vnni() -> None:
    if not has("avx512_vnni", "avx_vnni"):
        pytest.skip("this CPU has no VNNI")


def ratios(
    models: dict[str, bytes], x: dict[str, np.ndarray], floor: float, limit: float
) -> dict[str, float]:
    """FP32's time over the better INT8's, by backend; FP32 twice is the control. The first attempt
    that is quiet by its control and reaches `floor`, as other work on the machine hits one as well
    as the other; else the best of the quiet ones, else the last."""
    tried = []
    for _ in range(ATTEMPTS):
        took = latencies_ms({**models, "again": models["fp32"]}, {k: v[0] for k, v in x.items()})
        aa = max(max(t["fp32"], t["again"]) / min(t["fp32"], t["again"]) for t in took.values())
        found = {b: round(t["fp32"] / min(t["int8"], t["int8u"]), 2) for b, t in took.items()}
        tried.append((aa <= limit, max(found.values()), {**found, "aa": round(aa, 2)}))
        if tried[-1][0] and tried[-1][1] >= floor:
            break
    return max(reversed(tried), key=lambda t: (t[0], t[0] * t[1]))[2]


def judge(found: dict[str, float], floor: float, limit: float) -> None:
    aa = found.pop("aa")
    if aa > limit:
        pytest.skip(f"too noisy to judge: FP32 against itself is x{aa}")
    assert max(found.values()) >= floor


@pytest.mark.parametrize("name", ["ecg-beat", "pneumonia", "breast-ultrasound"])
def test_shipped(name: str, budgets: dict[str, Any], report: Any) -> None:
    bundle, budget = load(name), budgets["int8"]
    models = {p: bundle.files[m.file] for p, m in bundle.manifest.precisions.items()}
    with np.load(io.BytesIO(bundle.files["golden.npz"])) as golden:
        x = {i.name: golden[f"in.{i.name}"] for i in bundle.manifest.inputs}
    floor, limit = budget["shipped_ratio"], budget["aa_ratio"]
    found = ratios(models, x, floor, limit)
    report(**found)
    judge(found, floor, limit)


class Net:
    """Writes a residual network of seeded weights in one or two dimensions."""

    def __init__(self, axes: int) -> None:
        self.axes, self.rng = axes, np.random.default_rng(0)
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def add(self, kind: str, inputs: list[str], **attributes: Any) -> str:
        name = f"t{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [name], name, **attributes))
        return name

    def constant(self, value: np.ndarray) -> str:
        name = f"k{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(value.astype(np.float32), name))
        return name

    def conv(self, x: str, c: int, k: int, width: int, stride: int = 1) -> str:
        shape = (k, c, *[width] * self.axes)
        weight = self.rng.normal(size=shape) * np.sqrt(2 / np.prod(shape[1:]))
        pads = [width // 2] * (2 * self.axes)
        names = [x, self.constant(weight), self.constant(self.rng.normal(size=k) / 100)]
        return self.add("Conv", names, pads=pads, strides=[stride] * self.axes)

    def block(self, x: str, c: int, k: int, width: int, stride: int) -> str:
        inner = self.add("Relu", [self.conv(x, c, k, width, stride)])
        inner = self.conv(inner, k, k, width)
        skip = x if c == k and stride == 1 else self.conv(x, c, k, 1, stride)
        return self.add("Relu", [self.add("Add", [inner, skip])])

    def model(self, x: str, features: int, shape: list[int]) -> bytes:
        flat = self.add("Flatten", [self.add("GlobalAveragePool", [x])])
        head = self.constant(self.rng.normal(size=(5, features)) / np.sqrt(features))
        self.nodes.append(
            helper.make_node("Gemm", [flat, head, self.constant(np.zeros(5))], ["y"], "h", transB=1)
        )
        value = helper.make_tensor_value_info
        graph = helper.make_graph(
            self.nodes, "bench", [value("x", TensorProto.FLOAT, ["n", *shape])],
            [value("y", TensorProto.FLOAT, ["n", 5])], self.constants,
        )  # fmt: skip
        opset = [helper.make_opsetid("", 18)]
        made = helper.make_model(graph, opset_imports=opset, ir_version=10)
        return bytes(made.SerializeToString())


def resnet18() -> tuple[bytes, list[int]]:
    net = Net(2)
    x = net.add("Relu", [net.conv("x", 3, 64, 7, 2)])
    x = net.add("MaxPool", [x], kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    c = 64
    for k, stride in ((64, 1), (64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), (512, 1)):
        x, c = net.block(x, c, k, 3, stride), k
    return net.model(x, 512, [3, 224, 224]), [3, 224, 224]


def ecg_resnet() -> tuple[bytes, list[int]]:
    """About a million parameters over 12 leads of 2,560 samples."""
    net = Net(1)
    x = net.add("Relu", [net.conv("x", 12, 32, 15, 2)])
    c = 32
    for k, stride in ((32, 2), (64, 2), (64, 1), (128, 2), (128, 1), (160, 2), (160, 1)):
        x, c = net.block(x, c, k, 7, stride), k
    return net.model(x, 160, [12, 2560]), [12, 2560]


@pytest.mark.parametrize("name", ["resnet18", "ecg_resnet"])
def test_bench_only(name: str, budgets: dict[str, Any], report: Any) -> None:
    raw, shape = {"resnet18": resnet18, "ecg_resnet": ecg_resnet}[name]()
    fp32 = clean(raw)
    rng = np.random.default_rng(1)
    x = {"x": rng.normal(size=(8, *shape)).astype(np.float32)}
    data = Dataset(x, np.arange(8) % 2, np.array([str(i) for i in range(8)]))
    seen = watch(fp32, list(quantised_inputs(read(fp32), ())), data)
    int8 = quantise(fp32, {name: h.amax for name, h in seen.items()})
    models = {"fp32": fp32, "int8": int8, "int8u": as_uint8(int8)}
    budget = budgets["int8"]
    without = f"{name}_without_amx_ratio"
    floor = budget[without if without in budget and not has("amx_int8") else f"{name}_ratio"]
    limit = budget["aa_ratio"]
    found = ratios(models, x, floor, limit)
    report(parameters=sum(len(k.raw_data) // 4 for k in read(fp32).graph.initializer), **found)
    judge(found, floor, limit)


PEAK = """
import re, sys
import numpy as np
from calibration.collect import watch
from calibration.sets import Dataset
from edge.bundle.load import load
from export.graph import read
from export.precision.qdq import quantised_inputs
model = load("breast-ultrasound").files["model.fp32.onnx"]
one = np.random.default_rng(0).uniform(0, 255, (64, 1, 128, 128)).astype(np.float32)
n = int(sys.argv[1])
x = np.lib.stride_tricks.as_strided(one, (n, 1, 128, 128), (0, *one.strides[1:]))
data = Dataset({"image": x}, np.arange(n) % 2, np.arange(n).astype(str))
watch(model, list(quantised_inputs(read(model), ())), data)
print(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1])
"""


@pytest.mark.slow
def test_calibration_memory_is_constant(budgets: dict[str, Any], report: Any) -> None:
    """Of the whole process; the samples themselves are one image seen again and again."""
    peaks = []
    for n in ("64", "4096"):
        command = [sys.executable, "-c", PEAK, n]
        done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT)
        peaks.append(int(done.stdout) / 1024)
    report(mb_64=round(peaks[0], 1), mb_4096=round(peaks[1], 1))
    assert peaks[1] <= budgets["int8"]["calibration_memory_ratio"] * peaks[0]


@pytest.mark.slow
@pytest.mark.parametrize("name", RECIPES)
def test_each_recipe_builds_in_time(
    name: str, tmp_path: Path, budgets: dict[str, Any], report: Any, medge_data: Path
) -> None:
    """`medge export build` of every recipe's spec, all precisions and TensorRT-RTX plans, from
    the released FP32 model."""
    spec, out = ROOT / "export" / "recipes" / f"{name}.toml", tmp_path / name
    command = [sys.executable, "-m", "edge.cli", "export", "build", str(spec), "--out", str(out)]
    if importlib.util.find_spec("tensorrt_rtx"):
        command += ["--engine", "tensorrt_rtx", "--state-dir", str(tmp_path)]
    done = subprocess.run([*command, "--json"], check=True, capture_output=True, cwd=ROOT)
    plans = re.findall(rb"^(fp32|fp16|int8): plan", done.stderr, re.MULTILINE)
    assert len(plans) == (3 if "--engine" in command else 0)
    found = json.loads((tmp_path / f"{name}.report.json").read_text())
    report(seconds=round(sum(found["seconds"].values()), 1), bytes=found["bytes"])
    assert found["passes"] and set(found["bytes"]) == {"fp32", "fp16", "int8", "int8u"}
    assert sum(found["seconds"].values()) < budgets["int8"]["build_s"]
