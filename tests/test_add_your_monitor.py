"""The how-to for a new device, done as it stands there by somebody new."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

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


@contextmanager
def medge(folder: Path, line: str) -> Iterator[subprocess.Popen[str]]:
    """A command of the how-to that goes on until it is told to stop."""
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{folder}"}
    command = [sys.executable, "-m", "edge.cli", *line.split()[1:]]
    process = subprocess.Popen(
        command, cwd=folder, env=environment, stderr=subprocess.PIPE, text=True
    )
    try:
        yield process
    finally:
        process.terminate()
        process.communicate()


def wait(done: Callable[[], object], what: str) -> None:
    limit_s = time.monotonic() + 60
    while not done():
        assert time.monotonic() < limit_s, what
        time.sleep(0.02)


@pytest.mark.integration
def test_the_emulator_is_checked_and_run_on_its_port(written: Path) -> None:
    (text,) = re.findall(r"^```toml\n(.*?)^```", HOW_TO, re.MULTILINE | re.DOTALL)
    port = written / "belt"
    (written / "bedside.toml").write_text(text.replace("/tmp/belt", str(port)))
    emulate, check, go = re.findall(r"^medge .*$", HOW_TO.replace("/tmp/belt", str(port)), re.M)
    absent = run(written, "-m", "edge.cli", *check.split()[1:])  # control
    assert absent.returncode == 3 and "cannot be opened" in absent.stderr
    results = written / "results.jsonl"
    with medge(written, emulate) as emulator:
        wait(port.exists, "the emulator did not come up")
        checked = run(written, "-m", "edge.cli", *check.split()[1:])
        assert "source vitals: ready, for icu-vitals" in checked.stdout, checked.stderr
        with medge(written, go) as daemon:
            wait(lambda: results.exists() and "\n" in results.read_text(), "there was no result")
            emulator.terminate()
            wait(lambda: not port.exists(), "the emulator did not go")
            with medge(written, emulate):
                said = ""
                assert daemon.stderr is not None
                for line in daemon.stderr:
                    said += line
                    if "condition_ended" in line:
                        break
    result = json.loads(results.read_text().splitlines()[0])
    assert result["kind"] == "diagnosis"
    assert [finding["name"] for finding in result["findings"]] == ["HR", "RespRate"]
    assert said.index("condition_began") < said.index("condition_ended")


@pytest.mark.parametrize(
    ("named", "says"),
    [
        ("ward_belt5:DEVICE", "is no emulator; name an Emulator"),
        ("ward_belt5_emulator:EMULATER", "cannot be loaded from 'ward_belt5_emulator:EMULATER'"),
        ("ward_belt5_emulator:EMULATOR --map map.toml", "takes no map; leave it out"),
        ("ward_belt5_emulator:EMULATOR --fault alarm.toml", "'belt5' cannot show the fault"),
    ],
)
@pytest.mark.integration
def test_what_is_no_emulator_or_cannot_be_shown_is_refused(
    named: str, says: str, written: Path
) -> None:
    (written / "alarm.toml").write_text('[[fault]]\nkind = "alarm"\nat_s = 1\nduration_s = 1\n')
    done = run(written, "-m", "edge.cli", "emulate", *named.split(), "--link", "belt")
    assert done.returncode == 2 and says in done.stderr
