"""The recipe of `symptom-advice`: a set of symptoms, or the name of a disease, to a disease and
approved advice.

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
PLAN = Plan(tokens=960, steps=96, updates=500)
PARTS = {"train": 0.6, "judged": 0.4}
CALIBRATED_STEPS, JUDGED_STEPS = 24, 8
"""How far sequences are walked; the diseases' names, which are judged, are shorter."""

SPEC = HERE / "symptom_advice.toml"
CITATION = "Disease symptom prediction (symptom_advice), licence unstated"
SOURCE = "symptom_Description.csv and symptom_precaution.csv, taken as approved for this example"
RENAMED = {"hemmorhoids": "hemorrhoids"}
ALSO = {
    "gerd": ("gastroesophageal reflux disease",),
    "peptic ulcer diseae": ("peptic ulcer disease",),
    "dimorphic hemmorhoids piles": ("dimorphic hemorrhoids",),
    "osteoarthristis": ("osteoarthritis",),
    "vertigo paroymsal positional vertigo": ("paroxysmal positional vertigo",),
    "paralysis brain hemorrhage": ("paralysis",),
}
"""Other names of a disease besides its own, which the data set misspells or shortens: those of
symptom-text among them. Nothing else is taken for a name."""
NAMED = 4
"""Times that training sees a name for each time that it sees a symptom set."""


def network() -> Any:
    """The untrained network; called, it computes one step."""
    return attention.network(PLAN)


def train(data: Path) -> Any:
    """The weights, or None where cross-validation misses the target, or asks for a higher least
    probability than the spec has."""
    wrong = _judged(*_cross_validated(data))
    for what in wrong:
        print(what, file=sys.stderr)
    if wrong:
        return None
    kept = _drawn(data, list(PARTS.values())) == 0
    return trained(data, kept).state_dict()


def trained(data: Path, kept: NDArray[np.bool_]) -> Any:
    """The network of the symptom sets that are `kept`, and of every name."""
    named, of = _names(data)
    times = _alike(data)[of] * NAMED
    prompts = np.concatenate((_prompts(data)[kept], np.repeat(_numbers(named, data), times, 0)))
    disease = np.concatenate((_read(data)[1][kept], np.repeat(of, times)))
    return attention.train(prompts, _wanted(data)[disease], PLAN, SEED)


def _alike(data: Path) -> NDArray[np.int64]:
    """Of each disease, how many begin with its first word: those are harder to tell apart."""
    first = [words(advice.disease)[0] for advice in _approved(data).advice]
    return np.array([first.count(word) for word in first])


def _cross_validated(
    data: Path,
) -> tuple[list[tuple[bool, Answer]], list[tuple[bool, Answer]], list[Answer], list[bool]]:
    """Whether each symptom set is told rightly by a network that never saw it, with the answer; the
    same of the names, which all have seen; answers to symptoms of two diseases; and whether those
    to symptoms drawn at random are approved texts without the tree."""
    terms, disease, _ = _read(data)
    fold, advice = _drawn(data, [1 / FOLDS] * FOLDS), _approved(data).advice
    known, named, foreign, free = [], [], [], []
    for k in range(FOLDS):
        net = trained(data, fold != k)
        with asked(net, read_spec(SPEC)[1], files(data, fold != k)) as path:
            for i in np.flatnonzero(fold == k):
                answer = path.answer(terms[i])
                known.append((answer.disease == advice[disease[i]].disease, answer))
            for name, of in zip(*_names(data)):
                answer = path.answer(name)
                named.append((answer.disease == advice[of].disease, answer))
            foreign += [path.answer(some) for some in _pairs(data)]
            free += [path.free_is_approved(prompt) for prompt in _mixed(data)]
    return known, named, foreign, free


def _judged(
    known: Sequence[tuple[bool, Answer]], named: Sequence[tuple[bool, Answer]],
    foreign: Sequence[Answer], free: Sequence[bool],
) -> list[str]:  # fmt: skip
    """Print the figures; what is wrong with them."""
    least, fitted = read_spec(SPEC)[1].output.min_probability, least_probability(foreign)
    right = [hit for hit, _ in known]
    told = [hit for hit, answer in known if answer.probability >= least]
    print(said("right disease, unseen symptom sets", right))
    print(said(f"told at {least}", [a.probability >= least for _, a in known]))
    print(said("right disease of those told", told))
    print(said("right disease of names, all told", [
        hit and a.probability >= least for hit, a in named
    ]))  # fmt: skip
    answers = [a for a in (*(a for _, a in (*known, *named)), *foreign) if a.disease]
    print(said("approved texts with the tree", [a.approved for a in answers]))
    print(said("approved texts without it, random symptoms", free))
    print(said(f"told at {least}, of two diseases", [a.probability >= least for a in foreign]))
    print(f"least probability fitted: {fitted}")
    checks = [
        (f"target {TARGET} missed", sum(right) >= TARGET * len(right)),
        ("a name is not told rightly", all(hit and a.probability >= least for hit, a in named)),
        ("unapproved text came", all(a.approved for a in answers)),
        ("without the tree all is approved: it shows nothing", not all(free)),
        (f"min_probability must be {fitted} or more", least >= fitted),
    ]
    return [what for what, holds in checks if not holds]


def _mixed(data: Path) -> NDArray[np.float32]:
    """`[MIXED, SYMPTOMS]` prompts of symptoms drawn at random, which no disease has together."""
    terms = sorted({term for terms in _read(data)[0] for term in terms})
    rng = np.random.default_rng(SEED)
    lists = [
        sorted(map(str, rng.choice(terms, rng.integers(3, 9), replace=False))) for _ in range(MIXED)
    ]
    return numbered(lists, _vocabulary(data), SYMPTOMS)


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
    """Symptom sets that training never saw, and every name; the words of the disease's name are
    judged."""
    named, of = _names(data)
    return _dataset(data, "judged", JUDGED_STEPS, _numbers(named, data), of)


def _dataset(
    data: Path, name: str, steps: int, more: NDArray[np.float32] | None = None,
    of: NDArray[np.int64] | None = None,
) -> Dataset:  # fmt: skip
    """One part of the sets, walked; with it `more` prompts, which are about the diseases `of`."""
    kept = np.flatnonzero(_drawn(data, list(PARTS.values())) == list(PARTS).index(name))
    prompts, disease = _prompts(data)[kept], _read(data)[1][kept]
    group = [f"set {i}" for i in kept]
    if more is not None and of is not None:
        prompts, disease = np.concatenate((prompts, more)), np.concatenate((disease, of))
        group += [f"name {i}" for i in range(len(of))]
    wanted = _wanted(data)[disease][:, :steps]
    length = np.array([len(words(a.disease)) for a in _approved(data).advice])[disease]
    target = np.where(np.arange(steps) < length[:, None], wanted, -1)
    before = np.concatenate((np.zeros((len(wanted), 1)), wanted[:, :-1]), 1).clip(min=0)
    inputs = {
        "symptoms": np.repeat(prompts[:, None], steps, 1),
        "token": before[..., None].astype(np.float32),
    }
    return Dataset(inputs, disease, np.array(group), {}, f"{CITATION}, {name}", target)


def _drawn(data: Path, shares: list[float]) -> NDArray[np.int64]:
    """The part of each symptom set, spread evenly over the diseases."""
    from export.recipes.text_cnn import spread

    return spread(_read(data)[1], shares, SEED)


def _prompts(data: Path) -> NDArray[np.float32]:
    """`[n, SYMPTOMS]` token numbers of every distinct symptom set."""
    return numbered(_read(data)[0], _vocabulary(data), SYMPTOMS)


def _numbers(lists: Sequence[list[str]], data: Path) -> NDArray[np.float32]:
    """`[n, SYMPTOMS]` token numbers of other lists of terms."""
    return numbered(lists, _vocabulary(data), SYMPTOMS)


def _names(data: Path) -> tuple[list[list[str]], NDArray[np.int64]]:
    """Every name of every disease, as the list with that one term, and the disease of each."""
    advice = _approved(data).advice
    named = [([name], i) for i, a in enumerate(advice) for name in a.names]
    return [terms for terms, _ in named], np.array([i for _, i in named])


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
    """Every word of the approved texts, then every symptom and name that is none of them."""
    approved = _approved(data)
    said = {word for advice in approved.advice for word in approved.sequence(advice)}
    asked = {term for terms in _read(data)[0] for term in terms}
    named = {name for advice in approved.advice for name in advice.names}
    return tuple(sorted(said) + sorted((asked | named) - said))


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
        own = _term(name)
        names = (own, *ALSO.get(own, ()))
        advice.append(Advice(own.capitalize(), tuple(ids), names=names))
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
