"""The attention family on the real symptom sets: a short training, built into a bundle, then asked.

Step by step it computes what was trained; its advice is approved, right and the same every time.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from calibration.collect import answers
from calibration.sets import Dataset
from edge.bundle.admission import admit
from edge.bundle.load import Bundle, load
from edge.bundle.manifest import State
from edge.engines import Engine, open_engine
from edge.text.advise import MARK, Advisor
from edge.text.approved import read_approved, tree_of
from edge.text.decode import Decoder
from edge.text.vocab import read_vocabulary
from edge.types import Reason

torch = pytest.importorskip("torch")
pytest.importorskip("onnx")

from export.build import _fp16  # noqa: E402
from export.graph import read  # noqa: E402
from export.lint import lint  # noqa: E402
from export.passes import clean  # noqa: E402
from export.precision.fp16 import to_fp16  # noqa: E402
from export.recipes import attention, symptom_advice  # noqa: E402
from export.recipes.symptom_advice_figures import (  # noqa: E402
    FOREIGN_TOLD,
    Answer,
    least_probability,
    said,
    wilson,
)
from export.to_onnx import to_onnx  # noqa: E402

PLAN = attention.Plan(tokens=30, steps=12, width=16, heads=2)


def test_a_step_is_what_was_trained() -> None:
    torch.manual_seed(0)
    net = attention.network(PLAN).eval()
    prompt = torch.tensor([[3.0, 5.0, 7.0, 0.0], [4.0, 0.0, 0.0, 0.0]])
    tokens = torch.randint(2, 30, (2, PLAN.steps)).float()
    states = [torch.zeros(2, 1)] + [torch.zeros(2, 2, PLAN.steps, 16) for _ in range(2)]
    with torch.no_grad():
        together = net.sequence(prompt, tokens)
        for t in range(PLAN.steps):
            logits, *states = net(prompt, tokens[:, t : t + 1], *states)
            assert torch.allclose(logits, together[:, t], atol=1e-4)
        forgetful, *_ = net(
            prompt, tokens[:, -1:], states[0] - 1, *map(torch.zeros_like, states[1:])
        )
        assert not torch.allclose(forgetful, together[:, -1], atol=1e-3)  # control: an empty cache


STATES = (
    State(input="position", output="position_next", shape=(1,)),
    State(input="keys", output="keys_next", shape=(2, PLAN.steps, 16)),
    State(input="values", output="values_next", shape=(2, PLAN.steps, 16)),
)
OUTPUTS = ["logits", *(s.output for s in STATES)]


def exported(gain: float) -> bytes:
    """A small step whose queries are `gain` times as large."""
    torch.manual_seed(0)
    net = attention.network(PLAN).eval()
    with torch.no_grad():
        for layer in net.decoder:
            layer["attentions"][0]["query"].weight *= gain
    shapes = {"symptoms": (4,), "token": (1,), **{s.input: s.shape for s in STATES}}
    zeros = {name: np.zeros((2, *shape), np.float32) for name, shape in shapes.items()}
    return clean(to_onnx(net, zeros, OUTPUTS))


def walked() -> Dataset:
    rng = np.random.default_rng(0)
    prompts = np.repeat(rng.integers(2, 30, (8, 1, 4)), PLAN.steps, 1).astype(np.float32)
    tokens = rng.integers(2, 30, (8, PLAN.steps, 1)).astype(np.float32)
    inputs = {"symptoms": prompts, "token": tokens}
    return Dataset(inputs, np.arange(8) % 2, np.arange(8).astype(str), carried=STATES)


@pytest.mark.slow
def test_attention_is_made_of_what_tensorrt_knows() -> None:
    model = exported(1.0)
    kinds = {node.op_type for node in read(model).graph.node}
    assert {"MatMul", "Softmax"} <= kinds
    assert not kinds & {"Attention", "ScatterND", "ScatterElements", "If", "Loop", "Scan"}
    assert not [c for c in lint(model, "tensorrt-10.3") if c.severity == "error"]


@pytest.mark.slow
@pytest.mark.parametrize("gain", [1.0, 3e5])
def test_fp16_does_not_overflow(gain: float) -> None:
    """Of scores, too, that a half could not hold: those nodes stay in float32."""
    model, data = exported(gain), walked()
    made = _fp16(model, data)
    wanted, found = (answers(m, "logits", data) for m in (model, made))
    assert np.isfinite(found).all()
    assert np.abs(found - wanted).max() < 0.05 * np.abs(wanted).max()
    if gain > 1:  # control: all in FP16
        assert not np.isfinite(answers(to_fp16(model), "logits", data)).all()


@pytest.fixture(scope="module")
def built(medge_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The recipe's own build of a training without its cross-validation."""
    from export.build import Trained
    from export.cli import build_bundle
    from export.spec import Model

    folder = tmp_path_factory.mktemp("advice")
    kept = symptom_advice._drawn(medge_data, list(symptom_advice.PARTS.values())) == 0
    net = symptom_advice.trained(medge_data, kept)
    torch.save(net.state_dict(), folder / "weights.pt")
    files = symptom_advice.files(medge_data)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    trained = Trained(
        Model(torch="export.recipes.symptom_advice:network", checkpoint=str(folder / "weights.pt")),
        {name: str(folder / name) for name in files},
    )
    spec = Path(symptom_advice.__file__).with_suffix(".toml")
    out = folder / "symptom-advice"
    assert build_bundle(str(spec), str(out), None, str(medge_data), trained=trained) == 0
    return load(out, trusted_keys=list((folder / "keys").glob("*.pub")))


@contextmanager
def engine_of(bundle: Bundle, precision: str = "fp32") -> Iterator[Engine]:
    model = bundle.files[bundle.manifest.precisions[precision].file]
    with open_engine("onnxruntime", model, precision) as engine:
        yield engine


@pytest.fixture
def unseen(medge_data: Path) -> list[tuple[bytes, str]]:
    """Symptom sets that training never saw, as somebody would list them, and their disease."""
    terms, disease, _ = symptom_advice._read(medge_data)
    advice = symptom_advice._approved(medge_data).advice
    judged = np.flatnonzero(symptom_advice._drawn(medge_data, [0.6, 0.4]) == 1)
    return [(", ".join(terms[i]).encode(), advice[disease[i]].disease) for i in judged]


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8", "int8u"])
def test_the_disease_is_right_and_the_advice_approved(
    built: Bundle, unseen: list[tuple[bytes, str]], precision: str, capsys: Any
) -> None:
    texts = read_approved(built.files["texts.json"]).texts
    right = withheld = 0
    with engine_of(built, precision) as engine:
        advisor = Advisor(built, engine)
        for raw, disease in unseen:
            told = advisor.advise(raw)
            withheld += told.reason is not None
            if told.reason is None:
                named, *advice = told.findings
                right += named.name == disease
                assert advice and all(f.text == MARK + texts[f.code] for f in advice)
    with capsys.disabled():
        print(f"\n[advice {precision}] right {right}, withheld {withheld}, of {len(unseen)}")
    assert right >= 0.95 * len(unseen)
    assert right == len(unseen) - withheld


@pytest.mark.slow
def test_symptoms_of_two_diseases_are_hardly_ever_told_as_one(
    built: Bundle, medge_data: Path, capsys: Any
) -> None:
    """Three symptoms of each. Control: where they need not be listed, many are told."""
    output = msgspec.structs.replace(built.manifest.output, least_listed=0.0)
    loose = replace(built, manifest=msgspec.structs.replace(built.manifest, output=output))
    pairs = [", ".join(some).encode() for some in symptom_advice._pairs(medge_data)]
    with engine_of(built) as engine:
        held, free = (
            sum(Advisor(bundle, engine).advise(raw).reason is None for raw in pairs)
            for bundle in (built, loose)
        )
    with capsys.disabled():
        print(
            f"\n[advice] of {len(pairs)} lists of two diseases told: {held}, unlisted too: {free}"
        )
    assert held <= FOREIGN_TOLD * len(pairs) < free


OTHERWISE = {
    "Dimorphic Hemorrhoids": "Dimorphic hemmorhoids piles",
    "gastroesophageal reflux disease": "Gerd",
    "peptic ulcer disease": "Peptic ulcer diseae",
}
"""Diseases of symptom-text that the advice calls otherwise."""


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8", "int8u"])
def test_what_symptom_text_finds_is_advised_on(
    built: Bundle, medge_data: Path, precision: str
) -> None:
    """By its name alone, and so is every other disease; what is no name (control) is not."""
    found = [label.name for label in load("symptom-text").manifest.output.labels]
    own = {a.disease: a.disease for a in symptom_advice._approved(medge_data).advice}
    asked = {name: OTHERWISE.get(name, name.capitalize()) for name in found} | own
    assert set(asked.values()) == set(own)
    with engine_of(built, precision) as engine:
        advisor = Advisor(built, engine)
        told = {name: advisor.advise(name.encode()) for name in asked}
        for foreign in ("Scabies", "Psoriasi", "itching", "Acne, itching", "Acne, Malaria"):
            assert advisor.advise(foreign.encode()).reason is Reason.OUT_OF_DISTRIBUTION
    assert {name: t.findings[0].name for name, t in told.items() if t.findings} == asked


DAEMON = """
schema = 1
bed = "icu-3"
state_dir = "state"
bundles = [
    {{ path = "symptom-text", deadline_ms = 10000.0 }},
    {{ path = "{advice}", id = "advice", trusted_keys = ["{key}"], deadline_ms = 10000.0 }},
]
chain = [{{ from = "symptom-text", to = "advice" }}]
sources = [
    {{ kind = "texts", name = "complaints", bundle = "symptom-text", folder = "complaints" }},
]
sinks = [{{ kind = "jsonl", path = "out.jsonl" }}]
"""


@pytest.mark.slow
@pytest.mark.integration
def test_a_complaint_becomes_advice_in_the_daemon(built: Bundle, tmp_path: Path) -> None:
    """The first bundle finds the disease, the second says what is approved about it."""
    (key,) = (built.path.parent / "keys").glob("*.pub")
    (tmp_path / "complaints").mkdir()
    (tmp_path / "complaints" / "1.txt").write_text(
        "I have a red itchy rash on my arms and my skin is dry and covered in scaly patches"
    )
    config = tmp_path / "ward.toml"
    config.write_text(DAEMON.format(advice=built.path, key=key))
    daemon = subprocess.Popen([sys.executable, "-m", "edge.cli", "run", str(config)])
    try:
        limit_s, lines = time.monotonic() + 300, list[str]()
        while len(lines) < 2:
            assert time.monotonic() < limit_s and daemon.poll() is None
            time.sleep(0.1)
            out = tmp_path / "out.jsonl"
            lines = out.read_text().splitlines() if out.exists() else []
    finally:
        daemon.terminate()
        daemon.wait(20)
    found, advised = (json.loads(line) for line in lines)
    assert advised["because"] == found["id"]
    named, *cited = advised["findings"]
    assert named["name"] == found["findings"][0]["name"] == "Psoriasis"
    texts = read_approved(built.files["texts.json"]).texts
    assert cited and all(f["text"] == MARK + texts[f["code"]] for f in cited)


@pytest.mark.slow
def test_control_without_the_tree_unapproved_text_appears(built: Bundle, medge_data: Path) -> None:
    approved = read_approved(built.files["texts.json"])
    numbers = read_vocabulary(built.files["vocab.json"]).numbers()
    known = {tuple(numbers[w] for w in approved.sequence(a)) for a in approved.advice}
    tree = tree_of(approved, numbers, symptom_advice.PLAN.steps)
    mixed = symptom_advice._mixed(medge_data)
    with engine_of(built) as engine:
        decoder = Decoder(built.manifest, engine)
        free = [tuple(s.token for s in decoder.run(x, None) if s.token) for x in mixed]
        held = [tuple(s.token for s in decoder.run(x, tree)) for x in mixed]
    assert set(held) <= known
    assert not set(free) <= known


@pytest.mark.slow
@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"", Reason.OUT_OF_DISTRIBUTION),
        (b"itching", Reason.OUT_OF_DISTRIBUTION),
        (b"itching, skin rash, purple ears", Reason.OUT_OF_DISTRIBUTION),
        (b"itching, skin rash, \xff", Reason.INVALID_INPUT),
        (b"itching, " * 20_000, Reason.OUT_OF_DISTRIBUTION),
    ],
)
def test_symptoms_that_it_does_not_know(built: Bundle, raw: bytes, reason: Reason) -> None:
    with engine_of(built) as engine:
        assert Advisor(built, engine).advise(raw).reason is reason


@pytest.mark.slow
def test_two_at_once_on_one_engine_are_as_each_alone(
    built: Bundle, unseen: list[tuple[bytes, str]]
) -> None:
    (a, _), (b, _) = unseen[0], unseen[-1]
    with engine_of(built, "int8") as engine:
        alone = [list(Advisor(built, engine).stream(raw)) for raw in (a, b)]
        assert alone == [list(Advisor(built, engine).stream(raw)) for raw in (a, b)]
        advisor = Advisor(built, engine)
        first, second = advisor.stream(a), advisor.stream(b)
        turns = [(next(first, None), next(second, None)) for _ in range(symptom_advice.PLAN.steps)]
    assert [[s for s in steps if s] for steps in zip(*turns)] == alone
    assert alone[0] != alone[1]


def test_intervals_and_the_fitted_threshold() -> None:
    """Wilson's of 10 of 10 and of 81 of 263 (Newcombe 1998, table I)."""
    assert wilson(10, 10) == pytest.approx((0.7225, 1.0), abs=1e-4)
    assert wilson(81, 263) == pytest.approx((0.2553, 0.3662), abs=1e-4)
    assert said("x", [True] * 10) == "x: 1.0000 [0.7225, 1.0000] of 10"
    foreign = [Answer("a", p, True) for p in np.linspace(0, 0.5, 101)]
    least = least_probability(foreign)
    assert np.mean([a.probability >= least for a in foreign]) <= 0.05
    assert np.mean([a.probability >= least - 0.01 for a in foreign]) > 0.05


@pytest.mark.slow
@pytest.mark.integration
def test_every_precision_is_admitted_and_has_a_plan(built: Bundle, tmp_path: Path) -> None:
    admission = admit(built, tmp_path)
    assert not [t for t in admission.trials if t.refused]
    pytest.importorskip("tensorrt_rtx")
    from edge.engines.tensorrt_build import Request, build_plan

    for precision in ("fp32", "fp16", "int8"):
        plan = build_plan(built.files[f"model.{precision}.onnx"], Request("tensorrt_rtx"))
        assert plan.plan and plan.seconds < 10
