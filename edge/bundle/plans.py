"""TensorRT plans of a bundle's precisions, built on the machine that will run them.

Owns which precisions have a plan, what a plan's key covers, and the timing cache that spares the
next build its measurements. Both stay in the authenticated cache under the state folder: a plan is
native code, it is never put in a bundle.
"""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass
from importlib.metadata import packages_distributions, version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from edge.bundle.manifest import Manifest
from edge.engines.plan_cache import fetch, machine, plan_key, store
from edge.engines.tensorrt_build import MODULES, Request, build_plan
from edge.errors import StartError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from edge.bundle.load import Bundle
    from edge.engines.tensorrt_build import Built

FOLDER = "plans"
PRECISIONS = ("fp32", "fp16", "int8")
"""INT8 as uint8 is ONNX Runtime's dialect: TensorRT refuses it."""
CALIBRATION = "calibration.json"
QUIET_S = 2.0


@dataclass(frozen=True, slots=True)
class Plan:
    """A plan in the cache: its key, size in bytes, and seconds to build (0: it was there). Where
    there is none, `refused` says why."""

    key: str
    size: int = 0
    seconds: float = 0.0
    cached: bool = False
    refused: str = ""

    def line(self) -> str:
        """For people."""
        if self.refused:
            return f"no plan, {self.refused}"
        how = "cached" if self.cached else f"built in {self.seconds:.2f} s"
        return f"plan {self.key[:16]}, {self.size} bytes, {how}"


@dataclass(frozen=True, slots=True)
class Order:
    """What to build with: the `module`, in which state folder, and whether a precision without a
    plan is an error or only said."""

    module: str
    state_dir: Path
    required: bool = True

    @property
    def folder(self) -> Path:
        return self.state_dir.expanduser() / FOLDER


def importable() -> str | None:
    """The first TensorRT package that is installed here, none of them being loaded."""
    return next((name for name in MODULES if find_spec(name) is not None), None)


def plans_of(bundle: Bundle, order: Order, say: Callable[[str], None]) -> dict[str, Plan]:
    """Plans of an opened bundle; see `build_plans`."""
    models = {name: bundle.model(name) for name in bundle.manifest.precisions}
    return build_plans(bundle.manifest, models, bundle.files, order, say)


def build_plans(
    manifest: Manifest,
    models: Mapping[str, bytes],
    files: Mapping[str, bytes],
    order: Order,
    say: Callable[[str], None],
) -> dict[str, Plan]:
    """Plans for batch 1 of every precision that TensorRT takes, in the cache, by precision.

    Raises `StartError` for the first that cannot be built, where plans are required.
    """
    plans = {}
    for name in (p for p in PRECISIONS if p in models):
        key = key_of(models[name], manifest, files, order.module)
        try:
            plans[name] = _plan(name, models[name], key, order, say)
        except StartError as error:
            if order.required:
                raise
            plans[name] = Plan(key, refused=error.cause)
        say(f"{name}: {plans[name].line()}")
    return plans


def key_of(model: bytes, manifest: Manifest, files: Mapping[str, bytes], module: str) -> str:
    """The plan's name in the cache: the same for a build and for the bundle that it is packed in,
    whose manifest only has the files' hashes besides."""
    bare = msgspec.json.encode(msgspec.structs.replace(manifest, files={}))
    same = msgspec.json.encode(msgspec.json.decode(bare, type=Manifest))  # 1 and 1.0 are one
    recipe = {
        "manifest": same.decode(),
        "calibration": files.get(CALIBRATION, b"").decode("latin-1"),
    }
    request = msgspec.json.encode(Request(module)).decode()
    return plan_key(model, recipe, {"request": request, "version": _version(module), **machine()})


def timing_key(module: str) -> str:
    """The timing cache's name: it belongs to a builder on a machine, not to any model."""
    of_builder = {"timing": module, "version": _version(module), **machine()}
    return plan_key(b"", {}, of_builder)


def _plan(name: str, model: bytes, key: str, order: Order, say: Callable[[str], None]) -> Plan:
    try:
        kept = fetch(order.folder, key)
        if kept is not None:
            return Plan(key, len(kept), cached=True)
        say(f"building the {name} plan with {order.module}")
        built = _build(name, model, order, say)
        store(order.folder, key, built.plan)
        return Plan(key, len(built.plan), round(built.seconds, 3))
    except OSError as error:
        raise StartError(
            f"the plan cannot be kept in '{order.folder}' ({error.strerror or error})",
            "name a state_dir that can be written",
        ) from None


def _build(name: str, model: bytes, order: Order, say: Callable[[str], None]) -> Built:
    """Built with what earlier builds have measured, which is kept for the next."""
    key = timing_key(order.module)
    known = fetch(order.folder, key) or b""
    built = build_plan(model, Request(order.module), _progress(name, say), known)
    if built.timing not in (b"", known):
        store(order.folder, key, built.timing)
    return built


def _progress(name: str, say: Callable[[str], None]) -> Callable[[str, float, float | None], bool]:
    """A line every few seconds: short builds say nothing."""
    last_s = time.monotonic()

    def tell(phase: str, share: float, eta_s: float | None) -> bool:
        nonlocal last_s
        if time.monotonic() - last_s >= QUIET_S:
            last_s = time.monotonic()
            left = "" if eta_s is None else f", {max(0.0, eta_s):.0f} s left"
            say(f"{name}: {phase} {share:.0%}{left}")
        return True

    return tell


def _version(module: str) -> str:
    """Of the packages that `module` comes from, without importing it. JetPack's own may carry no
    record of its version: the package's first file stands in, which names it."""
    names = sorted(packages_distributions().get(module, ()))
    if names:
        return ", ".join(f"{name} {version(name)}" for name in names)
    spec = find_spec(module)
    origin = spec.origin if spec else None
    return hashlib.sha256(Path(origin).read_bytes()).hexdigest() if origin else ""
