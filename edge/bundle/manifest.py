"""The manifest: what a bundle promises about its inputs, outputs and files. The consumer owns it.

Decoded strictly: an unknown field anywhere is refused. Registered names only; a bundle never
imports code.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from edge.errors import StartError

SCHEMA = 1


class Strict(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Unknown fields are refused at every level."""


class Step(Strict, frozen=True):
    """A registered filter, trigger or preprocess step by name, with its parameters."""

    name: str
    params: dict[str, float] = {}


class Channel(Strict, frozen=True):
    """One signal channel: its MDC reference id, unit (UCUM), and physiological range in it."""

    mdc: str
    unit: str
    low: float
    high: float


class Signal(Strict, frozen=True):
    """The conditioned signal that windows are cut from.

    `filters` run causally in order at `rate_hz`; `trigger` finds the event; the window spans
    `before_ms` to `after_ms` around it. A window older than `max_age_ms` is withheld as stale.
    """

    channel: Channel
    rate_hz: float
    filters: tuple[Step, ...]
    trigger: Step
    before_ms: float
    after_ms: float
    max_age_ms: float


class Input(Strict, frozen=True):
    """One engine input. `shape` excludes the batch axis; `source` says what feeds it: the window of
    the signal, its intervals, or an `image` `[channels, h, w]` of raw levels 0..255."""

    name: str
    shape: tuple[int, ...]
    source: Literal["window", "rr", "image"]
    preprocess: tuple[Step, ...] = ()


class Label(Strict, frozen=True):
    """One class of the output. `withhold`: this class means no answer (AAMI Q)."""

    name: str
    display: str
    code: str = ""
    withhold: bool = False


class Output(Strict, frozen=True):
    """Logits `[batch, len(labels)]`, turned into calibrated probabilities by `temperature`.

    A top probability under `min_probability` is withheld as low confidence. `conformal_quantile`
    in 0..1 makes the prediction set: labels whose probability is at least 1 - quantile. An energy
    (`-log sum exp(logits)`) above `energy_limit` is withheld as out of distribution.
    """

    name: str
    labels: tuple[Label, ...]
    temperature: float = 1.0
    min_probability: float = 0.0
    conformal_quantile: float | None = None
    energy_limit: float | None = None


class Rhythm(Strict, frozen=True):
    """Thresholds of the rules over beats, and when silence of the trigger is an event."""

    ventricular_label: str = "V"
    pause_ms: float = 2000.0
    asystole_ms: float = 4000.0
    run_beats: int = 3
    bigeminy_cycles: int = 3
    rate_beats: int = 8


class Gate(Strict, frozen=True):
    """What a precision proved against FP32: `metric` of both on the same `samples` of `groups`
    patients, and the lower 95 % bound of the difference, above minus `margin`."""

    metric: str
    reference: float
    value: float
    lower_bound: float
    margin: float
    samples: int
    groups: int


class Precision(Strict, frozen=True):
    """One model file and how far its outputs may stray from the golden ones (absolute, logits).

    `high` are the layers that stayed in floating point; FP32 has no `gate`, it is the reference.
    """

    file: str
    tolerance: float
    gate: Gate | None = None
    high: tuple[str, ...] = ()


class Provenance(Strict, frozen=True):
    """Where the model comes from."""

    recipe: str
    seed: int
    data: str
    trained_on: tuple[str, ...]
    excluded: tuple[str, ...]
    licence: str
    citation: str


class Manifest(Strict, frozen=True, kw_only=True):
    """`manifest.json`. `files` maps every other file's name to its SHA-256, signature aside.

    A bundle whose inputs come from a signal has `signal` and `rhythm`; one of images has neither.
    """

    schema: int
    name: str
    version: str
    security_epoch: int
    intended_use: str
    signal: Signal | None = None
    inputs: tuple[Input, ...]
    output: Output
    rhythm: Rhythm | None = None
    precisions: dict[str, Precision]
    provenance: Provenance
    latency_budget_ms: float
    files: dict[str, str]

    def signal_part(self) -> tuple[Signal, Rhythm]:
        """What only a signal's bundle has. Raises `StartError` for a bundle of images."""
        if self.signal is None or self.rhythm is None:
            raise StartError(
                f"bundle '{self.name}' takes images, not a signal", "choose a bundle of a signal"
            )
        return self.signal, self.rhythm
