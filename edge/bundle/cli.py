"""`medge bundle show|verify|sign`: what the command line prints; the work is beside it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from edge.bundle.admission import Admission, admit, stored
from edge.bundle.load import load
from edge.bundle.seal import seal
from edge.bundle.signature import read_private_key
from edge.errors import StartError
from edge.printed import to_json

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edge.bundle.load import Bundle
    from edge.bundle.trial import Trial

DONE, FAILED = 0, 1


def show(path: str, state_dir: str, trusted_keys: Sequence[str], as_json: bool) -> int:
    """Print what a bundle promises, whether its signature is trusted, and what was admitted here.

    Whole but untrusted bundles are shown too, and said to be so; exit code 0.
    """
    bundle, signature = _inspect(path, state_dir, trusted_keys)
    admission = stored(bundle, state_dir)
    document = _document(bundle, signature, admission)
    print(to_json(document) if as_json else to_text({**document, "admission": _chosen(admission)}))
    return DONE


def verify(path: str, state_dir: str, trusted_keys: Sequence[str], as_json: bool) -> int:
    """Signature, hashes, and a new admission on golden vectors; exit code 0 when one passes, 1."""
    try:
        bundle = load(path, trusted_keys=trusted_keys, state_dir=state_dir)
        admission = admit(bundle, state_dir)
    except StartError as error:
        say_refused(error, path, as_json)
        return FAILED
    document = {
        "ok": True,
        "bundle": bundle.name,
        "digest": bundle.digest,
        "signed_by": bundle.signed_by,
        "backend": admission.backend,
        "precision": admission.precision,
        "trials": msgspec.to_builtins(admission.trials),
    }
    print(to_json(document) if as_json else to_text({**document, "trials": trial_lines(admission)}))
    return DONE


def sign(path: str, key: str) -> int:
    """Write the hashes of a folder's files into its manifest, and sign it; exit code 0."""
    print(f"signed by {seal(Path(path), read_private_key(Path(key)))}")
    return DONE


def _inspect(
    path: str, state_dir: str, trusted_keys: Sequence[str]
) -> tuple[Bundle, dict[str, str]]:
    """The bundle and the state of its signature."""
    try:
        bundle = load(path, trusted_keys=trusted_keys, state_dir=state_dir)
        return bundle, {"state": "trusted", "signed_by": bundle.signed_by}
    except StartError as error:
        # refuses again what is not whole
        bundle = load(path, allow_unsigned=True, state_dir=state_dir)
        return bundle, {"state": "not trusted", "cause": error.cause, "fix": error.fix}


def _document(
    bundle: Bundle, signature: dict[str, str], admission: Admission | None
) -> dict[str, Any]:
    m = bundle.manifest
    return {
        "bundle": m.name,
        "version": m.version,
        "digest": bundle.digest,
        "signed_by": bundle.signed_by,
        "signature": signature,
        "intended_use": m.intended_use,
        "signal": msgspec.to_builtins(m.signal),
        "inputs": {i.name: f"{i.source} {list(i.shape)}" for i in m.inputs},
        "states": {s.input: f"from {s.output} {list(s.shape)}" for s in m.states},
        "output": f"{m.output.name} {list(m.output.shape)}",
        "labels": {label.name: label.display for label in m.output.labels},
        "quantities": {q.name: f"{q.unit}, {q.low:g} to {q.high:g}" for q in m.output.quantities},
        "precisions": msgspec.to_builtins(m.precisions),
        "bytes": {name: len(data) for name, data in sorted(bundle.files.items())},
        "provenance": msgspec.to_builtins(m.provenance),
        "admission": msgspec.to_builtins(admission),
    }


def say_refused(error: StartError, asked: str, as_json: bool) -> None:
    """Cause and fix on stderr, and as a document on stdout where one is asked for."""
    print(f"medge: {error}", file=sys.stderr)
    if as_json:
        print(to_json({"ok": False, "bundle": asked, "cause": error.cause, "fix": error.fix}))


def to_text(tree: dict[str, Any], indent: str = "") -> str:
    """A tree as indented lines: dicts nest, lists of plain values stay on one line."""
    lines = []
    for name, value in tree.items():
        if isinstance(value, dict) and value:
            lines += [f"{indent}{name}:", to_text(value, indent + "  ")]
        else:
            lines.append(f"{indent}{name}: {_value(value)}")
    return "\n".join(lines)


def _value(value: Any) -> str:
    if isinstance(value, list | tuple) and value:
        return "; ".join(map(_value, value))
    if isinstance(value, dict):
        return ", ".join(f"{k} {_value(v)}" for k, v in value.items()) or "none"
    return "none" if value in (None, "", [], ()) else str(value)


def _chosen(admission: Admission | None) -> dict[str, Any]:
    if admission is None:
        return {"backend": "none yet, run 'medge bundle verify'"}
    return {
        "backend": admission.backend,
        "precision": admission.precision,
        "environment": admission.environment,
        "trials": trial_lines(admission),
    }


def trial_lines(admission: Admission) -> dict[str, str]:
    """Each candidate and its verdict, for people."""
    return {f"{t.backend} {t.precision}": _verdict(t) for t in admission.trials}


def _verdict(trial: Trial) -> str:
    if trial.refused:
        return f"refused, {trial.refused}"
    return f"{trial.median_ms} ms, differs by {trial.difference:.2g} from the golden output"
