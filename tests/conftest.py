"""Where tests find data, and what they skip for; the command as a user runs it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.fixture(scope="session")
def medge_data() -> Path:
    """`$MEDGE_DATA`, else `shared/data` beside the checkout; skips where neither is."""
    named = os.environ.get("MEDGE_DATA")
    folder = Path(named) if named else Path(__file__).parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"no data folder at '{folder}' (set MEDGE_DATA)")
    return folder


@pytest.fixture(scope="session")
def medge() -> Callable[..., subprocess.CompletedProcess[str]]:
    """`medge(*arguments)`: the command, to its end."""

    def run(*arguments: object) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "edge.cli", *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)

    return run
