"""Budgets, and a report of what was measured beside them."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


@pytest.fixture(scope="session")
def budgets() -> dict[str, Any]:
    with (Path(__file__).parent / "budgets.toml").open("rb") as file:
        return tomllib.load(file)


@pytest.fixture
def report(
    request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]
) -> Callable[..., None]:
    """Print measured figures past the capture, so that every run's log has them."""

    def show(**figures: Any) -> None:
        line = "  ".join(f"{name}={value}" for name, value in figures.items())
        with capsys.disabled():
            print(f"\n[{request.node.name}] {line}")

    return show
