"""The recipe of the bundle `ecg-beat`: MIT-BIH records in, a signed bundle with its card out.

Owns the order of the steps. `python -m export.recipes.ecg_beat [--out DIR] [--key FILE]`: the
records are read from `$MEDGE_DATA`, else from `../shared/data` beside the checkout; the bundle is
built as `ecg_beat.toml` says. The same seed gives the same model. Exit code 1 where a target is
missed or the gate refuses: nothing is written then.
"""

from __future__ import annotations

import argparse
import os
import sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import TYPE_CHECKING, Any

import numpy as np

from calibration import confidence
from calibration.sets import data_folder
from edge.bundle.load import REFERENCE
from edge.ec57 import CLASSES
from edge.errors import MedgeError
from export.build import Trained
from export.cli import build_bundle
from export.pack import npz
from export.recipes import ecg_beat_card as card
from export.recipes import ecg_beat_figures as figures
from export.recipes.ecg_beat_data import DS1, EXCLUDED, Beats, artefacts, load
from export.recipes.ecg_beat_model import Plan, member_logits, released, train
from export.recipes.recipe import HERE, written
from export.spec import Model
from export.to_onnx import require_same, to_onnx

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

NAME, FP32 = "ecg-beat", "model.fp32.onnx"
SEED = 20
FOLDS = 7
SAME = 1e-4
"""Largest difference of a logit that exporting may cause."""


def main(argv: Sequence[str] | None = None) -> int:
    """Build the bundle; the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", default=str(REFERENCE / NAME), help="folder of the bundle")
    parser.add_argument("--key", help="PEM private key; default: a new one, forgotten")
    options = parser.parse_args(argv)
    try:
        return make(os.environ.get("MEDGE_DATA"), options.out, options.key)
    except MedgeError as error:
        print(error, file=sys.stderr)
        return 2


def make(data: str | None, out: str, key: str | None) -> int:
    """Evaluate, calibrate, train on everything, export, build."""
    beats = load(data_folder(data), [r for r in DS1 if r not in EXCLUDED])
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
    text = card.write(stated, _details(calibration, artefact_logits))
    files = written("ecg_beat", _files(module, beats, text))
    trained = Trained(Model(onnx=files.pop(FP32)), files, _output(calibration))
    return build_bundle(str(HERE / "ecg_beat.toml"), out, key, data, trained=trained)


def _output(calibration: figures.Calibration) -> dict[str, float]:
    """What the manifest's output says of it; the bias is in the model."""
    return {
        "temperature": calibration.temperature,
        "min_probability": calibration.min_probability,
        "conformal_quantile": calibration.quantile,
    }


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
    """The model, its card and statistics; the export checked on real and random windows."""
    rng = np.random.default_rng(SEED)
    some = beats.take(rng.choice(len(beats.label), 512, replace=False))
    random = Beats(
        rng.normal(size=some.window.shape).astype(np.float32), some.rr, some.label, some.record, {}
    )
    onnx = to_onnx(module, _inputs(some), ["logits"])
    for windows in (some, random):
        require_same(onnx, lambda x: _answers(module, x), _inputs(windows), ["logits"], SAME)
    return {
        FP32: onnx,
        "reference.npz": npz(_statistics(beats, _answers(module, _inputs(beats)))),
        "card.md": text.encode(),
    }


def _inputs(beats: Beats) -> dict[str, NDArray[np.float32]]:
    return {"beat": beats.window, "rr": beats.rr}


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


if __name__ == "__main__":
    sys.exit(main())
