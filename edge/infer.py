"""`medge infer BUNDLE INPUT`: one input of any kind by hand, through the stages that serve the bed.

Owns reading the input and the shape of the answer; every answer is a `Diagnosis` or a `Withheld`.
"""

from __future__ import annotations

import csv
import io
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from edge.bundle.admission import admitted, opened
from edge.bundle.durable import write_whole
from edge.bundle.integrity import VOCAB
from edge.bundle.load import load
from edge.clock import NS_PER_S
from edge.errors import StartError
from edge.pipeline.course import Course
from edge.pipeline.decide import Envelope, Ids
from edge.pipeline.pipeline import UNMEASURED, build
from edge.pipeline.postprocess import Told, told
from edge.store.codec import encode_result
from edge.types import Diagnosis, Provenance, Result, SourceLost, Withheld

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from edge.bundle.admission import Admission
    from edge.bundle.load import Bundle
    from edge.bundle.manifest import Input

DONE = 0
STDIN = "-"
MAX_INPUT_BYTES = 64 << 20
SHOWN = 20
KINDS = {"window": "signal", "rr": "signal", "image": "image", "text": "text", "token": "text",
         "features": "features"}  # fmt: skip


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
        told_once = _once(loaded, choice, kind, _read(source))
        results = [_result(_envelope(loaded, choice), told_once, 0)]
    print(_json(loaded, results) if as_json else "\n".join(_lines(results)))
    return DONE


def _kind(bundle: Bundle) -> str:
    """What the bundle takes."""
    kinds = {KINDS.get(i.source) for i in bundle.manifest.inputs}
    if len(kinds) != 1 or None in kinds:
        raise StartError(f"bundle '{bundle.name}' judges nothing", "choose a bundle that does")
    return str(kinds.pop())


def _once(bundle: Bundle, choice: Admission, kind: str, data: bytes) -> Told:
    """An image or a text."""
    manifest = bundle.manifest
    with opened(bundle, choice) as engine:
        if manifest.output.tokens:
            from edge.text.advise import Advisor

            return Advisor(bundle, engine).advise(data)
        (declared,) = manifest.inputs
        tensor = _image(data, declared) if kind == "image" else _text(bundle, data, declared)
        if isinstance(tensor, Told):
            return tensor
        engine.inputs[declared.name][0] = tensor
        engine.run()
        return told(engine.outputs[manifest.output.name][0], manifest.output, 0, 0)


def _image(data: bytes, declared: Input) -> NDArray[np.float32]:
    from edge.vision.still import read_still

    return read_still(data, declared.shape)


def _text(bundle: Bundle, data: bytes, declared: Input) -> NDArray[np.float32] | Told:
    from edge.text.encode import encode
    from edge.text.vocab import read_vocabulary

    assert bundle.manifest.text is not None
    numbers = read_vocabulary(bundle.files[VOCAB]).numbers()
    found = encode(data, bundle.manifest.text, numbers, declared.shape[0])
    return found.ids if found.reason is None else Told((), found.reason, found.detail)


def _course(bundle: Bundle, choice: Admission, data: bytes, file: str | None) -> list[Result]:
    """Rows of values: CSV, the first line names the columns, an empty field is not measured."""
    features = bundle.manifest.features
    assert features is not None
    envelope, results = _envelope(bundle, choice), []
    with opened(bundle, choice) as engine:
        course = Course(bundle.manifest, engine)
        if file and Path(file).exists():
            course.restore(_read(file), bundle.digest)
        for row in _rows(data):
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


def _rows(data: bytes) -> Iterator[dict[str, float | None]]:
    try:
        reader = csv.DictReader(io.StringIO(data.decode("utf-8")), strict=True)
        for row in reader:
            if None in row or None in row.values():
                raise ValueError(f"line {reader.line_num} has not as many fields as the first")
            yield {name: float(x) if x.strip() else None for name, x in row.items()}
    except (UnicodeDecodeError, csv.Error, ValueError) as error:
        raise StartError(
            f"the rows cannot be read ({error})",
            "give CSV: the columns' names, then a line a step, empty where not measured",
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
