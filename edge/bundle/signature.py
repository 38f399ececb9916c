"""Who vouches for a bundle: Ed25519 over the manifest, which holds every other file's hash.

Owns `signature.json`, key files and the set of keys that is trusted. Implements RFC 8032 through
`cryptography`; the algorithm is fixed, the file's `algorithm` only names it.
"""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from edge.bundle.durable import write_whole
from edge.bundle.integrity import MANIFEST, SIGNATURE
from edge.errors import StartError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

DOMAIN = b"medge bundle manifest v1\0"
"""Signed before the manifest, so that no signature made for anything else fits."""


class Signature(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`signature.json`."""

    algorithm: str
    key_id: str
    signature: str


def key_id(public: bytes) -> str:
    """Short fingerprint of a raw public key."""
    return hashlib.sha256(public).hexdigest()[:16]


def sign(folder: Path, key: Ed25519PrivateKey) -> str:
    """Write `signature.json` for the manifest in `folder`; the key's id."""
    manifest = (folder / MANIFEST).read_bytes()
    public = key.public_key().public_bytes_raw()
    text = base64.b64encode(key.sign(DOMAIN + manifest)).decode()
    signed = Signature("ed25519", key_id(public), text)
    write_whole(folder / SIGNATURE, msgspec.json.format(msgspec.json.encode(signed)) + b"\n")
    return signed.key_id


def read_private_key(path: Path) -> Ed25519PrivateKey:
    """A PEM private key. Raises `StartError` for anything but Ed25519."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        key = load_pem_private_key(path.read_bytes(), None)
    except (OSError, ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise _unreadable(path, error, "name an unencrypted PEM private key") from None
    if not isinstance(key, Ed25519PrivateKey):
        raise StartError(
            f"key '{path}' is not Ed25519", "make one: openssl genpkey -algorithm ed25519"
        )
    return key


def read_public_key(path: Path) -> bytes:
    """A raw public key from a `.pub` file (base64) or a PEM public key."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    try:
        data = path.read_bytes()
        if data.startswith(b"-----"):
            key = load_pem_public_key(data)
            raw = key.public_bytes_raw() if isinstance(key, Ed25519PublicKey) else b""
        else:
            raw = base64.b64decode(data.strip(), validate=True)
    except (OSError, ValueError, UnsupportedAlgorithm) as error:
        raise _unreadable(path, error, "name a public key file, base64 or PEM") from None
    if len(raw) != 32:
        raise StartError(f"key '{path}' is not an Ed25519 public key", "name another")
    return raw


def _unreadable(path: Path, error: Exception, fix: str) -> StartError:
    first = str(error).splitlines()[0] if str(error) else type(error).__name__
    return StartError(f"key '{path}' cannot be read ({first})", fix)


def _only_base64(text: str) -> bytes:
    """Decoded, with one spelling for each value: unused bits are zero, nothing is skipped."""
    raw = base64.b64decode(text, validate=True)
    if base64.b64encode(raw).decode() != text:
        raise ValueError("its base64 is not canonical")
    return raw


def verify(files: dict[str, bytes], trusted: Iterable[bytes], path: Path) -> str:
    """The id of the trusted key that signed the manifest. Raises `StartError` if none did."""
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    if SIGNATURE not in files:
        raise StartError(f"bundle '{path}' is not signed", "sign it: medge bundle sign")
    try:
        signed = msgspec.json.decode(files[SIGNATURE], type=Signature)
        raw = _only_base64(signed.signature)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise StartError(
            f"bundle '{path}' has a broken signature ({error})", "get it again"
        ) from None
    keys = {key_id(public): public for public in trusted}
    if signed.algorithm != "ed25519" or signed.key_id not in keys:
        raise StartError(f"bundle '{path}' is signed by '{signed.key_id}', which is not trusted",
                         "add its public key to trusted_keys if you trust it")  # fmt: skip
    try:
        Ed25519PublicKey.from_public_bytes(keys[signed.key_id]).verify(
            raw, DOMAIN + files[MANIFEST]
        )
    except InvalidSignature:
        raise StartError(f"bundle '{path}' is refused: '{MANIFEST}' was changed once signed",
                         "get it again from who made it") from None  # fmt: skip
    return signed.key_id
