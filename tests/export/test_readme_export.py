"""The README's way from a model to a bundle, walked as it stands there by somebody new."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("onnxscript")
pytest.importorskip("tensorrt_rtx")

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
SECTION = README.split("## From your model to a bundle")[1].split("\n## ")[0]


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", SECTION, re.MULTILINE | re.DOTALL)


@pytest.mark.integration
def test_from_a_model_to_a_bundle(tmp_path: Path) -> None:
    module, script = blocks("python")
    (spec,) = blocks("toml")
    (commands,) = blocks("sh")
    (tmp_path / "my_model.py").write_text(module)
    (tmp_path / "spec.toml").write_text(spec)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "HOME": str(tmp_path)}

    def run(*arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, *arguments], cwd=tmp_path, env=environment, capture_output=True,
            text=True,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    run("-c", script)
    said = [run("-m", "edge.cli", *c.split()[1:]) for c in commands.strip().splitlines()]
    assert "int8: plan" in said[0] and "auroc of lesion" in said[0]
    assert "calibrated on" in said[1]
    assert (tmp_path / "build" / "lesion.report.html").exists()
    (key,) = (tmp_path / "build" / "keys").glob("*.pub")
    run("-m", "edge.cli", "bundle", "verify", "build/lesion", "--trusted-key", str(key),
        "--state-dir", "state")  # fmt: skip
