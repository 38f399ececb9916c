"""Every device that medge speaks to, emulated, beside one running daemon.

Values become rows of a course, ECGs are classified; nothing but a few lines of configuration each.
"""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from edge.bundle.manifest import (
    SCHEMA,
    Features,
    Input,
    Label,
    Manifest,
    Output,
    Precision,
    Provenance,
    Quantity,
)
from firmware_bridge.devices import DEVICES, device
from firmware_bridge.nomenclature import TERMS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

onnx = pytest.importorskip("onnx", reason="the course's model is made with onnx")
pytestmark = [pytest.mark.integration, pytest.mark.slow]

NETWORK = {"hl7-oru": "call", "phd-blood-pressure": "call", "phd-oximeter": "call",
           "phd-scale": "call", "philips-intellivue-lan": "udp"}  # fmt: skip
ECGS = ("cyton", "bitalino", "ge-s5", "philips-intellivue")
VALUES = [name for name in DEVICES if device(name).numerics]
SENSORS = {"bitalino": "offset = 1650.0\ngain = 1100.0\n"}  # its ECG sensor
STEP_S = 12.0  # some report every ten seconds

EMULATORS = """
import json, sys, threading
from firmware_bridge.devices import device
from firmware_bridge.emulators.emulated import emulated
from firmware_bridge.emulators.patient import Scene
from firmware_bridge.emulators.play import play
from firmware_bridge.emulators.pty import Pty
from firmware_bridge.emulators.sockets import CallingPlace, UdpPlace
PLACES = {"call": CallingPlace, "udp": UdpPlace}
threads = []
for name, (kind, where) in json.loads(sys.argv[1]).items():
    found = device(name)
    place = Pty(where) if kind == "pty" else PLACES[kind]("127.0.0.1", where)
    rate = found.wire.bytes_per_s if kind == "pty" else None
    options = {"bytes_per_s": rate, "datagrams": found.datagrams}
    threads.append(threading.Thread(target=play, args=(emulated(name, Scene()), place),
                                    kwargs=options, daemon=True))
    threads[-1].start()
print("ready", flush=True)
for thread in threads:
    thread.join()
"""


def columns() -> tuple[Quantity, ...]:
    """Every measurement that any device has."""
    channels = dict.fromkeys(c for name in VALUES for c in device(name).numerics)
    return tuple(
        Quantity(c.lower(), c, TERMS[c].unit, max(TERMS[c].low, -1e6), min(TERMS[c].high, 1e6))
        for c in channels
    )


def model(width: int) -> bytes:
    """Logits `[N, 2]` of how much of `[N, 3, width]` was measured in this step."""
    from onnx import TensorProto, helper, numpy_helper

    weight = np.zeros((3 * width, 2), np.float32)
    weight[width : 2 * width, 1] = 1.0
    nodes = [helper.make_node("Flatten", ["features"], ["flat"]),
             helper.make_node("MatMul", ["flat", "w"], ["logits"])]  # fmt: skip
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes, "measured", [value("features", TensorProto.FLOAT, ["N", 3, width])],
        [value("logits", TensorProto.FLOAT, ["N", 2])], [numpy_helper.from_array(weight, "w")],
    )  # fmt: skip
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    return bytes(made.SerializeToString())


@pytest.fixture
def course(tmp_path: Path) -> tuple[Path, Path]:
    """A bundle whose columns are all measurements; its folder and public key."""
    from edge.bundle.cli import sign
    from edge.engines import open_engine

    wide, folder = columns(), tmp_path / "measured"
    folder.mkdir()
    content = model(len(wide))
    (folder / "model.fp32.onnx").write_bytes(content)
    rows = np.random.default_rng(0).uniform(0, 1, (4, 3, len(wide))).astype(np.float32)
    with open_engine("onnxruntime", content, "fp32", batch=4) as engine:
        engine.inputs["features"][...] = rows
        engine.run()
        given = {"in.features": rows, "out.logits": engine.outputs["logits"]}
        np.savez(folder / "golden.npz", **given)
    (folder / "card.md").write_text("# measured\n")
    described = Manifest(
        schema=SCHEMA, name="measured", version="1", security_epoch=0, intended_use="tests",
        features=Features(columns=wide, step_s=STEP_S, stale_steps=3),
        inputs=(Input(name="features", shape=(3, len(wide)), source="features"),),
        output=Output(name="logits", labels=tuple(Label(name=n, display=n) for n in ("no", "yes"))),
        precisions={"fp32": Precision(file="model.fp32.onnx", tolerance=1e-3)},
        provenance=Provenance(recipe="none", seed=0, data="none", trained_on=(), excluded=(),
                              licence="none", citation="none"),
        latency_budget_ms=1000.0, files={},
    )  # fmt: skip
    (folder / "manifest.json").write_bytes(msgspec.json.encode(described))
    private, public = keys(tmp_path)
    sign(str(folder), str(private))
    return folder, public


def keys(folder: Path) -> tuple[Path, Path]:
    """A fresh pair as PEM files, private and public."""
    key = Ed25519PrivateKey.generate()
    private, public = folder / "key.pem", folder / "key.pub"
    private.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    public.write_bytes(
        key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    )
    return private, public


@pytest.fixture
def places(tmp_path: Path) -> Iterator[dict[str, tuple[str, Any]]]:
    """Where each device is; all are being emulated."""
    found: dict[str, tuple[str, Any]] = {}
    for name in DEVICES:
        kind = NETWORK.get(name, "pty")
        found[name] = kind, (str(tmp_path / f"tty-{name}") if kind == "pty" else free_port(kind))
    command = [sys.executable, "-c", EMULATORS, json.dumps(found)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as emulators:
        try:
            assert emulators.stdout is not None and emulators.stdout.readline() == "ready\n"
            yield found
        finally:
            emulators.kill()


def free_port(kind: str) -> int:
    family = socket.SOCK_DGRAM if kind == "udp" else socket.SOCK_STREAM
    with socket.socket(socket.AF_INET, family) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def address(name: str, place: tuple[str, Any]) -> str:
    kind, where = place
    scheme = {"pty": "serial://", "udp": "udp://127.0.0.1:", "call": "tcp-listen://127.0.0.1:"}
    return f"{scheme[kind]}{where}?device={name}"


def test_every_device_beside_one_daemon(
    course: tuple[Path, Path], places: dict[str, tuple[str, Any]], ward: Callable[..., Any]
) -> None:
    folder, public = course
    lines = [
        '[[bundles]]\npath = "ecg-beat"\n',
        f'[[bundles]]\npath = "{folder}"\ntrusted_keys = ["{public}"]\n',
    ]
    for name in DEVICES:
        if name in ECGS:
            lines.append(
                f'[[sources]]\nkind = "monitor"\nname = "ecg {name}"\nbundle = "ecg-beat"\n'
                f'port = "{address(name, places[name])}"\nmdc = "MDC_ECG_ELEC_POTL_II"\n'
                f'unit = "mV"\nrate_hz = 250.0\n{SENSORS.get(name, "")}'
            )
        elif name in VALUES:
            lines.append(
                f'[[sources]]\nkind = "vitals"\nname = "{name}"\nbundle = "measured"\n'
                f'port = "{address(name, places[name])}"\n'
            )
    bed = ward("".join(lines))
    daemon = bed.start()
    wanted = {name for name in VALUES if name not in ECGS} | {f"ecg {name}" for name in ECGS}

    def told() -> set[str]:
        return {line["source"] for line in bed.lines() if line["kind"] == "diagnosis"}

    bed.until(lambda: told() >= wanted, 60.0, f"results of {sorted(wanted)}")
    assert bed.stop(daemon) == 0
    withheld = [line for line in bed.lines() if line["kind"] == "withheld"]
    assert not [line for line in withheld if line["reason"] in ("leads_off", "backend_lost")]
