"""What the tests of several parts of `edge` share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

FAKE = Path(__file__).with_name("fake_tensorrt.py")


@pytest.fixture
def fake_tensorrt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Put a stand-in for `tensorrt` of a version on the path of this process and its children; its
    folder. Asked again, it becomes that version."""
    folder = tmp_path / "fake"
    folder.mkdir()
    monkeypatch.syspath_prepend(folder)
    text = FAKE.read_text(encoding="utf-8")

    def put(version: str) -> Path:
        made = text.replace('VERSION = "10.3.0"', f'VERSION = "{version}"')
        (folder / "tensorrt.py").write_text(made, encoding="utf-8")
        return folder

    return put
