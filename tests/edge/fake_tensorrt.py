"""A stand-in for NVIDIA's `tensorrt`, copied onto a child's path as `tensorrt.py`.

It has the builder's names of the version that it is made to be (bindings of 10.3, 10.13 and 11.4,
introspected) and lacks those that this version lacks, so that code which trusts in one too many
fails here. It computes nothing: a plan says how it was asked for. Version 0.0 was never released:
it lacks all that is asked for by `hasattr`.
"""

from __future__ import annotations

import enum
import hashlib
import json
from typing import Any

import onnx

VERSION = "10.3.0"
__version__ = VERSION
NUMBER = tuple(map(int, VERSION.split(".")[:2]))
BARE = NUMBER == (0, 0)
BEFORE_11, FROM_10_13 = (10, 0) <= NUMBER < (11, 0), NUMBER >= (10, 13)
ASSUMES_STRONG = BARE or NUMBER >= (11, 0)


def named(name: str, **present: bool) -> Any:
    """An enum of the names that this version has."""
    return enum.IntEnum(name, {n: i for i, (n, here) in enumerate(present.items()) if here})


NetworkDefinitionCreationFlag = named(
    "NetworkDefinitionCreationFlag", EXPLICIT_BATCH=BEFORE_11, STRONGLY_TYPED=not BARE,
    PREFER_AOT_PYTHON_PLUGINS=FROM_10_13,
)  # fmt: skip
BuilderFlag = named(
    "BuilderFlag", FP16=BEFORE_11, INT8=BEFORE_11, REFIT=True, TF32=True, STRICT_NANS=FROM_10_13,
    EDITABLE_TIMING_CACHE=FROM_10_13,
)  # fmt: skip
MemoryPoolType = named("MemoryPoolType", WORKSPACE=True)


class ILogger:
    INTERNAL_ERROR, ERROR, WARNING, INFO, VERBOSE = range(5)


class IProgressMonitor:
    pass


class ITimingCache:
    def __init__(self, made_by: str, known: list[str]) -> None:
        self.made_by, self.known = made_by, known

    def serialize(self) -> bytes:
        return json.dumps([self.made_by, sorted(self.known)]).encode()

    def combine(self, other: ITimingCache, ignore_mismatch: bool) -> bool:
        self.known += other.known
        return True

    if FROM_10_13:

        def queryKeys(self) -> list[str]:
            return self.known


class IOptimizationProfile:
    def __init__(self) -> None:
        self.shapes: dict[str, Any] = {}

    def set_shape(self, name: str, least: Any, usual: Any, largest: Any) -> None:
        self.shapes[name] = least, usual, largest


class IBuilderConfig:
    __slots__ = ("_cache", "_logger", "profiles", "progress_monitor", "workspace") + (
        ("int8_calibrator",) if BEFORE_11 else ()
    )

    def __init__(self, logger: Any) -> None:
        self._logger, self._cache = logger, None
        self.profiles: list[IOptimizationProfile] = []

    def set_memory_pool_limit(self, pool: Any, size: int) -> None:
        assert pool is MemoryPoolType.WORKSPACE
        self.workspace = size

    def add_optimization_profile(self, profile: IOptimizationProfile) -> int:
        self.profiles.append(profile)
        return len(self.profiles) - 1

    if not BARE:

        def create_timing_cache(self, serialized: bytes) -> ITimingCache | None:
            if not serialized:
                return ITimingCache(VERSION, [])
            made_by, known = json.loads(serialized)
            if made_by != VERSION and not BEFORE_11:
                self._logger.log(ILogger.ERROR, "the timing cache cannot be read")
                return None
            return ITimingCache(made_by, known)

        def set_timing_cache(self, cache: ITimingCache, ignore_mismatch: bool) -> bool:
            if cache.made_by != VERSION and not ignore_mismatch:
                self._logger.log(ILogger.ERROR, "the timing cache is another builder's")
                return False
            self._cache = cache
            return True

        def get_timing_cache(self) -> ITimingCache | None:
            return self._cache


class Tensor:
    def __init__(self, value: onnx.ValueInfoProto) -> None:
        axes = value.type.tensor_type.shape.dim
        self.name = value.name
        self.shape = tuple(-1 if axis.dim_param else axis.dim_value for axis in axes)


class INetworkDefinition:
    def __init__(self, flags: int) -> None:
        allowed = sum(1 << int(flag) for flag in NetworkDefinitionCreationFlag)
        assert not flags & ~allowed, "a flag that this version does not have"
        asked = not BARE and flags >> int(NetworkDefinitionCreationFlag.STRONGLY_TYPED) & 1
        self.strongly_typed = bool(asked or ASSUMES_STRONG)
        self.asked, self.model = bool(asked), b""
        self.inputs: list[Tensor] = []

    @property
    def num_inputs(self) -> int:
        return len(self.inputs)

    def get_input(self, index: int) -> Tensor:
        return self.inputs[index]


class ParserError:
    def desc(self) -> str:
        return "no importer registered for op: Nope"


class OnnxParser:
    def __init__(self, network: INetworkDefinition, logger: Any) -> None:
        self._network, self.num_errors = network, 0

    def parse(self, model: bytes) -> bool:
        graph = onnx.load_from_string(model).graph
        self._network.model = model
        self._network.inputs = [Tensor(value) for value in graph.input]
        self.num_errors = sum(node.op_type == "Nope" for node in graph.node)
        return not self.num_errors

    def get_error(self, index: int) -> ParserError:
        return ParserError()

    if BEFORE_11:

        def supports_model(self, model: bytes) -> bool:
            return True


class Builder:
    def __init__(self, logger: ILogger) -> None:
        self._logger = logger

    def create_network(self, flags: int) -> INetworkDefinition:
        return INetworkDefinition(flags)

    def create_builder_config(self) -> IBuilderConfig:
        return IBuilderConfig(self._logger)

    def create_optimization_profile(self) -> IOptimizationProfile:
        return IOptimizationProfile()

    def build_serialized_network(
        self, network: INetworkDefinition, config: IBuilderConfig
    ) -> bytes | None:
        told = config.progress_monitor
        told.phase_start("building", None, 2)
        fitting = {name for profile in config.profiles for name in profile.shapes}
        if any(-1 in t.shape and t.name not in fitting for t in network.inputs):
            self._logger.log(ILogger.ERROR, "no optimization profile has been defined")
            return None
        tactic = hashlib.sha256(network.model).hexdigest()[:8]
        cache = config._cache
        known = tactic in cache.known if cache else False
        if cache and not known:
            cache.known.append(tactic)
        if not all(told.step_complete("building", step) for step in range(2)):
            return None
        told.phase_finish("building")
        plan = {"version": VERSION, "asked": network.asked, "strong": network.strongly_typed,
                "known": known, "workspace": config.workspace}  # fmt: skip
        return json.dumps(plan).encode()
