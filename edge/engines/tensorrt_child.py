"""The child that builds a plan: `python -m edge.engines.tensorrt_child SOCKET_FD SHARED_FD`.

Owns all use of the TensorRT packages' builders. What one version has and another lacks is asked by
`hasattr`, never by version. No limit on address space: the libraries reserve more than they use.
"""

from __future__ import annotations

import importlib
import os
import resource
import socket
import sys
from pathlib import Path
from typing import Any

import msgspec

from edge.engines.tensorrt_build import Done, Progress, Refused, Request
from edge.errors import StartError

FIRST_TO_DIE = "1000"
WRONG_ENGINE = ("not self-consistent", "dla", "using fp32 instead", "no implementation")
"""Warnings after which a builder still returns an engine that does not do what was asked."""

Trt = Any  # the module: tensorrt or tensorrt_rtx


def main() -> None:
    link = socket.socket(fileno=int(sys.argv[1]))
    with os.fdopen(int(sys.argv[2]), "r+b") as shared:
        shared.seek(0)
        request, model, timing = msgspec.msgpack.decode(
            shared.read(), type=tuple[Request, bytes, bytes]
        )
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        Path("/proc/self/oom_score_adj").write_text(FIRST_TO_DIE, encoding="ascii")
        try:
            trt = _import(request.module)
            said: list[tuple[bool, str]] = []
            plan, measured = build(trt, model, request, link, said, timing)
            shared.seek(0)
            shared.truncate()
            shared.write(plan + measured)
            shared.flush()
            warnings = tuple(text[:500] for is_error, text in said if not is_error)[:16]
            sizes = len(plan), len(measured)
            answer: Done | Refused = Done(*sizes, trt.__version__, warnings)
        except StartError as error:
            answer = Refused(error.cause, error.fix)
    link.send(msgspec.json.encode(answer))
    os._exit(0)  # the libraries' teardown is not worth a crash


def _import(name: str) -> Trt:
    try:
        return importlib.import_module(name)
    except (ImportError, OSError) as error:
        extra = "rtx" if name == "tensorrt_rtx" else "tensorrt"
        raise StartError(
            f"{name} cannot be imported ({error})",
            f"pip install '.[{extra}]' in medge's folder, or use JetPack's own package",
        ) from None


def build(
    trt: Trt, model: bytes, request: Request, link: socket.socket, said: list[tuple[bool, str]],
    timing: bytes = b"",
) -> tuple[bytes, bytes]:  # fmt: skip
    """(serialised plan, timing cache). Raises `StartError`; `said` collects (is an error, text)."""
    logger = _logger(trt, said)
    builder = trt.Builder(logger)
    network = builder.create_network(_flags(trt))  # kept: a parser on a dropped one crashes
    parser = trt.OnnxParser(network, logger)
    if not parser.parse(model):
        errors = [parser.get_error(i).desc() for i in range(parser.num_errors)]
        raise _refused("the parser refuses the model", errors)
    config = builder.create_builder_config()
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, request.workspace_mb << 20)
    _add_profile(builder, network, config, request)
    config.progress_monitor = _monitor(trt, link)
    cache = _use_timing(config, timing, said)  # kept: the builder reads it until it is done
    plan = builder.build_serialized_network(network, config)
    errors = [text for is_error, text in said if is_error]
    if plan is None or errors:
        raise _refused("the builder refuses the model", errors)
    wrong = [text for _, text in said if any(sign in text.lower() for sign in WRONG_ENGINE)]
    if wrong:
        raise _refused("the engine would be wrong", wrong)
    return bytes(plan), bytes(cache.serialize()) if cache is not None else b""


def _use_timing(config: Any, timing: bytes, said: list[tuple[bool, str]]) -> Any:
    """The timing cache in `config`, warm where `timing` still fits; None where there is no such
    thing. That an old one does not fit is no fault of the model: nothing said of it counts."""
    if not hasattr(config, "create_timing_cache"):
        return None
    before = len(said)
    try:
        for content in (timing, b""):
            cache = config.create_timing_cache(content)
            if cache is not None and config.set_timing_cache(cache, False):
                return cache
        return None
    finally:
        del said[before:]


def _flags(trt: Trt) -> int:
    """Strongly typed, where that is still asked for."""
    flags = trt.NetworkDefinitionCreationFlag
    return 1 << int(flags.STRONGLY_TYPED) if hasattr(flags, "STRONGLY_TYPED") else 0


def _add_profile(builder: Any, network: Any, config: Any, request: Request) -> None:
    """One profile for every input that leaves an axis open. Raises `StartError`."""
    profile, needed = builder.create_optimization_profile(), False
    for i in range(network.num_inputs):
        tensor = network.get_input(i)
        shape = tuple(tensor.shape)
        if all(d >= 0 for d in shape):
            continue
        needed = True
        shapes = request.profiles.get(tensor.name)
        if shapes is None:
            if any(d < 0 for d in shape[1:]):
                raise StartError(
                    f"input '{tensor.name}' leaves axes open {list(shape)}",
                    "give it a profile: its least, usual and largest shape",
                )
            shapes = ((request.batch, *shape[1:]),) * 3
        if not all(a <= b <= c for a, b, c in zip(*shapes)):
            raise StartError(
                f"the profile of '{tensor.name}' is not in order", "give least, usual, largest"
            )
        profile.set_shape(tensor.name, *shapes)
    if needed and config.add_optimization_profile(profile) < 0:
        raise StartError("TensorRT refuses the profile", "give shapes that the model takes")


def _refused(what: str, texts: list[str]) -> StartError:
    first = " ".join(" ".join(texts).split())[:400] or "it gives no reason"
    return StartError(f"{what} ({first})", "lint it: medge export build says what to mend")


def _logger(trt: Trt, said: list[tuple[bool, str]]) -> Any:
    """The one logger of this process; TensorRT ignores a second."""

    class Logger(trt.ILogger):
        def __init__(self) -> None:
            trt.ILogger.__init__(self)

        def log(self, severity: Any, text: str) -> None:
            if severity in (trt.ILogger.ERROR, trt.ILogger.INTERNAL_ERROR):
                said.append((True, text))
            elif severity == trt.ILogger.WARNING:
                said.append((False, text))

    return Logger()


def _monitor(trt: Trt, link: socket.socket) -> Any:
    """Tells the parent how far each phase is; the parent cancels by ending this process."""

    class Monitor(trt.IProgressMonitor):
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self.steps: dict[str, int] = {}

        def phase_start(self, phase: str, parent: str | None, steps: int) -> None:
            self.steps[phase] = steps
            self._tell(phase, 0.0)

        def step_complete(self, phase: str, step: int) -> bool:
            return self._tell(phase, (step + 1) / max(1, self.steps.get(phase, 1)))

        def phase_finish(self, phase: str) -> None:
            self.steps.pop(phase, None)

        def _tell(self, phase: str, share: float) -> bool:
            try:
                link.send(msgspec.json.encode(Progress(phase[:200], min(1.0, share))))
            except OSError:
                return False
            return True

    return Monitor()


if __name__ == "__main__":
    main()
