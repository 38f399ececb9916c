"""A bundle holds the files its manifest names, unchanged, and nothing else in any form.

Invariant of the zip reader: any bytes give either the very files that were packed or a refusal.
"""

from __future__ import annotations

import io
import os
import shutil
import stat
import struct
import subprocess
import zipfile
from pathlib import Path
from typing import Any

import pytest

from edge.bundle import integrity, zipped
from edge.bundle.integrity import read_files
from edge.bundle.load import load
from edge.errors import StartError

NAMES_REFUSED = [
    "../model.fp32.onnx", "/etc/passwd", "a/model.fp32.onnx", "a\\model.fp32.onnx",
    "C:model.fp32.onnx", "\\\\host\\x", ".git", ".hidden", "plugin.so", "model.fp32.plan",
    "model.pt", "model.pkl", "MODEL.FP32.ONNX", "Manifest.json", "manifest.json ",
    "manifest.json\n", "model.fp32.onnx\u0301", "model." + "a" * 300 + ".fp32.onnx", "__pycache__",
    "numpy.py", "",
]  # fmt: skip


def refused(path: Path, why: str | None = None) -> None:
    with pytest.raises(StartError, match=why) as caught:
        read_files(path)
    assert "\n" not in str(caught.value) and "; " in str(caught.value)


def make_zip(files: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive:
        for name, data in files.items():
            archive.writestr(zipfile.ZipInfo(name), data, method)
    return out.getvalue()


def stored_zip(place: Path) -> Path:
    path = place.with_suffix(".zip")
    path.write_bytes(make_zip({p.name: p.read_bytes() for p in sorted(place.iterdir())}))
    return path


def test_control_folder_and_zip_read_alike(make_bundle: Any) -> None:
    place = make_bundle().folder
    assert read_files(place) == read_files(stored_zip(place))


@pytest.mark.parametrize("name", ["plugin.so", ".git", ".hidden", "__pycache__", "model.fp32.plan"])
@pytest.mark.parametrize("folder", [True, False])
def test_extra_entry_in_a_folder(make_bundle: Any, name: str, folder: bool) -> None:
    place = make_bundle().folder
    (place / name).mkdir() if folder else (place / name).write_bytes(b"x")
    refused(place, "does not belong")


def make_symlink(path: Path, target: Path) -> None:
    shutil.move(path, target)
    path.symlink_to(target)


@pytest.mark.parametrize(
    "replace",
    [
        make_symlink,
        lambda path, _: (path.unlink(), os.mkfifo(path)),
        lambda path, _: (path.unlink(), path.mkdir()),
        lambda path, _: (path.unlink(), path.symlink_to("nowhere")),
    ],
    ids=["symlink", "fifo", "folder", "dangling symlink"],
)
def test_what_is_no_plain_file(make_bundle: Any, replace: Any, tmp_path: Path) -> None:
    place = make_bundle().folder
    replace(place / "card.md", tmp_path / "elsewhere")
    refused(place, "not a plain file")


def test_too_large(make_bundle: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    place = make_bundle().folder
    path = stored_zip(place)
    monkeypatch.setitem(integrity.MAX_BYTES, "card.md", 3)
    refused(place, r"card\.md.*allowed")
    refused(path, r"card\.md.*allowed")
    monkeypatch.setattr(integrity, "MAX_TOTAL_BYTES", 100)
    refused(path, "allowed")


def test_a_sparse_giant_is_not_read(make_bundle: Any) -> None:
    place = make_bundle().folder
    os.truncate(place / "golden.npz", 1 << 40)
    refused(place, "allowed")


def test_what_was_verified_is_what_is_used(make_bundle: Any) -> None:
    """No second opening: a swap after loading changes nothing."""
    place = make_bundle().folder
    bundle = load(place, allow_unsigned=True)
    before = bundle.files["model.fp32.onnx"]
    (place / "model.fp32.onnx").write_bytes(b"swapped")
    assert bundle.files["model.fp32.onnx"] == before != b"swapped"


def test_what_is_no_bundle(tmp_path: Path) -> None:
    refused(tmp_path / "missing", "no bundle")
    refused(tmp_path, "no manifest")
    (tmp_path / "text").write_text("hello")
    refused(tmp_path / "text", "neither")
    os.mkfifo(tmp_path / "pipe")
    refused(tmp_path / "pipe", "not a plain file")


@pytest.mark.parametrize("name", NAMES_REFUSED)
def test_names_in_a_zip(name: str, tmp_path: Path) -> None:
    path = tmp_path / "b.zip"
    path.write_bytes(make_zip({"manifest.json": b"{}", name: b"x"}))
    refused(path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["b.zip"], "nothing was unpacked"


def test_compressed_zip(tmp_path: Path) -> None:
    path = tmp_path / "b.zip"
    path.write_bytes(make_zip({"manifest.json": bytes(1 << 20)}, zipfile.ZIP_DEFLATED))
    refused(path, "compressed")


def test_duplicate_name_in_a_zip(tmp_path: Path) -> None:
    path = tmp_path / "b.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("manifest.json", b"{}")
        with pytest.warns(UserWarning, match="Duplicate"):
            archive.writestr("manifest.json", b"[]")
    refused(path, "twice")


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFDIR, stat.S_IFIFO, stat.S_IFCHR])
def test_special_entry_in_a_zip(kind: int, tmp_path: Path) -> None:
    path, entry = tmp_path / "b.zip", zipfile.ZipInfo("manifest.json")
    entry.external_attr = (kind | 0o777) << 16
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(entry, b"/etc/passwd")
    refused(path, "not a plain file")


ENCRYPTED, DESCRIPTOR = 0x1, 0x8


@pytest.mark.parametrize("flag", [ENCRYPTED, DESCRIPTOR])
def test_flagged_entry_in_a_zip(flag: int, tmp_path: Path) -> None:
    data = bytearray(make_zip({"manifest.json": b"{}"}))
    for at in (6, data.index(b"PK\x01\x02") + 8):
        struct.pack_into("<H", data, at, flag)
    (tmp_path / "b.zip").write_bytes(data)
    refused(tmp_path / "b.zip", "not a plain file")


@pytest.mark.parametrize("where", ["before", "between", "after", "comment"])
def test_bytes_of_no_file(where: str, tmp_path: Path) -> None:
    data = make_zip({"manifest.json": b"{}"})
    at = data.index(b"PK\x01\x02")
    end = bytearray(data[-22:])
    struct.pack_into("<L", end, 16, at + 4)
    cut = {
        "before": b"junk" + data,
        "between": data[:at] + b"junk" + data[at:-22] + bytes(end),
        "after": data + b"junk",
        "comment": data[:-2] + b"\x04\x00junk",
    }[where]
    (tmp_path / "b.zip").write_bytes(cut)
    refused(tmp_path / "b.zip")


def test_overlapping_entries(tmp_path: Path) -> None:
    """Two directory entries for one body: the bomb that needs no compression."""
    data = make_zip({"manifest.json": b"{}"})
    at = data.index(b"PK\x01\x02")
    entry, end = data[at:-22], bytearray(data[-22:])
    struct.pack_into("<HHL", end, 8, 2, 2, 2 * len(entry))
    (tmp_path / "b.zip").write_bytes(data[:at] + entry + entry + bytes(end))
    refused(tmp_path / "b.zip", "directory says")


def test_many_files(tmp_path: Path) -> None:
    (tmp_path / "b.zip").write_bytes(make_zip({f"model.p{i}.fp32.onnx": b"" for i in range(1000)}))
    refused(tmp_path / "b.zip", "1000 files")


FILES = {"manifest.json": b"{}", "card.md": b"# a card\n", "golden.npz": bytes(range(64))}


def test_every_truncation_is_refused() -> None:
    data = make_zip(FILES)
    assert zipped.members(data, 32) == FILES
    for size in range(len(data)):
        with pytest.raises(ValueError, match="it"):
            zipped.members(data[:size], 32)


def test_every_flipped_bit_is_refused_or_without_effect() -> None:
    data, refusals = make_zip(FILES), 0
    for bit in range(len(data) * 8):
        damaged = bytearray(data)
        damaged[bit // 8] ^= 1 << bit % 8
        try:
            assert zipped.members(bytes(damaged), 32) == FILES
        except ValueError:
            refusals += 1
    assert refusals > 0.8 * len(data) * 8


@pytest.mark.skipif(shutil.which("zip") is None, reason="Info-ZIP is not installed")
def test_info_zip_reads_back(make_bundle: Any) -> None:
    place = make_bundle().folder
    path = place.with_suffix(".zip")
    names = sorted(p.name for p in place.iterdir())
    subprocess.run(["zip", "-q", "-0", "-X", str(path), *names], cwd=place, check=True)
    assert read_files(path) == read_files(place)
