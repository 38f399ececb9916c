"""Only a bundle that a trusted key signed is opened, and every changed bit shows."""

from __future__ import annotations

import base64
import shutil
from pathlib import Path
from typing import Any

import msgspec
import pytest
from cryptography.hazmat.primitives import serialization as ser
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from edge.bundle import signature
from edge.bundle.integrity import MANIFEST, SIGNATURE, read_files
from edge.bundle.load import KEYS, REFERENCE, load
from edge.errors import StartError

PEM = ser.Encoding.PEM
PKCS8, SPKI = ser.PrivateFormat.PKCS8, ser.PublicFormat.SubjectPublicKeyInfo


def one_line(error: StartError) -> str:
    text = str(error)
    assert "\n" not in text and "; " in text, "cause; fix"
    assert error.cause and error.fix
    return text


def test_reference_bundle_needs_no_key() -> None:
    assert load("ecg-beat").signed_by in {key.stem for key in KEYS.glob("*.pub")}


def test_reference_keys_vouch_for_reference_bundles_only(tmp_path: Path) -> None:
    copy = tmp_path / "ecg-beat"
    shutil.copytree(REFERENCE / "ecg-beat", copy)
    with pytest.raises(StartError, match="not trusted"):
        load(copy)
    load(copy, trusted_keys=sorted(KEYS.glob("*.pub")))


def test_unsigned_only_when_asked_for(make_bundle: Any) -> None:
    made = make_bundle()
    place = made.folder
    (place / SIGNATURE).unlink()
    with pytest.raises(StartError, match="not signed") as caught:
        load(place, trusted_keys=[made.public])
    one_line(caught.value)
    assert load(place, allow_unsigned=True).signed_by == ""


def test_unsigned_is_hashed_all_the_same(make_bundle: Any) -> None:
    made = make_bundle()
    place = made.folder
    (place / "card.md").write_bytes(b"# Toy\n")
    with pytest.raises(StartError, match=r"card\.md"):
        load(place, allow_unsigned=True)


def flips(data: bytes, step: int) -> list[bytes]:
    """`data` with one bit changed, for every `step`th bit."""
    out = []
    for bit in range(0, len(data) * 8, step):
        damaged = bytearray(data)
        damaged[bit // 8] ^= 1 << bit % 8
        out.append(bytes(damaged))
    return out


@pytest.mark.parametrize(("name", "step"), [(SIGNATURE, 1), (MANIFEST, 11)])
def test_every_flipped_bit_shows(make_bundle: Any, name: str, step: int) -> None:
    """Every bit of the signature (base64 has spare ones), and a comb over the manifest."""
    made = make_bundle()
    place = made.folder
    files, trusted = read_files(place), [signature.read_public_key(made.public)]
    signature.verify(files, trusted, place)
    for damaged in flips(files[name], step):
        with pytest.raises(StartError):
            signature.verify({**files, name: damaged}, trusted, place)


@pytest.mark.parametrize(
    "forge",
    [
        lambda s: {**s, "algorithm": "none"},
        lambda s: {**s, "algorithm": "rsa"},
        lambda s: {**s, "signature": ""},
        lambda s: {**s, "signature": s["signature"][:-4]},
        lambda s: {**s, "signature": " " + s["signature"]},
        lambda s: {**s, "signature": base64.b64encode(bytes(64)).decode()},
        lambda s: {**s, "key_id": "0" * 16},
        lambda s: {**s, "also": "x"},
        lambda s: {"signature": s["signature"]},
        lambda s: [s],
    ],
)
def test_forged_signature_file(make_bundle: Any, forge: Any) -> None:
    made = make_bundle()
    place = made.folder
    signed = msgspec.json.decode((place / SIGNATURE).read_bytes())
    (place / SIGNATURE).write_bytes(msgspec.json.encode(forge(signed)))
    with pytest.raises(StartError) as caught:
        load(place, trusted_keys=[made.public])
    one_line(caught.value)


def test_signature_of_another_bundle(make_bundle: Any) -> None:
    """Mix and match: both were signed by the trusted key."""
    one, other = make_bundle("one"), make_bundle("other", version="2")
    signature.sign(other.folder, signature.read_private_key(one.private))
    load(other.folder, trusted_keys=[one.public])
    shutil.copy(one.folder / SIGNATURE, other.folder / SIGNATURE)
    with pytest.raises(StartError, match="changed"):
        load(other.folder, trusted_keys=[one.public])


def test_signature_made_for_something_else(make_bundle: Any) -> None:
    """The bare manifest, signed outside medge's domain."""
    made = make_bundle()
    place = made.folder
    signed = msgspec.json.decode((place / SIGNATURE).read_bytes())
    raw = signature.read_private_key(made.private).sign((place / MANIFEST).read_bytes())
    signed["signature"] = base64.b64encode(raw).decode()
    (place / SIGNATURE).write_bytes(msgspec.json.encode(signed))
    with pytest.raises(StartError, match="changed"):
        load(place, trusted_keys=[made.public])


def test_key_files(tmp_path: Path) -> None:
    """A public key in each of its two forms is the same key."""
    key = ed25519.Ed25519PrivateKey.generate()
    private, pem, raw = tmp_path / "key.pem", tmp_path / "public.pem", tmp_path / "key.pub"
    private.write_bytes(key.private_bytes(PEM, PKCS8, ser.NoEncryption()))
    pem.write_bytes(key.public_key().public_bytes(PEM, SPKI))
    raw.write_bytes(base64.b64encode(key.public_key().public_bytes_raw()) + b"\n")
    assert signature.read_private_key(private).private_bytes_raw() == key.private_bytes_raw()
    assert signature.read_public_key(pem) == signature.read_public_key(raw)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"no key",
        b"AAAA",
        b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n",
        ec.generate_private_key(ec.SECP256R1()).public_key().public_bytes(PEM, SPKI),
        ec.generate_private_key(ec.SECP256R1()).private_bytes(PEM, PKCS8, ser.NoEncryption()),
        ed25519.Ed25519PrivateKey.generate().private_bytes(
            PEM, PKCS8, ser.BestAvailableEncryption(b"secret")
        ),
    ],
)
def test_what_is_no_key(data: bytes, tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_bytes(data)
    for read in (signature.read_private_key, signature.read_public_key):
        with pytest.raises(StartError) as caught:
            read(file)
        one_line(caught.value)
    with pytest.raises(StartError):
        signature.read_public_key(tmp_path / "missing")
