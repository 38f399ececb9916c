"""What is shipped: the packages with the reference bundle, one version, no trace of a machine."""

from __future__ import annotations

import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import edge

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"

# Every command line of the README and the test (or check) that runs it.
RUN_BY = {
    "make demo": "tests/edge/demo/test_demo.py",
    "make test": ".ci/run",
    "medge check": "tests/edge/daemon/test_verbs.py",
    "medge run": "tests/edge/daemon/test_daemon.py",
    "medge record": "tests/edge/daemon/test_verbs.py",
    "medge replay": "tests/edge/daemon/test_verbs.py",
    "medge devices": "tests/test_readme_devices.py",
    "medge listen": "tests/test_readme_devices.py",
    "medge doctor": "tests/test_readme_devices.py",
    "medge emulate": "tests/test_readme_devices.py",
    "medge demo": "tests/edge/demo/test_demo.py",
    "medge bench": "tests/benchmarks/test_path.py",
    "medge infer": "tests/export/test_readme_families.py",
    "medge synthesize": "tests/export/test_readme_families.py",
    "medge export": "tests/export/test_readme_export.py",
    "openssl genpkey": "tests/edge/bundle/test_readme_install.py",
    "openssl pkey": "tests/edge/bundle/test_readme_install.py",
    "medge bundle": "tests/edge/bundle/test_bundle_cli.py",
}


def readme_commands(text: str) -> list[str]:
    blocks = re.findall(r"^```sh\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    return [line.split("#")[0].strip() for block in blocks for line in block.splitlines() if line]


def test_every_readme_command_is_run_by_a_test() -> None:
    commands = readme_commands(README.read_text(encoding="utf-8"))
    assert len(commands) > 5
    for command in commands:
        named = " ".join(command.split()[:2])
        assert named in RUN_BY, f"'{command}' is run by no test"
        assert (ROOT / RUN_BY[named]).exists()


def test_control_an_unknown_command_is_noticed() -> None:
    (command,) = readme_commands("```sh\nmedge dance\n```\n")
    assert " ".join(command.split()[:2]) not in RUN_BY


def test_one_version() -> None:
    declared = re.search(r'^version = "(.+)"', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert declared is not None
    assert declared[1] == edge.__version__
    assert f"## {edge.__version__}" in (ROOT / "CHANGELOG.md").read_text()


def test_no_trace_of_a_machine() -> None:
    listed = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if listed.returncode:
        pytest.skip("not a git checkout")
    wrong = re.compile("/" + "work/|/" + "root/|py" + r"pi\.org|registry\." + "npmjs")
    for name in listed.stdout.split():
        data = (ROOT / name).read_bytes()
        assert not wrong.search(data.decode("latin-1")), name


@pytest.mark.integration
def test_the_wheel_holds_the_packages_and_the_bundle(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        "-w",
        str(tmp_path),
        ".",
    ]
    subprocess.run(command, cwd=ROOT, check=True)
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    for package in ("edge", "export", "calibration", "firmware_bridge"):
        files = (ROOT / package).rglob("*.py")
        missing = {str(file.relative_to(ROOT)) for file in files} - set(names)
        assert not missing
    assert "edge/reference/ecg-beat/manifest.json" in names
    assert "edge/reference/ecg-beat/model.fp32.onnx" in names
    assert any(name.startswith("edge/reference/keys/") for name in names)
    assert "firmware_bridge/mcu/medge_link.h" in names  # read at run time
    assert "firmware_bridge/mcu/example/firmware.c" in names
    assert not any(name.startswith("tests/") for name in names)
