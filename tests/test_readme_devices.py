"""The README's table of devices is the registry's, and its monitors run as they stand there."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from edge import config as configuration
from edge.devices import markdown

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
SECTION = README.split("## Monitors")[1].split("\n## ")[0]


def block(language: str, n: int = 0) -> str:
    return re.findall(rf"^```{language}\n(.*?)^```", SECTION, re.MULTILINE | re.DOTALL)[n]


def test_the_table_is_what_the_devices_say() -> None:
    (shown,) = re.findall(r"<!-- devices -->\n(.*?)\n<!-- end of devices -->", SECTION, re.DOTALL)
    assert shown == markdown(), "run: medge devices"


def test_the_configuration_is_accepted(tmp_path: Path) -> None:
    settings = configuration.parse(block("toml"), tmp_path / "bedside.toml")
    for part in settings.sources:
        part.build()  # the device is found by its address


@pytest.mark.integration
def test_the_commands_run_as_they_stand_there(tmp_path: Path) -> None:
    """The emulated monitor says nothing unasked: `listen` asks it, and only hearing finds none."""
    (tmp_path / "faults.toml").write_text(block("toml", 1))
    commands = block("sh").strip().replace("/tmp/monitor", "monitor")
    devices, emulate, listen, probe = commands.splitlines()
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}

    def command(line: str) -> list[str]:
        return [sys.executable, "-m", "edge.cli", *line.split()[1:]]

    said = subprocess.run(
        command(devices), cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    assert said.stdout.strip() == markdown()
    with subprocess.Popen(command(emulate), cwd=tmp_path, env=environment) as running:
        try:
            limit_s = time.monotonic() + 20
            while not (tmp_path / "monitor").exists():
                assert time.monotonic() < limit_s, "the emulator did not come up"
                time.sleep(0.02)
            heard = subprocess.run(
                command(listen), cwd=tmp_path, env=environment, capture_output=True, text=True
            )
            done = subprocess.run(
                command(probe), cwd=tmp_path, env=environment, capture_output=True, text=True
            )
        finally:
            running.terminate()
    assert heard.returncode == 0, heard.stderr
    assert "link up" in heard.stdout and "MDC_ECG_HEART_RATE  72 /min" in heard.stdout
    assert done.returncode == 1
    assert "monitor" in done.stdout + done.stderr
