"""ONNX to a TensorRT plan, built in a child process: the device builds its own.

Owns what is asked of a build, the child's life and what comes back. NVIDIA's parsers can end their
process with a signal, and a cancelled or failed build must leave nothing behind, so none runs here.
One path serves `tensorrt` 10.3 to 11 and `tensorrt_rtx`. A plan is native code: it is never put in
a bundle, see `edge.engines.plan_cache`. DLA is out of scope.
"""

from __future__ import annotations

import signal
import socket
import subprocess
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from edge.child import attended, end
from edge.engines.onnx_bytes import require_self_contained
from edge.errors import StartError

if TYPE_CHECKING:
    from collections.abc import Callable

CHILD = "edge.engines.tensorrt_child"
MODULES = ("tensorrt", "tensorrt_rtx")
MAX_MESSAGE_BYTES = 1 << 16


class Request(msgspec.Struct, frozen=True):
    """What to build: `module` is one of `MODULES`; every open first axis becomes `batch`;
    `profiles` gives (min, opt, max) shapes, first axis included, of inputs that leave others open;
    `workspace_mb` limits scratch memory, `limit_s` the whole build."""

    module: str
    batch: int = 1
    profiles: dict[str, tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]] = {}
    workspace_mb: int = 256
    limit_s: float = 600.0


class Progress(msgspec.Struct, frozen=True, tag=True):
    """`share` 0..1 of the `phase` the builder is in."""

    phase: str
    share: float


class Done(msgspec.Struct, frozen=True, tag=True):
    """The plan is in the shared file, the timing cache after it: their sizes, the module's version,
    warnings of the builder."""

    size: int
    timing_size: int
    version: str
    warnings: tuple[str, ...]


class Refused(msgspec.Struct, frozen=True, tag=True):
    """No plan, why, and what mends it."""

    cause: str
    fix: str


@dataclass(frozen=True, slots=True)
class Built:
    """A plan and how it came to be. `timing` is what the builder measured, for the next build;
    empty where the module keeps none."""

    plan: bytes
    timing: bytes
    module: str
    version: str
    seconds: float
    warnings: tuple[str, ...]


def build_plan(
    model: bytes,
    request: Request,
    on_progress: Callable[[str, float, float | None], bool] | None = None,
    timing: bytes = b"",
) -> Built:
    """The plan of ONNX bytes `model`.

    `timing` is an earlier build's, of this module and machine: it saves measuring again. Native
    libraries read it, so it must come from an authenticated place (`edge.engines.plan_cache`).
    `on_progress(phase, share, eta_s)` is told how far each phase is and when it may end; it returns
    False to cancel. Raises `StartError` for a model that is refused or crashes the builder, a
    missing package, a cancelled build, and one that takes longer than `limit_s`.
    """
    if request.module not in MODULES:
        raise StartError(
            f"'{request.module}' builds no plans", f"use one of: {', '.join(MODULES)}; no DLA"
        )
    require_self_contained(model)
    began = time.monotonic()
    with attended(CHILD, (request, model, timing)) as (process, link, shared):
        done = _follow(link, process, request, began, on_progress)
        end(process)
        shared.seek(0)
        data = shared.read()
    if len(data) != done.size + done.timing_size:
        raise StartError("the builder's process left a broken plan", "build it again")
    plan, measured = data[: done.size], data[done.size :]
    seconds = time.monotonic() - began
    return Built(plan, measured, request.module, done.version, seconds, done.warnings)


def _follow(
    link: socket.socket,
    process: subprocess.Popen[bytes],
    request: Request,
    began: float,
    on_progress: Callable[[str, float, float | None], bool] | None,
) -> Done:
    """The child's messages until it is done."""
    phase_began: dict[str, float] = {}
    while True:
        left = began + request.limit_s - time.monotonic()
        if left <= 0:
            raise StartError(f"no plan in {request.limit_s:g} s", "give it more time")
        link.settimeout(left)
        try:
            data = link.recv(MAX_MESSAGE_BYTES)
        except TimeoutError:
            continue
        except OSError:
            data = b""
        if not data:
            raise StartError(
                f"{request.module} ended its process {_ending(process)} on this model",
                "lint the model; export what it dies of decomposed",
            )
        message = msgspec.json.decode(data, type=Progress | Done | Refused)
        if isinstance(message, Done):
            return message
        if isinstance(message, Refused):
            raise StartError(message.cause, message.fix)
        now = time.monotonic()
        spent = now - phase_began.setdefault(message.phase, now)
        eta_s = spent / message.share - spent if message.share and spent else None
        if on_progress and not on_progress(message.phase, message.share, eta_s):
            raise StartError("the build was cancelled", "start it again")


def _ending(process: subprocess.Popen[bytes]) -> str:
    try:
        code = process.wait(5)
    except subprocess.TimeoutExpired:
        return "without a word"
    return f"by {signal.Signals(-code).name}" if code < 0 else f"with exit code {code}"
