"""The builder's child on every version of `tensorrt`: a stand-in has each version's names only."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edge.engines import tensorrt_child
from edge.engines.tensorrt_build import Request, build_plan
from edge.errors import StartError

pytestmark = pytest.mark.integration
RELEASED = ["10.3.0", "10.13.3", "11.4.0"]
Fake = Callable[[str], Path]
REQUEST = Request("tensorrt", workspace_mb=3)


@pytest.mark.parametrize("version", RELEASED)
def test_a_plan_is_strongly_typed_and_leaves_its_timings(
    fake_tensorrt: Fake, model: bytes, version: str
) -> None:
    fake_tensorrt(version)
    phases: list[str] = []
    first = build_plan(model, REQUEST, lambda phase, *_: phases.append(phase) or True)
    assert json.loads(first.plan) == {
        "version": version, "asked": True, "strong": True, "known": False, "workspace": 3 << 20,
    }  # fmt: skip
    assert (first.version, set(phases)) == (version, {"building"})
    second = build_plan(model, REQUEST, timing=first.timing)
    assert json.loads(second.plan)["known"]
    assert second.timing == first.timing


def test_a_version_without_what_is_asked_for_by_name_builds_too(
    fake_tensorrt: Fake, model: bytes
) -> None:
    fake_tensorrt("0.0")
    built = build_plan(model, REQUEST, timing=b"of another version")
    assert json.loads(built.plan)["asked"] is False
    assert built.timing == b""


def test_every_guard_is_one_that_the_stand_in_answers_both_ways() -> None:
    """A new `hasattr` needs a version here that has the name and one that lacks it."""
    source = Path(tensorrt_child.__file__).read_text(encoding="utf-8")
    guarded = set(re.findall(r'hasattr\([^,]+, "(\w+)"\)', source))
    assert guarded == {"STRONGLY_TYPED", "create_timing_cache"}
    assert source.count("hasattr(") == len(guarded)


@pytest.mark.parametrize("version", ["10.13.3", "11.4.0"])
def test_timings_of_another_version_are_left_and_nothing_is_held_against_the_model(
    fake_tensorrt: Fake, model: bytes, version: str
) -> None:
    """10 refuses to use them, 11 to read them; both say an error of it."""
    fake_tensorrt("10.3.0")
    old = build_plan(model, REQUEST).timing
    fake_tensorrt(version)
    built = build_plan(model, REQUEST, timing=old)
    assert json.loads(built.plan)["known"] is False
    assert json.loads(built.timing)[0] == version
    assert not built.warnings


@pytest.mark.parametrize("version", RELEASED)
def test_what_it_refuses_is_one_error(fake_tensorrt: Fake, make_cnn: Any, version: str) -> None:
    fake_tensorrt(version)
    with pytest.raises(StartError, match="leaves axes open"):
        build_plan(make_cnn(length="t"), REQUEST)
    with pytest.raises(StartError, match="cancelled"):
        build_plan(make_cnn(), REQUEST, lambda *_: False)
    with pytest.raises(StartError, match="for op: Nope"):
        build_plan(make_cnn().replace(b"Relu", b"Nope"), REQUEST)


def test_the_control_a_stand_in_lacks_what_its_version_lacks(fake_tensorrt: Fake) -> None:
    import importlib.util

    names = {}
    for version in ("10.3.0", "10.13.3", "11.4.0"):
        spec = importlib.util.spec_from_file_location(
            "fake", fake_tensorrt(version) / "tensorrt.py"
        )
        assert spec is not None and spec.loader is not None
        fake = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(fake)
        flags, cache = fake.NetworkDefinitionCreationFlag, fake.ITimingCache
        names[version] = (
            hasattr(flags, "EXPLICIT_BATCH"), hasattr(cache, "queryKeys"),
            hasattr(fake.BuilderFlag, "INT8"), hasattr(fake.IBuilderConfig, "int8_calibrator"),
        )  # fmt: skip
    assert names == {
        "10.3.0": (True, False, True, True),
        "10.13.3": (True, True, True, True),
        "11.4.0": (False, True, False, False),
    }


def test_the_real_builder_takes_its_own_timings_and_is_not_put_off_by_others(model: bytes) -> None:
    pytest.importorskip("tensorrt_rtx")
    first = build_plan(model, Request("tensorrt_rtx"))
    assert first.plan and first.timing
    assert build_plan(model, Request("tensorrt_rtx"), timing=first.timing).plan
    assert build_plan(model, Request("tensorrt_rtx"), timing=b"no timings at all").plan
