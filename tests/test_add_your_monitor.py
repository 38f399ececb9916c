"""The how-to for a new device, done as it stands there by somebody new."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
HOW_TO = (ROOT / "docs" / "add-your-monitor.md").read_text(encoding="utf-8")


@pytest.fixture
def written(tmp_path: Path) -> Path:
    """Every file that the how-to says to write."""
    named = re.findall(r"^`(\w+\.py)`:\n\n```python\n(.*?)^```", HOW_TO, re.MULTILINE | re.DOTALL)
    assert [name for name, _ in named] == [
        "ward_belt5.py", "ward_belt5_emulator.py", "test_ward_belt5.py",
    ]  # fmt: skip
    for name, text in named:
        (tmp_path / name).write_text(text)
    return tmp_path


def run(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{folder}"}
    return subprocess.run(
        [sys.executable, *command], cwd=folder, env=environment, capture_output=True, text=True
    )


@pytest.mark.integration
def test_the_tests_that_it_ends_with_pass(written: Path) -> None:
    (command,) = re.findall(r"^```sh\npython (.*?)\n```", HOW_TO, re.MULTILINE)
    done = run(written, *command.split(), "-p", "no:cacheprovider")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "8 passed" in done.stdout


@pytest.mark.integration
def test_control_a_mistake_in_the_device_fails_them(written: Path) -> None:
    device = written / "ward_belt5.py"
    device.write_text(device.read_text().replace("a ^ b", "a | b"))
    done = run(written, "-m", "pytest", "test_ward_belt5.py", "-p", "no:cacheprovider", "-x")
    assert done.returncode == 1


PLAY = """
from ward_belt5_emulator import Belt5
from firmware_bridge.emulators.patient import Scene
from firmware_bridge.emulators.play import play
from firmware_bridge.emulators.pty import Pty
play(Belt5(Scene()), Pty("belt"), bytes_per_s=960.0)
"""


@pytest.mark.integration
def test_the_configuration_is_checked_against_the_port(written: Path) -> None:
    (text,) = re.findall(r"^```toml\n(.*?)^```", HOW_TO, re.MULTILINE | re.DOTALL)
    (written / "bedside.toml").write_text(text.replace("/dev/ttyUSB0", str(written / "belt")))
    absent = run(written, "-m", "edge.cli", "check", "bedside.toml")  # control
    assert absent.returncode == 3 and "cannot be opened" in absent.stderr
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{written}"}
    command = [sys.executable, "-c", PLAY]
    with subprocess.Popen(command, cwd=written, env=environment) as emulator:
        try:
            limit_s = time.monotonic() + 20
            while not (written / "belt").exists():
                assert time.monotonic() < limit_s, "the emulator did not come up"
                time.sleep(0.02)
            done = run(written, "-m", "edge.cli", "check", "bedside.toml")
        finally:
            emulator.terminate()
    assert "source vitals: ready, for icu-vitals" in done.stdout, done.stderr
