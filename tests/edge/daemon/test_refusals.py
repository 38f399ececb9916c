"""What cannot run is refused: the right exit code, cause and fix in one line."""

from __future__ import annotations

import shutil
import socket
import subprocess
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

import edge
from firmware_bridge.emulators.pty import Pty

REFERENCE = Path(edge.__file__).parent / "reference"
KEYS = sorted((REFERENCE / "keys").glob("*.pub"))
pytestmark = pytest.mark.integration

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
def test_missing_port(medge: Any, tmp_path: Path, verb: str) -> None:
    done = medge(verb, written(tmp_path))
    assert done.returncode == 3
    assert "nothing" in one_line(done)


def ported(folder: Path, port: str) -> str:
    """The configuration with another port."""
    file = Path(written(folder))
    file.write_text(file.read_text().replace(str(folder / "nothing"), port))
    return str(file)


def test_a_closed_port_of_the_network(medge: Any, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        at = free.getsockname()[1]
    done = medge("check", ported(tmp_path, f"tcp://127.0.0.1:{at}"))
    assert done.returncode == 3
    assert f"127.0.0.1:{at} cannot be reached (Connection refused)" in one_line(done)
    assert "ready" not in done.stdout


def test_a_port_of_the_network_that_does_not_answer(medge: Any, tmp_path: Path) -> None:
    """A listener whose queue is full drops who calls, as a host that is switched off does."""
    with ExitStack() as stack:
        full = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        at = full.getsockname()[1]
        for _ in range(3):
            caller = stack.enter_context(socket.socket())
            caller.setblocking(False)
            caller.connect_ex(("127.0.0.1", at))
        done = medge("check", ported(tmp_path, f"tcp://127.0.0.1:{at}"))
    assert done.returncode == 3
    assert f"127.0.0.1:{at} cannot be reached (Connection timed out)" in one_line(done)
    assert "ready" not in done.stdout


@pytest.mark.parametrize(
    ("scheme", "how"),
    [("tcp", "connected"), ("tcp-listen", "listening"), ("udp", "open, no answer awaited")],
)
def test_what_is_known_of_a_port_of_the_network(
    medge: Any, tmp_path: Path, scheme: str, how: str
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as monitor:
        at = monitor.getsockname()[1]
        if scheme == "tcp-listen":
            monitor.close()
        done = medge("check", ported(tmp_path, f"{scheme}://127.0.0.1:{at}"))
    assert done.returncode == 0, done.stderr
    assert f"source monitor: {how}, for ecg-beat" in done.stdout


def test_wrong_key(medge: Any, tmp_path: Path) -> None:
    file = Path(written(tmp_path))
    file.write_text(file.read_text().replace("bed =", "bad ="))
    done = medge("run", str(file))
    assert done.returncode == 2
    assert "bed" in one_line(done)


@pytest.mark.parametrize("verb", ["run", "check"])
def test_two_sources_on_one_port(medge: Any, tmp_path: Path, verb: str) -> None:
    line = Pty(tmp_path / "nothing")
    line.plug()
    config = Path(written(tmp_path))
    source = config.read_text().split("[[sources]]")[1]
    config.write_text(config.read_text() + f'[[sources]]{source}name = "again"\n')
    done = medge(verb, str(config))
    line.unplug()
    assert done.returncode == 3
    assert "close other programs that use it" in done.stderr


def test_unit_that_is_not_the_devices(medge: Any, tmp_path: Path) -> None:
    done = medge("run", written(tmp_path, unit="%"))
    assert done.returncode == 2
    assert "uV" in one_line(done)


@pytest.mark.parametrize("verb", ["run", "check"])
def test_a_rate_that_is_not_the_bundles(medge: Any, tmp_path: Path, verb: str) -> None:
    """Said before any port is opened, not when the first samples come."""
    config = Path(written(tmp_path))
    config.write_text(config.read_text() + "rate_hz = 500.0\n")
    done = medge(verb, str(config))
    assert done.returncode == 2
    line = one_line(done)
    assert "at 500 Hz, the bundle needs MDC_ECG_ELEC_POTL_II at 250 Hz" in line


def test_tampered_bundle(medge: Any, tmp_path: Path) -> None:
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


def test_the_control_untampered_verifies(medge: Any) -> None:
    assert medge("bundle", "verify", "ecg-beat").returncode == 0


def test_unknown_verb_is_usage(medge: Any) -> None:
    assert medge("diagnoze").returncode == 2
