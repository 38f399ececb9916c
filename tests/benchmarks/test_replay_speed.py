"""Ten minutes of ECG through codec and path: many times real time, nothing lost, memory flat."""

from __future__ import annotations

import os
import resource
import time
from typing import Any

import numpy as np
import pytest

from edge.bundle.load import load
from edge.clock import ManualClock
from edge.memory import pss_mb
from edge.pipeline.pipeline import build
from edge.recorded_ports import DATA, OPENED, ReplayPorts
from edge.recording import Record
from edge.replay import play
from edge.sources.monitor import Monitor, MonitorOptions
from edge.sources.synthetic import ecg
from firmware_bridge.devices import cyton

pytestmark = pytest.mark.benchmark
MINUTES, CHUNK = 10, 10
OPTIONS = MonitorOptions(
    device="cyton", port="recorded", mdc="MDC_ECG_ELEC_POTL_II", unit="mV", name="ecg"
)


def records(seconds: int) -> list[Record]:
    samples_mv, _, _ = ecg("NNNNNNNV", 250.0, seed=4, seconds=seconds)
    counts = np.zeros((len(samples_mv), 8), np.int32)
    counts[:, 0] = cyton.uv_to_counts(samples_mv * 1e3)
    data = cyton.encode(counts, np.arange(len(counts)) % 256)
    out = [Record(0, "ecg", OPENED), Record(0, "ecg", DATA, b"board$$$")]
    step = CHUNK * cyton.PACKET_BYTES
    for i, at in enumerate(range(0, len(data), step)):
        out.append(Record((i + 1) * CHUNK * 4_000_000, "ecg", DATA, data[at : at + step]))
    return out


def played(recorded: list[Record]) -> tuple[int, dict[str, int]]:
    ports, clock = ReplayPorts(recorded), ManualClock()
    source = Monitor(OPTIONS, ports)
    with build(
        load("ecg-beat"), backend="onnxruntime", precision="fp32", source="ecg", clock=clock
    ) as pipeline:
        count = sum(1 for _ in play(source, ports, pipeline, clock))
    return count, source.counters()


def test_ten_minutes_replayed(budgets: dict[str, Any], report: Any) -> None:
    budget, recorded = budgets["replay"], records(MINUTES * 60)
    played(records(60))
    before_mb = pss_mb([os.getpid()])
    began_cpu_s, began_s = time.process_time(), time.perf_counter()
    results, counts = played(recorded)
    spent_s, cpu_s = time.perf_counter() - began_s, time.process_time() - began_cpu_s
    growth_mb = pss_mb([os.getpid()]) - before_mb
    times = MINUTES * 60 / cpu_s
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6
    report(times_real_time=round(times), wall_s=round(spent_s, 2), results=results,
           growth_mb=round(growth_mb, 2), peak_mb=round(peak_mb))  # fmt: skip
    assert times >= budget["times_real_time"]
    assert counts["lost"] == budget["samples_lost"]
    assert counts["received"] == MINUTES * 60 * 250
    assert growth_mb <= budget["growth_mb"]
    assert results > MINUTES * 60 * 0.9
