"""SPEC.toml: what `medge export build` makes a bundle of, and what the bundle must prove.

Decoded strictly; paths are relative to the spec's own folder. The `[manifest]` table is the
bundle's manifest without what the build finds out (schema, precisions, files, fitted confidence).
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, Literal

import msgspec

from edge.bundle.manifest import SCHEMA as MANIFEST_SCHEMA
from edge.bundle.manifest import Manifest, Strict
from edge.errors import StartError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

SCHEMA = 1


class Scale(Strict, frozen=True):
    """`(raw - mean) / deviation` by channel (axis 1), taken into the model."""

    mean: tuple[float, ...]
    deviation: tuple[float, ...]


class Model(Strict, frozen=True):
    """Where the trained model is: an ONNX file; or a `torch` module ("package.module:function",
    called without arguments) with the `checkpoint` of its weights; or a `program` saved by
    `torch.export`. `scale` by input name."""

    onnx: str | None = None
    torch: str | None = None
    checkpoint: str | None = None
    program: str | None = None
    scale: dict[str, Scale] = msgspec.field(default_factory=dict)


class Data(Strict, frozen=True):
    """Labelled sets, each an `.npz` or "package.module:function" (see `calibration.sets`).

    `calibration` sets the INT8 scales, from `samples` of it; `gate` judges and shares nobody with
    it; `held_back`, never trained on, fits temperature, conformal sets and the energy limit.
    """

    calibration: str
    gate: str
    held_back: str | None = None
    samples: int = 512


class Gate(Strict, frozen=True):
    """The primary `metric` (see `edge.validation.metrics`), of label `positive` or the mean over
    classes, may fall by less than `margin` (lower 95 % bound), overall and for each class and
    subgroup."""

    metric: str
    positive: str | None = None
    margin: float = 0.01


class Spec(Strict, frozen=True):
    """One build. `files` are other files of the bundle, by name there, and where they lie."""

    schema: int
    model: Model
    data: Data
    gate: Gate
    manifest: dict[str, Any]
    seed: int = 0
    precisions: tuple[Literal["fp32", "fp16", "int8"], ...] = ("fp32", "fp16", "int8")
    coverage: float = 0.95
    card: str | None = None
    files: dict[Literal["vocab.json", "texts.json"], str] = msgspec.field(default_factory=dict)


def read_spec(path: Path) -> tuple[Spec, Manifest]:
    """The spec at `path` and its manifest, still without files. Raises `StartError`."""
    try:
        tree = tomllib.loads(path.read_text(encoding="utf-8"))
        spec = msgspec.convert(tree, Spec)
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        raise StartError(f"spec '{path}': {error}", "correct it; see README") from None
    for promise, kept in _promises(spec):
        if not kept:
            raise StartError(f"spec '{path}': {promise}", "correct it; see README")
    fields = {"schema": MANIFEST_SCHEMA, "precisions": {}, "files": {}}
    try:
        manifest = msgspec.convert(spec.manifest | fields, Manifest)
    except msgspec.ValidationError as error:
        raise StartError(f"spec '{path}', [manifest]: {error}", "correct that field") from None
    names = manifest.output.names
    if spec.gate.positive is not None and spec.gate.positive not in names:
        raise StartError(
            f"spec '{path}': no label '{spec.gate.positive}'", f"use one of: {', '.join(names)}"
        )
    return spec, manifest


def _promises(spec: Spec) -> list[tuple[str, bool]]:
    m = spec.model
    sources = [name for name in (m.onnx, m.torch, m.program) if name]
    return [
        (f"schema must be {SCHEMA}", spec.schema == SCHEMA),
        ("[model] must name one of onnx, torch, program", len(sources) == 1),
        ("[model] torch and checkpoint belong together", bool(m.torch) == bool(m.checkpoint)),
        ("precisions must be distinct and hold fp32", "fp32" in spec.precisions
         and len(set(spec.precisions)) == len(spec.precisions)),
        ("margin must lie in 0..1", 0 < spec.gate.margin < 1),
        ("coverage must lie in 0..1", 0 < spec.coverage < 1),
        ("samples must be 2 or more", spec.data.samples >= 2),
    ]  # fmt: skip
