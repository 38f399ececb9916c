"""`--golden-write` writes the golden results anew instead of only comparing."""

from __future__ import annotations

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--golden-write", action="store_true")


@pytest.fixture
def golden_write(request: pytest.FixtureRequest) -> bool:
    return bool(request.config.getoption("--golden-write"))
