"""Labelled sets: what calibrates a model and what judges it, and that the two never meet.

Owns reading a set, drawing a seeded part with the same number of every class, its digest, and the
refusal of sets that share a patient or a sample.
"""

from __future__ import annotations

import hashlib
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edge.errors import StartError
from edge.registry import load

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from edge.bundle.manifest import State

LABEL, GROUP, TARGET, INPUT, SUBGROUP = "label", "group", "target", "in.", "subgroup."
SOURCE = "source"
NO_CLASS = -1


@dataclass(frozen=True, slots=True)
class Expected:
    """What a model's answers are held against, one row an answer: class `label` `[m]`, `group` and
    `subgroups` `[m]`, or for quantities `target` `[m, q]` (NaN: not known). `rows` says which of
    all answers, sample after sample and step after step, these are."""

    label: NDArray[np.int64]
    group: NDArray[np.str_]
    subgroups: Mapping[str, NDArray[np.str_]]
    target: NDArray[np.float32] | None
    rows: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Dataset:
    """n samples: `inputs` float32 `[n, *shape]` by input name as the engine takes them, `label`
    int64 `[n]` (index of the manifest's label), `group` str `[n]` (patient, or what else must not
    be split), `subgroups` str `[n]` by name; `source` says where it comes from.

    A model that carries states is walked over axis 1 of the inputs, `[n, steps, *shape]`, from
    states of zeros (`carried`); its last answer counts, or with a `target` that of every step:
    float32 `[n, steps, q]` for quantities (NaN: not known), int64 `[n, steps]` for classes (-1: no
    answer expected). Quantities of a model without states have `[n, q]`."""

    inputs: Mapping[str, NDArray[np.float32]]
    label: NDArray[np.int64]
    group: NDArray[np.str_]
    subgroups: Mapping[str, NDArray[np.str_]] = field(default_factory=dict)
    source: str = ""
    target: NDArray[Any] | None = None
    carried: tuple[State, ...] = ()

    def __len__(self) -> int:
        return len(self.label)

    def take(self, index: NDArray[np.int64]) -> Dataset:
        """The samples at `index`."""
        return Dataset(
            {name: x[index] for name, x in self.inputs.items()},
            self.label[index],
            self.group[index],
            {name: x[index] for name, x in self.subgroups.items()},
            self.source,
            None if self.target is None else self.target[index],
            self.carried,
        )

    @property
    def steps(self) -> int:
        """How many steps every sample has."""
        return next(iter(self.inputs.values())).shape[1] if self.carried else 1

    def one(self) -> dict[str, NDArray[np.float32]]:
        """The inputs of one run, without batch axis."""
        return {name: x[0, 0] if self.carried else x[0] for name, x in self.inputs.items()}

    def expected(self) -> Expected:
        """What the answers are held against."""
        if self.target is None:
            return Expected(self.label, self.group, self.subgroups, None, np.arange(len(self)))
        each = self.target.size // len(self)
        classes = self.target.dtype.kind == "i"
        each = each if classes else each // self.target.shape[-1]
        label = self.target.reshape(-1) if classes else np.repeat(self.label, each)
        rows = np.flatnonzero(label > NO_CLASS)
        return Expected(
            label[rows],
            np.repeat(self.group, each)[rows],
            {name: np.repeat(x, each)[rows] for name, x in self.subgroups.items()},
            None if classes else self.target.reshape(-1, self.target.shape[-1]),
            rows,
        )


def data_folder(named: str | None) -> Path:
    """The folder that is named, else `shared/data` beside the checkout."""
    return Path(named) if named else Path(__file__).resolve().parents[2] / "shared" / "data"


def read_dataset(source: str, folder: Path, data: Path) -> Dataset:
    """The set that a spec names: an `.npz` beside the spec (arrays `in.<input>`, `label`, `group`,
    `subgroup.<name>`, and a text `source`), or `"module:function"`, called with the data folder.
    Raises `StartError`.
    """
    if source.endswith(".npz"):
        found = _read_npz(folder / source)
    else:
        found = load(source, f"data set '{source}'")(data)
    require_usable(found, source)
    return found


def _read_npz(path: Path) -> Dataset:
    try:
        with np.load(path, allow_pickle=False) as arrays:
            named = {name: arrays[name] for name in arrays.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise StartError(
            f"data set '{path}' cannot be read ({error})", "save it with numpy.savez, no objects"
        ) from None
    if missing := [name for name in (LABEL, GROUP) if name not in named]:
        raise StartError(
            f"data set '{path}' has no '{missing[0]}'",
            "give 'label' (class index) and 'group' (patient) for every sample",
        )
    return Dataset(
        {n.removeprefix(INPUT): x for n, x in named.items() if n.startswith(INPUT)},
        named[LABEL].astype(np.int64).reshape(-1),
        named[GROUP].astype(np.str_).reshape(-1),
        {n.removeprefix(SUBGROUP): x.astype(np.str_) for n, x in named.items()
         if n.startswith(SUBGROUP)},
        str(named.get(SOURCE, path.name)),
        named.get(TARGET),
    )  # fmt: skip


def require_usable(data: Dataset, name: str) -> None:
    """Raises `StartError` for an empty or ragged set, one of one class, or non-finite inputs."""
    n = len(data)
    arrays = {**data.inputs, GROUP: data.group, **data.subgroups}
    arrays |= {} if data.target is None else {TARGET: data.target}
    if n == 0 or not data.inputs:
        raise StartError(f"data set '{name}' is empty", "give it samples and inputs 'in.<name>'")
    if ragged := [key for key, x in arrays.items() if len(x) != n]:
        raise StartError(
            f"data set '{name}': '{ragged[0]}' has {len(arrays[ragged[0]])} rows, label {n}",
            "give every array one row a sample",
        )
    if data.target is None and len(np.unique(data.label)) < 2:
        raise StartError(
            f"data set '{name}' has one class only", "give samples of every class the model tells"
        )
    for key, x in data.inputs.items():
        if x.dtype != np.float32 or not np.isfinite(x).all():
            raise StartError(
                f"data set '{name}': input '{key}' is {x.dtype}, or not finite",
                "give finite float32 as the bedside would",
            )


def require_disjoint(a: Dataset, b: Dataset, names: tuple[str, str]) -> None:
    """Raises `StartError` where two sets share a group or a bit-identical sample."""
    shared = sorted(set(a.group.tolist()) & set(b.group.tolist()))
    if shared:
        raise StartError(
            f"{names[0]} and {names[1]} share {len(shared)} group(s), as '{shared[0]}'",
            "split by patient, so that nobody is in both",
        )
    if twins := len(set(_row_digests(a)) & set(_row_digests(b))):
        raise StartError(
            f"{names[0]} and {names[1]} share {twins} identical sample(s)",
            "leave duplicates in one of the two",
        )


def stratified(data: Dataset, count: int, seed: int) -> Dataset:
    """About `count` samples, as many of each class as there are, drawn without replacement."""
    rng = np.random.default_rng(seed)
    classes = np.unique(data.label)
    share = max(1, count // len(classes))
    chosen = [rng.permutation(np.flatnonzero(data.label == c))[:share] for c in classes]
    return data.take(np.sort(np.concatenate(chosen)))


def digest(data: Dataset) -> str:
    """SHA-256 over every sample in order: inputs, label, group, target."""
    total = hashlib.sha256()
    for name in sorted(data.inputs):
        total.update(name.encode() + np.ascontiguousarray(data.inputs[name]).tobytes())
    total.update(data.label.tobytes() + "\0".join(data.group.tolist()).encode())
    if data.target is not None:
        total.update(np.ascontiguousarray(data.target).tobytes())
    return total.hexdigest()


def _row_digests(data: Dataset) -> list[bytes]:
    rows = [np.ascontiguousarray(data.inputs[name]) for name in sorted(data.inputs)]
    return [
        hashlib.sha256(b"".join(x[i].tobytes() for x in rows)).digest() for i in range(len(data))
    ]
