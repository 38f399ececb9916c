"""Rhythm: findings over several beats, from a table of rules.

A rule sees the beats so far, newest last, and says whether this newest beat completes its finding.
A withheld beat (label None) breaks every pattern: nothing is inferred across what was not seen.
Silence of the trigger (pause, asystole) is judged by the front, on signal time.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edge.types import Finding

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edge.bundle.manifest import Rhythm

HISTORY_BEATS = 64

# SNOMED CT and ISO/IEEE 11073-10101 codes; DICOM CID 3038 lists asystole as MDC 3:3076.
# A finding without a code has no term here that means exactly what the rule finds.
CODES = {
    "ventricular_couplet": "SCT:251182009",
    "ventricular_run": "",
    "ventricular_bigeminy": "SCT:11157007",
    "heart_rate": "MDC:147842",
    "pause": "",
    "asystole": "MDC:199684",
}


@dataclass(frozen=True, slots=True)
class Beat:
    """One beat as decided: its time, label (None: withheld), interval to the beat before it."""

    t_ns: int
    label: str | None
    rr_s: float | None


Rule = Callable[["Sequence[Beat]", "Rhythm"], "Finding | None"]


def ventricular_couplet(beats: Sequence[Beat], rhythm: Rhythm) -> Finding | None:
    """Exactly two ventricular beats in a row between two seen beats of other labels."""
    if len(beats) < 4 or _run_length(beats[:-1], rhythm) != 2:
        return None
    if None in (beats[-4].label, beats[-1].label) or _run_length(beats, rhythm):
        return None
    return _finding("ventricular_couplet", beats[-3], beats[-2])


def ventricular_run(beats: Sequence[Beat], rhythm: Rhythm) -> Finding | None:
    """`run_beats` ventricular beats in a row: raised with the beat that completes them, once."""
    if _run_length(beats, rhythm) != rhythm.run_beats:
        return None
    return _finding("ventricular_run", beats[-rhythm.run_beats], beats[-1])


def ventricular_bigeminy(beats: Sequence[Beat], rhythm: Rhythm) -> Finding | None:
    """Every second beat ventricular over `bigeminy_cycles` cycles: raised once while it lasts."""
    pairs = _alternation(beats, rhythm)
    if pairs != rhythm.bigeminy_cycles:
        return None
    return _finding("ventricular_bigeminy", beats[-2 * pairs], beats[-1])


def heart_rate(beats: Sequence[Beat], rhythm: Rhythm) -> Finding | None:
    """Mean rate over the last `rate_beats` intervals, /min. Needs them uninterrupted."""
    recent = list(beats)[-rhythm.rate_beats :]
    intervals = [beat.rr_s for beat in recent if beat.rr_s is not None]
    if len(intervals) < rhythm.rate_beats:
        return None
    rate_bpm = 60.0 * len(intervals) / sum(intervals)
    return _finding("heart_rate", recent[0], recent[-1], value=round(rate_bpm, 1), unit="/min")


RULES: tuple[Rule, ...] = (ventricular_couplet, ventricular_run, ventricular_bigeminy, heart_rate)


class RhythmRules:
    """The last beats of one patient; `beat()` adds one and returns the findings it completes."""

    def __init__(self, rhythm: Rhythm) -> None:
        self._rhythm = rhythm
        self._beats: deque[Beat] = deque(maxlen=HISTORY_BEATS)

    def beat(self, beat: Beat) -> tuple[Finding, ...]:
        """Findings completed by `beat`, in the table's order."""
        self._beats.append(beat)
        beats = tuple(self._beats)
        found = (rule(beats, self._rhythm) for rule in RULES)
        return tuple(finding for finding in found if finding is not None)

    def reset(self) -> None:
        """Forget the beats: after a gap, a lost source, or unusable signal."""
        self._beats.clear()


def silence(name: str, t0_ns: int, t1_ns: int, silent_s: float) -> Finding:
    """The finding `pause` or `asystole`: no beat on good signal from `t0_ns` to `t1_ns`."""
    return Finding(name, CODES[name], t0_ns, t1_ns, value=round(silent_s, 3), unit="s")


def _run_length(beats: Sequence[Beat], rhythm: Rhythm) -> int:
    """Ventricular beats in a row at the end."""
    length = 0
    for beat in reversed(beats):
        if beat.label != rhythm.ventricular_label:
            break
        length += 1
    return length


def _alternation(beats: Sequence[Beat], rhythm: Rhythm) -> int:
    """Complete (other, ventricular) cycles at the end, newest beat ventricular."""
    cycles = 0
    backwards = list(reversed(beats))
    for ventricular, other in zip(backwards[0::2], backwards[1::2]):
        if ventricular.label != rhythm.ventricular_label:
            break
        if other.label is None or other.label == rhythm.ventricular_label:
            break
        cycles += 1
    return cycles


def _finding(
    name: str, first: Beat, last: Beat, value: float | None = None, unit: str | None = None
) -> Finding:
    return Finding(name, CODES[name], first.t_ns, last.t_ns, value=value, unit=unit)
