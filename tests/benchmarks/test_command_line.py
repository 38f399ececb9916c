"""The command starts quickly: help against bare typer, and nothing heavy loaded."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from typing import Any

import pytest

pytestmark = pytest.mark.benchmark
ROUNDS = 9
HELP = [sys.executable, "-m", "edge.cli", "--help"]
TYPER = [sys.executable, "-c", "import typer"]


def seconds(command: list[str]) -> float:
    began_s = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began_s


def test_help_against_typer(budgets: dict[str, Any], report: Any) -> None:
    seconds(HELP), seconds(TYPER)
    pairs = [(seconds(HELP), seconds(TYPER)) for _ in range(ROUNDS)]
    ratio = statistics.median(a / b for a, b in pairs)
    report(help_s=round(statistics.median(a for a, _ in pairs), 3), ratio=round(ratio, 2))
    assert ratio <= budgets["cli"]["help_ratio"]
