"""The trained model that a spec names, as FP32 ONNX that computes what the source does.

Owns loading (weights only, never a pickle's code) and the check of the file against the source, on
real and on random inputs, with a control that must differ.
"""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING, Any

import numpy as np

from calibration.collect import open_session
from edge.errors import StartError
from edge.registry import load
from export.graph import read, write
from export.passes import clean
from export.passes.scale_input import scale_input
from export.to_onnx import is_whole, joined, require_same, to_onnx

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from calibration.sets import Dataset
    from edge.bundle.manifest import Manifest
    from export.spec import Model

BOUND = 1e-3
"""Largest difference, as a share of the largest output, that exporting and folding may cause."""

RANDOM_ROWS = 8
Inputs = "Mapping[str, NDArray[np.float32]]"


def fp32(model: Model, folder: Path, manifest: Manifest, real: Dataset) -> bytes:
    """The clean FP32 model, its inputs scaled inside as asked. `real` inputs as the engine will
    take them. Raises `StartError` where it cannot be loaded or does not fit."""
    fed = _fed(manifest, real)
    scaled = {name: _scaled(x, model, name) for name, x in fed.items()}
    outputs = list(manifest.given())
    raw, source = _load(model, folder, scaled, outputs)
    proto = read(raw)
    for name, scale in model.scale.items():
        scale_input(proto, name, scale.mean, scale.deviation)
    data = clean(write(proto))
    _require_fit(data, manifest)
    for some in (fed, _random(fed)):
        again = {name: _scaled(x, model, name) for name, x in some.items()}
        require_same(data, lambda x: source({n: _scaled(v, model, n) for n, v in x.items()}), some,
                     outputs, BOUND * max(1.0, float(np.abs(source(again)).max())))  # fmt: skip
    return data


def _fed(manifest: Manifest, real: Dataset) -> dict[str, NDArray[np.float32]]:
    """One run's inputs: real ones, and carried states drawn at random."""
    rng = np.random.default_rng(0)
    fed = {i.name: real.inputs[i.name] for i in manifest.inputs}
    if real.carried:
        fed = {name: x[:, real.steps // 2] for name, x in fed.items()}
    return fed | {
        s.input: rng.uniform(-1, 1, (len(real), *s.shape)).astype(np.float32)
        for s in manifest.states
    }


def _scaled(x: NDArray[np.float32], model: Model, name: str) -> NDArray[np.float32]:
    if name not in model.scale:
        return x
    s = model.scale[name]
    shape = (1, -1, *[1] * (x.ndim - 2))
    mean, deviation = (np.asarray(v, np.float32).reshape(shape) for v in (s.mean, s.deviation))
    return np.asarray((x - mean) / deviation, np.float32)


def _random(real: Mapping[str, NDArray[np.float32]]) -> dict[str, NDArray[np.float32]]:
    """Within the range of real ones, and whole where they are."""
    rng = np.random.default_rng(0)
    drawn = {n: rng.uniform(x.min(), x.max(), (RANDOM_ROWS, *x.shape[1:])) for n, x in real.items()}
    return {
        name: (np.rint(x) if is_whole(real[name]) else x).astype(np.float32)
        for name, x in drawn.items()
    }


def _load(
    model: Model, folder: Path, example: Mapping[str, NDArray[np.float32]], outputs: list[str]
) -> tuple[bytes, Callable[[Any], NDArray[np.float32]]]:
    """ONNX bytes, and the source itself as a function from inputs by name to its joined outputs."""
    if model.onnx:
        data = _bytes(folder / model.onnx)
        session = open_session(data)
        return data, lambda x: joined(session.run(outputs, dict(x)))
    module = _module(model, folder)
    return to_onnx(module, example, outputs), lambda x: _run(module, x)


def _run(module: Any, inputs: Mapping[str, NDArray[np.float32]]) -> NDArray[np.float32]:
    import torch

    with torch.no_grad():
        found = module(*(torch.from_numpy(x) for x in inputs.values()))
    some = found if isinstance(found, tuple) else (found,)
    return joined([x.numpy() for x in some])


def _module(model: Model, folder: Path) -> Any:
    try:
        import torch
    except ImportError:
        raise StartError(
            "the model is a torch module and torch is not installed",
            "pip install '.[export]' in medge's folder, or export it to ONNX elsewhere",
        ) from None
    if model.program:
        return _program(folder / model.program)
    network = load(str(model.torch), "torch module")()
    path = folder / str(model.checkpoint)
    try:
        network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    except pickle.UnpicklingError:
        raise StartError(
            f"checkpoint '{path}' needs a pickle, which can run any code",
            "save the weights alone: torch.save(model.state_dict(), path)",
        ) from None
    except (OSError, RuntimeError, TypeError, AttributeError, EOFError) as error:
        first = str(error).split("\n")[0][:200]
        raise StartError(
            f"checkpoint '{path}' does not fit '{model.torch}' ({first})",
            "save the state_dict of this very network",
        ) from None
    return network.eval()


def _program(path: Path) -> Any:
    import torch

    try:
        return torch.export.load(path).module()
    except Exception as error:  # what a damaged archive raises is not documented
        first = str(error).split("\n")[0][:200]
        raise StartError(
            f"'{path}' is not a program that torch.export saved ({first})", "save it again"
        ) from None


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise StartError(f"'{path}' cannot be read ({error.strerror})", "correct [model]") from None


def _require_fit(data: bytes, manifest: Manifest) -> None:
    """Names, shapes and finite weights. Raises `StartError`."""
    from onnx import numpy_helper

    proto = read(data)
    found = {v.name: [d.dim_value for d in v.type.tensor_type.shape.dim]
             for v in (*proto.graph.input, *proto.graph.output)}  # fmt: skip
    wanted = manifest.taken() | manifest.given()
    for name, shape in wanted.items():
        if name not in found:
            raise StartError(f"the model has no '{name}'", f"it has {', '.join(found)}")
        if tuple(found[name][1:]) != tuple(shape):
            raise StartError(
                f"'{name}' is {found[name][1:]} in the model, {list(shape)} in the manifest",
                "correct the manifest, or the model",
            )
    if extra := found.keys() - wanted.keys():
        raise StartError(
            f"the manifest does not name '{sorted(extra)[0]}'", "declare every input of the model"
        )
    for constant in proto.graph.initializer:
        value = numpy_helper.to_array(constant)
        if value.dtype.kind == "f" and not np.isfinite(value).all():
            raise StartError(
                f"weight '{constant.name}' holds values that are not finite",
                "take an earlier checkpoint: training diverged",
            )
