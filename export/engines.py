"""TensorRT plans of a build's precisions, on the machine that builds them."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import packages_distributions, version
from typing import TYPE_CHECKING

import msgspec

from edge.engines.plan_cache import fetch, machine, plan_key, store
from edge.engines.tensorrt_build import Request, build_plan

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from export.build import Built

PRECISIONS = ("fp32", "fp16", "int8")
"""INT8 as uint8 is ONNX Runtime's dialect: TensorRT refuses it."""


@dataclass(frozen=True, slots=True)
class Plan:
    """A plan in the cache: its key, size in bytes, and seconds to build (0: it was there)."""

    key: str
    size: int
    seconds: float


def build_plans(
    built: Built, module: str, state_dir: Path, say: Callable[[str], None]
) -> dict[str, Plan]:
    """Plans for batch 1 of every precision that TensorRT takes, in the cache of `state_dir`."""
    plans = {}
    for name in (p for p in PRECISIONS if p in built.models):
        request = Request(module)
        recipe = {
            "manifest": msgspec.json.encode(built.manifest).decode(),
            "calibration": built.files.get("calibration.json", b"").decode(),
        }
        settings = {"version": _version(module), "request": msgspec.json.encode(request).decode()}
        key = plan_key(built.models[name], recipe, settings | machine())
        kept, seconds = fetch(state_dir / "plans", key), 0.0
        if kept is None:
            say(f"building the {name} plan with {module}")
            found = build_plan(built.models[name], request)
            kept, seconds = found.plan, found.seconds
            store(state_dir / "plans", key, kept)
        plans[name] = Plan(key, len(kept), seconds)
    return plans


def _version(module: str) -> str:
    """Of the packages that `module` comes from, without importing it."""
    names = sorted(packages_distributions().get(module, ()))
    return ", ".join(f"{name} {version(name)}" for name in names)
