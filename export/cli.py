"""`medge export build|inspect`: what the command line prints; the work is beside it."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from calibration.sets import data_folder
from edge.bundle.durable import write_whole
from edge.bundle.integrity import MANIFEST
from edge.bundle.load import KEYS, REFERENCE, load
from edge.bundle.plans import Order, build_plans
from edge.bundle.signature import read_private_key
from edge.errors import StartError
from export import report
from export.build import build, ship

if TYPE_CHECKING:
    from export.build import Built, Trained

DONE, FAILED = 0, 1


def build_bundle(
    spec: str, out: str, key: str | None, data: str | None, as_json: bool = False,
    trained: Trained | None = None, engine: str | None = None, state_dir: str = "",
) -> int:  # fmt: skip
    """Build `spec` into the folder `out`; exit code 0, or 1 where the gate refused.

    The report is written beside `out` as `.report.json`, `.report.txt` and `.report.html`. With
    `engine` (a TensorRT package) its plans are built too and kept in `state_dir`, never in `out`.
    """
    folder, signer = Path(out), Path(key) if key else None
    _require_place(folder)
    if signer:
        read_private_key(signer)  # before the work, not after
    sys.path.insert(0, str(Path(spec).resolve().parent))  # a user's modules lie beside the spec
    say = partial(print, file=sys.stderr)
    built = build(Path(spec), data_folder(data), say, trained)
    document, said = msgspec.json.encode(report.document(built)), report.text(built)
    for suffix, content in (("json", msgspec.json.format(document)), ("txt", said.encode()),
                            ("html", report.html(built).encode())):  # fmt: skip
        write_whole(folder.with_name(f"{folder.name}.report.{suffix}"), content)
    print(document.decode() if as_json else said, end="" if not as_json else "\n")
    if not built.passes:
        print(f"medge: {_refusal(built)}", file=sys.stderr)
        return FAILED
    keys = KEYS if folder.resolve().parent == REFERENCE.resolve() else folder.parent / "keys"
    if engine:
        order = Order(engine, Path(state_dir))
        build_plans(built.manifest, built.models, built.files, order, say)
    key_id = ship(built, folder, keys, signer)
    say(f"{folder}: signed by {key_id}, public key in {keys}")
    return DONE


def _require_place(folder: Path) -> None:
    """Where the bundle will lie there is nothing yet, or a bundle that it takes the place of."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        there = folder.exists() and not (folder.is_dir() and not any(folder.iterdir()))
    except OSError as error:
        raise StartError(
            f"'{folder}' cannot be written ({error.strerror})", "name another folder with --out"
        ) from None
    if there and not (folder / MANIFEST).is_file():
        raise StartError(
            f"'{folder}' is there and holds no bundle; the build would take its place",
            "name a new folder with --out",
        )


def _refusal(built: Built) -> StartError:
    failed = [
        f"{v.precision} on {v.backend} ({', '.join(v.failures())})"
        for v in built.verdicts
        if not v.passes
    ]
    layers = ", ".join(report.costliest(built))
    return StartError(
        f"the gate refuses {'; '.join(failed)}; nothing was written",
        f"calibrate with more like the gate's data, or leave the precision out of `precisions`; "
        f"layers that cost most: {layers}"
        if layers
        else "leave the precision out of `precisions`",
    )


def inspect(path: str, as_json: bool) -> int:
    """Print a bundle's precisions, their proofs and the layers kept high; exit code 0."""
    bundle = load(path, allow_unsigned=True)
    precisions: dict[str, Any] = {
        name: {**msgspec.to_builtins(p), "bytes": len(bundle.files[p.file])}
        for name, p in bundle.manifest.precisions.items()
    }
    record = bundle.files.get("calibration.json")
    calibration = msgspec.json.decode(record) if record else None
    document = {
        "bundle": bundle.name,
        "version": bundle.manifest.version,
        "digest": bundle.digest,
        "precisions": precisions,
        "calibration": calibration,
    }
    print(msgspec.json.encode(document).decode() if as_json else "\n".join(_tree(document)))
    return DONE


def _tree(document: dict[str, Any]) -> list[str]:
    lines = [f"{document['bundle']} {document['version']}"]
    for name, p in document["precisions"].items():
        lines.append(f"├─ {name}: {p['bytes']} bytes, tolerance {p['tolerance']:g}")
        if gate := p["gate"]:
            lines.append(
                f"│    {gate['metric']} {gate['value']:.4f} (FP32 {gate['reference']:.4f}), "
                f"difference [{gate['lower_bound']:+.4f}, {gate['upper_bound']:+.4f}], "
                f"margin {gate['margin']:g}; "
                f"{gate['samples']} samples of {gate['groups']} groups"
            )
        if p["high"]:
            lines.append(f"│    kept high: {', '.join(p['high'])}")
    if c := document["calibration"]:
        lines.append(
            f"└─ calibrated on {c['samples']} samples of {c['groups']} groups, {c['source']}: "
            f"{c['calibrator']}{', bias corrected' if c['bias_corrected'] else ''}"
        )
    return lines
