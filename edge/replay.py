"""`medge replay`: a recording's bytes through the whole path again, in the recording's own time.

The clock stands wherever the recording is, so every deadline falls as it did. Backend and precision
are the recording's. Decisions must come out the same; floats within a tolerance for each field.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from edge import config as configuration
from edge.bundle.load import load
from edge.clock import ManualClock
from edge.errors import StartError
from edge.pipeline.pipeline import build
from edge.printed import to_json
from edge.recorded_ports import RECORDED, ReplayPorts
from edge.recording import read_recording
from edge.store.codec import decode_result, encode_result
from edge.types import SourceLost

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from edge.bundle.load import Bundle
    from edge.config import Config, Part
    from edge.pipeline.pipeline import Pipeline
    from edge.recording import Header
    from edge.types import Result

TOLERANCE = {"probability": 1e-4, "value": 1e-6, "age_ms": 1e-6}
"""Absolute, by field name; every other field must be equal."""
NOT_COMPARED = ("latency_ms",)


def replay(recording: str, config: str, golden: str | None, out: str | None, as_json: bool) -> int:
    """Recompute a recording; exit code 1 when it differs from `golden`."""
    results = recompute(Path(recording), configuration.load(config))
    lines = [encode_result(result) for result in results]
    if out is not None:
        Path(out).write_bytes(b"".join(line + b"\n" for line in lines))
    if golden is not None:
        return _judge(Path(golden), results, as_json)
    if out is None:
        sys.stdout.buffer.writelines(line + b"\n" for line in lines)
    return 0


def _judge(golden: Path, results: Sequence[Result], as_json: bool) -> int:
    expected = [decode_result(line) for line in golden.read_bytes().splitlines()]
    differences = compare(expected, results)
    if as_json:
        document = {"results": len(results), "golden": len(expected), "differences": differences}
        print(to_json(document))
    else:
        print("\n".join([f"{len(results)} results, {len(differences)} differences", *differences]))
    return 1 if differences else 0


def recompute(recording: Path, config: Config, bundle: Bundle | None = None) -> list[Result]:
    """All results of a recording, in time order. `bundle` stands in for the configuration's."""
    header, records = read_recording(recording)
    by_source = defaultdict(list)
    for record in records:
        by_source[record.source].append(record)
    results: list[Result] = []
    for part in _with_ports(config):
        used = bundle or _bundle(config, part)
        ports = ReplayPorts(by_source[part.options.name])
        results += _replay_source(part, ports, header, used, config)
    return sorted(results, key=lambda r: (r.t_ns, r.id))


def _with_ports(config: Config) -> list[Part]:
    """Only these were recorded; others ran beside them."""
    parts = [part for part in config.sources if part.kind == RECORDED]
    if not parts:
        raise StartError(f"{config.path}: no source has a port", "replay one with a monitor")
    return parts


def _bundle(config: Config, part: Part) -> Bundle:
    (named,) = (options for options in config.bundles if options.id == part.bundle)
    return load(named.path, trusted_keys=named.trusted_keys, state_dir=config.state_dir)


def _replay_source(
    part: Part, ports: ReplayPorts, header: Header, bundle: Bundle, config: Config
) -> list[Result]:
    clock = ManualClock(ports.next_ns() or 0)
    with build(
        bundle,
        backend=header.backend,
        precision=header.precision,
        bed=part.bed,
        session=f"replay-{part.options.name}",
        source=part.options.name,
        clock=clock,
        anchor=header.anchor,
        steps=configuration.table("preprocess", config.plugins),
    ) as pipeline:
        return list(play(part.factory(part.options, ports), ports, pipeline, clock))


def play(
    source: Any, ports: ReplayPorts, pipeline: Pipeline, clock: ManualClock
) -> Iterator[Result]:
    """Drive `source` through its records, and the pipeline's deadlines between them.

    What was sent while the link, by its own rules, was not listening is passed over.
    """
    source.open(clock.now_ns())
    pipeline.expect(clock.now_ns())
    while (record_ns := ports.next_ns()) is not None:
        link_ns = source.next_deadline_ns() if source.fileno() is not None else None
        due = (t for t in (record_ns, link_ns, pipeline.next_deadline_ns()) if t is not None)
        clock.advance_to(min(due))
        for block in source.poll(clock.now_ns()):
            if isinstance(block, SourceLost):
                yield from pipeline.lost(block)
            else:
                yield from pipeline.feed(block)
        yield from pipeline.tick(clock.now_ns())
        ports.pass_over_unheard()
    source.close()


def compare(expected: Sequence[Result], found: Sequence[Result]) -> list[str]:
    """What differs, a line each: decisions exactly, floats within `TOLERANCE` of their field."""
    lines = []
    if len(expected) != len(found):
        lines.append(f"{len(expected)} results expected, {len(found)} found")
    for a, b in zip(expected, found):
        lines += [f"{a.id}: {d}" for d in _differences("", _tree(a), _tree(b))]
    return lines


def _tree(result: Result) -> Any:
    tree = msgspec.to_builtins(result)
    return {"kind": type(result).__name__} | {
        k: v for k, v in tree.items() if k not in NOT_COMPARED
    }


def _differences(path: str, a: Any, b: Any) -> Iterator[str]:
    if isinstance(a, dict) and isinstance(b, dict):
        for key in sorted(a.keys() | b.keys()):
            yield from _differences(f"{path}.{key}".lstrip("."), a.get(key), b.get(key))
    elif isinstance(a, tuple) and isinstance(b, tuple) and len(a) == len(b):
        for i, (x, y) in enumerate(zip(a, b)):
            yield from _differences(f"{path}[{i}]", x, y)
    elif not _same(path, a, b):
        yield f"{path}: {a} expected, {b} found"


def _same(path: str, a: Any, b: Any) -> bool:
    if isinstance(a, float) and isinstance(b, float):
        return abs(a - b) <= TOLERANCE.get(path.rpartition(".")[2], 0.0)
    return bool(a == b)
