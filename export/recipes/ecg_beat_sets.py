"""The sets that calibrate and judge the precisions of `ecg-beat`, disjoint by record.

The model was trained on all of them but 208: what is judged is that INT8 and FP16 answer as FP32
does, not how well FP32 diagnoses (the card says that, from records left out).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from calibration.sets import Dataset
from export.recipes.ecg_beat_data import DS1, load

if TYPE_CHECKING:
    from pathlib import Path

CALIBRATION = ("106", "109", "114", "119", "201", "205", "209", "220")


def calibration(data: Path) -> Dataset:
    """Beats of the calibration records."""
    return _set(data, CALIBRATION)


def gate(data: Path) -> Dataset:
    """Beats of all others, 208 among them."""
    return _set(data, tuple(r for r in DS1 if r not in CALIBRATION))


def _set(data: Path, records: tuple[str, ...]) -> Dataset:
    beats = load(data, records)
    source = f"MIT-BIH DS1, records {', '.join(records)}"
    return Dataset({"beat": beats.window, "rr": beats.rr}, beats.label, beats.record, {}, source)
