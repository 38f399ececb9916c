"""Whose states are in a shared engine: each patient's are his own, whoever comes between."""

from __future__ import annotations

import numpy as np
import pytest

from edge.bundle.manifest import State
from edge.errors import BugError
from edge.pipeline.carried import Carried

STATES = (State(input="h", output="h_next", shape=(3,)),)


class Adds:
    """An engine whose next state is ten times the last one and its input."""

    backend, precision, threads = "adds", "fp32", 1
    holder = None

    def __init__(self) -> None:
        self.inputs = {name: np.zeros((1, 3), np.float32) for name in ("x", "h")}
        self.outputs = {"h_next": np.zeros((1, 3), np.float32)}
        self.fails = False

    def run(self) -> None:
        self.outputs["h_next"][...] = 10 * self.inputs["h"] + self.inputs["x"]
        if self.fails:
            raise RuntimeError("failed")

    def close(self) -> None: ...


def step(carried: Carried, engine: Adds, x: float) -> None:
    engine.inputs["x"][...] = x
    carried.before(engine)
    engine.run()
    carried.after(engine)


def digits(carried: Carried) -> float:
    return float(carried.values["h"][0])


def test_in_turns_each_goes_on_with_his_own() -> None:
    engine, a, b = Adds(), Carried(STATES), Carried(STATES)
    for carried, x in ((a, 1), (a, 2), (b, 7), (a, 3), (b, 8), (b, 9), (a, 4)):
        step(carried, engine, x)
    assert (digits(a), digits(b)) == (1234.0, 789.0)


def test_what_is_not_taken_out_is_an_error_and_not_another_patients(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Carried, "_take", lambda _: None)
    engine, a, b = Adds(), Carried(STATES), Carried(STATES)
    step(a, engine, 1)
    step(b, engine, 7)
    with pytest.raises(BugError, match="whose states it has"):
        step(a, engine, 2)


def test_who_has_the_engine_alone_leaves_his_states_there() -> None:
    engine, a = Adds(), Carried(STATES)
    for x in (1, 2, 3):
        step(a, engine, x)
    assert a._values["h"][0] == 0.0
    assert digits(a) == 123.0
    step(a, engine, 4)  # they were asked for between
    assert digits(a) == 1234.0


def test_on_another_engine_he_goes_on_too() -> None:
    first, second, a = Adds(), Adds(), Carried(STATES)
    step(a, first, 1)
    step(a, second, 2)
    step(a, first, 3)
    assert digits(a) == 123.0


def test_reset_forgets_what_is_in_the_engine_and_values_can_be_set() -> None:
    engine, a = Adds(), Carried(STATES)
    step(a, engine, 1)
    a.reset()
    step(a, engine, 2)
    assert digits(a) == 2.0
    a.values["h"][...] = 5.0
    step(a, engine, 3)
    assert digits(a) == 53.0


def test_a_step_that_failed_is_not_gone_on_from_and_hurts_nobody_else() -> None:
    engine, a, b = Adds(), Carried(STATES), Carried(STATES)
    step(a, engine, 1)
    engine.fails = True
    with pytest.raises(RuntimeError):
        step(a, engine, 2)
    engine.fails = False
    with pytest.raises(BugError, match="its states are gone"):
        step(a, engine, 3)
    with pytest.raises(BugError):
        _ = a.values
    step(b, engine, 7)
    assert digits(b) == 7.0
    a.reset()
    step(a, engine, 4)
    assert (digits(a), digits(b)) == (4.0, 7.0)


def test_a_first_step_that_failed_can_be_tried_again() -> None:
    engine, a = Adds(), Carried(STATES)
    a.values["h"][...] = 5.0
    engine.fails = True
    with pytest.raises(RuntimeError):
        step(a, engine, 1)
    engine.fails = False
    step(a, engine, 1)
    assert digits(a) == 51.0


def test_who_interferes_with_a_step_is_told() -> None:
    engine, other, a, b = Adds(), Adds(), Carried(STATES), Carried(STATES)
    a.before(engine)
    step(b, engine, 7)
    with pytest.raises(BugError, match="one step at a time"):
        a.after(engine)
    a.before(engine)
    with pytest.raises(BugError, match="one step at a time"):
        a.after(other)
    step(b, engine, 8)
    engine.holder = None
    with pytest.raises(BugError, match="whose states it has"):
        b.before(engine)
