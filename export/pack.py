"""The files of a model to a signed bundle in a folder.

Owns the order: files, their hashes into the manifest, the signature over it, the public key. What a
bundle must be is `edge.bundle`'s contract, which has the last word here too.
"""

from __future__ import annotations

import base64
import io
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from edge.bundle.integrity import MANIFEST, SIGNATURE
from edge.bundle.load import load
from edge.bundle.seal import seal
from edge.bundle.signature import Signature, read_private_key

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from edge.bundle.manifest import Manifest


def pack(
    folder: Path, manifest: Manifest, files: Mapping[str, bytes], keys: Path, key: Path | None
) -> str:
    """Write the bundle to `folder` in place of the old one, and its public key to `keys`; its id.

    Signed with the PEM private key at `key`, else with a new one whose private half is forgotten.
    The key of the bundle that was there is no longer trusted. Raises `StartError` where the result
    is refused.
    """
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    private = read_private_key(key) if key else Ed25519PrivateKey.generate()
    folder.mkdir(parents=True, exist_ok=True)
    _clear(folder, keys)
    for name, data in files.items():
        (folder / name).write_bytes(data)
    (folder / MANIFEST).write_bytes(msgspec.json.encode(manifest))
    key_id = seal(folder, private)
    keys.mkdir(parents=True, exist_ok=True)
    public = keys / f"{key_id}.pub"
    public.write_bytes(base64.b64encode(private.public_key().public_bytes_raw()) + b"\n")
    load(folder, trusted_keys=[public])
    return key_id


def _clear(folder: Path, keys: Path) -> None:
    """Remove the old bundle's files, and its public key."""
    if (folder / SIGNATURE).exists():
        old = msgspec.json.decode((folder / SIGNATURE).read_bytes(), type=Signature)
        (keys / f"{old.key_id}.pub").unlink(missing_ok=True)
    for file in folder.iterdir():
        file.unlink()


def npz(arrays: Mapping[str, NDArray[np.float32]]) -> bytes:
    """Arrays by name as the bytes of an `.npz`."""
    data = io.BytesIO()
    np.savez(data, **arrays)  # type: ignore[arg-type]
    return data.getvalue()
