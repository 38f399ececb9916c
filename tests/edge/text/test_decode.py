"""Decoding: with the tree nothing but approved sequences comes out, whatever the model says."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.bundle.manifest import Input, Manifest, Output, State, Text
from edge.errors import StartError
from edge.pipeline.carried import Carried
from edge.text.approved import Approved, read_approved, tree_of
from edge.text.decode import END, Decoder, Step
from edge.text.vocab import FIRST
from edge.text.words import listed

TEXTS = {
    "schema": 1,
    "source": "invented",
    "texts": {"a": "Rest, and drink water.", "b": "Rest at home", "c": "Call a physician"},
    "advice": [
        {"disease": "Common cold", "texts": ["a", "b"]},
        {"disease": "Common flu", "texts": ["a"]},
        {"disease": "Migraine", "texts": ["c"], "code": "SCT:37796009"},
    ],
}
CAPACITY = 16


def approved(**changes: Any) -> Approved:
    return read_approved(msgspec.json.encode({**TEXTS, **changes}))


WORDS = sorted({word for a in approved().advice for word in approved().sequence(a)})
NUMBERS = {word: FIRST + i for i, word in enumerate(WORDS)}
TOKENS = FIRST + len(WORDS) + 3
SEQUENCES = {tuple(NUMBERS[w] for w in approved().sequence(a)): a for a in approved().advice}


class Says:
    """An engine whose logits are drawn, with a cache that counts its steps."""

    backend, precision, threads = "drawn", "fp32", 1
    holder = None

    def __init__(self, seed: int, scale: float = 3.0) -> None:
        self.rng, self.scale = np.random.default_rng(seed), scale
        zeros = np.zeros
        self.inputs = {"terms": zeros((1, 4), np.float32), "token": zeros((1, 1), np.float32),
                       "keys": zeros((1, 1, CAPACITY, 2), np.float32)}  # fmt: skip
        self.outputs = {"logits": zeros((1, TOKENS), np.float32),
                        "keys_next": zeros((1, 1, CAPACITY, 2), np.float32)}  # fmt: skip
        self.seen: list[tuple[int, float]] = []

    def run(self) -> None:
        self.seen.append((int(self.inputs["token"][0, 0]), float(self.inputs["keys"][0, 0, 0, 0])))
        self.outputs["logits"][0] = self.rng.normal(0, self.scale, TOKENS)
        self.outputs["keys_next"][...] = self.inputs["keys"] + 1

    def close(self) -> None: ...


def manifest() -> Manifest:
    """Only what decoding looks at; the rest is as the type demands."""
    return Manifest(
        schema=1, name="tiny", version="1", security_epoch=1, intended_use="tests",
        text=Text(tokenizer="listed"),
        inputs=(Input(name="terms", shape=(4,), source="text"),
                Input(name="token", shape=(1,), source="token")),
        states=(State(input="keys", output="keys_next", shape=(1, CAPACITY, 2)),),
        output=Output(name="logits", tokens=TOKENS), precisions={},
        provenance=None, latency_budget_ms=1.0, files={},  # type: ignore[arg-type]
    )  # fmt: skip


PROMPT = np.zeros(4, np.float32)


def run(engine: Says, tree: Any) -> list[Step]:
    return list(Decoder(manifest(), engine).run(PROMPT, tree))


@given(st.integers(0, 10**6))
def test_nothing_but_approved_sequences(seed: int) -> None:
    steps = run(Says(seed), tree_of(approved(), NUMBERS, CAPACITY))
    told = tuple(step.token for step in steps)
    assert steps[-1].advice == SEQUENCES[told]
    assert all(step.advice is None for step in steps[:-1])
    assert all(0 < step.probability <= 1 for step in steps)


def test_control_without_the_tree_other_sequences_come() -> None:
    told = [tuple(step.token for step in run(Says(seed), None)) for seed in range(50)]
    assert not set(told) & set(SEQUENCES)
    assert all(len(t) <= CAPACITY and (t[-1] == END or len(t) == CAPACITY) for t in told)


def test_each_token_is_fed_back_with_the_states_and_the_next_sequence_begins_anew() -> None:
    engine = Says(3)
    decoder = Decoder(manifest(), engine)
    tree = tree_of(approved(), NUMBERS, CAPACITY)
    for _ in range(2):
        engine.seen.clear()
        steps = list(decoder.run(PROMPT, tree))
        before = [END, *(step.token for step in steps[:-1])]
        assert engine.seen == [(token, float(i)) for i, token in enumerate(before)]


def test_the_same_model_says_the_same_and_ties_go_to_the_lowest() -> None:
    tree = tree_of(approved(), NUMBERS, CAPACITY)
    assert run(Says(5), tree) == run(Says(5), tree)
    tied = run(Says(5, scale=0.0), tree)
    assert tied[0].token == min(tree.follow)
    assert tied[0].probability == pytest.approx(1 / TOKENS)


def test_a_model_that_gives_no_numbers_is_not_followed() -> None:
    (step,) = run(Says(1, scale=np.nan), tree_of(approved(), NUMBERS, CAPACITY))
    assert step.token == END and step.advice is None and np.isnan(step.probability)


def test_advice_that_the_cache_cannot_hold_is_refused() -> None:
    longest = max(map(len, SEQUENCES))
    assert tree_of(approved(), NUMBERS, longest + 1)
    with pytest.raises(StartError, match=f"has {longest} words, {longest - 1} fit"):
        tree_of(approved(), NUMBERS, longest)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"schema": 2}, "schema 2"),
        ({"advice": []}, "1 to 4096"),
        ({"texts": {}}, "no text 'a'"),
        ({"texts": {**TEXTS["texts"], "a": "\x1b[2J"}}, "printable"),  # type: ignore[dict-item]
        ({"texts": {**TEXTS["texts"], "a": ""}}, "printable"),  # type: ignore[dict-item]
        ({"more": 1}, "more"),
    ],
)
def test_wrong_texts_are_refused(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(StartError, match=says):
        approved(**changes)


def test_texts_that_the_model_cannot_say_are_refused() -> None:
    with pytest.raises(StartError, match="'water' is not in the vocabulary"):
        tree_of(approved(), {w: n for w, n in NUMBERS.items() if w != "water"}, CAPACITY)
    twice = [*TEXTS["advice"], {"disease": "migraine", "texts": ["c"]}]  # type: ignore[misc]
    with pytest.raises(StartError, match="says what 'Migraine' says"):
        tree_of(approved(advice=twice), NUMBERS, CAPACITY)


@pytest.mark.parametrize("order", [1, -1])
def test_advice_that_another_begins_with_is_refused(order: int) -> None:
    """It could never come out: decoding goes on while something may follow."""
    both = [{"disease": "Migraine", "texts": ["c"]}, {"disease": "Migraine", "texts": ["c", "b"]}]
    with pytest.raises(StartError, match=r"goes on where|ends where"):
        tree_of(approved(advice=both[::order]), NUMBERS, CAPACITY)


def test_the_only_advice_that_can_still_come() -> None:
    root = tree_of(approved(), NUMBERS, CAPACITY)
    common = root.follow[NUMBERS["common"]]
    assert root.only is None and common.only is None
    for word, disease in (("cold", "Common cold"), ("flu", "Common flu")):
        only = common.follow[NUMBERS[word]].only
        assert only is not None and only.disease == disease
    assert root.follow[NUMBERS["migraine"]].only == approved().advice[2]


class Remembers(Says):
    """Logits that depend on every token and prompt so far, which the states alone remember."""

    def run(self) -> None:
        told = self.inputs["keys"] * 31 + self.inputs["token"][0, 0] + self.inputs["terms"][0, 0]
        self.outputs["keys_next"][...] = told % 997
        seed = int(self.outputs["keys_next"][0, 0, 0, 0])
        self.outputs["logits"][0] = np.random.default_rng(seed).normal(0, 3, TOKENS)


def turns(decoder: Decoder, prompts: list[np.ndarray]) -> list[list[Step]]:
    """What comes to each prompt when all are answered in turns."""
    under_way, told = [decoder.run(p, None) for p in prompts], [[] for _ in prompts]
    for _ in range(CAPACITY):
        for steps, so_far in zip(under_way, told):
            so_far.extend([step for step in [next(steps, None)] if step])
    return told


def test_sequences_in_turns_are_as_each_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    decoder = Decoder(manifest(), Remembers(0))
    prompts = [np.full(4, i, np.float32) for i in (1, 2)]
    alone = [list(decoder.run(p, None)) for p in prompts]
    assert alone[0] != alone[1]
    assert turns(decoder, prompts) == alone
    shared = Carried(manifest().states)
    monkeypatch.setattr("edge.text.decode.Carried", lambda states: shared)
    assert turns(decoder, prompts) != alone  # control: states that are mixed show


def test_listed_terms() -> None:
    assert listed("Itching, skin_rash;\nitching , high  fever\n") == [
        "itching", "skin rash", "high fever",
    ]  # fmt: skip


def test_only_a_bundle_that_writes_is_decoded() -> None:
    classifier = msgspec.structs.replace(manifest(), output=Output(name="logits", tokens=0))
    with pytest.raises(StartError, match="writes no texts"):
        Decoder(classifier, Says(0))
    with pytest.raises(StartError, match="carries no cache"):
        Decoder(msgspec.structs.replace(manifest(), states=()), Says(0))
