"""Admission: which backend and precision a bundle runs on here, proved on its golden vectors.

Each candidate is loaded in a limited child process (`edge.bundle.trial`), so that a model that
bombs, crashes or hangs costs only itself. The fastest that passes is recorded with the bundle's
digest; from then on the record is used, not measured again, until the bundle, a backend or the
machine changes. Owns the choice and its record.
"""

from __future__ import annotations

import os
import platform
import statistics
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from edge.bundle.durable import write_whole
from edge.bundle.integrity import GOLDEN, MANIFEST
from edge.bundle.trial import Job, Trial, replace_trial, started
from edge.engines import ENGINES, open_engine
from edge.errors import StartError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from edge.bundle.load import Bundle
    from edge.bundle.trial import Candidate
    from edge.engines import Engine

SCHEMA = 1
THREADS = 1
LIMIT_S = 60
ROUNDS = 5
NEVER = ("null",)
PACKAGES = {"onnxruntime": "onnxruntime", "openvino": "openvino"}


@dataclass(frozen=True, slots=True)
class Admission:
    """The record of one bundle on this machine. `environment` is what it depends on."""

    digest: str
    environment: str
    backend: str
    precision: str
    threads: int
    trials: tuple[Trial, ...]
    schema: int = SCHEMA


def admitted(
    bundle: Bundle, state_dir: str | Path, engines: Mapping[str, str] = ENGINES
) -> Admission:
    """The stored admission, or a new one. Raises `StartError` where nothing passes."""
    return stored(bundle, state_dir, engines) or admit(bundle, state_dir, engines)


@contextmanager
def opened(bundle: Bundle, choice: Admission) -> Iterator[Engine]:
    """The engine of what was admitted, for one input at a time."""
    model = bundle.model(choice.precision)
    with open_engine(choice.backend, model, choice.precision, threads=choice.threads) as engine:
        yield engine


def stored(
    bundle: Bundle, state_dir: str | Path, engines: Mapping[str, str] = ENGINES
) -> Admission | None:
    """What was recorded for this very bundle in this very environment, else None."""
    try:
        data = _file(bundle, state_dir).read_bytes()
        record = msgspec.json.decode(data, type=Admission)
    except (OSError, msgspec.MsgspecError, ValueError, RecursionError):
        return None
    same = (record.digest, record.schema) == (bundle.digest, SCHEMA)
    usable = record.precision in bundle.manifest.precisions and record.backend in present(engines)
    return record if same and usable and record.environment == environment(engines) else None


def admit(
    bundle: Bundle,
    state_dir: str | Path,
    engines: Mapping[str, str] = ENGINES,
    *,
    limit_s: int = LIMIT_S,
) -> Admission:
    """Try every backend and precision present, and record the fastest that passes.

    `limit_s` bounds each answer of each candidate's process. Raises `StartError` where nothing
    passes, or the record cannot be written.
    """
    trials = _trials(bundle, engines, limit_s)
    passed = [t for t in trials if not t.refused]
    if not passed:
        why = "; ".join(f"{t.backend} {t.precision}: {t.refused}" for t in trials)
        raise StartError(f"bundle '{bundle.name}' passes on no backend here ({why})",
                         "install a backend it passes on, or get another bundle")  # fmt: skip
    best = min(passed, key=lambda t: t.median_ms or 0.0)
    record = Admission(
        bundle.digest, environment(engines), best.backend, best.precision, THREADS, trials
    )
    _store(record, _file(bundle, state_dir))
    return record


def present(engines: Mapping[str, str] = ENGINES) -> list[str]:
    """Backends that can be tried here: those whose package is installed, and the operator's own."""
    from importlib.util import find_spec

    return [
        name for name in engines
        if name not in NEVER and (name not in PACKAGES or find_spec(PACKAGES[name]) is not None)
    ]  # fmt: skip


def environment(engines: Mapping[str, str] = ENGINES) -> str:
    """What a measurement depends on: the processor, medge, and each backend's version."""
    from edge import __version__

    backends = [
        f"{n} {_version(PACKAGES[n])}" if n in PACKAGES else f"{n} {engines[n]}"
        for n in present(engines)
    ]
    machine = [platform.machine(), processor(), f"{os.cpu_count()} cores"]
    return " | ".join([*machine, f"medge {__version__}", *backends])


def _version(package: str) -> str:
    """Of whichever distribution holds it: JetPack's onnxruntime is called onnxruntime-gpu."""
    from importlib.metadata import PackageNotFoundError, packages_distributions, version

    try:
        return version(package)
    except PackageNotFoundError:
        names = packages_distributions().get(package, [])
        return ", ".join(f"{name} {version(name)}" for name in sorted(set(names)))


def processor() -> str:
    """Its model name, or on boards that give none there, the board's."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        names = [x.partition(":")[2].strip() for x in lines if x.startswith("model name")]
        return names[0] if names else Path("/proc/device-tree/model").read_text().strip("\0\n")
    except OSError:
        return platform.processor()


def _trials(bundle: Bundle, engines: Mapping[str, str], limit_s: int) -> tuple[Trial, ...]:
    """Prove one after the other, then measure in turns, so that a slow moment slows them all."""
    with ExitStack() as stack:
        candidates = []
        for job in _jobs(bundle, engines, limit_s):
            candidate = stack.enter_context(started(job))
            candidate.prove()
            candidates.append(candidate)
        blocks_ms = [[c.measure() for c in candidates] for _ in range(ROUNDS)]
        return tuple(_timed(c, block) for c, block in zip(candidates, zip(*blocks_ms)))


def _jobs(bundle: Bundle, engines: Mapping[str, str], limit_s: int) -> list[Job]:
    return [
        Job(backend, engines[backend], precision, THREADS, bundle.files[MANIFEST],
            bundle.model(precision), bundle.files[GOLDEN], limit_s)
        for precision in bundle.manifest.precisions
        for backend in present(engines)
    ]  # fmt: skip


def _timed(candidate: Candidate, blocks_ms: tuple[float | None, ...]) -> Trial:
    known = [ms for ms in blocks_ms if ms is not None]
    if candidate.trial.refused or not known:
        return candidate.trial
    return replace_trial(candidate.trial, median_ms=round(statistics.median(known), 5))


def _file(bundle: Bundle, state_dir: str | Path) -> Path:
    return Path(state_dir).expanduser() / "admission" / f"{bundle.digest}.json"


def _store(record: Admission, path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, msgspec.json.format(msgspec.json.encode(record)) + b"\n")
    except OSError as error:
        raise StartError(
            f"the admission cannot be kept in '{path.parent}' ({error.strerror})",
            "name a state_dir that can be written",
        ) from None
