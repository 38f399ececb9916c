"""Seal a bundle's folder: write its files' hashes into the manifest, and sign that.

The last step of packing, and what `medge bundle sign` does; loading is the reverse.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from edge.bundle.decode import decode
from edge.bundle.durable import write_whole
from edge.bundle.integrity import MANIFEST, hash_files, read_files
from edge.bundle.signature import sign
from edge.errors import StartError

if TYPE_CHECKING:
    from pathlib import Path

    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey


def seal(folder: Path, key: Ed25519PrivateKey) -> str:
    """Complete `manifest.json` with `files`, check it, write `signature.json`; the key's id.

    Nothing is written where the manifest or a file does not fit. Raises `StartError`.
    """
    if not folder.is_dir():
        raise StartError(f"'{folder}' is not a folder", "sign the folder, then make a zip of it")
    files = read_files(folder)
    try:
        tree = msgspec.json.decode(files[MANIFEST], type=dict[str, Any])
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise StartError(f"{folder / MANIFEST}: {error}", "write it as JSON") from None
    data = msgspec.json.format(msgspec.json.encode(tree | {"files": hash_files(files)})) + b"\n"
    decode(data, folder)
    write_whole(folder / MANIFEST, data)
    return sign(folder, key)
