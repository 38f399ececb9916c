"""`medge infer BUNDLE INPUT`: one input of any kind by hand, through the stages that serve the bed.

Owns reading the input and the shape of the answer; every answer is a `Diagnosis` or a `Withheld`.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from edge.bundle.admission import admitted, opened
from edge.bundle.durable import write_whole
from edge.bundle.load import load
from edge.clock import NS_PER_S
from edge.errors import StartError
from edge.pipeline.course import Course
from edge.pipeline.decide import Envelope, Ids
from edge.pipeline.judge import Judge
from edge.pipeline.pipeline import UNMEASURED, build
from edge.signals.rows import read_rows
from edge.store.codec import encode_result
from edge.types import Diagnosis, Provenance, Result, SourceLost, Withheld

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from edge.bundle.admission import Admission
    from edge.bundle.load import Bundle
    from edge.pipeline.postprocess import Told

DONE = 0
STDIN = "-"
MAX_INPUT_BYTES = 64 << 20
SHOWN = 20


def infer(
    bundle: str, source: str, state_dir: str, trusted_keys: Sequence[str], as_json: bool,
    course: str | None = None, signal: str | None = None,
) -> int:  # fmt: skip
    """Print what `bundle` says of the input at path `source` ("-": stdin); exit code 0.

    `course` is a file in which the states of a course are kept from one call to the next; `signal`
    names the lead of a record.
    """
    loaded = load(bundle, trusted_keys=trusted_keys, state_dir=state_dir)
    kind = _kind(loaded)
    choice = admitted(loaded, state_dir)
    if course is not None and kind != "features":
        raise StartError("only a course of rows is kept", "leave --course out")
    if kind == "signal":
        results = list(_signal(loaded, choice, source, signal))
    elif kind == "features":
        results = _course(loaded, choice, _read(source), course)
    else:
        data = _read(source)
        with opened(loaded, choice) as engine:
            said = Judge(loaded, engine).told(data)
        results = [_result(_envelope(loaded, choice), said, 0)]
    print(_json(loaded, results) if as_json else "\n".join(_lines(results)))
    return DONE


def _kind(bundle: Bundle) -> str:
    """What the bundle takes."""
    if not bundle.manifest.kind:
        raise StartError(f"bundle '{bundle.name}' judges nothing", "choose a bundle that does")
    return bundle.manifest.kind


def _course(bundle: Bundle, choice: Admission, data: bytes, file: str | None) -> list[Result]:
    """Rows of values: CSV, the first line names the columns, an empty field is not measured."""
    features = bundle.manifest.features
    assert features is not None
    envelope, results = _envelope(bundle, choice), []
    with opened(bundle, choice) as engine:
        course = Course(bundle.manifest, engine)
        if file and Path(file).exists():
            course.restore(_read(file), bundle.digest)
        for row in read_rows(data):
            found = course.step(row)
            if course.impossible:
                print(f"medge: impossible, not taken: {', '.join(course.impossible)}",
                      file=sys.stderr)  # fmt: skip
            t_ns = round(course.steps * features.step_s * NS_PER_S)
            results.append(_result(envelope, found, t_ns))
        if file:
            _keep(Path(file), course.save(bundle.digest))
    return results


def _keep(path: Path, data: bytes) -> None:
    try:
        write_whole(path, data)
    except OSError as error:
        raise StartError(
            f"the course cannot be kept in '{path}' ({error.strerror})", "name another file"
        ) from None


def _signal(bundle: Bundle, choice: Admission, source: str, signal: str | None) -> Iterator[Result]:
    """Every beat of a WFDB record."""
    from edge.sources.recordings import Recording, RecordingOptions

    conditioned, _ = bundle.manifest.signal_part()
    options = RecordingOptions(
        record=source,
        mdc=conditioned.channel.mdc,
        rate_hz=conditioned.rate_hz,
        **({"signal": signal} if signal else {}),
    )
    recording = Recording(options)
    recording.open(0)
    with build(
        bundle, backend=choice.backend, precision=choice.precision, threads=choice.threads
    ) as pipeline:
        while (due_ns := recording.next_deadline_ns()) is not None:
            for item in recording.poll(due_ns):
                if isinstance(item, SourceLost):
                    yield from pipeline.lost(item)
                else:
                    yield from pipeline.feed(item)


def _read(source: str) -> bytes:
    """The bytes at a path, or of stdin."""
    try:
        if source == STDIN:
            data = sys.stdin.buffer.read(MAX_INPUT_BYTES + 1)
        else:
            with Path(source).open("rb") as file:
                data = file.read(MAX_INPUT_BYTES + 1)
    except OSError as error:
        raise StartError(f"'{source}' cannot be read ({error.strerror})", "name a file") from None
    if len(data) > MAX_INPUT_BYTES:
        raise StartError(f"'{source}' is too large", f"give at most {MAX_INPUT_BYTES} bytes")
    return data


def _envelope(bundle: Bundle, choice: Admission) -> Envelope:
    """Of every answer of one call."""
    provenance = Provenance(bundle.name, bundle.digest, choice.backend, choice.precision)
    return Envelope(Ids(os.urandom(6).hex()), "unassigned", "by hand", UNMEASURED, provenance)


def _result(envelope: Envelope, found: Told, t_ns: int) -> Result:
    if found.reason is None:
        return Diagnosis(**envelope.at(t_ns), findings=found.findings, age_ms=0.0)
    return Withheld(
        **envelope.at(t_ns), reason=found.reason, detail=found.detail, t0_ns=0, t1_ns=t_ns
    )


def _json(bundle: Bundle, results: Sequence[Result]) -> str:
    document = {
        "bundle": bundle.name,
        "version": bundle.manifest.version,
        "digest": bundle.digest,
        "results": [msgspec.Raw(encode_result(result)) for result in results],
    }
    return msgspec.json.encode(document).decode()


def _lines(results: Sequence[Result]) -> Iterator[str]:
    """The newest answers, one a line."""
    if len(results) > SHOWN:
        yield f"the last {SHOWN} of {len(results)} answers"
    for result in results[-SHOWN:]:
        at = f"{result.t_ns / NS_PER_S:.3f} s: "
        if isinstance(result, Withheld):
            yield f"{at}no answer, {result.reason.value} ({result.detail})"
        else:
            yield at + ", ".join(map(_said, result.findings))


def _said(finding: Any) -> str:
    if finding.text is not None:
        return f"\n  {finding.text} [{finding.code}]"
    if finding.value is not None:
        return f"{finding.name} {finding.value:.4g} {finding.unit}"
    if finding.probability is None:
        return str(finding.name)
    among = f" of {{{', '.join(finding.prediction_set)}}}" if finding.prediction_set else ""
    return f"{finding.name} {finding.probability:.2f}{among}"
