"""Trend findings: what counts as their event, when they may be told, and what the released bundle
tells on stays that it never saw."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from calibration.collect import answers
from edge.bundle.load import load
from edge.bundle.manifest import Sign, Trend
from edge.pipeline.trend import DETERIORATION, RECOVERY, outside
from edge.signals.rows import NEVER_STEPS, SINCE, VALUE
from export.recipes import icu_trend, icu_vitals
from export.recipes.icu_data import NAMES, Stays
from export.recipes.icu_trend import Proof, events, lines, score, told, unproved

MEAN = Sign(name="MAP", low=70.0, by=5.0, worse=0.0, better=0.0)
MARGIN = 0.01
"""The share of hours in which a precision may tell otherwise than FP32: the bundle's own margin."""

PROOF = Proof("MAP", DETERIORATION, 9, 0.5, (0.7,) * 4, (0.6,) * 4, (0.01, 0.1), (0.01, 0.1), 1.5)


def stays(pressures: list[float]) -> Stays:
    """One stay with a mean pressure each hour, NaN where none was measured."""
    values = np.full((1, len(pressures), len(NAMES)), np.nan, np.float32)
    planes = np.zeros((1, len(pressures), 3, len(NAMES)), np.float32)
    column, last, since = NAMES.index("MAP"), 0.0, NEVER_STEPS
    for t, pressure in enumerate(pressures):
        known = pressure == pressure
        last, since = (pressure, 0.0) if known else (last, since + 1)
        values[0, t, column] = pressure
        planes[0, t, VALUE, column], planes[0, t, SINCE, column] = last, since
    return Stays(values, planes, np.zeros(1, np.int64), np.array(["1"]))


def test_deterioration_is_a_step_further_outside_within_four_hours() -> None:
    known, event = events(stays([80, 80, 80, 80, 80, 64, 61, 59]), MEAN, DETERIORATION)
    assert known[0].tolist() == [True] * 7 + [False]  # nothing comes after the last
    assert event[0, :7].tolist() == [False, True, True, True, True, True, False]


def test_recovery_is_a_step_less_far_in_the_mean_of_four_hours() -> None:
    known, event = events(stays([60, 80, 60, 80, 80, 80, 66, 80]), MEAN, RECOVERY)
    assert known[0].tolist() == [True, False, True, False, False, False, False, False]
    assert event[0, [0, 2]].tolist() == [True, True]  # (0, 10, 0, 0) and (0, 0, 0, 4) outside
    assert not events(stays([60, 80, 60, 60, 60]), MEAN, RECOVERY)[1][0, 0]


def test_hours_that_cannot_be_judged() -> None:
    nan = float("nan")
    known, _ = events(stays([80, nan, nan, nan, nan, 80, nan]), MEAN, DETERIORATION)
    assert known[0].tolist() == [False, True, True, True, False, False, False]


def test_the_area_is_the_share_of_pairs_in_order() -> None:
    rng = np.random.default_rng(0)
    found, truth = rng.integers(0, 9, 200).astype(np.float32), rng.random(200) < 0.4
    pairs = found[truth][:, None] - found[~truth]
    expected = (pairs > 0).mean() + (pairs == 0).mean() / 2
    assert icu_trend._area(found, truth) == pytest.approx(expected)


def test_only_what_beats_the_control_is_told_and_never_recovery_alone() -> None:
    better = replace(PROOF, finding=RECOVERY, least=9.0)
    assert told([PROOF, better]) == {("MAP", DETERIORATION): 1.5, ("MAP", RECOVERY): 9.0}
    for broken in (replace(PROOF, area=(-0.01, 0.1)), replace(PROOF, told=(0.0, 0.1))):
        assert told([broken, better]) == {}
    assert [row.split(" | ")[-1] for row in lines([broken, better])] == ["no |", "no |"]


def test_a_manifest_that_says_otherwise_is_named() -> None:
    def trend(**thresholds: Any) -> Trend:
        sign = Sign(name="MAP", low=70.0, by=5.0, **thresholds)
        return Trend(horizon_steps=4, source="", signs=(sign,))

    assert unproved(trend(worse=1.5), [PROOF]) == []
    assert "1.5, not 1.4" in unproved(trend(worse=1.4), [PROOF])[0]
    other = (msgspec.structs.replace(trend(worse=1.5).signs[0], by=6.0),)
    for changed, why in (({"horizon_steps": 5}, "4 steps"), ({"signs": other}, "not judged")):
        assert why in unproved(msgspec.structs.replace(trend(worse=1.5), **changed), [PROOF])[0]
    better = replace(PROOF, finding=RECOVERY, area=(-1.0, 1.0))
    assert "None, not 2.0" in unproved(trend(worse=1.5, better=2.0), [PROOF, better])[0]


def test_the_released_trend_is_what_its_card_proves() -> None:
    card = load("icu-vitals").files["card.md"].decode()
    rows = re.findall(rf"^\| (\w+) ({DETERIORATION}|{RECOVERY}) \|.*\| (.+) \|$", card, re.M)
    shown = {(sign, finding): float(x.split()[1]) for sign, finding, x in rows if x != "no"}
    trend = load("icu-vitals").manifest.trend
    assert trend is not None and unproved(trend, []) == []
    declared = {(s.name, DETERIORATION): s.worse for s in trend.signs}
    assert shown == declared | {(s.name, RECOVERY): s.better for s in trend.signs}


def judged(data: Path) -> Stays:
    everybody = icu_vitals.read_stays(data)
    kept = icu_vitals.part(len(everybody.died), "judged")
    return Stays(*(getattr(everybody, n)[kept] for n in ("values", "planes", "died", "record")))


def predicted(data: Path, precision: str) -> np.ndarray:
    """`[n, 48, 10]` by the released bundle."""
    bundle = load("icu-vitals")
    gate = replace(icu_vitals.gate(data), carried=bundle.manifest.states)
    return answers(bundle.files[f"model.{precision}.onnx"], "next_hour", gate).reshape(-1, 48, 10)


def thresholds() -> Iterator[tuple[Sign, int, str, float]]:
    """Each finding that is told: its sign, that one's place in the output, and its threshold."""
    trend = load("icu-vitals").manifest.trend
    assert trend is not None
    for sign in trend.signs:
        at = icu_vitals.PREDICTED.index(NAMES.index(sign.name))
        for finding, least in ((DETERIORATION, sign.worse), (RECOVERY, sign.better)):
            assert least is not None
            yield sign, at, finding, least


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8", "int8u"])
def test_on_stays_it_never_saw(precision: str, medge_data: Path, capsys: Any) -> None:
    """Each finding comes true oftener than by chance, and oftener than where predictions are those
    of other stays (control); INT8 tells what FP32 tells."""
    some = judged(medge_data)
    exact, given = (predicted(medge_data, name) for name in ("fp32", precision))
    for sign, at, finding, least in thresholds():
        known, event = events(some, sign, finding)
        before, told_now, other = (
            (score(some, x[..., at], sign, finding) >= least)[known]
            for x in (exact, given, np.roll(given, 1, 0))
        )
        truth = event[known]
        with capsys.disabled():
            print(
                f"\n[trend {precision}] {sign.name} {finding}: {truth[told_now].mean():.3f} come "
                f"true, {truth.mean():.3f} happen, {truth[other].mean():.3f} control, "
                f"{(told_now != before).mean():.4f} told otherwise than FP32"
            )
        assert truth[told_now].mean() > 1.5 * truth.mean()
        assert truth[told_now].mean() > truth[other].mean() + 0.05
        assert (told_now != before).mean() < MARGIN


@pytest.mark.slow
def test_what_has_just_got_worse_is_expected_to_come_back(medge_data: Path, capsys: Any) -> None:
    """A limit that the card states: signs mostly go back, so a deterioration that goes on is hardly
    ever told. Recovery is not told lightly there either."""
    some, given = judged(medge_data), predicted(medge_data, "fp32")
    for sign, at, finding, least in thresholds():
        last, change = icu_trend._last_change(some, NAMES.index(sign.name))
        now, before = outside(last, sign), np.maximum(outside(last - change, sign), 0)
        known, event = events(some, sign, finding)
        hours = known & (now - before >= sign.by)
        alarm, truth = (score(some, given[..., at], sign, finding) >= least)[hours], event[hours]
        true, found = truth[alarm].mean(), alarm[truth].mean()
        with capsys.disabled():
            print(f"\n[trend, just worse] {sign.name} {finding}: {true:.3f} come true, "
                  f"{truth.mean():.3f} happen, {found:.3f} of those told")  # fmt: skip
        assert found < 0.1 if finding == DETERIORATION else true > truth.mean() + 0.1
