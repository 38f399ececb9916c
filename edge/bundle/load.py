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

    def with_manifest(self, manifest: Manifest) -> Bundle:
        """The same files under another contract: for tests of what a change would do."""
        return replace(self, manifest=manifest)


def load(
    path: str | Path, *, trusted_keys: Sequence[str | Path] = (), allow_unsigned: bool = False
) -> Bundle:
    """The bundle at `path`, or the reference bundle of that name. Raises `StartError`.

    Reference keys vouch for reference bundles only; others need one of `trusted_keys` (files).
    `allow_unsigned` asks for no signature at all: for development, never beside a patient.
    """
    folder, is_reference = _find(path)
    files = read_files(folder)
    own = sorted(KEYS.glob("*.pub")) if is_reference else []
    trusted = [read_public_key(Path(key)) for key in (*own, *trusted_keys)]
    signed_by = "" if allow_unsigned else verify(files, trusted, folder)
    manifest = decode(files[MANIFEST], folder)
    require_hashes(files, manifest.files, folder)
    digest = hashlib.sha256(files[MANIFEST]).hexdigest()
    return Bundle(folder, manifest, digest, files, signed_by)


def _find(path: str | Path) -> tuple[Path, bool]:
    reference = REFERENCE / path
    if str(path) == Path(path).name and not Path(path).exists() and reference.is_dir():
        return reference, True
    return Path(path), False
