"""Courses of rows on the released recurrent bundles: one patient never touches another, nothing is
told of silence, and a saved course goes on exactly where it stopped."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest

from edge.bundle.load import load
from edge.engines import Engine, open_engine
from edge.errors import StartError
from edge.pipeline.course import Course
from edge.types import Reason

BUNDLES = ["icu-mortality", "icu-vitals"]
PRECISIONS = ["fp32", "fp16", "int8", "int8u"]


@contextmanager
def engine_of(name: str, precision: str = "fp32") -> Iterator[Engine]:
    bundle = load(name)
    model = bundle.files[bundle.manifest.precisions[precision].file]
    with open_engine("onnxruntime", model, precision) as engine:
        yield engine


def course(name: str, engine: Engine) -> Course:
    return Course(load(name).manifest, engine)


def stay(seed: int, hours: int = 24) -> list[dict[str, float | None]]:
    """Invented vital signs, some of them missing."""
    rng = np.random.default_rng(seed)
    usual = {"HR": 85.0, "MAP": 75.0, "SysABP": 120.0, "RespRate": 18.0, "Temp": 37.0, "GCS": 14.0}
    return [
        {name: x * (1 + 0.05 * rng.normal()) for name, x in usual.items() if rng.random() < 0.7}
        for _ in range(hours)
    ]


def told(some: Course, rows: list[dict[str, float | None]]) -> list[Any]:
    return [some.step(row) for row in rows]


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("name", BUNDLES)
def test_two_patients_on_one_engine_are_as_each_alone(name: str, precision: str) -> None:
    """Bit for bit; with the states mixed up (control) they are not."""
    first, second = stay(1), stay(2)
    with engine_of(name, precision) as engine:
        alone = [told(course(name, engine), rows) for rows in (first, second)]
        beds = [course(name, engine), course(name, engine)]
        turns = [[bed.step(row) for bed, row in zip(beds, pair)] for pair in zip(first, second)]
        assert [list(x) for x in zip(*turns)] == alone
        shared = course(name, engine)
        mixed = [[shared.step(row) for row in pair] for pair in zip(first, second)]
        assert [list(x) for x in zip(*mixed)] != alone


@pytest.mark.parametrize("name", BUNDLES)
def test_a_saved_course_goes_on_where_it_stopped(name: str) -> None:
    rows, digest = stay(3), load(name).digest
    with engine_of(name) as engine:
        whole = told(course(name, engine), rows)
        before = course(name, engine)
        told(before, rows[:10])
        after = course(name, engine)
        after.restore(before.save(digest), digest)
        assert told(after, rows[10:]) == whole[10:]
        assert told(course(name, engine), rows[10:]) != whole[10:]  # control: begun anew


def test_a_state_of_another_bundle_or_precision_is_refused() -> None:
    digest = load("icu-vitals").digest
    with engine_of("icu-vitals") as engine, engine_of("icu-vitals", "int8") as other:
        some = course("icu-vitals", engine)
        told(some, stay(4)[:3])
        saved = some.save(digest)
        for data, of, into, why in (
            (saved, "0" * 64, some, "comes from bundle"),
            (saved, digest, course("icu-vitals", other), "made at fp32"),
            (saved[:-1], digest, some, "cannot be read"),
            (b"", digest, some, "cannot be read"),
        ):
            with pytest.raises(StartError, match=why):
                into.restore(data, of)
        fresh = course("icu-vitals", engine)
        fresh.restore(saved, digest)  # control: its own is taken
        assert fresh.steps == 3


def test_a_state_of_other_parts_is_refused() -> None:
    """As another model's would be, were its digest forged."""
    with engine_of("icu-vitals") as engine, engine_of("icu-mortality") as other:
        foreign = course("icu-mortality", other).save("d")
        with pytest.raises(StartError, match="do not fit"):
            course("icu-vitals", engine).restore(foreign, "d")


@pytest.mark.parametrize("name", BUNDLES)
def test_nothing_is_told_after_long_silence(name: str) -> None:
    with engine_of(name) as engine:
        some = course(name, engine)
        never = some.step({})
        assert (never.reason, never.detail) == (Reason.STALE, "nothing measured yet")
        assert some.step({"HR": 80.0}).findings
        answers = [some.step({}) for _ in range(5)]
        assert [a.reason for a in answers] == [None] * 3 + [Reason.STALE] * 2
        assert some.step({"HR": 82.0}).findings


def test_a_sign_that_was_not_measured_is_not_told() -> None:
    with engine_of("icu-vitals") as engine:
        some = course("icu-vitals", engine)
        assert [f.name for f in some.step({"HR": 80.0, "Temp": 37.0}).findings] == ["HR", "Temp"]
        for _ in range(3):
            assert [f.name for f in some.step({"HR": 80.0}).findings] == ["HR", "Temp"]
        assert [f.name for f in some.step({"HR": 80.0}).findings] == ["HR"]


def test_impossible_values_are_named_and_change_nothing() -> None:
    with engine_of("icu-vitals") as engine:
        with_it, without = course("icu-vitals", engine), course("icu-vitals", engine)
        for some in (with_it, without):
            some.step({"HR": 80.0, "Temp": 37.0})
        assert with_it.step({"HR": 900.0, "Temp": 37.1}) == without.step({"Temp": 37.1})
        assert with_it.impossible == ("HR",)


def test_a_broken_state_is_begun_anew() -> None:
    class Broken:
        precision, holder = "fp32", None

        def __init__(self, real: Engine) -> None:
            self.inputs, self.outputs, self.real, self.breaks = (
                real.inputs,
                real.outputs,
                real,
                True,
            )

        def run(self) -> None:
            self.real.run()
            if self.breaks:
                self.outputs["h_next"][0, 3] = np.nan

    with engine_of("icu-mortality") as engine:
        broken = Broken(engine)
        some = Course(load("icu-mortality").manifest, broken)  # type: ignore[arg-type]
        found = some.step({"HR": 80.0})
        assert (found.reason, some.steps) == (Reason.OUT_OF_RANGE, 0)
        broken.breaks = False
        assert some.step({"HR": 80.0}) == course("icu-mortality", engine).step({"HR": 80.0})


def test_only_rows_have_a_course() -> None:
    with engine_of("icu-vitals") as engine, pytest.raises(StartError, match="no rows"):
        Course(load("pneumonia").manifest, engine)
