"""Data of the beat classifier: MIT-BIH records cut into labelled windows by the bedside's own code.

Owns labels (AAMI EC57 classes), the match between trigger and annotations, the records used, and
the artefact windows that teach class Q. Beats that the trigger missed are counted here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from edge.bundle.manifest import Channel, Signal, Step
from edge.ec57 import AAMI, CLASSES, match
from edge.errors import StartError
from edge.signals.beats import BeatCutter
from edge.signals.resampling import resample
from edge.sources.wfdb import Annotations, read_annotations, read_record

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

DS1 = ("101", "106", "108", "109", "112", "114", "115", "116", "118", "119", "122", "124", "201",
       "203", "205", "207", "208", "209", "215", "220", "223", "230")  # fmt: skip
EXCLUDED = ("208",)
"""Kept out of training and evaluation: the demo plays it."""

LEAD = "MLII"
RATE_HZ = 250.0
FLUTTER_MARGIN_S = 1.0
ALIKE = 0.6
"""Correlation with the usual beat, within 0.1 s of the R peak, under which a beat is aberrant."""

SIGNAL = Signal(
    channel=Channel(mdc="MDC_ECG_ELEC_POTL_II", unit="mV", low=-6.0, high=6.0),
    rate_hz=RATE_HZ,
    filters=(
        Step(name="bandpass", params={"low_hz": 0.5, "high_hz": 40.0}),
        Step(name="notch", params={"at_hz": 50.0}),
        Step(name="notch", params={"at_hz": 60.0}),
    ),
    trigger=Step(name="qrs"),
    before_ms=400.0,
    after_ms=400.0,
    max_age_ms=1500.0,
)
"""What the bundle's manifest says, and what the training windows are cut with."""


@dataclass(frozen=True, slots=True)
class Beats:
    """Labelled windows: `window` float32 `[k, 3, n]` mV, `rr` float32 `[k, 9]`, `label` int64 `[k]`
    (index into `CLASSES`), `record` `[k]`; `missed[record][c]` annotated beats of class c that the
    trigger did not find."""

    window: NDArray[np.float32]
    rr: NDArray[np.float32]
    label: NDArray[np.int64]
    record: NDArray[np.str_]
    missed: dict[str, tuple[int, ...]]

    def take(self, index: NDArray[np.int64]) -> Beats:
        """The beats at `index`."""
        return Beats(self.window[index], self.rr[index], self.label[index], self.record[index], {})


def load(data: Path, records: Sequence[str]) -> Beats:
    """All beats of `records` in `data`/mitdb. Raises `StartError` where it is missing."""
    if not (data / "mitdb").is_dir():
        raise StartError(f"no MIT-BIH records in '{data}'", "set MEDGE_DATA to the data folder")
    parts = [_of_record(data / "mitdb" / record, record) for record in records]
    return Beats(
        np.concatenate([p.window for p in parts]),
        np.concatenate([p.rr for p in parts]),
        np.concatenate([p.label for p in parts]),
        np.concatenate([p.record for p in parts]),
        {name: counts for p in parts for name, counts in p.missed.items()},
    )


def _of_record(path: Path, record: str) -> Beats:
    read, marks = read_record(path, LEAD), read_annotations(path)
    samples = resample(read.samples, read.rate_hz, RATE_HZ).astype(np.float32)
    cut = BeatCutter(SIGNAL).feed(samples)
    found_s = np.array([beat.r_index for beat in cut]) / RATE_HZ
    true_s, true_class = _reference(marks, read.rate_hz)
    label = np.full(len(cut), CLASSES.index("Q"), np.int64)  # a false trigger
    pairs = match(found_s, true_s)
    for ours, theirs in pairs.items():
        label[ours] = true_class[theirs]
    flutter = _flutter_s(marks, read.rate_hz)
    kept = np.flatnonzero(~_inside(found_s, flutter))
    undetected = ~_inside(true_s, flutter)
    undetected[list(pairs.values())] = False
    missed = np.bincount(true_class[undetected], minlength=len(CLASSES))
    return Beats(
        np.stack([cut[i].samples for i in kept]),
        np.stack([cut[i].rr for i in kept]),
        label[kept],
        np.full(len(kept), record),
        {record: tuple(int(n) for n in missed)},
    )


def _reference(marks: Annotations, rate_hz: float) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    beats = [(n / rate_hz, AAMI[s]) for n, s in zip(marks.sample, marks.symbol) if s in AAMI]
    classes = [CLASSES.index(name) for _, name in beats]
    return np.array([t for t, _ in beats]), np.array(classes, np.int64)


def _flutter_s(marks: Annotations, rate_hz: float) -> list[tuple[float, float]]:
    """Ventricular flutter, annotated from '[' to ']', has no beats to classify."""
    starts = [n / rate_hz for n, s in zip(marks.sample, marks.symbol) if s == "["]
    ends = [n / rate_hz for n, s in zip(marks.sample, marks.symbol) if s == "]"]
    return [(a - FLUTTER_MARGIN_S, b + FLUTTER_MARGIN_S) for a, b in zip(starts, ends)]


def _inside(t_s: NDArray[np.float64], spans: list[tuple[float, float]]) -> NDArray[np.bool_]:
    inside = np.zeros(len(t_s), bool)
    for start, end in spans:
        inside |= (t_s >= start) & (t_s <= end)
    return inside


def without_aberrant(beats: Beats) -> Beats:
    """For training only: supraventricular beats conducted so aberrantly that they look ventricular
    are left out, as they teach nothing but confusion of the two."""
    middle = beats.window.shape[2] // 2
    beat, usual = (beats.window[:, row, middle - 25 : middle + 25] for row in (0, 1))
    norm = np.sqrt((beat * beat).sum(1) * (usual * usual).sum(1) + 1e-9)
    aberrant = (beats.label == CLASSES.index("S")) & ((beat * usual).sum(1) / norm < ALIKE)
    return beats.take(np.flatnonzero(~aberrant))


def artefacts(beats: Beats, count: int, rng: np.random.Generator) -> Beats:
    """Windows drowned in muscle noise or movement, half of them without a beat: class Q.

    Made from real ones, so that the usual beat and the intervals are real.
    """
    chosen = beats.take(rng.integers(0, len(beats.label), count))
    window = chosen.window.copy()
    n = window.shape[2]
    height = np.abs(window[:, 1]).max(axis=1, keepdims=True) + 0.1
    noise = _smooth(rng.normal(size=(count, n + 32)), rng.choice([1, 2, 4, 8], count))[:, :n]
    noise *= height * rng.uniform(1.0, 3.0, (count, 1)) / noise.std(axis=1, keepdims=True)
    window[:, 0] = window[:, 0] * (rng.random((count, 1)) < 0.5) + noise
    label = np.full(count, CLASSES.index("Q"), np.int64)
    return Beats(window, chosen.rr, label, np.full(count, "artefact"), {})


def _smooth(noise: NDArray[np.float64], width: NDArray[np.int64]) -> NDArray[np.float64]:
    """Moving average of each row over its own width."""
    total = np.cumsum(np.pad(noise, ((0, 0), (1, 0))), axis=1)
    n = noise.shape[1] - 16
    at = np.arange(n)[None, :]
    rows = np.arange(len(noise))[:, None]
    return np.asarray((total[rows, at + width[:, None]] - total[rows, at]) / width[:, None])
