"""`medge export build`: from a spec to a bundle that has proved what it promises.

Owns the order of the steps. Nothing is written before everything passed; the report is written
beside the bundle in any case. Interrupted at any time, the old bundle stays whole.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from calibration import confidence
from calibration.collect import activations, answers, watch
from calibration.record import encode
from calibration.sets import Dataset, read_dataset, require_disjoint, stratified
from edge.bundle.manifest import Manifest, Precision
from edge.errors import StartError
from export.gate import Verdict, judge_all, proof
from export.graph import read
from export.int8 import Int8, make_int8
from export.latency import latencies_ms
from export.lint import lint
from export.pack import npz, pack
from export.precision.fp16 import overflowing, to_fp16
from export.source import fp32
from export.spec import Spec, read_spec

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

    from export.spec import Model

TARGETS = {"fp32": "tensorrt-10.3", "fp16": "tensorrt-10.3", "int8": "tensorrt-10.3",
           "int8u": "onnxruntime"}  # fmt: skip
GOLDEN_PER_CLASS = 8
LEAST_TOLERANCE = 1e-3
TOLERANCE_FACTOR = 2.0
"""A backend may stray from the golden FP32 answers by so many times what ONNX Runtime does at that
precision: kernels round differently, wrong ones stray much further."""


@dataclass(frozen=True, slots=True)
class Trained:
    """What a recipe has just made: the model, the bundle's other files by name, and those fields of
    the manifest's output that it calibrated itself."""

    model: Model
    files: dict[Any, str] = field(default_factory=dict)
    output: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Sets:
    """The spec's data, read and found fit to be used together."""

    calibration: Dataset
    gate: Dataset
    held_back: Dataset | None


@dataclass(frozen=True, slots=True)
class Built:
    """A finished build, not yet packed: model bytes by precision and all that was measured."""

    spec: Spec
    manifest: Manifest
    models: dict[str, bytes]
    verdicts: tuple[Verdict, ...]
    int8: Int8 | None
    latency_ms: dict[str, dict[str, float]]
    coverage: dict[str, Any] | None
    files: dict[str, bytes]
    seconds: dict[str, float]

    @property
    def passes(self) -> bool:
        """Whether every precision that was asked for proved itself."""
        return all(v.passes for v in self.verdicts)


class Steps:
    """The seconds each step took, said as it begins."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._step, self._since = "", 0.0
        self.seconds: dict[str, float] = {}

    def __call__(self, step: str) -> None:
        self.end()
        self._say(step)
        self._step, self._since = step, time.monotonic()

    def end(self) -> None:
        """Close the step that is going on."""
        if self._step:
            self.seconds[self._step] = round(time.monotonic() - self._since, 2)
            self._step = ""


def build(
    path: Path, data: Path, say: Callable[[str], None], trained: Trained | None = None
) -> Built:
    """Everything but packing. `trained` stands in for what the spec names, for a recipe that has
    just made it. Raises `StartError` where model, data and spec do not fit."""
    spec, manifest = read_spec(path)
    if trained is not None:
        spec = msgspec.structs.replace(spec, model=trained.model, files=trained.files)
        output = msgspec.structs.replace(manifest.output, **trained.output)
        manifest = msgspec.structs.replace(manifest, output=output)
    step = Steps(say)
    step("reading the data")
    sets = _read_sets(spec, manifest, path.parent, data)
    step("exporting FP32")
    real = stratified(sets.calibration, 64, spec.seed)
    models = {"fp32": fp32(spec.model, path.parent, manifest, real)}
    if manifest.output.image:
        sets, real = _with_images(sets, real, models["fp32"], manifest.output.name)
    found = None
    if "fp16" in spec.precisions:
        step("making FP16")
        models["fp16"] = _fp16(models["fp32"], real)
    if "int8" in spec.precisions:
        step("calibrating INT8")
        found = _int8(spec, manifest, models["fp32"], sets.calibration)
        models |= {"int8": found.int8, "int8u": found.int8u}
    step("linting")
    for name, content in models.items():
        require_clean(content, name)
    step("judging")
    reference = answers(models["fp32"], manifest.output.name, sets.gate)
    made = {name: model for name, model in models.items() if name != "fp32"}
    verdicts = judge_all(made, reference, sets.gate, manifest, spec.gate)
    step("fitting confidence")
    manifest, coverage = _with_confidence(spec, manifest, models["fp32"], sets, reference)
    step("measuring latency")
    took = latencies_ms(models, sets.gate.one())
    step("golden vectors")
    golden, statistics, tolerances = _golden(spec, manifest, models, sets)
    step.end()
    manifest = _with_precisions(manifest, spec, verdicts, tolerances, found)
    files = {f"model.{name}.onnx": model for name, model in models.items()}
    files |= {"golden.npz": golden, "reference.npz": statistics}
    if found:
        files["calibration.json"] = encode(found.record)
    named = {"card.md": spec.card} if spec.card else {}
    files |= {name: _read(path.parent / file) for name, file in (named | dict(spec.files)).items()}
    return Built(spec, manifest, models, verdicts, found, took, coverage, files, step.seconds)


def _with_images(sets: Sets, real: Dataset, fp32: bytes, output: str) -> tuple[Sets, Dataset]:
    """A generator has no truth but FP32: its images are what others are held against."""
    calibration, gate, real = (
        replace(data, target=answers(fp32, output, data))
        for data in (sets.calibration, sets.gate, real)
    )
    return Sets(calibration, gate, sets.held_back), real


def ship(built: Built, out: Path, keys: Path, key: Path | None) -> str:
    """Pack what passed to `out`; the id of the key that signed. Raises `StartError` if it did not
    pass."""
    if not built.passes:
        raise StartError("the gate refused a precision", "see the report")
    return pack(out, built.manifest, built.files, keys, key)


def require_clean(model: bytes, precision: str) -> None:
    """Raises `StartError` for what lint calls an error in a precision's own target."""
    found = [c for c in lint(model, TARGETS[precision]) if c.severity == "error"]
    if found:
        first = found[0]
        raise StartError(
            f"{precision} is not fit for {TARGETS[precision]}: {first.node}: {first.message}"
            + (f" (and {len(found) - 1} more)" if len(found) > 1 else ""),
            first.fix,
        )


def _read_sets(spec: Spec, manifest: Manifest, folder: Path, data: Path) -> Sets:
    named = {"calibration": spec.data.calibration, "gate": spec.data.gate,
             "held_back": spec.data.held_back}  # fmt: skip
    sets = {
        n: replace(read_dataset(source, folder, data), carried=manifest.states)
        for n, source in named.items() if source
    }  # fmt: skip
    for name, found in sets.items():
        _require_fit(name, found, manifest)
    require_disjoint(sets["calibration"], sets["gate"], ("calibration", "gate"))
    if "held_back" in sets:
        require_disjoint(sets["held_back"], sets["gate"], ("held_back", "gate"))
    return Sets(sets["calibration"], sets["gate"], sets.get("held_back"))


def _require_fit(name: str, data: Dataset, manifest: Manifest) -> None:
    for declared in manifest.inputs:
        if declared.name not in data.inputs:
            raise StartError(
                f"data set {name} has no input '{declared.name}'", "name its arrays 'in.<input>'"
            )
        shape = data.inputs[declared.name].shape[2 if data.carried else 1 :]
        if shape != declared.shape:
            steps = " after the axis of steps" if data.carried else ""
            raise StartError(
                f"data set {name}: '{declared.name}' is {list(shape)}{steps}, "
                f"{list(declared.shape)} in the manifest",
                "correct the manifest's shape, or the data",
            )
    expected, output = data.expected(), manifest.output
    if output.quantities:
        wide = expected.target is not None and expected.target.shape[1] == len(output.quantities)
        if not wide:
            raise StartError(
                f"data set {name} has no target for {len(output.quantities)} quantities",
                "give an array 'target', the true values of every answer",
            )
        return
    classes = len(output.labels) or output.tokens
    if classes and not 0 <= expected.label.min() <= expected.label.max() < classes:
        raise StartError(
            f"data set {name} has label {expected.label.max()}, the manifest {classes} labels",
            "number the labels from 0 in the manifest's order",
        )


def _fp16(model: bytes, real: Dataset) -> bytes:
    """FP16, without the nodes whose values it could not hold."""
    proto = read(model)
    floats = [o for node in proto.graph.node for o in node.output]
    carried = [state.input for state in real.carried]
    seen = watch(model, [*real.inputs, *carried, *_float_outputs(model, floats)], real)
    return to_fp16(model, overflowing(proto, seen))


def _float_outputs(model: bytes, names: list[str]) -> list[str]:
    """Those of `names` that shape inference says are float32."""
    import onnx

    inferred = onnx.shape_inference.infer_shapes(onnx.load_from_string(model))
    floats = {v.name for v in inferred.graph.value_info
              if v.type.tensor_type.elem_type == onnx.TensorProto.FLOAT}  # fmt: skip
    return [name for name in names if name in floats]


def _int8(spec: Spec, manifest: Manifest, model: bytes, calibration: Dataset) -> Int8:
    names = manifest.output.names
    positive = names.index(spec.gate.positive) if spec.gate.positive else None
    return make_int8(
        model, manifest.output.name, calibration, spec.data.samples, spec.seed, spec.gate.metric,
        positive, spec.gate.margin / 2,
    )  # fmt: skip


def _with_confidence(
    spec: Spec, manifest: Manifest, model: bytes, sets: Sets, reference: NDArray[np.float32]
) -> tuple[Manifest, dict[str, Any] | None]:
    """The manifest with what `held_back` fits, and its coverage on the gate's data."""
    if sets.held_back is None or not manifest.output.labels:
        return manifest, None
    held_back = answers(model, manifest.output.name, sets.held_back)
    fitted = confidence.fit(held_back, sets.held_back.label, spec.coverage)
    output = msgspec.structs.replace(manifest.output, **msgspec.to_builtins(fitted))
    coverage = confidence.coverage_of(reference, sets.gate.label, fitted)
    stated = {"nominal": spec.coverage, "samples": len(sets.held_back), **coverage}
    return msgspec.structs.replace(manifest, output=output), stated


def _golden(
    spec: Spec, manifest: Manifest, models: dict[str, bytes], sets: Sets
) -> tuple[bytes, bytes, dict[str, float]]:
    """Golden vectors of every class, statistics for drift, and each precision's tolerance."""
    classes = max(2, len(manifest.output.labels))
    golden = stratified(sets.gate, GOLDEN_PER_CLASS * classes, spec.seed)
    moments = _moments(models["fp32"], manifest, golden)
    given = {p: _given(model, manifest, moments) for p, model in models.items()}
    vectors = {f"in.{n}": x for n, x in moments.inputs.items()}
    vectors |= {f"out.{n}": x for n, x in given["fp32"].items()}
    tolerances = {
        p: round(
            max(LEAST_TOLERANCE, TOLERANCE_FACTOR * max(
                float(np.abs(x - given["fp32"][n]).max()) for n, x in outputs.items())), 4
        )
        for p, outputs in given.items()
    }  # fmt: skip
    statistics = {
        f"in.{i.name}": sets.calibration.inputs[i.name].reshape(-1, *i.shape)
        for i in manifest.inputs
    }
    name = manifest.output.name
    statistics[f"out.{name}"] = answers(models["fp32"], name, sets.calibration)
    return npz(vectors), npz(_statistics(statistics)), tolerances


def _moments(model: bytes, manifest: Manifest, data: Dataset) -> Dataset:
    """One run of each sample: of a model that carries states, a step drawn at random with the
    states it came with."""
    if not data.carried:
        return data
    at = np.random.default_rng(0).integers(0, data.steps, len(data))
    walk = list(activations(model, list(manifest.taken()), data, len(data)))
    inputs = {
        name: np.stack([walk[step][name][row] for row, step in enumerate(at)])
        for name in manifest.taken()
    }
    return Dataset(inputs, data.label, data.group)


def _given(model: bytes, manifest: Manifest, moments: Dataset) -> dict[str, NDArray[np.float32]]:
    """Everything the model gives for single runs, by name."""
    names = list(manifest.given())
    batches = list(activations(model, names, moments))
    return {name: np.concatenate([values[name] for values in batches]) for name in names}


def _statistics(named: dict[str, NDArray[np.float32]]) -> dict[str, NDArray[np.float32]]:
    """Mean, deviation and 1st, 50th, 99th percentile by channel (axis 1), for drift."""
    found = {}
    for name, x in named.items():
        rows = np.moveaxis(x, 1, 0).reshape(x.shape[1], -1)
        found[f"{name}.mean"] = rows.mean(1, dtype=np.float64).astype(np.float32)
        found[f"{name}.deviation"] = rows.std(1, dtype=np.float64).astype(np.float32)
        found[f"{name}.percentiles"] = np.percentile(rows, (1, 50, 99), axis=1).astype(np.float32)
    return found


def _with_precisions(
    manifest: Manifest, spec: Spec, verdicts: tuple[Verdict, ...], tolerances: dict[str, float],
    found: Int8 | None,
) -> Manifest:  # fmt: skip
    proofs = {v.precision: proof(v, spec.gate) for v in verdicts}
    high = found.record.high if found else ()
    precisions = {
        name: Precision(
            file=f"model.{name}.onnx",
            tolerance=tolerance,
            gate=proofs.get(name),
            high=high if name.startswith("int8") else (),
        )
        for name, tolerance in tolerances.items()
    }
    return msgspec.structs.replace(manifest, precisions=precisions)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise StartError(
            f"'{path}' cannot be read ({error.strerror})", "write it, or correct the spec"
        ) from None
