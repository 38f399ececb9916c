"""Manifest bytes to a `Manifest` whose parts fit together; the rest of the manifest's checks.

Owns what types alone cannot say. Whether the named filters, triggers and steps are registered is
checked where they are resolved, in `edge.pipeline`.
"""

from __future__ import annotations

import json
import math
import re
from typing import TYPE_CHECKING, Any

import msgspec

from edge.bundle.integrity import GOLDEN, MANIFEST, NAMES, SIGNATURE, TEXTS, VOCAB
from edge.bundle.manifest import SCHEMA, Manifest
from edge.errors import StartError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from edge.bundle.manifest import Quantity

PRECISIONS = ("fp32", "fp16", "int8", "int8u")
MAX_ELEMENTS = 1 << 24
MAX_AXES = 4
NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,63}")
SHA256 = re.compile(r"[0-9a-f]{64}")


def decode(data: bytes, path: Path) -> Manifest:
    """A strict manifest whose parts fit together. Raises `StartError`; `path` is for its text."""
    try:
        require_known_schema(data, SCHEMA, f"bundle '{path}'")
        manifest = msgspec.json.decode(data, type=Manifest)
        json.loads(data, object_pairs_hook=_no_name_twice)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise _wrong(path, str(error)) from None
    for promise, kept in _promises(manifest):
        if not kept:
            raise _wrong(path, promise)
    return manifest


def require_known_schema(data: bytes, known: int, what: str) -> None:
    """Before anything else of a JSON object: a newer one may well have fields that this medge does
    not know. Raises `StartError` for one above `known`; `what` is for its text."""
    schema = msgspec.json.decode(data, type=dict[str, Any]).get("schema")
    if isinstance(schema, int) and schema > known:
        raise StartError(
            f"{what} is made by a newer medge (schema {schema}, this one knows {known})",
            "update medge",
        )


def _no_name_twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError(f"a field is given twice among {', '.join(found)}")
    return found


def _promises(m: Manifest) -> Iterator[tuple[str, bool]]:
    yield from _identity(m)
    yield from _signal(m)
    yield from _inputs(m)
    yield from _sources(m)
    yield from _output(m)
    yield from _labels(m)
    yield from _rhythm(m)
    yield from _trend(m)
    yield from _files(m)


def _identity(m: Manifest) -> Iterator[tuple[str, bool]]:
    yield f"schema must be {SCHEMA}", m.schema == SCHEMA
    yield "name must be a-z, 0-9 and -", bool(NAME.fullmatch(m.name))
    yield "version must be given", 0 < len(m.version) <= 64
    yield "security_epoch must not be negative", m.security_epoch >= 0
    yield "latency_budget_ms must be positive", m.latency_budget_ms > 0
    yield "texts must be printable", all(map(_printable, _texts(msgspec.to_builtins(m))))


def _signal(m: Manifest) -> Iterator[tuple[str, bool]]:
    s = m.signal
    takes_signal = any(i.source in ("window", "rr") for i in m.inputs)
    yield "signal must be there for inputs from a signal, and only then", takes_signal == bool(s)
    yield "rhythm must be there with signal, and only then", bool(m.rhythm) == bool(s)
    if s is None:
        return
    yield "rate_hz must lie in 0..100000", 0 < s.rate_hz <= 1e5
    yield "max_age_ms must be positive", s.max_age_ms > 0
    span_ms = s.before_ms + s.after_ms
    yield "before_ms + after_ms must lie in 0..600000", 0 < span_ms <= 6e5
    yield "the channel's low must be under its high", s.channel.low < s.channel.high
    yield (
        "a signal's bundle must give labels and carry no states",
        bool(m.output.labels and not m.states),
    )


def _inputs(m: Manifest) -> Iterator[tuple[str, bool]]:
    names = [i.name for i in m.inputs] + [name for s in m.states for name in (s.input, s.output)]
    yield "inputs must be one or more", bool(m.inputs)
    yield "inputs and states must have distinct names", len(set(names)) == len(names)
    yield "an input may not be called as the output", m.output.name not in names
    for name, shape in (m.taken() | m.given()).items():
        fits = len(shape) <= MAX_AXES and all(d > 0 for d in shape)
        yield (
            f"shape of '{name}' must be positive, at most {MAX_AXES} axes and {MAX_ELEMENTS}",
            fits and math.prod(shape) <= MAX_ELEMENTS,
        )


def _sources(m: Manifest) -> Iterator[tuple[str, bool]]:
    """Texts and feature rows: declared where an input takes them, and only there."""
    shapes: dict[str, list[tuple[int, ...]]] = {}
    for i in m.inputs:
        shapes.setdefault(i.source, []).append(i.shape)
    t, f = m.text, m.features
    yield "text must be there for inputs from a text, and only then", ("text" in shapes) == bool(t)
    words = bool(t) or m.output.tokens > 0
    yield f"{VOCAB} must be there with text or tokens, and only then", words == (VOCAB in m.files)
    approved = m.output.tokens <= 0 or TEXTS in m.files
    yield f"{TEXTS} must be there with tokens: a model may not write its own", approved
    if t is not None:
        yield "least_known must be 1 or more", 1 <= t.least_known <= MAX_ELEMENTS
        yield "max_unknown must lie in 0..1", 0 <= t.max_unknown <= 1
        yield "an input from a text must have one axis", all(len(s) == 1 for s in shapes["text"])
    yield "features must be there for inputs from features", ("features" in shapes) == bool(f)
    if f is not None:
        yield "step_s must be positive", 0 < f.step_s <= 1e6
        yield "stale_steps must be 1 or more", 1 <= f.stale_steps <= MAX_ELEMENTS
        yield "columns must be one or more, distinct, low under high", _quantities(f.columns)
        wide = [(3, len(f.columns))] * len(shapes["features"])
        yield "an input from features must be [3, columns]", shapes["features"] == wide


def _quantities(some: tuple[Quantity, ...]) -> bool:
    names = [q.name for q in some]
    return len(set(names)) == len(names) >= 1 and all(q.low < q.high and q.name for q in some)


def _output(m: Manifest) -> Iterator[tuple[str, bool]]:
    o = m.output
    kinds = [bool(o.labels), bool(o.quantities), o.tokens != 0, bool(o.image)]
    yield "output must be one of labels, quantities, tokens, image", sum(kinds) == 1
    yield (
        "quantities must be distinct, low under high",
        not o.quantities or _quantities(o.quantities),
    )
    hot = [i.shape for i in m.inputs if i.source == "label"]
    fits = [(len(o.image_labels),)] * len(hot) == hot and bool(o.image_labels) == bool(hot)
    yield "image_labels must be as many as an input from a label takes", fits
    noise = any(i.source == "noise" for i in m.inputs)
    yield "an image must be made from noise, and nothing else", noise == bool(o.image)
    yield "tokens must be 2 or more", o.tokens == 0 or 2 <= o.tokens <= MAX_ELEMENTS


def _labels(m: Manifest) -> Iterator[tuple[str, bool]]:
    o, labels = m.output, [label.name for label in m.output.labels]
    if labels:
        yield "labels must be distinct, two or more", len(set(labels)) == len(labels) >= 2
        yield "labels must have names", all(labels)
        yield "some label must not be withheld", not all(label.withhold for label in o.labels)
    yield "temperature must lie in 0..1000", 0 < o.temperature <= 1e3
    yield "min_probability must lie in 0..1", 0 <= o.min_probability <= 1
    yield "least_listed must lie in 0..1, for tokens", 0 <= o.least_listed <= bool(o.tokens)
    limit, quantile = o.energy_limit, o.conformal_quantile
    yield "energy_limit must be finite", limit is None or math.isfinite(limit)
    yield "conformal_quantile must lie in 0..1", quantile is None or 0 <= quantile <= 1


def _rhythm(m: Manifest) -> Iterator[tuple[str, bool]]:
    r, labels = m.rhythm, [label.name for label in m.output.labels]
    if r is None:
        return
    yield "ventricular_label must be a label", r.ventricular_label in labels
    yield "pause_ms must be positive, up to asystole_ms", 0 < r.pause_ms <= r.asystole_ms
    yield "run_beats must be 3 or more", 3 <= r.run_beats <= 1000
    yield "bigeminy_cycles must be 2 or more", 2 <= r.bigeminy_cycles <= 1000
    yield "rate_beats must be 1 or more", 1 <= r.rate_beats <= 1000


def _trend(m: Manifest) -> Iterator[tuple[str, bool]]:
    t, columns = m.trend, m.features.columns if m.features else ()
    if t is None:
        return
    yield "horizon_steps must be 1 or more", 1 <= t.horizon_steps <= 1000
    names = [sign.name for sign in t.signs]
    yield "trend must have signs, distinct", len(set(names)) == len(names) >= 1
    units = {(q.name, q.unit) for q in m.output.quantities} & {(c.name, c.unit) for c in columns}
    for sign in t.signs:
        of = f"of the trend of '{sign.name}'"
        yield f"the sign {of} must be a column and a quantity", sign.name in dict(units)
        numbers = [x for x in msgspec.structs.astuple(sign) if isinstance(x, float)]
        yield f"limits and thresholds {of} must be finite", all(map(math.isfinite, numbers))
        yield f"by {of} must be positive", sign.by > 0
        ends = [x for x in (sign.low, sign.high) if x is not None]
        yield f"low or high {of} must be there", bool(ends)
        yield f"low {of} must be under its high", len(ends) < 2 or ends[0] < ends[1]
        yield f"worse {of} must be there: recovery alone would deceive", sign.worse is not None


def _files(m: Manifest) -> Iterator[tuple[str, bool]]:
    used = [p.file for p in m.precisions.values()]
    models = [n for n in m.files if n.endswith(".onnx")]
    named = all(NAMES.fullmatch(n) and n not in (MANIFEST, SIGNATURE) for n in m.files)
    hashes = all(map(SHA256.fullmatch, m.files.values()))
    yield "files must have allowed names", named
    yield "files must have SHA-256 values", hashes
    yield f"files must hold {GOLDEN}", GOLDEN in m.files
    yield f"precisions must be among {', '.join(PRECISIONS)}", bool(used)
    for name, precision in m.precisions.items():
        yield f"precision '{name}' is unknown", name in PRECISIONS
        fits = precision.file.endswith(f".{name}.onnx") and precision.file in m.files
        yield f"precision '{name}' must name its bundled model", fits
        yield f"tolerance of '{name}' must be positive", 0 < precision.tolerance < math.inf
    yield "every model must belong to one precision", sorted(models) == sorted(used)


def _texts(tree: Any) -> Iterator[str]:
    """Every string in a tree of dicts and lists."""
    if isinstance(tree, str):
        yield tree
    elif isinstance(tree, dict):
        yield from (text for pair in tree.items() for part in pair for text in _texts(part))
    elif isinstance(tree, list | tuple):
        yield from (text for part in tree for text in _texts(part))


def _printable(text: str) -> bool:
    """Nothing that drives a terminal: a manifest is shown before anybody trusts it."""
    return text.replace("\n", " ").isprintable()


def _wrong(path: Path, why: str) -> StartError:
    return StartError(f"bundle '{path}' has a wrong manifest: {why}", "pack it again")
