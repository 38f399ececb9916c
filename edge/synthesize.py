"""`medge synthesize BUNDLE`: a labelled set of images that belong to nobody, from a generator.

Made to calibrate with where patients' images may not leave the hospital. Owns the drawing and the
file; the same seed gives the same set on the same backend and precision.
"""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edge.bundle.admission import admitted, opened
from edge.bundle.durable import write_whole
from edge.bundle.load import load
from edge.errors import StartError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from edge.bundle.manifest import Manifest
    from edge.engines import Engine

DONE = 0
MAX_VALUES = 1 << 26
"""Of all images: 256 MiB, and the file is made whole beside them."""


def synthesize(
    bundle: str, out: str, count: int, seed: int, label: str | None, state_dir: str,
    trusted_keys: Sequence[str], as_json: bool,
) -> int:  # fmt: skip
    """Write `count` images, as many of each label or all of `label`, to the `.npz` at `out`.

    It is a data set as specs name it: `in.image` levels float32 `[n, c, h, w]`, `label`, `group`
    (each its own); `source`, which the record of a calibration repeats, says which bundle (its
    digest), backend, precision and seed made it. Exit code 0.
    """
    loaded = load(bundle, trusted_keys=trusted_keys, state_dir=state_dir)
    classes = _classes(loaded.manifest, count, seed, label)
    choice = admitted(loaded, state_dir)
    with opened(loaded, choice) as engine:
        images = _images(engine, loaded.manifest, classes, seed)
    group = np.array([f"synthetic-{seed}-{i}" for i in range(count)])
    source = (f"synthetic, by {loaded.name} {loaded.manifest.version} ({loaded.digest}), "
              f"{choice.backend} {choice.precision}, seed {seed}")  # fmt: skip
    data = io.BytesIO()
    np.savez(data, **{"in.image": images, "label": classes, "group": group},  # type: ignore[arg-type]
             source=np.array(source))  # fmt: skip
    try:
        write_whole(Path(out), data.getvalue())
    except OSError as error:
        raise StartError(
            f"'{out}' cannot be written ({error.strerror})", "name another place"
        ) from None
    said = {"out": out, "images": count, "bundle": loaded.name, "digest": loaded.digest,
            "backend": choice.backend, "precision": choice.precision, "seed": seed}  # fmt: skip
    print(json.dumps(said) if as_json else f"{count} images of nobody in {out}")
    return DONE


def _classes(manifest: Manifest, count: int, seed: int, label: str | None) -> NDArray[np.int64]:
    """The label of each image. Raises `StartError` for what cannot be drawn."""
    names = manifest.output.image_labels
    if not manifest.output.image:
        raise StartError(
            f"bundle '{manifest.name}' makes no images", "choose a generator, as 'xray-gan'"
        )
    most = MAX_VALUES // int(np.prod(manifest.output.image))
    if not 1 <= count <= most or seed < 0:
        raise StartError(
            f"{count} images of seed {seed} cannot be drawn", f"ask for 1 to {most}, seed 0 or more"
        )
    if label is not None and label not in names:
        raise StartError(f"there is no label '{label}'", f"use one of: {', '.join(names)}")
    if label is not None:
        return np.full(count, names.index(label))
    return np.arange(count) % max(1, len(names))


def _images(
    engine: Engine, manifest: Manifest, classes: NDArray[np.int64], seed: int
) -> NDArray[np.float32]:
    """One run an image: what is drawn does not depend on how many are."""
    by_source = {i.source: i for i in manifest.inputs}
    noise, hot = by_source["noise"], by_source.get("label")
    images = np.empty((len(classes), *manifest.output.image), np.float32)
    for i, c in enumerate(classes):
        rng = np.random.default_rng((seed, i))
        engine.inputs[noise.name][0] = rng.standard_normal(noise.shape)
        if hot is not None:
            engine.inputs[hot.name][0] = np.arange(hot.shape[0]) == c
        engine.run()
        images[i] = engine.outputs[manifest.output.name][0]
    return images
