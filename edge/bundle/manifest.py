"""The manifest: what a bundle promises about its inputs, outputs and files. The consumer owns it.

Decoded strictly: an unknown field anywhere is refused. Registered names only; a bundle never
imports code.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from edge.errors import StartError
from edge.units import require_unit

SCHEMA = 1
KINDS = {"window": "signal", "rr": "signal", "image": "image", "text": "text", "token": "text",
         "features": "features"}  # fmt: skip
"""What is given, by what feeds an input."""


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

    def require(self, mdc: str, unit: str, rate_hz: float, source: str) -> None:
        """Raises `StartError` unless what `source` delivers is this signal."""
        require_unit(unit, self.channel.unit, f"source '{source}'")
        if (mdc, rate_hz) != (self.channel.mdc, self.rate_hz):
            raise StartError(
                f"source '{source}' delivers {mdc} at {rate_hz:g} Hz, "
                f"the bundle needs {self.channel.mdc} at {self.rate_hz:g} Hz",
                "set the source's mdc and rate_hz, or use a bundle made for it",
            )


class Input(Strict, frozen=True):
    """One engine input. `shape` excludes the batch axis; `source` says what feeds it: the window of
    the signal, its intervals; an `image` `[channels, h, w]` of raw levels 0..255; a `text` as token
    numbers `[length]`; `features` `[3, columns]` (see `Features`); `noise` `[n]`, standard normal;
    the number of a `label`, one-hot `[labels]`; the `token` `[1]` before the one that is asked for.
    """

    name: str
    shape: tuple[int, ...]
    source: Literal["window", "rr", "image", "text", "token", "features", "noise", "label"]
    preprocess: tuple[Step, ...] = ()


class State(Strict, frozen=True):
    """A value the model carries from one step to the next: what `output` gives is what `input`
    takes at the following step; zeros at first and after a reset. `shape` excludes the batch."""

    input: str
    output: str
    shape: tuple[int, ...]


class Text(Strict, frozen=True):
    """How a text becomes token numbers of `vocab.json`. One with fewer than `least_known` known
    tokens, or a larger share of unknown ones than `max_unknown`, is withheld as out of
    distribution."""

    tokenizer: Literal["words", "smiles", "listed"]
    least_known: int = 1
    max_unknown: float = 1.0


class Quantity(Strict, frozen=True):
    """One measured or predicted value: its code (MDC reference id, or "LOINC <number>"), unit
    (UCUM), and the range in it that is physiologically possible."""

    name: str
    code: str
    unit: str
    low: float
    high: float


class Features(Strict, frozen=True):
    """Rows of values, one every `step_s`: the engine takes, for each of `columns`, the last value
    known (0 before the first), whether it was measured in this step, and steps since it was. After
    `stale_steps` without any measurement nothing is told, and of a quantity that is a column too
    after so many without one of its own."""

    columns: tuple[Quantity, ...]
    step_s: float
    stale_steps: int = 1


class Label(Strict, frozen=True):
    """One class of the output. `withhold`: this class means no answer (AAMI Q)."""

    name: str
    display: str
    code: str = ""
    withhold: bool = False


class Output(Strict, frozen=True):
    """What the model gives, one of four kinds.

    `labels`: logits `[batch, labels]`, turned into calibrated probabilities by `temperature`.
    `quantities`: predicted values `[batch, quantities]` in their units. `tokens`: logits over so
    many tokens of `vocab.json`. `image`: levels 0..255 `[batch, channels, h, w]`, made for one of
    `image_labels` where an input takes a label.

    A top probability under `min_probability` is withheld as low confidence. `conformal_quantile`
    in 0..1 makes the prediction set: labels whose probability is at least 1 - quantile. An energy
    (`-log sum exp(logits)`) above `energy_limit` is withheld as out of distribution, and so is
    advice where less than `least_listed` of what was named is listed with it.
    """

    name: str
    labels: tuple[Label, ...] = ()
    quantities: tuple[Quantity, ...] = ()
    tokens: int = 0
    image: tuple[int, ...] = ()
    image_labels: tuple[str, ...] = ()
    temperature: float = 1.0
    min_probability: float = 0.0
    conformal_quantile: float | None = None
    energy_limit: float | None = None
    least_listed: float = 0.0

    @property
    def shape(self) -> tuple[int, ...]:
        """Without the batch axis."""
        return self.image or (len(self.labels) or len(self.quantities) or self.tokens,)

    @property
    def names(self) -> tuple[str, ...]:
        """Of the labels, or of the quantities."""
        return tuple([o.name for o in self.labels] + [q.name for q in self.quantities])


class Rhythm(Strict, frozen=True):
    """Thresholds of the rules over beats, and when silence of the trigger is an event."""

    ventricular_label: str = "V"
    pause_ms: float = 2000.0
    asystole_ms: float = 4000.0
    run_beats: int = 3
    bigeminy_cycles: int = 3
    rate_beats: int = 8


class Sign(Strict, frozen=True):
    """A predicted quantity whose trend is told: normal from `low` to `high` (None: no limit on that
    side), in its unit. `worse` is the least score (see `edge.pipeline.trend`) at which it is said
    to lie, in a step within the horizon, `by` or more further outside than now; `better` that at
    which it is said to lie, in their mean, as much less far (None: never told)."""

    name: str
    by: float
    low: float | None = None
    high: float | None = None
    worse: float | None = None
    better: float | None = None


class Trend(Strict, frozen=True):
    """Which predicted quantities get worse or better within `horizon_steps`, and the `source` of
    their limits."""

    horizon_steps: int
    source: str
    signs: tuple[Sign, ...]


class Gate(Strict, frozen=True):
    """What a precision proved against FP32: `metric` of both on the same `samples` of `groups`
    patients, and the 95 % interval of the difference, whose lower bound is above minus `margin`."""

    metric: str
    reference: float
    value: float
    lower_bound: float
    upper_bound: float
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

    A bundle whose inputs come from a signal has `signal` and `rhythm`, one of texts `text`, one of
    feature rows `features`; others have none of them. `trend` is for rows whose next values are
    predicted.
    """

    schema: int
    name: str
    version: str
    security_epoch: int
    intended_use: str
    signal: Signal | None = None
    text: Text | None = None
    features: Features | None = None
    inputs: tuple[Input, ...]
    states: tuple[State, ...] = ()
    output: Output
    rhythm: Rhythm | None = None
    trend: Trend | None = None
    precisions: dict[str, Precision]
    provenance: Provenance
    latency_budget_ms: float
    files: dict[str, str]

    def taken(self) -> dict[str, tuple[int, ...]]:
        """Shape of everything the model takes, carried states too, without the batch axis."""
        return {i.name: i.shape for i in self.inputs} | {s.input: s.shape for s in self.states}

    def given(self) -> dict[str, tuple[int, ...]]:
        """Shape of everything the model gives, the output first, without the batch axis."""
        return {self.output.name: self.output.shape} | {s.output: s.shape for s in self.states}

    @property
    def kind(self) -> str:
        """What it is given: "signal", "image", "text" or "features"; "" where it is asked nothing,
        but makes something of noise."""
        kinds = {KINDS.get(i.source, "") for i in self.inputs}
        return kinds.pop() if len(kinds) == 1 else ""

    def signal_part(self) -> tuple[Signal, Rhythm]:
        """What only a signal's bundle has. Raises `StartError` for a bundle of images."""
        if self.signal is None or self.rhythm is None:
            raise StartError(f"bundle '{self.name}' takes no signal", "choose a bundle of a signal")
        return self.signal, self.rhythm
