"""Golden vectors: inputs with the outputs they must give, proof that a backend computes right.

`golden.npz` holds float32 arrays `in.<input>` and `out.<output>` `[k, *shape]`, k cases; carried
states are among both. Owns reading them and the comparison; the tolerance is the manifest's.
"""

from __future__ import annotations

import io
import zipfile
import zlib
from typing import TYPE_CHECKING

import numpy as np

from edge.bundle.integrity import GOLDEN
from edge.errors import StartError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edge.bundle.manifest import Manifest
    from edge.engines import Engine

NAME = GOLDEN
MAX_BYTES = 256 << 20
"""Of all arrays once unpacked: a small file may claim much more."""


def vectors(
    golden: bytes, manifest: Manifest
) -> tuple[dict[str, NDArray[np.float32]], dict[str, NDArray[np.float32]]]:
    """(inputs, outputs) by name, `[k, ...]` each. Raises `StartError` where unusable."""
    arrays = _arrays(golden)
    wanted = {f"in.{name}": shape for name, shape in manifest.taken().items()}
    wanted |= {f"out.{name}": shape for name, shape in manifest.given().items()}
    if missing := wanted.keys() - arrays.keys():
        raise _unusable(f"no {', '.join(sorted(missing))}")
    cases = arrays[f"out.{manifest.output.name}"].shape[:1]
    for name, shape in wanted.items():
        array = arrays[name]
        if array.dtype != np.float32 or array.shape != (*cases, *shape) or not array.size:
            raise _unusable(f"'{name}' is {array.dtype} {list(array.shape)}")
        if not np.isfinite(array).all():
            raise _unusable(f"'{name}' holds values that are not finite")
    inputs = {name: arrays[f"in.{name}"] for name in manifest.taken()}
    return inputs, {name: arrays[f"out.{name}"] for name in manifest.given()}


def _arrays(golden: bytes) -> dict[str, NDArray[np.float32]]:
    """Every array of an npz, sizes checked before anything is unpacked; never a pickle."""
    try:
        with zipfile.ZipFile(io.BytesIO(golden)) as archive:
            claimed = sum(entry.file_size for entry in archive.infolist())
        if claimed > MAX_BYTES:
            raise _unusable(f"they unpack to {claimed} bytes")
        with np.load(io.BytesIO(golden), allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}
    except (ValueError, OSError, EOFError, zipfile.BadZipFile, zlib.error, NotImplementedError,
            MemoryError, SyntaxError, TypeError) as error:  # fmt: skip
        raise _unusable(" ".join(str(error).split())[:200]) from None


def worst_difference(engine: Engine, golden: bytes, manifest: Manifest) -> float:
    """The largest absolute difference from the golden outputs, carried states too; infinite for a
    non-finite one."""
    inputs, expected = vectors(golden, manifest)
    worst = 0.0
    for row in range(len(expected[manifest.output.name])):
        for name, values in inputs.items():
            engine.inputs[name][0] = values[row]
        for name in expected:
            engine.outputs[name].fill(np.nan)  # an engine that writes nothing shows
        engine.run()
        for name, values in expected.items():
            difference = float(np.abs(engine.outputs[name][0] - values[row]).max())
            worst = max(worst, difference) if np.isfinite(difference) else float("inf")
    return worst


def _unusable(why: str) -> StartError:
    return StartError(f"golden vectors are unusable ({why})", "pack the bundle again")
