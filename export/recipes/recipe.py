"""What the recipes do alike: their command line, and the bundle of new weights."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from calibration.sets import data_folder
from edge.bundle.load import REFERENCE
from edge.errors import MedgeError
from export.build import Trained
from export.cli import build_bundle
from export.spec import Model

if TYPE_CHECKING:
    from collections.abc import Callable

    from export.spec import Scale

HERE = Path(__file__).resolve().parent
BUILD = HERE.parents[1] / "build"
WEIGHTS = BUILD / "recipes"


def main(
    name: str, bundle: str, train: Callable[[Path], Any],
    scale: dict[str, Scale] | None = None,
    files: Callable[[Path], dict[str, bytes]] = lambda _: {}, out: str | None = None,
) -> int:  # fmt: skip
    """`train` in the data folder gives the weights, or None where the target is missed; then the
    bundle is built from them as `<name>.toml` says, `scale` taken in
    and with the `files` that go with them; into `out` unless said otherwise, by default among the
    reference bundles. The exit code."""
    parser = argparse.ArgumentParser(description=f"Train and build {bundle}.")
    parser.add_argument(
        "--out", default=out or str(REFERENCE / bundle), help="folder of the bundle"
    )
    parser.add_argument("--key", help="PEM private key; default: a new one, forgotten")
    options = parser.parse_args()
    data = os.environ.get("MEDGE_DATA")
    try:
        weights = train(data_folder(data))
        if weights is None:
            return 1
        trained = Trained(
            _saved(name, weights, scale or {}), written(name, files(data_folder(data)))
        )
        spec = str(HERE / f"{name}.toml")
        return build_bundle(spec, options.out, options.key, data, trained=trained)
    except MedgeError as error:
        print(error, file=sys.stderr)
        return 2


def written(name: str, files: dict[str, bytes]) -> dict[str, str]:
    """The files under `build`, and where they are."""
    folder = WEIGHTS / name
    folder.mkdir(parents=True, exist_ok=True)
    for file, content in files.items():
        (folder / file).write_bytes(content)
    return {file: str(folder / file) for file in files}


def _saved(name: str, weights: Any, scale: dict[str, Scale]) -> Model:
    """The weights as a checkpoint under `build`, and the model that a spec makes of it."""
    import torch

    WEIGHTS.mkdir(parents=True, exist_ok=True)
    checkpoint = WEIGHTS / f"{name}.pt"
    torch.save(weights, checkpoint)
    return Model(
        torch=f"export.recipes.{name}:network",
        checkpoint=str(checkpoint),
        scale=scale,
    )
