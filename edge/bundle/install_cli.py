"""`medge bundle install|rollback`: what the command line prints; the work is `edge.bundle.install`.

Progress goes to stderr; stdout gets the outcome, with `--json` as one document in any case.
"""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from edge.bundle import install as installing
from edge.bundle.cli import say_refused, to_text, trial_lines
from edge.bundle.load import REFERENCE
from edge.bundle.plans import Order, importable
from edge.bundle.signature import read_public_key
from edge.engines.tensorrt_build import MODULES
from edge.errors import StartError
from edge.printed import to_json
from firmware_bridge.registry import nearest_first

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from edge.bundle.install import Installed

DONE, REFUSED, USAGE = 0, 1, 2


def install(
    path: str, state_dir: str, trusted_keys: Sequence[str], engine: str | None, as_json: bool
) -> int:
    """Install the bundle at `path`; exit code 0, 1 where a check refuses it, 2 for wrong usage.

    TensorRT plans are built with `engine`, else with whichever package is installed; only what was
    asked for is an error when it fails.
    """
    module = engine or importable()
    order = Order(module, Path(state_dir), required=engine is not None) if module else None
    check = partial(_require_usage, path, engine, trusted_keys)
    return _answer(path, as_json, check, lambda: installing.install(
        path, state_dir, trusted_keys=trusted_keys, order=order, say=_say
    ))  # fmt: skip


def rollback(name: str, state_dir: str, trusted_keys: Sequence[str], as_json: bool) -> int:
    """Switch `name` to its previous version; exit code 0, 1 where it is refused, 2 for usage."""
    return _answer(name, as_json, partial(_require_keys, trusted_keys), lambda: installing.rollback(
        name, state_dir, trusted_keys=trusted_keys, say=_say
    ))  # fmt: skip


def _answer(
    asked: str, as_json: bool, check: Callable[[], None], act: Callable[[], Installed]
) -> int:
    code = USAGE
    try:
        check()
        code = REFUSED
        done = act()
    except StartError as error:
        say_refused(error, asked, as_json)
        return code
    document = _document(done)
    lines = {"plans": {n: p.line() for n, p in done.plans.items()},
             "trials": trial_lines(done.admission)}  # fmt: skip
    print(to_json(document) if as_json else to_text(document | lines))
    if done.already:
        _say(f"{done.bundle.name} {done.bundle.manifest.version} is already installed")
    return DONE


def _require_usage(path: str, engine: str | None, trusted_keys: Sequence[str]) -> None:
    if engine is not None and engine not in MODULES:
        known = ", ".join(nearest_first(engine, MODULES))
        raise StartError(f"'{engine}' builds no plans", f"use one of: {known}")
    if not (Path(path).exists() or (REFERENCE / path).is_dir()):
        raise StartError(f"there is no bundle '{path}'", "name a folder or a stored zip")
    _require_keys(trusted_keys)


def _require_keys(trusted_keys: Sequence[str]) -> None:
    for key in trusted_keys:
        read_public_key(Path(key))


def _document(done: Installed) -> dict[str, Any]:
    bundle, record, admission = done.bundle, done.record, done.admission
    return {
        "ok": True,
        "bundle": bundle.name,
        "version": bundle.manifest.version,
        "digest": bundle.digest,
        "signed_by": bundle.signed_by,
        "already_installed": done.already,
        "folder": str(done.folder),
        "previous": record.previous or None,
        "security_epoch": record.security_epoch,
        "installed_utc": record.installed_utc,
        "backend": admission.backend,
        "precision": admission.precision,
        "plans": msgspec.to_builtins(done.plans),
        "trials": msgspec.to_builtins(admission.trials),
    }


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
