"""Every device that medge speaks to, each a `medge emulate` of its own, beside one `medge run`.

Values become rows of a course, ECGs are classified; nothing but a few lines of configuration each.
They are found in all ways that there are: on a serial line, waiting for a call, calling, and by
datagrams. Two devices send nothing but waves that are no ECG: a bundle of ECGs refuses them, and
they are watched.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from contextlib import ExitStack
from functools import partial
from pathlib import Path
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

onnx = pytest.importorskip("onnx", reason="the course's model is made with onnx")
pytestmark = [pytest.mark.integration, pytest.mark.slow]

MAP = Path(__file__).parents[2] / "firmware_bridge" / "devices" / "modbus.toml"
NETWORK = {"hl7-oru": "call", "phd-blood-pressure": "call", "phd-oximeter": "call",
           "phd-scale": "call", "philips-intellivue-lan": "udp", "masimo-ascii1": "tcp",
           "openview-ads1293": "tcp"}  # fmt: skip
ADDRESSES = {"link": "serial://", "tcp": "tcp://", "udp": "udp://", "call": "tcp-listen://"}
ECGS = {  # and what their sensors do
    "cyton": "", "ge-s5": "", "philips-intellivue": "",
    "bitalino": "offset = 1650.0\ngain = 1100.0\n", "openview-ads1293": "gain = 20000.0\n",
}  # fmt: skip
OTHER_WAVES = {"openview-max30102": ("MDC_PULS_OXIM_PLETH", "1"),
               "pb840-waves": ("MDC_FLOW_AWAY", "L/min")}  # fmt: skip
VALUES = [name for name in DEVICES if device(name).numerics and name not in ECGS]
NEEDED = {"modbus": ["--map", str(MAP)]}  # by the emulator
TOLD = {"modbus": f'map = "{MAP}"\n'}  # by the source
STEP_S = 6.0  # some report every five seconds


def columns() -> tuple[Quantity, ...]:
    """Every measurement that any device has."""
    channels = dict.fromkeys(c for name in DEVICES for c in device(name).numerics)
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
def places(tmp_path: Path) -> Iterator[dict[str, str]]:
    """The address of each device; all are being emulated."""
    found: dict[str, str] = {}
    with ExitStack() as stack:
        for name in (*ECGS, *VALUES, *OTHER_WAVES, "modbus"):
            kind = NETWORK.get(name, "link")
            where = str(tmp_path / name) if kind == "link" else f"127.0.0.1:{free_port(kind)}"
            command = [sys.executable, "-m", "edge.cli", "emulate", name, f"--{kind}", where]
            process = stack.enter_context(subprocess.Popen([*command, *NEEDED.get(name, ())]))
            stack.callback(process.kill)
            found[name] = f"{ADDRESSES[kind]}{where}?device={name}"
        for name, address in found.items():
            wait(partial(there, address), f"{name} did not come up")
        yield found


def there(address: str) -> bool:
    """Whether the daemon can find it at once; who calls, and who is called by datagrams, can be
    waited for."""
    scheme, where = address.partition("?")[0].split("://")
    if scheme == "serial":
        return os.path.exists(where)
    if scheme != "tcp":
        return True
    host, port = where.split(":")
    with socket.socket() as probe:
        return probe.connect_ex((host, int(port))) == 0


def wait(done: Callable[[], bool], what: str) -> None:
    limit_s = time.monotonic() + 60
    while not done():
        assert time.monotonic() < limit_s, what
        time.sleep(0.05)


def free_port(kind: str) -> int:
    family = socket.SOCK_DGRAM if kind == "udp" else socket.SOCK_STREAM
    with socket.socket(socket.AF_INET, family) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_every_device_beside_one_daemon(
    course: tuple[Path, Path], places: dict[str, str], ward: Callable[..., Any]
) -> None:
    folder, public = course
    assert {*places} == {*DEVICES, "modbus"}
    lines = [
        '[[bundles]]\npath = "ecg-beat"\n',
        f'[[bundles]]\npath = "{folder}"\ntrusted_keys = ["{public}"]\n',
    ]
    for name, address in places.items():
        lines.append(f'[[sources]]\nname = "{name}"\nport = "{address}"\n')
        if name in ECGS:
            lines.append(
                'kind = "monitor"\nbundle = "ecg-beat"\nmdc = "MDC_ECG_ELEC_POTL_II"\n'
                f'unit = "mV"\nrate_hz = 250.0\n{ECGS[name]}'
            )
        elif name in OTHER_WAVES:
            lines.append('kind = "device"\n')
        else:
            lines.append(f'kind = "vitals"\nbundle = "measured"\n{TOLD.get(name, "")}')
    bed = ward("".join(lines))
    daemon, judged = bed.start(), places.keys() - OTHER_WAVES.keys()

    def told() -> set[str]:
        """Whose values were in a row, whose beats were found."""
        wanted = {name: "N" if name in ECGS else "yes" for name in judged}
        return {
            line["source"]
            for line in bed.lines()
            if line["kind"] == "diagnosis"
            and wanted[line["source"]] in [finding["name"] for finding in line["findings"]]
        }

    bed.until(lambda: told() >= judged, 60.0, f"results of {sorted(judged)}")
    assert bed.stop(daemon) == 0
    said = [json.loads(line) for line in daemon.stderr]
    assert {x["source"] for x in said if x["event"] == "device_heard"} == OTHER_WAVES.keys()
    wrong = [x for x in said if x["event"].startswith("condition_") and x["source"] in OTHER_WAVES]
    last = {(x["source"], x["code"]): x["event"] for x in wrong}
    assert "condition_began" not in last.values(), wrong
    withheld = [line for line in bed.lines() if line["kind"] == "withheld"]
    assert not [line for line in withheld if line["reason"] in ("leads_off", "backend_lost")]


@pytest.mark.parametrize("name", OTHER_WAVES)
def test_waves_that_are_no_ecg_are_refused(name: str, ward: Callable[..., Any]) -> None:
    mdc, unit = OTHER_WAVES[name]
    bed = ward(
        '[[bundles]]\npath = "ecg-beat"\n[[sources]]\nkind = "monitor"\n'
        f'port = "serial:///dev/null?device={name}"\nmdc = "{mdc}"\nunit = "{unit}"\n'
    )
    refused = bed.start()
    said = refused.communicate(timeout=60)[1]
    assert refused.returncode == 2 and f"'{unit}'" in said, said
