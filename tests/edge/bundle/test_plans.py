"""Plans of a bundle: built once, kept with the builder's timings, never where others can write."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from edge.bundle import plans
from edge.bundle.load import load
from edge.bundle.plans import Order, build_plans, key_of, plans_of, timing_key
from edge.engines.plan_cache import fetch, store
from edge.errors import StartError

pytestmark = pytest.mark.integration
Fake = Callable[[str], Path]


def told() -> tuple[list[str], Callable[[str], None]]:
    lines: list[str] = []
    return lines, lines.append


def test_each_precision_that_the_target_takes_is_built_once(tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx")
    bundle, order = load("pneumonia"), Order("tensorrt_rtx", tmp_path)
    lines, say = told()
    first = plans_of(bundle, order, say)
    assert set(first) == {"fp32", "fp16", "int8"}
    assert "int8u" in bundle.manifest.precisions
    assert not any(p.cached or p.refused for p in first.values())
    assert sum("building the" in line for line in lines) == 3
    lines, say = told()
    again = plans_of(bundle, order, say)
    assert all(p.cached and p.seconds == 0 for p in again.values())
    assert len(lines) == 3 and all("cached" in line for line in lines)
    assert {n: p.key for n, p in again.items()} == {n: p.key for n, p in first.items()}
    assert fetch(order.folder, first["int8"].key) is not None


def test_timings_pass_from_build_to_build(
    fake_tensorrt: Fake, make_bundle: Any, tmp_path: Path
) -> None:
    fake_tensorrt("10.3.0")
    bundle, order = load(make_bundle().folder, allow_unsigned=True), Order("tensorrt", tmp_path)
    (first,) = plans_of(bundle, order, print).values()
    kept = fetch(order.folder, timing_key("tensorrt"))
    assert kept is not None and json.loads(kept)[0] == "10.3.0"
    (order.folder / f"{first.key}.plan").unlink()
    (again,) = plans_of(bundle, order, print).values()
    plan = fetch(order.folder, again.key)
    assert plan is not None and json.loads(plan)["known"]


def test_timings_that_others_wrote_reach_no_builder(
    fake_tensorrt: Fake, make_bundle: Any, tmp_path: Path
) -> None:
    fake_tensorrt("10.3.0")
    bundle, order = load(make_bundle().folder, allow_unsigned=True), Order("tensorrt", tmp_path)
    (first,) = plans_of(bundle, order, print).values()
    (order.folder / f"{first.key}.plan").unlink()
    timings = order.folder / f"{timing_key('tensorrt')}.plan"
    timings.write_bytes(timings.read_bytes()[:-1] + b"}")
    (again,) = plans_of(bundle, order, print).values()
    plan = fetch(order.folder, again.key)
    assert plan is not None and not json.loads(plan)["known"]


def test_another_version_builds_its_own(
    fake_tensorrt: Fake, make_bundle: Any, tmp_path: Path
) -> None:
    """Also where the package carries no record of its version, as JetPack's may."""
    bundle, order = load(make_bundle().folder, allow_unsigned=True), Order("tensorrt", tmp_path)
    keys = set()
    for version in ("10.3.0", "10.13.3", "11.4.0"):
        fake_tensorrt(version)
        (plan,) = plans_of(bundle, order, print).values()
        assert not plan.cached
        keys.add(plan.key)
    assert len(keys) == 3


def test_a_plan_that_cannot_be_built_is_an_error_only_where_it_is_required(
    fake_tensorrt: Fake, make_bundle: Any, tmp_path: Path
) -> None:
    (fake_tensorrt("10.3.0") / "tensorrt.py").write_text("raise ImportError('libnvinfer.so.10')")
    bundle = load(make_bundle().folder, allow_unsigned=True)
    with pytest.raises(StartError, match=r"libnvinfer\.so\.10"):
        plans_of(bundle, Order("tensorrt", tmp_path), print)
    lines, say = told()
    (plan,) = plans_of(bundle, Order("tensorrt", tmp_path, required=False), say).values()
    assert "libnvinfer.so.10" in plan.refused and not plan.size
    assert "no plan" in lines[-1]


def test_a_cache_that_cannot_be_written_is_one_error(
    fake_tensorrt: Fake, make_bundle: Any, tmp_path: Path
) -> None:
    fake_tensorrt("10.3.0")
    (tmp_path / "plans").write_text("in the way")
    bundle = load(make_bundle().folder, allow_unsigned=True)
    with pytest.raises(StartError, match="cannot be kept"):
        plans_of(bundle, Order("tensorrt", tmp_path), print)


def test_a_build_and_the_bundle_packed_of_it_share_their_plans(
    fake_tensorrt: Fake, make_bundle: Any, tmp_path: Path
) -> None:
    fake_tensorrt("10.3.0")
    bundle, order = load(make_bundle().folder, allow_unsigned=True), Order("tensorrt", tmp_path)
    unpacked = msgspec.structs.replace(bundle.manifest, files={}, latency_budget_ms=1000)
    models = {"fp32": bundle.files["model.fp32.onnx"]}
    build_plans(unpacked, models, bundle.files, order, print)
    assert all(plan.cached for plan in plans_of(bundle, order, print).values())


def test_everything_is_in_the_key(make_bundle: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = load(make_bundle().folder, allow_unsigned=True)
    m, files, model = bundle.manifest, bundle.files, bundle.files["model.fp32.onnx"]
    keys = [
        key_of(model, m, files, "tensorrt_rtx"),
        key_of(model + b"\0", m, files, "tensorrt_rtx"),
        key_of(model, m, files, "tensorrt"),
        key_of(model, m, {**files, "calibration.json": b"{}"}, "tensorrt_rtx"),
        key_of(model, msgspec.structs.replace(m, version="9"), files, "tensorrt_rtx"),
    ]
    monkeypatch.setattr(plans, "machine", lambda: {"driver": "9", "gpu": "x", "power_mode": "y"})
    keys += [key_of(model, m, files, "tensorrt_rtx"), timing_key("tensorrt_rtx")]
    assert len(set(keys)) == len(keys)


def test_the_first_package_that_is_there_is_used(
    fake_tensorrt: Fake, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_tensorrt("10.3.0")
    assert plans.importable() == "tensorrt"
    monkeypatch.setattr(plans, "MODULES", ("tensorrt_that_is_not_there",))
    assert plans.importable() is None


def test_the_control_a_plan_of_another_key_is_not_taken(
    fake_tensorrt: Fake, make_bundle: Any, tmp_path: Path
) -> None:
    fake_tensorrt("10.3.0")
    bundle, order = load(make_bundle().folder, allow_unsigned=True), Order("tensorrt", tmp_path)
    (plan,) = plans_of(bundle, order, print).values()
    path = order.folder / f"{plan.key}.plan"
    store(order.folder, "0" * 64, b"native code").replace(path)
    (again,) = plans_of(bundle, order, print).values()
    assert not again.cached and fetch(order.folder, again.key) != b"native code"
