"""A bedside in memory: ECG in mV to Cyton bytes, through link, codec, front, engine and decide."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from edge.bundle.load import Bundle, load
from edge.clock import NS_PER_MS, NS_PER_S, ManualClock
from edge.pipeline.pipeline import build
from edge.recorded_ports import DATA, GONE, OPENED, ReplayPorts
from edge.recording import Record
from edge.replay import play
from edge.sources.monitor import Monitor, MonitorOptions
from edge.sources.synthetic import ecg
from edge.types import Diagnosis, Result, Withheld
from firmware_bridge.devices import cyton

CHUNK = 10
RATE_HZ = 250
BANNER = b"OpenBCI V3 8-16 channel\r\n$$$"
OPTIONS = MonitorOptions(
    device="cyton", port="rig", mdc="MDC_ECG_ELEC_POTL_II", unit="mV", name="rig"
)


@dataclass
class Wire:
    """Records of one port, appended in time."""

    records: list[Record] = field(default_factory=list)
    t_ns: int = 0
    counter: int = 0

    def plug_in(self) -> None:
        self._add(OPENED, b"")
        self.t_ns += 10 * NS_PER_MS
        self._add(DATA, BANNER)

    def send(self, uv: np.ndarray, damage: Callable[[int, bytes], bytes] | None = None) -> None:
        """Channel 1 in microvolts, in chunks of ten samples at the board's pace."""
        for at in range(0, len(uv), CHUNK):
            part = uv[at : at + CHUNK]
            counts = np.zeros((len(part), 8), np.int32)
            counts[:, 0] = cyton.uv_to_counts(part)
            counters = (self.counter + np.arange(len(part))) % 256
            data = cyton.encode(counts, counters)
            self.counter = (self.counter + len(part)) % 256
            self.pause(len(part) / RATE_HZ)
            data = damage(at // CHUNK, data) if damage else data
            if data:
                self._add(DATA, data)

    def skip(self, packets: int) -> None:
        """Packets that were taken but never arrived."""
        self.counter = (self.counter + packets) % 256
        self.pause(packets / RATE_HZ)

    def noise(self, data: bytes) -> None:
        self._add(DATA, data)

    def unplug(self) -> None:
        self._add(GONE, b"port rig unplugged; plug the device in again")

    def pause(self, seconds: float) -> None:
        self.t_ns += round(seconds * NS_PER_S)

    def _add(self, kind: str, data: bytes) -> None:
        self.records.append(Record(self.t_ns, "rig", kind, data))


@pytest.fixture(scope="session")
def bundle() -> Bundle:
    return load("ecg-beat")


@pytest.fixture
def wire() -> Wire:
    made = Wire()
    made.plug_in()
    return made


@pytest.fixture
def run(bundle: Bundle) -> Callable[..., list[Result]]:
    """All results of what is on a wire."""

    def run_wire(wire: Wire, with_bundle: Bundle | None = None) -> list[Result]:
        ports, clock = ReplayPorts(wire.records), ManualClock()
        with build(
            with_bundle or bundle, backend="onnxruntime", precision="fp32", session="rig",
            source="rig", clock=clock,
        ) as pipeline:  # fmt: skip
            return list(play(Monitor(OPTIONS, ports), ports, pipeline, clock))

    return run_wire


@pytest.fixture
def rhythm_uv() -> Callable[[float], np.ndarray]:
    """Seconds of synthetic sinus rhythm, microvolts."""

    def make(seconds: float, pattern: str = "N") -> np.ndarray:
        samples_mv, _, _ = ecg(pattern, RATE_HZ, seed=3, seconds=seconds)
        return samples_mv[: round(seconds * RATE_HZ)] * 1e3

    return make


def beats(results: list[Result], t0_s: float = 0.0, t1_s: float = 1e9) -> list[Diagnosis]:
    """Beat diagnoses whose event lies in a stretch of time."""
    return [
        r for r in results
        if isinstance(r, Diagnosis) and r.findings[0].probability is not None
        and t0_s * NS_PER_S <= r.t_ns < t1_s * NS_PER_S
    ]  # fmt: skip


def reasons(results: list[Result]) -> set[str]:
    """The reasons for which something was withheld."""
    return {r.reason.value for r in results if isinstance(r, Withheld)}


@pytest.fixture
def golden_dir() -> Path:
    return Path(__file__).parents[2] / "replay"
