"""Where tests find data, and what they skip for."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def medge_data() -> Path:
    """`$MEDGE_DATA`, else `shared/data` beside the checkout; skips where neither is."""
    named = os.environ.get("MEDGE_DATA")
    folder = Path(named) if named else Path(__file__).parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"no data folder at '{folder}' (set MEDGE_DATA)")
    return folder
