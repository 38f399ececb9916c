"""How the demo's beats compare with two judges of record 208: its cardiologists, and a detector.

Beat times are matched one to one, nearest first, within 150 ms (ANSI/AAMI EC57). Stretches where
results were withheld because of the signal are left out on both sides and counted apart.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from edge.demo.toy import FIRST_SAMPLE, RATE_HZ, RECORD
from edge.ec57 import AAMI, match
from edge.errors import MedgeError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

CLASSES = ("N", "S", "V", "F")


def reference_beats(
    data: Path | None, start_s: float, seconds: float
) -> list[tuple[float, str]] | str:
    """(time from `start_s`, AAMI class) of record 208's annotated beats, or why there are none."""
    if data is None or not (data / "mitdb" / f"{RECORD}.atr").exists():
        return f"record {RECORD} was not found in the data folder"
    from edge.sources.wfdb import read_annotations

    try:
        marks = read_annotations(data / "mitdb" / RECORD)
    except MedgeError as error:
        return str(error)
    origin = FIRST_SAMPLE + start_s * RATE_HZ
    beats = (((n - origin) / RATE_HZ, AAMI.get(s)) for n, s in zip(marks.sample, marks.symbol))
    return [(float(t), c) for t, c in beats if c is not None and 0 <= t < seconds]


def by_class(
    ours: Sequence[tuple[float, str]], theirs: Sequence[tuple[float, str]]
) -> dict[str, dict[str, int]]:
    """Per class: true positives, false negatives, false positives, and reference beats withheld.

    `ours` holds (time, class), with class "" for a beat whose class was withheld.
    """
    pairs = match([t for t, _ in ours], [t for t, _ in theirs])
    answered = {theirs_i: ours[ours_i][1] for ours_i, theirs_i in pairs.items()}
    counts = {c: dict.fromkeys(("tp", "fn", "fp", "withheld"), 0) for c in CLASSES}
    for i, (_, label) in enumerate(theirs):
        if label in counts:
            said = answered.get(i)
            counts[label]["withheld" if said == "" else "tp" if said == label else "fn"] += 1
    for i, (_, label) in enumerate(ours):
        true_label = theirs[pairs[i]][1] if i in pairs else None
        if label in counts and label != true_label:
            counts[label]["fp"] += 1
    return counts


def against_detector(ours_s: Sequence[float], theirs_s: Sequence[float]) -> dict[str, int]:
    """Beat positions against an independent detector's."""
    matched = len(match(ours_s, theirs_s))
    return {"matched": matched, "missed": len(theirs_s) - matched, "extra": len(ours_s) - matched}


def outside(times_s: Sequence[float], spans_s: Sequence[tuple[float, float]]) -> list[bool]:
    """Which times lie in none of the spans."""
    return [not any(a <= t <= b for a, b in spans_s) for t in times_s]


def detector_beats(start_s: float, seconds: float) -> list[float]:
    """Beat times of `sleepecg`'s own detector on the same stretch, s from its start."""
    from sleepecg import detect_heartbeats

    from edge.demo.toy import excerpt

    return [float(n / RATE_HZ) for n in detect_heartbeats(excerpt(start_s, seconds), RATE_HZ)]
