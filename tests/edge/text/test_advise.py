"""Advice is told whole or not at all: nothing of what is withheld is streamed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import pytest

from edge.bundle.load import Bundle
from edge.bundle.manifest import Input, Manifest, Output, State, Text
from edge.errors import StartError
from edge.text.advise import MARK, Advisor
from edge.text.vocab import FIRST, write_vocabulary
from edge.types import Reason

TEXTS = {
    "schema": 1,
    "source": "invented",
    "texts": {"a": "Rest, and drink water.", "b": "Call a physician"},
    "advice": [
        {"disease": "Common cold", "texts": ["a"], "code": "SCT:82272006"},
        {"disease": "Common flu", "texts": ["a", "b"], "symptoms": ["fever", "chills"]},
    ],
}
SAID = ["a", "and", "call", "cold", "common", "drink", "flu", "physician", "rest", "water"]
CAPACITY, TOKENS = 12, FIRST + len(SAID)


class Sure:
    """An engine that gives each of `words` in turn the logit `by`, and all others zero."""

    backend, precision, threads = "told", "fp32", 1
    holder = None

    def __init__(self, *words: str, by: float = 8.0, broken_at: int = -1) -> None:
        self.words, self.by, self.broken_at = words, by, broken_at
        state, zeros = (1, 1, CAPACITY, 1), np.zeros
        self.inputs = {"terms": zeros((1, 4), np.float32), "token": zeros((1, 1), np.float32),
                       "keys": zeros(state, np.float32)}  # fmt: skip
        self.outputs = {"logits": zeros((1, TOKENS), np.float32),
                        "next": zeros(state, np.float32)}  # fmt: skip

    def run(self) -> None:
        at = int(self.inputs["keys"][0, 0, 0, 0])
        self.outputs["next"][...] = at + 1
        self.outputs["logits"].fill(np.nan if at == self.broken_at else 0)
        if at < len(self.words):
            self.outputs["logits"][0, FIRST + SAID.index(self.words[at])] += self.by

    def close(self) -> None: ...


def bundle(least_listed: float = 0.0, **files: bytes) -> Bundle:
    """With the texts, and symptoms behind the words that can be said."""
    manifest = Manifest(
        schema=1, name="tiny", version="1", security_epoch=1, intended_use="tests",
        text=Text(tokenizer="listed", least_known=2, max_unknown=0.0),
        inputs=(Input(name="terms", shape=(4,), source="text"),
                Input(name="token", shape=(1,), source="token")),
        states=(State(input="keys", output="next", shape=(1, CAPACITY, 1)),),
        output=Output(name="logits", tokens=TOKENS, min_probability=0.5,
                      least_listed=least_listed), precisions={},
        provenance=None, latency_budget_ms=1.0, files={},  # type: ignore[arg-type]
    )  # fmt: skip
    usual = {
        "texts.json": msgspec.json.encode(TEXTS),
        "vocab.json": write_vocabulary((*SAID, "fever", "chills", "cough")),
    }
    return Bundle(Path("tiny"), manifest, "", {**usual, **files}, "")


FLU = b"Fever, cough"


def test_the_disease_and_its_texts_word_for_word() -> None:
    told = Advisor(bundle(), Sure("common", "flu")).advise(FLU)
    named, *cited = told.findings
    assert told.reason is None and named.name == "Common flu"
    assert named.probability is not None and named.probability > 0.98
    assert [(f.code, f.text) for f in cited] == [
        ("a", MARK + "Rest, and drink water."), ("b", MARK + "Call a physician"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("engine", "raw", "reason"),
    [
        (lambda: Sure("common", "flu", by=0.5), FLU, Reason.LOW_CONFIDENCE),
        (lambda: Sure("common", by=20.0), FLU, Reason.LOW_CONFIDENCE),
        (lambda: Sure("common", "flu", broken_at=0), FLU, Reason.OUT_OF_RANGE),
        (lambda: Sure("common", "flu", broken_at=1), FLU, Reason.OUT_OF_RANGE),
        (lambda: Sure("common", "flu"), b"fever, blue ears", Reason.OUT_OF_DISTRIBUTION),
        (lambda: Sure("common", "flu"), b"fever", Reason.OUT_OF_DISTRIBUTION),
        (lambda: Sure("common", "flu"), b"fever, \xff", Reason.INVALID_INPUT),
    ],
)
def test_what_is_withheld_is_not_streamed(
    engine: Callable[[], Sure], raw: bytes, reason: Reason
) -> None:
    advisor = Advisor(bundle(), engine())
    told = advisor.advise(raw)
    assert told.reason is reason and told.findings == ()
    assert list(advisor.stream(raw)) == []


NAMED = {
    **TEXTS,
    "advice": [
        {"disease": "Common cold", "texts": ["a"], "names": ["cold"]},
        {"disease": "Common flu", "texts": ["a", "b"], "names": ["flu", "grippe"]},
    ],
}


def named() -> Bundle:
    words = ("fever", "chills", "cough", "grippe")
    return bundle(**{
        "texts.json": msgspec.json.encode(NAMED), "vocab.json": write_vocabulary((*SAID, *words)),
    })  # fmt: skip


@pytest.mark.parametrize("raw", [b"flu", b"Grippe", b" FLU, flu"])
def test_a_listed_name_alone_says_enough(raw: bytes) -> None:
    engine = Sure("common", "flu")
    told = Advisor(named(), engine).advise(raw)
    assert told.findings[0].name == "Common flu"
    assert Advisor(bundle(), engine).advise(raw).reason is Reason.OUT_OF_DISTRIBUTION  # control


@pytest.mark.parametrize("raw", [b"flu, fever", b"cold, flu", b"flux", b"fever"])
def test_what_is_no_name_or_not_alone_is_withheld(raw: bytes) -> None:
    told = Advisor(named(), Sure("common", "flu")).advise(raw)
    assert told.reason is Reason.OUT_OF_DISTRIBUTION


def test_names_that_are_unknown_or_stand_for_two_are_refused() -> None:
    with pytest.raises(StartError, match="'grippe' is not in the vocabulary"):
        Advisor(bundle(**{"texts.json": msgspec.json.encode(NAMED)}), Sure())
    advice = [{**each, "names": ["cold"]} for each in NAMED["advice"]]  # type: ignore[dict-item]
    twice = msgspec.json.encode({**NAMED, "advice": advice})
    with pytest.raises(StartError, match="stands for two"):
        Advisor(bundle(**{"texts.json": twice}), Sure())


@pytest.mark.parametrize(
    ("raw", "least", "reason"),
    [
        (b"fever, chills", 1.0, None),
        (b"fever, fever, fever, chills", 1.0, None),
        (b"fever, cough", 0.5, None),
        (b"fever, cough", 0.6, Reason.OUT_OF_DISTRIBUTION),
        (b"fever, chills, cough", 0.6, None),
        (b"fever, cough, cough", 0.5, None),  # said twice is said once
    ],
)
def test_advice_needs_its_share_of_listed_symptoms(
    raw: bytes, least: float, reason: Reason | None
) -> None:
    advisor = Advisor(bundle(least), Sure("common", "flu"))
    told = advisor.advise(raw)
    assert told.reason is reason and bool(told.findings) == (reason is None)
    assert bool(list(advisor.stream(raw))) == (reason is None)
    if reason is not None:
        assert told.detail == "Common flu lists 1 of 2 symptoms"


def test_control_what_is_sure_is_streamed_to_its_end() -> None:
    steps = list(Advisor(bundle(), Sure("common", "flu")).stream(FLU))
    assert [SAID[s.token - FIRST] for s in steps] == [
        "common", "flu", "rest", "and", "drink", "water", "call", "a", "physician",
    ]  # fmt: skip
    assert steps[-1].advice is not None and steps[-1].advice.disease == "Common flu"


def test_the_disease_streams_as_soon_as_it_is_sure() -> None:
    """Two words name it, so two runs of the engine come before the first token."""
    engine = Sure("common", "flu")
    stream = Advisor(bundle(), engine).stream(FLU)
    next(stream)
    assert engine.inputs["keys"][0, 0, 0, 0] == 1.0


def test_numbers_that_fail_in_the_middle_take_the_advice_back() -> None:
    advisor = Advisor(bundle(), Sure("common", "flu", broken_at=4))
    assert advisor.advise(FLU).reason is Reason.OUT_OF_RANGE
    assert np.isnan(list(advisor.stream(FLU))[-1].probability)


def test_texts_that_are_missing_or_cannot_be_said_are_refused() -> None:
    whole = bundle()
    without = {n: data for n, data in whole.files.items() if n != "texts.json"}
    with pytest.raises(StartError, match=r"has no texts\.json"):
        Advisor(Bundle(whole.path, whole.manifest, "", without, ""), Sure())
    symptom = TEXTS | {"texts": {"a": "Fever", "b": "Rest"}}  # known, but behind the last output
    with pytest.raises(StartError, match="'fever' is not in the vocabulary"):
        Advisor(bundle(**{"texts.json": msgspec.json.encode(symptom)}), Sure())
