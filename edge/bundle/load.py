"""Load a bundle: read once, verify signature and hashes, decode and check the manifest.

Owns the order of the checks, each over the very bytes that are used afterwards.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from edge.bundle.decode import decode
from edge.bundle.integrity import MANIFEST, read_files, require_hashes
from edge.bundle.signature import read_public_key, verify
from edge.bundle.versions import read_record, version
from edge.errors import StartError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edge.bundle.manifest import Manifest

REFERENCE = Path(__file__).parent.parent / "reference"
KEYS = REFERENCE / "keys"


@dataclass(frozen=True, slots=True)
class Bundle:
    """A verified bundle; `files` are the very bytes that were verified. `digest` is the manifest's
    SHA-256, which covers every file. `signed_by` is empty where no signature was asked for."""

    path: Path
    manifest: Manifest
    digest: str
    files: dict[str, bytes]
    signed_by: str

    @property
    def name(self) -> str:
        return self.manifest.name

    def model(self, precision: str) -> bytes:
        """The ONNX bytes of one of its precisions."""
        return self.files[self.manifest.precisions[precision].file]

    def with_manifest(self, manifest: Manifest) -> Bundle:
        """The same files under another contract: for tests of what a change would do."""
        return replace(self, manifest=manifest)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a bundle lies, which keys vouch for it besides the operator's, and where it must be a
    certain one, its name and digest."""

    folder: Path
    keys: tuple[Path, ...] = ()
    name: str = ""
    digest: str = ""


def load(
    path: str | Path,
    *,
    trusted_keys: Sequence[str | Path] = (),
    allow_unsigned: bool = False,
    state_dir: str | Path | None = None,
) -> Bundle:
    """The bundle at `path`; or by a bare name the one installed in `state_dir`, else the reference
    bundle. Raises `StartError`.

    Reference keys vouch for reference bundles only; others need one of `trusted_keys` (files).
    `allow_unsigned` asks for no signature at all: for development, never beside a patient.
    """
    return _load(_find(path, state_dir), trusted_keys, allow_unsigned)


def load_version(
    name: str, digest: str, state_dir: str | Path, *, trusted_keys: Sequence[str | Path] = ()
) -> Bundle:
    """One installed version of `name`. Raises `StartError` for anything but the one of `digest`."""
    return _load(_installed(name, digest, state_dir), trusted_keys)


def _load(place: Place, trusted_keys: Sequence[str | Path], allow_unsigned: bool = False) -> Bundle:
    files = read_files(place.folder)
    trusted = [read_public_key(Path(key)) for key in (*place.keys, *trusted_keys)]
    signed_by = "" if allow_unsigned else verify(files, trusted, place.folder)
    manifest = decode(files[MANIFEST], place.folder)
    require_hashes(files, manifest.files, place.folder)
    digest = hashlib.sha256(files[MANIFEST]).hexdigest()
    if (place.name or manifest.name, place.digest or digest) != (manifest.name, digest):
        raise StartError(
            f"bundle '{place.folder}' is not the '{place.name}' that was installed there",
            "install it again",
        )
    return Bundle(place.folder, manifest, digest, files, signed_by)


def _find(path: str | Path, state_dir: str | Path | None) -> Place:
    name = str(path)
    if name != Path(path).name or Path(path).exists():
        return Place(Path(path))
    record = read_record(name, state_dir) if state_dir is not None else None
    if state_dir is not None and record is not None:
        return _installed(name, record.current, state_dir)
    if (REFERENCE / name).is_dir():
        return Place(REFERENCE / name, _reference_keys())
    return Place(Path(path))


def _installed(name: str, digest: str, state_dir: str | Path) -> Place:
    """Under a reference bundle's name the reference keys vouch too: it may be an installed one."""
    keys = _reference_keys() if (REFERENCE / name).is_dir() else ()
    return Place(version(name, digest, state_dir), keys, name, digest)


def _reference_keys() -> tuple[Path, ...]:
    return tuple(sorted(KEYS.glob("*.pub")))
