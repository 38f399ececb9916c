"""The how-to for Modbus devices: its map, configuration and commands, as they stand there."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from firmware_bridge.devices.modbus_map import Map, Register, read_map

ROOT = Path(__file__).parents[1]
HOW_TO = (ROOT / "docs" / "modbus.md").read_text(encoding="utf-8")


def command(line: str) -> list[str]:
    return [sys.executable, "-m", "edge.cli", *line.replace("/tmp/modbus", "port").split()[1:]]


@pytest.fixture
def written(tmp_path: Path) -> Path:
    """Both files that the how-to says to write."""
    named = re.findall(r"`(\w+\.toml)`.*?:\n\n```toml\n(.*?)^```", HOW_TO, re.MULTILINE | re.DOTALL)
    assert [name for name, _ in named] == ["map.toml", "bedside.toml"]
    for name, text in named:
        (tmp_path / name).write_text(text.replace("/tmp/modbus", "port"))
    return tmp_path


def test_every_key_is_told_and_every_default_is_true(written: Path) -> None:
    text = HOW_TO.split("`bedside.toml`")[0]
    keys = {*Map.__struct_fields__, *Register.__struct_fields__}
    assert {key for key in keys if not re.search(rf"\b{key}\b", text)} == set()
    kept = read_map(written / "map.toml")
    plain = written / "plain.toml"
    plain.write_text(
        'schema = 1\n[[registers]]\nchannel = "MDC_TEMP"\ntable = "input"\naddress = 0\n'
        'type = "f32"\nunit = "Cel"\n'
    )
    told = dict(re.findall(r"`(\w+) = (.*?)`", text.split("What is left out")[1]))
    for found in (read_map(plain), read_map(plain).registers[0]):
        for key in set(told) & set(found.__struct_fields__):
            assert repr(getattr(found, key)).strip("()[]'") == told.pop(key).strip('[]"'), key
    assert not told
    assert len(kept.blocks()) == 2


@pytest.mark.integration
def test_the_commands_run_as_they_stand_there(written: Path) -> None:
    emulate, check = re.findall(r"^medge .*$", HOW_TO, re.MULTILINE)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}

    def checked() -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command(check), cwd=written, env=environment, capture_output=True, text=True
        )

    absent = checked()  # control
    assert absent.returncode == 3 and "cannot be opened" in absent.stderr
    with subprocess.Popen(command(emulate), cwd=written, env=environment) as emulator:
        try:
            limit_s = time.monotonic() + 20
            while not (written / "port").exists():
                assert time.monotonic() < limit_s, "the emulator did not come up"
                time.sleep(0.02)
            done = checked()
        finally:
            emulator.terminate()
    assert "source vitals: ready, for icu-vitals" in done.stdout, done.stderr
