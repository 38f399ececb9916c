"""Symptom text to disease to advice beside an ECG in one daemon.

The bundle of advice is made here: its model knows by the prompt's first term which word comes
first; what follows is the tree's.
"""

from __future__ import annotations

import io
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from edge.bundle.cli import sign
from edge.bundle.manifest import Input, Manifest, Output, Precision, Provenance, State, Text
from edge.engines import open_engine
from edge.text.advise import MARK
from edge.text.approved import read_approved
from edge.text.vocab import FIRST, write_vocabulary

pytest.importorskip("onnx", reason="the model is made with onnx")
pytestmark = pytest.mark.integration

TEXTS = {
    "schema": 1,
    "source": "invented",
    "texts": {"p": "Keep the skin moist.", "m": "Rest in a dark room"},
    "advice": [
        {"disease": "Psoriasis", "texts": ["p"], "names": ["psoriasis"]},
        {"disease": "Migraine", "texts": ["m"], "names": ["migraine"]},
    ],
}
CAPACITY = 12
NAME = "toy-advice"


def make(folder: Path) -> tuple[Path, Path]:
    """The bundle's folder and its public key."""
    out = folder / NAME
    out.mkdir()
    approved = read_approved(msgspec.json.encode(TEXTS))
    said = sorted({word for advice in approved.advice for word in approved.sequence(advice)})
    tokens = FIRST + len(said)
    model = _model(tokens, [FIRST + said.index(a.names[0]) for a in approved.advice])
    (out / "model.fp32.onnx").write_bytes(model)
    (out / "texts.json").write_bytes(msgspec.json.encode(approved))
    (out / "vocab.json").write_bytes(write_vocabulary((*said, "headache", "rash")))
    (out / "card.md").write_text("# toy\n")
    _golden(model, out / "golden.npz")
    (out / "manifest.json").write_bytes(msgspec.json.encode(_manifest(tokens)))
    private, public = _keys(folder)
    sign(str(out), str(private))
    return out, public


def _model(tokens: int, names: list[int]) -> bytes:
    """Logits `[N, tokens]`: 12 for the prompt's first term where that is one of `names`."""
    from onnx import TensorProto, helper, numpy_helper

    table = np.zeros((tokens + 8, tokens), np.float32)
    for number in names:
        table[number, number] = 12.0
    kind = TensorProto.FLOAT
    nodes = [
        helper.make_node("Slice", ["terms", "zero", "one", "axis"], ["first"]),
        helper.make_node("Cast", ["first"], ["number"], to=TensorProto.INT64),
        helper.make_node("Gather", ["table", "number"], ["rows"]),
        helper.make_node("ReduceSum", ["rows", "axis"], ["known"], keepdims=0),
        helper.make_node("Mul", ["token", "nothing"], ["none"]),
        helper.make_node("Add", ["known", "none"], ["logits"]),
        helper.make_node("Add", ["keys", "step"], ["next"]),
    ]
    constants = {
        "table": table, "zero": np.array([0]), "one": np.array([1]), "axis": np.array([1]),
        "nothing": np.zeros(1, np.float32), "step": np.ones(1, np.float32),
    }  # fmt: skip
    state = ["N", 1, CAPACITY, 1]
    graph = helper.make_graph(
        nodes,
        "advice",
        [helper.make_tensor_value_info("terms", kind, ["N", 4]),
         helper.make_tensor_value_info("token", kind, ["N", 1]),
         helper.make_tensor_value_info("keys", kind, state)],
        [helper.make_tensor_value_info("logits", kind, ["N", tokens]),
         helper.make_tensor_value_info("next", kind, state)],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )  # fmt: skip
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    return bytes(made.SerializeToString())


def _golden(model: bytes, path: Path) -> None:
    with open_engine("onnxruntime", model, "fp32", batch=2) as engine:
        engine.inputs["terms"][:, 0] = 2, 3
        engine.run()
        arrays = {f"in.{name}": x for name, x in engine.inputs.items()}
        arrays |= {f"out.{name}": x for name, x in engine.outputs.items()}
        np.savez(path, **arrays)  # type: ignore[arg-type]


def _manifest(tokens: int) -> Manifest:
    return Manifest(
        schema=1, name=NAME, version="1", security_epoch=0, intended_use="tests",
        text=Text(tokenizer="listed", least_known=2, max_unknown=0.0),
        inputs=(Input(name="terms", shape=(4,), source="text"),
                Input(name="token", shape=(1,), source="token")),
        states=(State(input="keys", output="next", shape=(1, CAPACITY, 1)),),
        output=Output(name="logits", tokens=tokens, min_probability=0.5),
        precisions={"fp32": Precision(file="model.fp32.onnx", tolerance=1e-4)},
        provenance=Provenance(
            recipe="none", seed=0, data="none", trained_on=(), excluded=(), licence="none",
            citation="none",
        ),
        latency_budget_ms=1000.0, files={},
    )  # fmt: skip


def _keys(folder: Path) -> tuple[Path, Path]:
    key = Ed25519PrivateKey.generate()
    private, public = folder / "toy.pem", folder / "toy.pub"
    private.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    public.write_bytes(
        key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    )
    return private, public


@pytest.fixture(scope="module")
def advice(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return make(tmp_path_factory.mktemp("advice"))


ECG_AND_WORDS = """
[[bundles]]
path = "ecg-beat"

[[sources]]
kind = "synthetic"
name = "ecg"
bundle = "ecg-beat"
heart_rate_bpm = 140.0

[[bundles]]
path = "symptom-text"

[[sources]]
kind = "texts"
name = "complaints"
bundle = "symptom-text"
folder = "complaints"
"""
COMPLAINTS = {
    "Psoriasis": b"I have a red itchy rash on my arms and my skin is dry and covered in scales",
    "Malaria": b"I have a high fever with chills and sweating, a headache, and my muscles hurt",
    "": b"the weather is fine and the train was late again",
}


def chained(bundle: tuple[Path, Path], start: str = "symptom-text") -> str:
    folder, key = bundle
    return (
        f'{ECG_AND_WORDS}\n[[bundles]]\npath = "{folder}"\nid = "advice"\n'
        f'trusted_keys = ["{key}"]\n\n[[chain]]\nfrom = "{start}"\nto = "advice"\n'
    )


def test_complaint_to_disease_to_advice_beside_an_ecg(
    ward: Callable[..., Any], advice: tuple[Path, Path]
) -> None:
    """One disease has approved texts, one has none, and of the third complaint nothing is known."""
    bed = ward(chained(advice))
    daemon = bed.start()
    for i, complaint in enumerate(COMPLAINTS.values()):
        bed.put("complaints", f"{i}.txt", complaint)
    psoriasis, malaria, unknown = bed.wait_for("complaints", 3)
    told, withheld = bed.wait_for("complaints > advice", 2)
    bed.wait_for("ecg", len(bed.of("ecg")) + 5)
    assert bed.stop(daemon) == 0
    assert [x["findings"][0]["name"] for x in (psoriasis, malaria)] == ["Psoriasis", "Malaria"]
    assert unknown["reason"] in ("out_of_distribution", "low_confidence")
    disease, cited = told["findings"]
    assert (told["because"], told["bed"]) == (psoriasis["id"], "icu-3")
    assert told["provenance"]["bundle"] == NAME
    assert disease["name"] == "Psoriasis"
    assert (cited["code"], cited["text"]) == ("p", MARK + "Keep the skin moist.")
    assert (withheld["reason"], withheld["because"]) == ("out_of_distribution", malaria["id"])
    assert len(bed.of("complaints > advice")) == 2, "what is withheld leads to nothing"
    assert not [x for x in bed.of("ecg") if x.get("reason") == "backend_lost"]


def test_a_chain_goes_on_where_the_daemon_was_killed(
    ward: Callable[..., Any], advice: tuple[Path, Path], children_of: Callable[[int], list[int]]
) -> None:
    """Killed when the disease is committed and the advice is asked for: it comes at the next start,
    once, and still says where it comes from."""
    bed = ward(chained(advice))
    daemon = bed.start()
    bed.wait_for("ecg", 3)
    *_, child = sorted(children_of(daemon.pid))
    os.kill(child, signal.SIGSTOP)
    bed.put("complaints", "0.txt", COMPLAINTS["Psoriasis"])
    bed.wait_for("complaints", 1)
    daemon.kill()
    daemon.wait()
    os.kill(child, signal.SIGKILL)
    assert not bed.of("complaints > advice")
    assert list((bed.folder / "complaints").glob("*.txt")), "it waits to be moved"
    daemon = bed.start()
    (told,) = bed.wait_for("complaints > advice", 1)
    bed.until(lambda: list((bed.folder / "complaints/taken").glob("*")), 10, "it is moved")
    assert bed.stop(daemon) == 0
    (first,) = bed.of("complaints")
    assert told["because"] == first["id"] and told["findings"][0]["name"] == "Psoriasis"
    assert len(bed.of("complaints > advice")) == 1


def test_advice_may_be_asked_directly(ward: Callable[..., Any], advice: tuple[Path, Path]) -> None:
    """By a name; longer than the model reads, enormous, foreign or broken it is withheld."""
    folder, key = advice
    bed = ward(
        f'[[bundles]]\npath = "{folder}"\ntrusted_keys = ["{key}"]\n\n'
        '[[sources]]\nkind = "texts"\nname = "lists"\nfolder = "lists"\n'
    )
    asked = {
        b" MIGRAINE\n": "Migraine",
        b"rash, headache, skin, dark, room": "out_of_distribution",
        b"rash, " * 200_000: "out_of_distribution",
        b"rash, purple ears": "out_of_distribution",
        b"rash, \xff": "invalid_input",
        b"": "out_of_distribution",
        b"psoriasis": "Psoriasis",
    }
    for i, text in enumerate(asked):
        bed.put("lists", f"{i}.txt", text)
    daemon = bed.start()
    found = bed.wait_for("lists", len(asked))
    assert bed.stop(daemon) == 0
    said = [x.get("reason") or x["findings"][0]["name"] for x in found]
    assert said == list(asked.values())
    assert "5 tokens, the model reads 4" in found[1]["detail"]


def check(config: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "edge.cli", "check", str(config)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def test_check_says_what_feeds_what(ward: Callable[..., Any], advice: tuple[Path, Path]) -> None:
    bed = ward(chained(advice))
    done = check(bed.config)
    assert done.returncode == 0, done.stderr
    assert "source complaints: ready, for symptom-text" in done.stdout
    assert "chain symptom-text > advice" in done.stdout


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        ('from = "symptom-text"', 'from = "ecg-beat"', "no chain can begin at bundle 'ecg-beat'"),
        ('to = "advice"', 'to = "ecg-beat"', "nothing feeds bundle 'advice'"),
        ('kind = "texts"', 'kind = "images"', "gives image, bundle 'symptom-text' takes text"),
    ],
)
def test_what_does_not_fit_is_refused(
    ward: Callable[..., Any], advice: tuple[Path, Path], before: str, after: str, words: str
) -> None:
    bed = ward(chained(advice))
    bed.config.write_text(bed.config.read_text().replace(before, after))
    done = check(bed.config)
    (line,) = done.stderr.strip().splitlines()
    assert (done.returncode, words in line) == (2, True), line


README = Path(__file__).parents[3] / "README.md"


def test_the_readmes_configuration_runs(
    bedside: Any, ward: Callable[..., Any], advice: tuple[Path, Path]
) -> None:
    """As it stands there, with the emulated board for the port and this bundle of advice."""
    section = README.read_text(encoding="utf-8").split("## Texts, images and rows beside it")[1]
    text = re.findall(r"^```toml\n(.*?)^```", section, re.MULTILINE | re.DOTALL)[0]
    folder, key = advice
    for before, after in (
        ("/dev/ttyUSB0", bedside.folder / "port"),
        ("build/symptom-advice", folder),
        ("site.pub", key),
        ("diagnoses.jsonl", "out.jsonl"),
    ):
        assert str(before) in text
        text = text.replace(before, str(after))
    bed = ward(text)
    bed.config.write_text(text)
    levels = io.BytesIO()
    np.save(levels, np.random.default_rng(1).integers(0, 256, (28, 28)).astype(np.uint8))
    daemon = bed.start()
    bed.put("complaints", "1.txt", COMPLAINTS["Psoriasis"])
    bed.put("x-rays", "1.npy", levels.getvalue())
    bed.put("bed-4", "1.csv", b"HR,Temp\n88,36.8\n")
    told = {
        source: bed.wait_for(source, 1)[0]
        for source in ("complaints > advice", "x-rays", "hours of bed 4")
    }
    bed.wait_for("monitor", 5)
    assert bed.stop(daemon) == 0
    assert {result["kind"] for result in told.values()} == {"diagnosis"}
    assert told["hours of bed 4"]["bed"] == "icu-4"
