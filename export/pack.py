"""The files of a model to a signed bundle in a folder.

Owns the order: files, their hashes into the manifest, the signature over it, the public key. What a
bundle must be is `edge.bundle`'s contract, which has the last word here too.
"""

from __future__ import annotations

import base64
import io
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from edge.bundle.durable import put_folder, sync, write_whole
from edge.bundle.integrity import MANIFEST, SIGNATURE
from edge.bundle.load import load
from edge.bundle.seal import seal
from edge.bundle.signature import Signature, read_private_key

if TYPE_CHECKING:
    from collections.abc import Mapping

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
    folder.parent.mkdir(parents=True, exist_ok=True)
    keys.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as beside:
        fresh = Path(beside, folder.name)
        fresh.mkdir()
        for name, data in files.items():
            (fresh / name).write_bytes(data)
        (fresh / MANIFEST).write_bytes(msgspec.json.encode(manifest))
        key_id = seal(fresh, private)
        public = base64.b64encode(private.public_key().public_bytes_raw()) + b"\n"
        trusted = Path(beside, f"{key_id}.pub")
        trusted.write_bytes(public)
        load(fresh, trusted_keys=[trusted])
        old = _key_id(folder)
        write_whole(keys / f"{key_id}.pub", public)
        for written in (*fresh.iterdir(), fresh):
            sync(written)
        put_folder(fresh, folder)
    if old not in (None, key_id):
        (keys / f"{old}.pub").unlink(missing_ok=True)
    return key_id


def _key_id(folder: Path) -> str | None:
    """Which key signed the bundle in `folder`, if there is one."""
    if not (folder / SIGNATURE).exists():
        return None
    return msgspec.json.decode((folder / SIGNATURE).read_bytes(), type=Signature).key_id


def npz(arrays: Mapping[str, NDArray[np.float32]]) -> bytes:
    """Arrays by name as the bytes of an `.npz`."""
    data = io.BytesIO()
    np.savez_compressed(data, **arrays)  # type: ignore[arg-type]
    return data.getvalue()
