"""Pack: what is packed loads, under the key it says; anything changed afterwards does not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edge.bundle.load import load
from edge.errors import StartError
from export.pack import npz, pack


def repacked(tmp_path: Path, key: Path | None = None) -> tuple[Path, Path, str]:
    """The reference bundle under another signature: (folder, its public key, key id)."""
    reference = load("ecg-beat")
    folder, keys = tmp_path / "again", tmp_path / "keys"
    files = {n: d for n, d in reference.files.items() if n in reference.manifest.files}
    key_id = pack(folder, reference.manifest, files, keys, key)
    return folder, keys / f"{key_id}.pub", key_id


def test_what_is_packed_loads_under_its_key_only(tmp_path: Path) -> None:
    folder, public, key_id = repacked(tmp_path)
    again = load(folder, trusted_keys=[public])
    assert again.signed_by == key_id
    assert again.manifest == load("ecg-beat").manifest
    with pytest.raises(StartError):
        load(folder)


def test_a_change_after_packing_is_refused(tmp_path: Path) -> None:
    folder, public, _ = repacked(tmp_path)
    (folder / "card.md").write_text("better than it was")
    with pytest.raises(StartError, match=r"card\.md"):
        load(folder, trusted_keys=[public])


def test_packing_again_leaves_no_old_file_and_no_old_key(tmp_path: Path) -> None:
    folder, first, _ = repacked(tmp_path)
    (folder / "texts.json").write_text("{}")
    _, second, _ = repacked(tmp_path)
    assert not first.exists()
    assert [p.name for p in second.parent.iterdir()] == [second.name]
    assert not (folder / "texts.json").exists()


def test_a_given_key_is_used(tmp_path: Path) -> None:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    pem = tmp_path / "key.pem"
    pem.write_bytes(
        Ed25519PrivateKey.generate().private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    assert repacked(tmp_path, pem)[2] == repacked(tmp_path, pem)[2]
    assert repacked(tmp_path)[2] != repacked(tmp_path)[2]  # control: without one it is a new one


def test_npz_bytes_are_the_same_each_time() -> None:
    arrays = {"a": np.arange(3, dtype=np.float32)}
    assert npz(arrays) == npz(arrays) != npz({"a": arrays["a"] + 1})
