"""The README's commands for installing a bundle, run as they stand there."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[3]
README = (ROOT / "README.md").read_text(encoding="utf-8")
SECTION = README.split("## Installing a bundle")[1].split("\n## ")[0]
STATE = Path(".local", "state", "medge")


def commands() -> list[list[str]]:
    (block,) = re.findall(r"^```sh\n(.*?)^```", SECTION, re.MULTILINE | re.DOTALL)
    return [line.split()[1:] for line in block.strip().splitlines()]


def pack(folder: Path, path: Path) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for file in sorted(folder.iterdir()):
            archive.writestr(zipfile.ZipInfo(file.name), file.read_bytes())


@pytest.mark.integration
def test_the_commands_run(make_bundle: Any, tmp_path: Path) -> None:
    """With a version before, signed by the same site, so that there is something to go back to."""
    home = tmp_path / "home"
    home.mkdir()
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "HOME": str(home)}

    def medge(*arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "edge.cli", *arguments], cwd=home, env=environment,
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    before = make_bundle("before", name="lesion", version="1")
    medge("bundle", "install", str(before.folder), "--trusted-key", str(before.public))
    made = make_bundle("made", name="lesion", version="2")
    medge("bundle", "sign", str(made.folder), "--key", str(before.private))
    pack(made.folder, home / "lesion.zip")
    (home / "site.pub").write_bytes(before.public.read_bytes())
    installed, shown, back = (medge(*command) for command in commands())
    assert "version: 2" in installed and "version: 2" in shown
    assert json.loads(back)["version"] == "1"
    assert (home / STATE / "bundles" / "lesion" / "current.json").exists()
