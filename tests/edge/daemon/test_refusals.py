"""What cannot run is refused: the right exit code, cause and fix in one line."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import edge

REFERENCE = Path(edge.__file__).parent / "reference"
KEYS = sorted((REFERENCE / "keys").glob("*.pub"))
CONFIG = """
schema = 1
bed = "b"
state_dir = "state"
bundles = [{{ path = "{bundle}", trusted_keys = [{keys}] }}]

[[sources]]
kind = "monitor"
device = "cyton"
port = "{port}"
mdc = "MDC_ECG_ELEC_POTL_II"
unit = "{unit}"
"""


def medge(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "edge.cli", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def written(folder: Path, *, bundle: str = "ecg-beat", unit: str = "mV") -> str:
    file = folder / "c.toml"
    keys = ", ".join(f'"{key}"' for key in KEYS)
    port = folder / "nothing"
    file.write_text(CONFIG.format(bundle=bundle, port=port, unit=unit, keys=keys))
    return str(file)


def one_line(done: subprocess.CompletedProcess[str]) -> str:
    (line,) = done.stderr.strip().splitlines()
    assert line.startswith("medge: ")
    assert "; " in line, "cause; fix"
    return line


@pytest.mark.parametrize("verb", ["run", "check"])
def test_missing_port(tmp_path: Path, verb: str) -> None:
    done = medge(verb, written(tmp_path))
    assert done.returncode == 3
    assert "nothing" in one_line(done)


def test_wrong_key(tmp_path: Path) -> None:
    file = Path(written(tmp_path))
    file.write_text(file.read_text().replace("bed =", "bad ="))
    done = medge("run", str(file))
    assert done.returncode == 2
    assert "bed" in one_line(done)


def test_unit_that_is_not_the_devices(tmp_path: Path) -> None:
    done = medge("run", written(tmp_path, unit="%"))
    assert done.returncode == 2
    assert "uV" in one_line(done)


@pytest.mark.parametrize("verb", ["run", "check"])
def test_a_rate_that_is_not_the_bundles(tmp_path: Path, verb: str) -> None:
    """Said before any port is opened, not when the first samples come."""
    config = Path(written(tmp_path))
    config.write_text(config.read_text() + "rate_hz = 500.0\n")
    done = medge(verb, str(config))
    assert done.returncode == 2
    line = one_line(done)
    assert "at 500 Hz, the bundle needs MDC_ECG_ELEC_POTL_II at 250 Hz" in line


def test_tampered_bundle(tmp_path: Path) -> None:
    copy = tmp_path / "bundle"
    shutil.copytree(REFERENCE / "ecg-beat", copy)
    model = copy / "model.fp32.onnx"
    data = bytearray(model.read_bytes())
    data[len(data) // 2] ^= 1
    model.write_bytes(bytes(data))
    trusting = [f"--trusted-key={key}" for key in KEYS]
    verify = ["bundle", "verify", str(copy), *trusting]
    for verb in (["run", written(tmp_path, bundle=str(copy))], verify):
        done = medge(*verb)
        assert done.returncode in (1, 2)
        assert "model.fp32.onnx" in one_line(done)


def test_the_control_untampered_verifies() -> None:
    assert medge("bundle", "verify", "ecg-beat").returncode == 0


def test_unknown_verb_is_usage() -> None:
    assert medge("diagnoze").returncode == 2
