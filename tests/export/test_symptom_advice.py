"""The attention family on the real symptom sets: a short training, built into a bundle, then asked.

Step by step it computes what was trained; its advice is approved, right and the same every time.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge.bundle.admission import admit
from edge.bundle.load import Bundle, load
from edge.engines import Engine, open_engine
from edge.text.advise import MARK, Advisor
from edge.text.approved import read_approved, tree_of
from edge.text.decode import Decoder
from edge.text.vocab import read_vocabulary
from edge.types import Reason

torch = pytest.importorskip("torch")
pytest.importorskip("onnx")

from export.recipes import attention, symptom_advice  # noqa: E402

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


@pytest.fixture(scope="module")
def built(medge_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The recipe's own build of a training without its cross-validation."""
    from export.build import Trained
    from export.cli import build_bundle
    from export.spec import Model

    folder = tmp_path_factory.mktemp("advice")
    prompts, disease = symptom_advice._prompts(medge_data), symptom_advice._read(medge_data)[1]
    kept = symptom_advice._drawn(medge_data, list(symptom_advice.PARTS.values())) == 0
    wanted = symptom_advice._wanted(medge_data)[disease[kept]]
    net = attention.train(prompts[kept], wanted, symptom_advice.PLAN, symptom_advice.SEED)
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
    assert right >= 0.95 * (len(unseen) - withheld)
    assert withheld <= 0.15 * len(unseen)


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
        first, second = (Advisor(built, engine).stream(raw) for raw in (a, b))
        turns = [(next(first, None), next(second, None)) for _ in range(symptom_advice.PLAN.steps)]
    assert [[s for s in steps if s] for steps in zip(*turns)] == alone
    assert alone[0] != alone[1]


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


@pytest.mark.slow
@pytest.mark.benchmark
def test_tokens_per_second_beside_the_bare_engine(
    built: Bundle, unseen: list[tuple[bytes, str]], capsys: Any
) -> None:
    """At least 0.8 of what the engine alone would give, measured interleaved."""
    with engine_of(built) as engine:
        advisor = Advisor(built, engine)
        count = len(list(advisor.stream(unseen[0][0])))

        def path() -> None:
            for _ in advisor.stream(unseen[0][0]):
                pass

        def bare() -> None:
            for _ in range(count):
                engine.run()

        ratios = [_seconds(bare) / _seconds(path) for _ in range(40)]
        control = [_seconds(bare) / _seconds(bare) for _ in range(40)]
    ratio, aa = float(np.median(ratios)), float(np.median(control))
    with capsys.disabled():
        print(f"\n[advice] tokens/s {ratio:.3f} of the bare engine's, control {aa:.3f}")
    if not 1 / 1.15 < aa < 1.15:
        pytest.skip(f"too noisy to judge: the engine against itself is x{aa:.2f}")
    assert ratio >= 0.8


def _seconds(run: Callable[[], None]) -> float:
    began = time.perf_counter()
    run()
    return time.perf_counter() - began
