"""A manifest whose parts do not fit is refused, in one line that names the part."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from edge.bundle.decode import decode
from edge.bundle.load import load
from edge.errors import StartError

HERE = Path("b")


@pytest.fixture
def tree(make_bundle: Any) -> dict[str, Any]:
    """A good manifest, as JSON gives it."""
    made = make_bundle()
    manifest = load(made.folder, trusted_keys=[made.public]).manifest
    found: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(manifest))
    return found


def refused(data: bytes) -> str:
    with pytest.raises(StartError) as caught:
        decode(data, HERE)
    assert "\n" not in str(caught.value) and "; " in str(caught.value)
    return str(caught.value)


def test_the_control_passes(tree: dict[str, Any]) -> None:
    assert decode(msgspec.json.encode(tree), HERE).name == "tiny"


@pytest.mark.parametrize(
    ("at", "value", "words"),
    [
        ("schema", 0, "schema"),
        ("schema", True, "schema"),
        ("schema", 1 << 70, "schema"),
        ("name", "../evil", "name must be"),
        ("name", "", "name must be"),
        ("version", "", "version"),
        ("security_epoch", -1, "security_epoch"),
        ("security_epoch", "1", "security_epoch"),
        ("latency_budget_ms", 0, "latency_budget_ms"),
        ("intended_use", "\x1b]0;owned\x07", "printable"),
        ("output.labels.0.display", "\x1b[2J", "printable"),
        ("signal.rate_hz", 0, "rate_hz"),
        ("signal.rate_hz", 1e9, "rate_hz"),
        ("signal.max_age_ms", 0, "max_age_ms"),
        ("signal.before_ms", -200, "before_ms"),
        ("signal.channel.low", 9, "low"),
        ("signal.filters.0.params.low_hz", "rm -rf", "params"),
        ("inputs", [], "inputs"),
        ("inputs.0.name", "logits", "output"),
        ("inputs.0.shape", [0, 64], "shape"),
        ("inputs.0.shape", [-1, 64], "shape"),
        ("inputs.0.shape", [1 << 20, 1 << 20], "shape"),
        ("inputs.0.shape", [1, 1, 1, 1, 64], "shape"),
        ("inputs.0.source", "camera", "source"),
        ("output.labels", [], "labels"),
        ("output.labels.0.name", "", "names"),
        ("output.labels.1.name", "N", "distinct"),
        ("output.temperature", 0, "temperature"),
        ("output.min_probability", -0.1, "min_probability"),
        ("output.least_listed", 0.5, "least_listed"),
        ("output.conformal_quantile", 2, "conformal_quantile"),
        ("rhythm.ventricular_label", "X", "ventricular_label"),
        ("rhythm.pause_ms", 9000, "pause_ms"),
        ("rhythm.run_beats", 1, "run_beats"),
        ("rhythm.rate_beats", 0, "rate_beats"),
        ("precisions", {}, "precisions"),
        ("precisions.fp32.file", "card.md", "fp32"),
        ("precisions.fp32.file", "model.fp16.onnx", "fp32"),
        ("precisions.fp32.file", "/etc/passwd", "fp32"),
        ("precisions.fp32.tolerance", 0, "tolerance"),
        ("files", {}, "golden.npz"),
    ],
)
def test_what_does_not_fit(tree: dict[str, Any], at: str, value: Any, words: str) -> None:
    node: Any = tree
    *path, last = [int(k) if k.isdigit() else k for k in at.split(".")]
    for key in path:
        node = node[key]
    node[last] = value
    assert words in refused(msgspec.json.encode(tree) if value != 1 << 70 else huge(tree))


def huge(tree: dict[str, Any]) -> bytes:
    """Integers beyond 64 bits, which msgspec does not write."""
    return msgspec.json.encode({**tree, "schema": "@"}).replace(b'"@"', str(1 << 70).encode())


@pytest.mark.parametrize(
    "spoil",
    [
        lambda f: {**f, "../x.json": "0" * 64},
        lambda f: {**f, "manifest.json": "0" * 64},
        lambda f: {**f, "plugin.so": "0" * 64},
        lambda f: {**f, "card.md": "0" * 63},
        lambda f: {**f, "card.md": "A" * 64},
        lambda f: {**f, "model.int8.onnx": "0" * 64},
        lambda f: {n: h for n, h in f.items() if n != "golden.npz"},
        lambda f: {n: h for n, h in f.items() if n != "model.fp32.onnx"},
    ],
)
def test_file_lists_that_do_not_fit(tree: dict[str, Any], spoil: Any) -> None:
    tree["files"] = spoil(tree["files"])
    refused(msgspec.json.encode(tree))


@pytest.mark.parametrize(
    "damage",
    [
        lambda d: b"",
        lambda d: b"[]",
        lambda d: b"null",
        lambda d: b"{}",
        lambda d: d[:-1],
        lambda d: d + b"{}",
        lambda d: b"\xef\xbb\xbf" + d,
        lambda d: d.replace(b"tiny", b"tin\xff"),
        lambda d: b'{"schema":' * 100_000,
        lambda d: b"[" * 100_000,
        lambda d: d.replace(b'"schema":1', b'"schema":NaN'),
        lambda d: d.replace(b'"schema":1', b'"schema":1e999'),
        lambda d: d.replace(b'"schema":1', b'"schema":2,"schema":1'),
        lambda d: d.replace(b'"low":', b'"low":-9,"low":'),
    ],
)
def test_what_is_no_manifest(tree: dict[str, Any], damage: Callable[[bytes], bytes]) -> None:
    data = msgspec.json.encode(tree)
    assert damage(data) != data
    refused(damage(data))


def test_a_newer_schema_says_so_before_its_unknown_fields(tree: dict[str, Any]) -> None:
    assert "newer medge" in refused(msgspec.json.encode({**tree, "schema": 2, "novelty": 1}))
