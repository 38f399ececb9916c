"""The recipe's figures: counted as the card says they are, and no fold judged by itself."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edge.ec57 import CLASSES, match
from export.recipes import ecg_beat_figures as figures
from export.recipes.ecg_beat_data import DS1, EXCLUDED, Beats, artefacts, load

RECORDS = ("a", "b", "c", "d")


def beats(size: int = 400, missed: int = 0) -> Beats:
    rng = np.random.default_rng(0)
    label = rng.choice(5, size, p=(0.6, 0.15, 0.15, 0.05, 0.05))
    record = np.array([RECORDS[i % 4] for i in range(size)])
    window = rng.normal(size=(size, 3, 200)).astype(np.float32)
    rr = np.zeros((size, 9), np.float32)
    return Beats(window, rr, label, record, dict.fromkeys(RECORDS, (0, 0, missed, 0, 0)))


def logits_of(answer: np.ndarray, height: float = 9.0) -> np.ndarray:
    return (height * np.eye(5)[answer]).astype(np.float32)


def test_beats_match_within_150_ms_once_and_nearest_first() -> None:
    ours, theirs = np.array([1.0, 1.1, 2.0, 5.0]), np.array([1.09, 2.14, 4.80])
    assert match(ours, theirs) == {1: 0, 2: 1}
    assert match(ours, theirs + 0.02) == {1: 0}  # control: 160 ms is too far


def test_perfect_answers_are_perfect() -> None:
    some = beats()
    found = figures.figures(logits_of(some.label), some, 1.0)
    for name in CLASSES:
        assert found["classes"][name]["sensitivity"]["value"] == 1
        assert found["classes"][name]["positive_predictivity"]["value"] == 1
    assert figures.shortfall(found["classes"]) == []
    assert found["calibration"]["expected_calibration_error"] < 0.01


def test_missed_and_withheld_beats_count_as_missed() -> None:
    some = beats(missed=10)
    logits = logits_of(some.label)
    first_v = np.flatnonzero(some.label == figures.V)[:5]
    logits[first_v] = 0  # five equal probabilities: low confidence
    found = figures.figures(logits, some, 1.0)
    v = int((some.label == figures.V).sum())
    rate = found["classes"]["V"]
    assert rate["sensitivity"]["value"] == pytest.approx((v - 5) / (v + 40), abs=1e-4)
    assert rate["positive_predictivity"]["value"] == 1
    assert found["confusion"]["V"][5] == 5


def test_every_other_class_counts_against_positive_predictivity() -> None:
    some = beats()
    answer = np.where(some.label == figures.F, figures.V, some.label)
    found = figures.figures(logits_of(answer), some, 1.0)
    v, f = (int((some.label == c).sum()) for c in (figures.V, figures.F))
    value = found["classes"]["V"]["positive_predictivity"]["value"]
    assert value == pytest.approx(v / (v + f), abs=1e-4)


def test_intervals_come_from_records() -> None:
    """One bad record of four makes a wide interval; the same errors spread over all do not."""
    some = beats()
    is_v = some.label == figures.V
    in_one = is_v & (some.record == "a")
    spread = is_v & (np.cumsum(is_v) % 4 == 0)
    widths = []
    for wrong in (in_one, spread):
        answer = np.where(wrong, 0, some.label)
        low, high = figures.figures(logits_of(answer), some, 1.0)["classes"]["V"]["sensitivity"][
            "interval"
        ]
        widths.append(high - low)
    assert widths[0] > 0.5 > widths[1]


def test_targets_that_are_missed_are_said() -> None:
    some = beats()
    found = figures.figures(logits_of(np.zeros(400, int)), some, 1.0)
    assert len(figures.shortfall(found["classes"])) == 4


def test_bias_of_a_fold_does_not_depend_on_its_own_labels() -> None:
    some = beats()
    rng = np.random.default_rng(1)
    logits = rng.normal(size=(400, 5)).astype(np.float32) + logits_of(some.label, 1.5)
    folds = [["a"], ["b"], ["c", "d"]]
    before = figures.cross_fitted(logits, some, folds)
    inside = some.record == "a"
    label = np.where(inside, 0, some.label)
    changed = Beats(some.window, some.rr, label, some.record, some.missed)
    after = figures.cross_fitted(logits, changed, folds)
    np.testing.assert_array_equal(before[inside], after[inside])
    assert not np.array_equal(before[~inside], after[~inside])  # control


def test_folds_hold_every_record_once() -> None:
    folds = figures.make_folds(beats(), 3)
    assert sorted(r for fold in folds for r in fold) == list(RECORDS)


def test_artefacts_are_unclassifiable_and_large() -> None:
    some = beats()
    noise = artefacts(some, 50, np.random.default_rng(0))
    assert set(noise.label) == {CLASSES.index("Q")}
    assert noise.window.shape == (50, 3, 200)
    height = np.abs(noise.window[:, 1]).max(1)
    assert (noise.window[:, 0].std(1) > 0.5 * height).all()


def test_what_is_released_is_the_mean_of_the_members() -> None:
    """Members of two and of three channels, with batch norms that have seen data; one layer of each
    kind is left of all of them."""
    torch = pytest.importorskip("torch")
    from export.recipes import ecg_beat_model as model

    torch.manual_seed(0)
    members = [model.network(channels) for channels in (2, 3, 2)]
    for member in members:
        for layer in member.shape:
            if isinstance(layer, torch.nn.BatchNorm1d):
                for part in (layer.running_mean, layer.bias, layer.weight):
                    part.data = torch.randn_like(part)
                layer.running_var.data = 0.5 + torch.rand_like(layer.running_var)
        member.eval()
    some, bias = beats(), np.array([0.0, 1.0, -1.0, 2.0, -2.0])
    module = model.released(members, bias)
    assert sum(isinstance(m, torch.nn.Conv1d) for m in module.modules()) == 5
    with torch.no_grad():
        found = module(torch.from_numpy(some.window), torch.from_numpy(some.rr)).numpy()
    each = model.member_logits(members, some)
    np.testing.assert_allclose(found, each.mean(0) + bias, atol=2e-5 * np.abs(each).max())
    assert np.abs(found - each[:2].mean(0) - bias).max() > 0.01  # control: one member less


def test_no_one_trains_on_208() -> None:
    assert EXCLUDED == ("208",)
    assert len(DS1) == 22


def test_windows_of_a_real_record(medge_data: Path) -> None:
    """Record 119: 444 V, 1543 N; nearly all are found, and V are twice as far from usual."""
    some = load(medge_data, ["119"])
    counts = np.bincount(some.label, minlength=5) + np.array(some.missed["119"])
    assert counts[0] == 1543
    assert counts[2] == 444
    assert sum(some.missed["119"]) <= 5
    far = np.abs(some.window[:, 0] - some.window[:, 1]).mean(1)
    assert np.median(far[some.label == 2]) > 2 * np.median(far[some.label == 0])
