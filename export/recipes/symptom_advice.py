"""The recipe of `symptom-advice`: a set of symptoms to a disease and approved advice.

Owns the splits, the texts and the training. `python -m export.recipes.symptom_advice [--out DIR]
[--key FILE]` cross-validates over distinct symptom sets (see `symptom_advice_figures`), trains, and
builds the bundle as `symptom_advice.toml` says. The texts' licence is unstated, so the bundle is
built on demand and never released.
"""

from __future__ import annotations

import csv
import sys
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from calibration.sets import Dataset
from edge.errors import StartError
from edge.text.approved import SCHEMA, Advice, Approved
from edge.text.vocab import FIRST, write_vocabulary
from edge.text.words import words
from export.recipes import attention
from export.recipes.attention import Plan
from export.recipes.recipe import BUILD, HERE, main
from export.recipes.symptom_advice_figures import asked, least_probability, said
from export.recipes.text_cnn import numbered
from export.spec import read_spec

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from export.recipes.symptom_advice_figures import Answer

SEED = 7
FOLDS = 5
TARGET = 0.95
SYMPTOMS = 17
MIXED, PAIRS = 100, 150
PLAN = Plan(tokens=960, steps=96)
PARTS = {"train": 0.6, "judged": 0.4}
CALIBRATED_STEPS, JUDGED_STEPS = 24, 8
"""How far sequences are walked; the diseases' names, which are judged, are shorter."""

SPEC = HERE / "symptom_advice.toml"
CITATION = "Disease symptom prediction (symptom_advice), licence unstated"
SOURCE = "symptom_Description.csv and symptom_precaution.csv, taken as approved for this example"
RENAMED = {"hemmorhoids": "hemorrhoids"}


def network() -> Any:
    """The untrained network; called, it computes one step."""
    return attention.network(PLAN)


def train(data: Path) -> Any:
    """The weights, or None where cross-validation misses the target, or asks for a higher least
    probability than the spec has."""
    known, foreign, free = _cross_validated(data)
    wrong = _judged(known, foreign, free)
    for what in wrong:
        print(what, file=sys.stderr)
    if wrong:
        return None
    kept = _drawn(data, list(PARTS.values())) == 0
    wanted, disease = _wanted(data), _read(data)[1]
    return attention.train(_prompts(data)[kept], wanted[disease[kept]], PLAN, SEED).state_dict()


def _cross_validated(data: Path) -> tuple[list[tuple[bool, Answer]], list[Answer], list[bool]]:
    """Whether each symptom set is told rightly by a network that never saw it, with the answer;
    answers to symptoms of two diseases; and whether those to symptoms drawn at random are approved
    texts without the tree."""
    prompts, wanted, (terms, disease, _) = _prompts(data), _wanted(data), _read(data)
    fold, advice = _drawn(data, [1 / FOLDS] * FOLDS), _approved(data).advice
    known, foreign, free = [], [], []
    for k in range(FOLDS):
        net = attention.train(prompts[fold != k], wanted[disease[fold != k]], PLAN, SEED)
        with asked(net, read_spec(SPEC)[1], files(data, fold != k)) as path:
            for i in np.flatnonzero(fold == k):
                answer = path.answer(terms[i])
                known.append((answer.disease == advice[disease[i]].disease, answer))
            foreign += [path.answer(some) for some in _pairs(data)]
            free += [path.free_is_approved(prompt) for prompt in _mixed(data)]
    return known, foreign, free


def _judged(
    known: Sequence[tuple[bool, Answer]], foreign: Sequence[Answer], free: Sequence[bool]
) -> list[str]:
    """Print the figures; what is wrong with them."""
    least, fitted = read_spec(SPEC)[1].output.min_probability, least_probability(foreign)
    right = [hit for hit, _ in known]
    told = [hit for hit, answer in known if answer.probability >= least]
    print(said("right disease, unseen symptom sets", right))
    print(said(f"told at {least}", [a.probability >= least for _, a in known]))
    print(said("right disease of those told", told))
    answers = [a for a in (*(a for _, a in known), *foreign) if a.disease]
    print(said("approved texts with the tree", [a.approved for a in answers]))
    print(said("approved texts without it, random symptoms", free))
    print(said(f"told at {least}, of two diseases", [a.probability >= least for a in foreign]))
    print(f"least probability fitted: {fitted}")
    checks = [
        (f"target {TARGET} missed", sum(right) >= TARGET * len(right)),
        ("unapproved text came", all(a.approved for a in answers)),
        ("without the tree all is approved: it shows nothing", not all(free)),
        (f"min_probability must be {fitted} or more", least >= fitted),
    ]
    return [what for what, holds in checks if not holds]


def _mixed(data: Path) -> NDArray[np.float32]:
    """`[MIXED, SYMPTOMS]` prompts of symptoms drawn at random."""
    return numbered(_mixes(data), _vocabulary(data), SYMPTOMS)


def _mixes(data: Path) -> list[list[str]]:
    """`MIXED` lists of symptoms drawn at random, which no disease has together."""
    terms = sorted({term for terms in _read(data)[0] for term in terms})
    rng = np.random.default_rng(SEED)
    return [
        sorted(map(str, rng.choice(terms, rng.integers(3, 9), replace=False))) for _ in range(MIXED)
    ]


def _pairs(data: Path) -> list[list[str]]:
    """`PAIRS` lists of three symptoms each of two diseases drawn at random."""
    listed, rng = _listed(data, np.ones(len(_prompts(data)), bool)), np.random.default_rng(SEED)
    return [
        sorted({str(term) for i in rng.choice(len(listed), 2, replace=False)
                for term in rng.choice(listed[i], 3, replace=False)})
        for _ in range(PAIRS)
    ]  # fmt: skip


def _listed(data: Path, kept: NDArray[np.bool_]) -> list[tuple[str, ...]]:
    """Every symptom of each disease, of the sets that are `kept`."""
    terms, disease, names = _read(data)
    return [
        tuple(sorted({term for i in np.flatnonzero(kept & (disease == k)) for term in terms[i]}))
        for k in range(len(names))
    ]


def files(data: Path, kept: NDArray[np.bool_] | None = None) -> dict[str, bytes]:
    """The vocabulary and the approved texts that go with the weights; the symptoms listed with them
    are those of the sets that were trained on (`kept`)."""
    approved = _approved(data)
    listed = _listed(data, _drawn(data, list(PARTS.values())) == 0 if kept is None else kept)
    advice = tuple(
        msgspec.structs.replace(a, symptoms=some) for a, some in zip(approved.advice, listed)
    )
    whole = msgspec.structs.replace(approved, advice=advice)
    texts = msgspec.json.format(msgspec.json.encode(whole)) + b"\n"
    return {"vocab.json": write_vocabulary(_vocabulary(data)), "texts.json": texts}


def calibration(data: Path) -> Dataset:
    """Symptom sets that were trained on, walked into the advice."""
    return _dataset(data, "train", CALIBRATED_STEPS)


def gate(data: Path) -> Dataset:
    """Symptom sets that training never saw; the words of the disease's name are judged."""
    return _dataset(data, "judged", JUDGED_STEPS)


def _dataset(data: Path, name: str, steps: int) -> Dataset:
    kept = np.flatnonzero(_drawn(data, list(PARTS.values())) == list(PARTS).index(name))
    disease = _read(data)[1][kept]
    wanted = _wanted(data)[disease][:, :steps]
    named = np.array([len(words(a.disease)) for a in _approved(data).advice])[disease]
    target = np.where(np.arange(steps) < named[:, None], wanted, -1)
    before = np.concatenate((np.zeros((len(kept), 1)), wanted[:, :-1]), 1).clip(min=0)
    inputs = {
        "symptoms": np.repeat(_prompts(data)[kept][:, None], steps, 1),
        "token": before[..., None].astype(np.float32),
    }
    group = np.array([f"set {i}" for i in kept])
    return Dataset(inputs, disease, group, {}, f"{CITATION}, {name}", target)


def _drawn(data: Path, shares: list[float]) -> NDArray[np.int64]:
    """The part of each symptom set, spread evenly over the diseases."""
    from export.recipes.text_cnn import spread

    return spread(_read(data)[1], shares, SEED)


def _prompts(data: Path) -> NDArray[np.float32]:
    """`[n, SYMPTOMS]` token numbers of every distinct symptom set."""
    return numbered(_read(data)[0], _vocabulary(data), SYMPTOMS)


def _wanted(data: Path) -> NDArray[np.int64]:
    """`[diseases, steps]` token numbers of every advice, its end (0), then -1."""
    number = {token: FIRST + i for i, token in enumerate(_vocabulary(data))}
    approved = _approved(data)
    wanted = np.full((len(approved.advice), PLAN.steps), -1)
    for row, advice in zip(wanted, approved.advice):
        sequence = [number[word] for word in approved.sequence(advice)]
        row[: len(sequence) + 1] = [*sequence, 0]
    return wanted


def _vocabulary(data: Path) -> tuple[str, ...]:
    """Every symptom, and every word of the approved texts."""
    approved = _approved(data)
    said = {word for advice in approved.advice for word in approved.sequence(advice)}
    return tuple(sorted(said | {term for terms in _read(data)[0] for term in terms}))


@lru_cache(1)
def _read(data: Path) -> tuple[list[list[str]], NDArray[np.int64], tuple[str, ...]]:
    """Distinct symptom sets as sorted terms, the disease of each, and the diseases in order."""
    found = {
        (row[0].strip(), tuple(sorted({_term(cell) for cell in row[1:] if cell.strip()})))
        for row in _rows(data, "dataset.csv") if row[0].strip()
    }  # fmt: skip
    names = tuple(sorted({name for name, _ in found}))
    ordered = sorted(found)
    return (
        [list(terms) for _, terms in ordered],
        np.array([names.index(n) for n, _ in ordered]),
        names,
    )


@lru_cache(1)
def _approved(data: Path) -> Approved:
    """Description and precautions of every disease, in the diseases' order."""
    described = {_key(row[0]): row[1] for row in _rows(data, "symptom_Description.csv")}
    advised = {_key(row[0]): row[1:] for row in _rows(data, "symptom_precaution.csv")}
    texts: dict[str, str] = {}
    advice = []
    for i, name in enumerate(_read(data)[2]):
        said = [described.get(_key(name), ""), *advised.get(_key(name), [])]
        ids = {
            f"{i:02d}-{j}": " ".join(text.split()) for j, text in enumerate(said) if text.strip()
        }
        texts |= ids
        advice.append(Advice(" ".join(words(name)).capitalize(), tuple(ids)))
    return Approved(SCHEMA, SOURCE, texts, tuple(advice))


def _rows(data: Path, name: str) -> list[list[str]]:
    try:
        with (data / "symptom_advice" / name).open(encoding="utf-8", newline="") as file:
            return [row for row in csv.reader(file) if row]
    except OSError as error:
        raise StartError(f"no symptom_advice in '{data}' ({error})", "set MEDGE_DATA") from None


def _term(cell: str) -> str:
    return " ".join(words(cell.replace("_", " ")))


def _key(name: str) -> str:
    return " ".join(RENAMED.get(word, word) for word in words(name))


if __name__ == "__main__":
    out = str(BUILD / "symptom-advice")
    sys.exit(main("symptom_advice", "symptom-advice", train, files=files, out=out))
