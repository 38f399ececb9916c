"""The README's commands for installing a bundle, run as they stand there."""

from __future__ import annotations

import json
import os
import re
import shutil
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


SIGNING, INSTALLING = (
    [line.split() for line in block.strip().splitlines()]
    for block in re.findall(r"^```sh\n(.*?)^```", SECTION, re.MULTILINE | re.DOTALL)
)


def pack(folder: Path, path: Path) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for file in sorted(folder.iterdir()):
            archive.writestr(zipfile.ZipInfo(file.name), file.read_bytes())


@pytest.mark.integration
@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl")
def test_the_commands_run(make_bundle: Any, tmp_path: Path) -> None:
    """With a version before, signed by the same site, so that there is something to go back to."""
    home = tmp_path / "home"
    home.mkdir()
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "HOME": str(home)}

    def run(words: list[str]) -> str:
        command = [sys.executable, "-m", "edge.cli", *words[1:]] if words[0] == "medge" else words
        done = subprocess.run(
            command, cwd=home, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    for version in ("1", "2"):
        made = make_bundle(f"made-{version}", name="lesion", version=version)
        shutil.copytree(made.folder, home / "build" / "lesion", dirs_exist_ok=True)
        for words in SIGNING if version == "1" else SIGNING[-1:]:
            run(words)
        if version == "1":
            run(["medge", "bundle", "install", "build/lesion", "--trusted-key", "site.pub"])
    pack(home / "build" / "lesion", home / "lesion.zip")
    installed, shown, back = map(run, INSTALLING)
    assert "version: 2" in installed and "version: 2" in shown
    assert json.loads(back)["version"] == "1"
    assert (home / STATE / "bundles" / "lesion" / "current.json").exists()
