"""Trends from the table of rules, and in the course of the released bundle."""

from __future__ import annotations

import math
from typing import Union

import numpy as np
import pytest

from edge.bundle.load import load
from edge.bundle.manifest import Sign, Trend
from edge.engines import open_engine
from edge.pipeline.course import Course
from edge.pipeline.trend import outside, recovering, trends, worsening
from edge.types import Finding

RATE = Sign(name="RespRate", low=12.0, high=20.0, by=4.0, worse=0.5, better=4.5)
MEAN = Sign(name="MAP", low=70.0, by=5.0, worse=-1.0)
TREND = Trend(horizon_steps=4, source="made up", signs=(RATE, MEAN))


def found(name: str, last: float, predicted: float) -> list[str]:
    findings = [Finding(name, "code", 0, 9, value=predicted, unit="u")]
    return [f.name for f in trends({"RespRate": last, "MAP": last}, findings, TREND)]


@pytest.mark.parametrize(
    ("name", "last", "predicted", "trend"),
    [
        ("RespRate", 16.0, 20.4, None),  # 0.4 above 20
        ("RespRate", 16.0, 20.6, "deterioration expected"),
        ("RespRate", 24.0, 24.4, None),  # 0.4 above the last
        ("RespRate", 24.0, 24.6, "deterioration expected"),
        ("RespRate", 16.0, 11.4, "deterioration expected"),  # 0.6 under 12
        ("RespRate", 10.0, 9.4, "deterioration expected"),
        ("RespRate", 10.0, 11.9, None),  # too little outside to recover
        ("RespRate", 26.0, 21.4, "recovery expected"),  # 4.6 less far
        ("RespRate", 26.0, 21.6, None),
        ("RespRate", 7.0, 12.0, "recovery expected"),
        (
            "RespRate",
            28.0,
            9.0,
            "deterioration expected",
        ),  # the worse is told
        ("MAP", 90.0, 72.0, None),
        ("MAP", 90.0, 70.9, "deterioration expected"),  # 0.9 short of 70
        ("MAP", 60.0, 60.9, "deterioration expected"),
        ("MAP", 60.0, 75.0, None),  # no threshold for better
        ("MAP", 200.0, 260.0, None),  # no limit above
    ],
)
def test_the_first_rule_that_holds(
    name: str, last: float, predicted: float, trend: str | None
) -> None:
    assert found(name, last, predicted) == ([] if trend is None else [f"{name} {trend}"])


def test_what_is_not_predicted_has_no_trend() -> None:
    assert found("HR", 16.0, 30.0) == []


def test_a_trend_carries_the_predicted_value() -> None:
    findings = [Finding("RespRate", "MDC_RESP_RATE", 1, 9, value=22.0, unit="/min")]
    (trend,) = trends({"RespRate": 16.0, "MAP": 80.0}, findings, TREND)
    assert trend == Finding("RespRate deterioration expected", "", 1, 9, value=22.0, unit="/min")


def test_scores_of_arrays_are_those_of_each_value() -> None:
    last, predicted = np.random.default_rng(0).uniform(4, 40, (2, 50)).astype(np.float32)
    for rule in (worsening, recovering):
        each = [float(rule(float(a), float(b), RATE)) for a, b in zip(last, predicted)]
        assert rule(last, predicted, RATE).tolist() == pytest.approx(each, rel=1e-5)
    assert float(outside(16.0, RATE)) == -4.0
    assert float(recovering(23.9, 16.0, RATE)) == -math.inf


Rows = list[dict[str, Union[float, None]]]
LOW: Rows = [{"SysABP": 92.0, "DiasABP": 46.0, "MAP": 60.0, "RespRate": 17.0, "HR": 95.0}]
USUAL: Rows = [{"SysABP": 125.0, "DiasABP": 65.0, "MAP": 85.0, "RespRate": 17.0, "HR": 85.0}]


def told(rows: Rows, saved_at: int | None = None) -> list[set[str]]:
    """Names of the trends told in each hour by the released bundle."""
    bundle = load("icu-vitals")
    model = bundle.files[bundle.manifest.precisions["fp32"].file]
    names = []
    with open_engine("onnxruntime", model, "fp32") as engine:
        course = Course(bundle.manifest, engine)
        for t, row in enumerate(rows):
            if t == saved_at:
                kept, course = course.save("d"), Course(bundle.manifest, engine)
                course.restore(kept, "d")
            names.append({f.name for f in course.step(row).findings if f.name[-8:] == "expected"})
    return names


def test_a_low_pressure_that_rose_for_an_hour_is_expected_to_fall_again() -> None:
    assert "MAP deterioration expected" in told([*LOW * 8, {"SysABP": 112.0, "MAP": 71.0}])[-1]
    assert not any(told([*USUAL * 8, {"SysABP": 128.0, "MAP": 87.0}]))  # control


def test_a_usual_pressure_that_fell_for_an_hour_is_expected_to_come_back() -> None:
    assert "MAP recovery expected" in told([*USUAL * 8, {"SysABP": 70.0, "MAP": 45.0}])[-1]
    assert "MAP recovery expected" not in told([*LOW * 8, {"SysABP": 70.0, "MAP": 58.0}])[-1]


def test_nothing_is_told_of_a_sign_silent_too_long() -> None:
    fell: Rows = [*USUAL * 8, {"SysABP": 70.0, "MAP": 45.0}, *[{"HR": 85.0}] * 4]
    *known, silent = told(fell)[-5:]
    assert all("MAP recovery expected" in names for names in known)
    assert not silent


def test_a_restored_course_tells_the_same() -> None:
    rows: Rows = [*LOW * 8, *[{"SysABP": 112.0, "MAP": 71.0}] * 2]
    assert told(rows, saved_at=8) == told(rows)
    assert told(rows[8:]) != told(rows)[8:]  # control: begun anew
