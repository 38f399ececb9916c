"""The recipe of the bundle `ecg-beat`: MIT-BIH records in, a signed bundle with its card out.

Owns the order of the steps and the manifest. `python -m export.recipes.ecg_beat [--out DIR]
[--key FILE]`: the records are read from `$MEDGE_DATA`, else from `../shared/data` beside the
checkout. The same seed gives the same model. Exit code 1 where a target is missed: nothing is
written then.
"""

from __future__ import annotations

import argparse
import os
import sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from calibration import confidence
from calibration.sets import data_folder
from edge.bundle.load import KEYS, REFERENCE
from edge.bundle.manifest import (
    SCHEMA,
    Input,
    Label,
    Manifest,
    Output,
    Precision,
    Provenance,
    Rhythm,
)
from edge.ec57 import CLASSES
from edge.errors import MedgeError
from edge.signals.rr import FEATURES
from export.pack import npz, pack
from export.recipes import ecg_beat_card as card
from export.recipes import ecg_beat_figures as figures
from export.recipes.ecg_beat_data import DS1, EXCLUDED, SIGNAL, Beats, artefacts, load
from export.recipes.ecg_beat_model import Plan, member_logits, released, train
from export.to_onnx import require_same, to_onnx

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

NAME, VERSION = "ecg-beat", "1.0.0"
SEED = 20
FOLDS = 7
GOLDEN_PER_CLASS = 8
TOLERANCE = 1e-3
DISPLAY = {
    "N": "normal or bundle branch block beat",
    "S": "supraventricular ectopic beat",
    "V": "ventricular ectopic beat",
    "F": "fusion of ventricular and normal beat",
    "Q": "unclassifiable beat",
}
CODES = {"S": "SCT:63593006", "V": "SCT:17338001", "F": "SCT:13640000"}
"""SNOMED CT: supraventricular, ventricular premature beats; fusion beats."""


def main(argv: Sequence[str] | None = None) -> int:
    """Build the bundle; the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=REFERENCE / NAME, help="folder of the bundle")
    parser.add_argument("--key", type=Path, help="PEM private key; default: a new one, forgotten")
    options = parser.parse_args(argv)
    try:
        return build(data_folder(os.environ.get("MEDGE_DATA")), options.out, options.key)
    except MedgeError as error:
        print(error, file=sys.stderr)
        return 2


def build(data: Path, out: Path, key: Path | None) -> int:
    """Evaluate, calibrate, train on everything, export, pack."""
    beats = load(data, [r for r in DS1 if r not in EXCLUDED])
    print(f"{len(beats.label)} beats of {len(beats.missed)} records", flush=True)
    folds = figures.make_folds(beats, FOLDS)
    logits, artefact_logits = _out_of_fold(beats, folds)
    calibration, stated = _calibrate(logits, beats, folds)
    missing = figures.shortfall(stated["classes"])
    print(f"leave-records-out: {stated['classes']}", flush=True)
    if missing:
        print(f"targets missed: {'; '.join(missing)}", file=sys.stderr)
        return 1
    module = released(train(beats, Plan(), SEED), calibration.bias)
    details = _details(calibration, artefact_logits)
    files = _files(module, beats, card.write(stated, details))
    keys = KEYS if out == REFERENCE / NAME else out.parent / "keys"
    key_id = pack(out, _manifest(calibration, beats), files, keys, key)
    print(f"{out}: {sum(len(f) for f in files.values())} bytes, signed by {key_id}")
    return 0


def _out_of_fold(
    beats: Beats, folds: list[list[str]]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Logits `[k, 5]` of every beat by a model that never saw its record, and those of held-out
    artefact windows. Two processes of one thread each."""
    logits = np.zeros((len(beats.label), len(CLASSES)), np.float32)
    noise = []
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        jobs = [pool.submit(_fold, beats, fold, SEED + 1 + i) for i, fold in enumerate(folds)]
        for fold, job in zip(folds, jobs):
            logits[np.isin(beats.record, fold)], of_noise = job.result()
            noise.append(of_noise)
            print(f"without {', '.join(fold)}: done", flush=True)
    return logits, np.concatenate(noise)


def _fold(
    beats: Beats, fold: list[str], seed: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    inside = np.isin(beats.record, fold)
    members = train(beats.take(np.flatnonzero(~inside)), Plan(), seed)
    held_out = beats.take(np.flatnonzero(inside))
    noise = artefacts(held_out, 200, np.random.default_rng(seed))
    return member_logits(members, held_out).mean(0), member_logits(members, noise).mean(0)


def _calibrate(
    logits: NDArray[np.float32], beats: Beats, folds: list[list[str]]
) -> tuple[figures.Calibration, dict[str, Any]]:
    """What the release applies, and the figures, each fold's beats judged by the others' bias."""
    judged = figures.cross_fitted(logits, beats, folds)
    temperature = confidence.fit_temperature(judged, beats.label)
    quantile = confidence.conformal_quantile(
        confidence.probabilities(judged, temperature), beats.label, figures.COVERAGE
    )
    missed = figures.missed_of(beats, sorted(beats.missed))
    bias = figures.choose_bias(logits, beats.label, missed)
    calibration = figures.Calibration(bias, temperature, quantile, figures.MIN_PROBABILITY)
    return calibration, figures.figures(judged, beats, temperature)


def _details(
    calibration: figures.Calibration, artefact_logits: NDArray[np.float32]
) -> dict[str, Any]:
    biased = artefact_logits + calibration.bias.astype(np.float32)
    answer = figures.answers(biased, calibration.temperature)
    return {
        "temperature": calibration.temperature,
        "quantile": calibration.quantile,
        "coverage": figures.COVERAGE,
        "min_probability": calibration.min_probability,
        "folds": FOLDS,
        "artefact_share": round(float(np.isin(answer, (figures.Q, 5)).mean()), 4),
        "seed": SEED,
    }


def _files(module: Any, beats: Beats, text: str) -> dict[str, bytes]:
    """Every file of the bundle but manifest and signature; the export checked on real and random
    windows."""
    rng = np.random.default_rng(SEED)
    some = beats.take(rng.choice(len(beats.label), 512, replace=False))
    random = Beats(
        rng.normal(size=some.window.shape).astype(np.float32), some.rr, some.label, some.record, {}
    )
    onnx = to_onnx(module, _inputs(some), ["logits"])
    for windows in (some, random):
        require_same(onnx, lambda x: _answers(module, x), _inputs(windows),
                     ["logits"], TOLERANCE / 10)  # fmt: skip
    golden = beats.take(_golden_index(beats, rng))
    return {
        "model.fp32.onnx": onnx,
        "golden.npz": npz({**_named(golden), "out.logits": _logits(module, golden)}),
        "reference.npz": npz(_statistics(beats, _logits(module, beats))),
        "card.md": text.encode(),
    }


def _golden_index(beats: Beats, rng: np.random.Generator) -> NDArray[np.int64]:
    """The same number of windows of every class."""
    of_class = [np.flatnonzero(beats.label == c) for c in range(len(CLASSES))]
    return np.concatenate([rng.choice(at, GOLDEN_PER_CLASS, replace=False) for at in of_class])


def _inputs(beats: Beats) -> dict[str, NDArray[np.float32]]:
    return {"beat": beats.window, "rr": beats.rr}


def _named(beats: Beats) -> dict[str, NDArray[np.float32]]:
    return {f"in.{name}": values for name, values in _inputs(beats).items()}


def _logits(module: Any, beats: Beats) -> NDArray[np.float32]:
    return _answers(module, _inputs(beats))


def _answers(module: Any, inputs: Mapping[str, NDArray[np.float32]]) -> NDArray[np.float32]:
    import torch

    with torch.no_grad():
        tensors = [torch.from_numpy(x) for x in inputs.values()]
        parts = [
            module(*(t[i : i + 1024] for t in tensors)).numpy()
            for i in range(0, len(tensors[0]), 1024)
        ]
    return np.concatenate(parts)


def _statistics(beats: Beats, logits: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
    """Mean, deviation and 1st, 50th and 99th percentile of inputs and outputs, for drift."""
    usual_mv = np.abs(beats.window[:, 1]).max(axis=1)[:, None]
    named = {"in.rr": beats.rr, "in.usual_height_mv": usual_mv, "out.logits": logits}
    out = {}
    for name, values in named.items():
        out[f"{name}.mean"] = values.mean(0, dtype=np.float64).astype(np.float32)
        out[f"{name}.deviation"] = values.std(0, dtype=np.float64).astype(np.float32)
        out[f"{name}.percentiles"] = np.percentile(values, (1, 50, 99), axis=0).astype(np.float32)
    return out


def _manifest(calibration: figures.Calibration, beats: Beats) -> Manifest:
    labels = [
        Label(name=c, display=DISPLAY[c], code=CODES.get(c, ""), withhold=c == "Q") for c in CLASSES
    ]
    return Manifest(
        schema=SCHEMA,
        name=NAME,
        version=VERSION,
        security_epoch=1,
        intended_use=card.INTENDED_USE,
        signal=SIGNAL,
        inputs=(
            Input(name="beat", shape=beats.window.shape[1:], source="window"),
            Input(name="rr", shape=(len(FEATURES),), source="rr"),
        ),
        output=Output(
            name="logits",
            labels=tuple(labels),
            temperature=calibration.temperature,
            min_probability=calibration.min_probability,
            conformal_quantile=calibration.quantile,
        ),
        rhythm=Rhythm(),
        precisions={"fp32": Precision(file="model.fp32.onnx", tolerance=TOLERANCE)},
        provenance=Provenance(
            recipe="export.recipes.ecg_beat",
            seed=SEED,
            data="MIT-BIH Arrhythmia Database 1.0.0, lead MLII, DS1 without 208",
            trained_on=tuple(sorted(beats.missed)),
            excluded=EXCLUDED,
            licence=card.LICENCE,
            citation=card.CITATION,
        ),
        latency_budget_ms=1000.0,
        files={},
    )


if __name__ == "__main__":
    sys.exit(main())
