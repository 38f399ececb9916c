"""Rows with holes: last values, what was measured, how long ago; impossible values never pass."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.bundle.manifest import Quantity
from edge.errors import StartError
from edge.signals.rows import MEASURED, NEVER_STEPS, SINCE, VALUE, FeatureRows

COLUMNS = (
    Quantity(name="HR", code="MDC_ECG_HEART_RATE", unit="/min", low=10, high=300),
    Quantity(name="Temp", code="MDC_TEMP_BODY", unit="Cel", low=25, high=45),
)


def test_three_planes() -> None:
    rows = FeatureRows(COLUMNS)
    assert rows.planes.tolist() == [[0, 0], [0, 0], [NEVER_STEPS] * 2]
    assert rows.step({"HR": 80.0}) == ()
    assert rows.planes.tolist() == [[80, 0], [1, 0], [0, NEVER_STEPS]]
    rows.step({"Temp": 37.0, "HR": None})
    assert rows.planes.tolist() == [[80, 37], [0, 1], [1, 0]]
    rows.reset()
    assert rows.planes[SINCE].tolist() == [NEVER_STEPS] * 2


@pytest.mark.parametrize("value", [9.9, 301.0, -80.0, math.inf, -math.inf])
def test_impossible_values_are_named_and_not_taken(value: float) -> None:
    rows = FeatureRows(COLUMNS)
    rows.step({"HR": 80.0})
    assert rows.step({"HR": value, "Temp": 37.0}) == ("HR",)
    assert rows.planes[:, 0].tolist() == [80, 0, 1]
    assert rows.step({"HR": 300.0}) == ()  # control: the bound itself is possible


def test_an_unknown_column_is_refused() -> None:
    with pytest.raises(StartError, match="'Hr' is no column"):
        FeatureRows(COLUMNS).step({"Hr": 80.0})


@given(st.lists(st.dictionaries(st.sampled_from(["HR", "Temp"]), st.floats() | st.none())))
def test_nothing_but_possible_values_ever_enters(steps: list[dict[str, float | None]]) -> None:
    rows = FeatureRows(COLUMNS)
    for values in steps:
        rows.step(values)
        assert np.isfinite(rows.planes).all()
        for i, column in enumerate(COLUMNS):
            known = rows.planes[SINCE, i] < NEVER_STEPS
            assert not known or column.low <= rows.planes[VALUE, i] <= column.high
            assert rows.planes[MEASURED, i] == (rows.planes[SINCE, i] == 0)
