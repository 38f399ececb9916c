"""The running daemon: first diagnosis soon after start, decided soon after the window, small."""

from __future__ import annotations

import json
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import edge
from edge.memory import pss_mb

pytestmark = pytest.mark.benchmark
CONFIG = """
schema = 1
bed = "bench"
state_dir = "{state}"
bundles = [{{ path = "ecg-beat" }}]

[[sources]]
kind = "synthetic"
pattern = "NNNNV"
heart_rate_bpm = 100.0

[[sinks]]
kind = "jsonl"
path = "{out}"
"""
RESULTS = 40
ATTEMPTS = 3
PARTS = ("queue", "preprocess", "transport", "decide")


def lines(path: Path) -> list[dict[str, Any]]:
    text = path.read_text() if path.exists() else ""
    return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]


def children(pid: int) -> list[int]:
    return [int(p) for p in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def test_daemon(tmp_path: Path, budgets: dict[str, Any], report: Any) -> None:
    """Other load on the machine only ever adds to these times: the best of three runs counts."""
    budget = budgets["daemon"]
    with edge.open("ecg-beat", state_dir=tmp_path / "state"):
        pass  # admitted once, as at installation
    for attempt in range(ATTEMPTS):
        figures = measured(tmp_path, f"{attempt}.jsonl")
        report(**figures)
        if all(figures[name] <= budget[name] for name in figures if name in budget):
            return
    if figures["bare_hop_p50_ms"] > budget["quiet_hop_ms"]:
        pytest.skip(f"too noisy to judge: a bare hop takes {figures['bare_hop_p50_ms']} ms")
    assert figures == budget, "over budget in every run"


ECHO = """
import socket, sys
link = socket.socket(fileno=int(sys.argv[1]))
while data := link.recv(4096):
    link.send(data)
"""


@contextmanager
def echo() -> Iterator[socket.socket]:
    """A process that sends back what it gets: the bare hop that an engine child needs."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    command = [sys.executable, "-c", ECHO, str(theirs.fileno())]
    child = subprocess.Popen(command, pass_fds=[theirs.fileno()])
    theirs.close()
    with ours:
        ours.send(b"awake?")
        ours.recv(4096)
        yield ours
    child.wait(10)


def hop_ms(far: socket.socket) -> float:
    began_ns = time.perf_counter_ns()
    far.send(bytes(2436))  # as large as a beat's window
    far.recv(4096)
    return (time.perf_counter_ns() - began_ns) / 1e6


def measured(folder: Path, name: str) -> dict[str, float]:
    """One run of the daemon on its own."""
    config, out = folder / "bench.toml", folder / name
    config.write_text(CONFIG.format(state=folder / "state", out=out))
    began_s = time.monotonic()
    command = [sys.executable, "-m", "edge.cli", "run", str(config)]
    daemon = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert daemon.stderr is not None
    try:
        assert "daemon_started" in daemon.stderr.readline()
        listening_s = time.monotonic() - began_s
        before, hops = len(lines(out)), []
        with echo() as far:
            while len(lines(out)) < before + RESULTS:
                assert time.monotonic() - began_s < 90, "too few results"
                time.sleep(0.2)
                hops.append(hop_ms(far))
        memory_mb = pss_mb([daemon.pid, *children(daemon.pid)])
    finally:
        daemon.terminate()
        daemon.wait(10)
    results = lines(out)[before:]
    assert not any(line.get("reason") == "backend_lost" for line in results), "engine was late"
    found = [line for line in results if line["latency_ms"]["infer"] is not None]
    delays = [sum(line["latency_ms"][p] for p in PARTS) for line in found]
    return {
        "cold_start_s": round(listening_s + delays[0] / 1e3, 2),
        "decided_minus_engine_p50_ms": round(statistics.median(delays), 3),
        "p99_ms": round(sorted(delays)[int(len(delays) * 0.99) - 1], 3),
        "bare_hop_p50_ms": round(statistics.median(hops), 3),
        "memory_mb": round(memory_mb, 1),
    }
