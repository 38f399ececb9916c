"""Install a bundle on this machine, and go back to the one before.

Owns the order: signature and hashes, security epoch, admission, plans, and only then the bytes on
the disk and the switch. Killed at any moment, what was installed stays whole and in use.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from edge.bundle import versions
from edge.bundle.admission import admit, admitted
from edge.bundle.load import load, load_version
from edge.bundle.plans import plans_of
from edge.bundle.versions import Record, read_record
from edge.engines import ENGINES
from edge.errors import StartError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from edge.bundle.admission import Admission
    from edge.bundle.load import Bundle
    from edge.bundle.plans import Order, Plan


@dataclass(frozen=True, slots=True)
class Installed:
    """What is current now. `already`: it was so before, and nothing was switched."""

    bundle: Bundle
    record: Record
    admission: Admission
    folder: Path
    already: bool = False
    plans: dict[str, Plan] = field(default_factory=dict)


def install(
    path: str | Path,
    state_dir: str | Path,
    *,
    trusted_keys: Sequence[str | Path] = (),
    order: Order | None = None,
    engines: Mapping[str, str] = ENGINES,
    say: Callable[[str], None] = lambda _: None,
) -> Installed:
    """Verify, admit and install the bundle at `path` (folder, stored zip, or a reference bundle).

    `order` asks for TensorRT plans too. Raises `StartError` where anything is refused; then what
    was installed is still current.
    """
    bundle = load(path, trusted_keys=trusted_keys)
    with _writing(state_dir), versions.locked(bundle.name, state_dir):
        record = read_record(bundle.name, state_dir)
        _require_epoch(bundle, record)
        folder = versions.version(bundle.name, bundle.digest, state_dir)
        if record and record.current == bundle.digest and versions.holds(folder, bundle):
            admission, already = admitted(bundle, state_dir, engines), True
        else:
            say(f"trying {bundle.name} {bundle.manifest.version} on its golden vectors")
            admission, already = admit(bundle, state_dir, engines), False
        plans = plans_of(bundle, order, say) if order else {}
        if record is None or not already:
            record = _next(bundle, record)
            versions.keep(bundle, state_dir)
            versions.switch(record, state_dir)
        versions.prune(record, state_dir)
    return Installed(bundle, record, admission, folder, already, plans)


def rollback(
    name: str,
    state_dir: str | Path,
    *,
    trusted_keys: Sequence[str | Path] = (),
    engines: Mapping[str, str] = ENGINES,
    say: Callable[[str], None] = lambda _: None,
) -> Installed:
    """Make the previous version current again, and the current one the previous.

    It is verified and admitted again from the disk. Raises `StartError` where it is refused or
    there is none; then nothing has changed.
    """
    if read_record(name, state_dir) is None:
        raise StartError(f"no bundle '{name}' is installed", "install it: medge bundle install")
    with _writing(state_dir), versions.locked(name, state_dir):
        record = read_record(name, state_dir)
        if record is None or not record.previous:
            raise StartError(
                f"'{name}' has no previous version", "install the version that you want"
            )
        bundle = load_version(name, record.previous, state_dir, trusted_keys=trusted_keys)
        _require_epoch(bundle, record)
        say(f"trying {name} {bundle.manifest.version} on its golden vectors")
        admission = admit(bundle, state_dir, engines)
        record = _next(bundle, record)
        versions.switch(record, state_dir)
    return Installed(bundle, record, admission, bundle.path)


def _require_epoch(bundle: Bundle, record: Record | None) -> None:
    """An epoch is raised when what came before must not be run again."""
    offered = bundle.manifest.security_epoch
    if record and offered < record.security_epoch:
        raise StartError(
            f"bundle '{bundle.name}' {bundle.manifest.version} has security epoch {offered}, "
            f"{record.security_epoch} was installed here",
            f"install a version with security epoch {record.security_epoch} or above",
        )


def _next(bundle: Bundle, record: Record | None) -> Record:
    """The record once `bundle` is current."""
    now = datetime.now(timezone.utc).isoformat(timespec="seconds")
    epoch = bundle.manifest.security_epoch
    if record is None:
        return Record(
            name=bundle.name, current=bundle.digest, previous="", security_epoch=epoch,
            installed_utc=now,
        )  # fmt: skip
    repaired = record.current == bundle.digest
    return msgspec.structs.replace(
        record,
        current=bundle.digest,
        previous=record.previous if repaired else record.current,
        security_epoch=max(epoch, record.security_epoch),
        installed_utc=now,
    )


@contextmanager
def _writing(state_dir: str | Path) -> Iterator[None]:
    """What the disk refuses is one error with a cause and a fix, like all else."""
    try:
        yield
    except OSError as error:
        place = Path(state_dir).expanduser()
        raise StartError(
            f"the bundle cannot be kept in '{place}' ({error.strerror or error})",
            "make room there, or name a state_dir that can be written",
        ) from None
