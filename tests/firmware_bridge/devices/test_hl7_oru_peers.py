"""Foreign HL7 senders call our port: what they sent arrives, and they accept what we answer."""

from __future__ import annotations

import json
import socket
import subprocess
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from firmware_bridge.devices import device
from firmware_bridge.link import Link
from firmware_bridge.types import LinkMessage, LinkUp, Numeric

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.integration
PEERS = Path(__file__).parents[3] / "build" / "peers" / "node_modules"

VALUES = {"MDC_ECG_HEART_RATE": 71.0, "MDC_PULS_OXIM_SAT_O2": 96.0, "MDC_TEMP": 36.9}
ROWS = [
    "OBR|1|1^G|1^G|182777000^monitoring of patient^SCT|||20261128115959+0100",
    "OBX|1|NM|147842^MDC_ECG_HEART_RATE^MDC|1.1.1.1|71|264864^MDC_DIM_BEAT_PER_MIN^MDC|||||R",
    "OBX|2|NM|150456^MDC_PULS_OXIM_SAT_O2^MDC|1.1.1.2|96|262688^MDC_DIM_PERCENT^MDC|||||R",
    "OBX|3|NM|150344^MDC_TEMP^MDC|1.1.1.3|36.9|268192^MDC_DIM_DEGC^MDC|||||R",
]


def message(control: str) -> str:
    head = f"MSH|^~\\&|GW|WARD|MEDGE|BED|20261128120000+0100||ORU^R01^ORU_R01|{control}|P|2.6"
    return "\r".join([head, "PID|||1||Łukasz^李", *ROWS]) + "\r"


class Listening:
    """A link that is polled in a thread of its own; `heard` are its messages."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.heard: list[LinkMessage] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._serve)
        self._ready = threading.Event()

    def __enter__(self) -> Listening:
        self._thread.start()
        self._ready.wait(10)
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        self._thread.join()

    def _serve(self) -> None:
        link = Link(device("hl7-oru"), f"tcp-listen://127.0.0.1:{self.port}")
        self.heard += link.open(time.monotonic_ns())
        self._ready.set()
        while not self._stop.is_set():
            self.heard += link.poll(time.monotonic_ns())
            time.sleep(0.002)
        link.close()

    def values(self) -> dict[str, float | None]:
        return {m.channel: m.value for m in self.heard if isinstance(m, Numeric)}


@pytest.fixture
def listening() -> Iterator[Listening]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = int(free.getsockname()[1])
    with Listening(port) as found:
        yield found


def until(done: Callable[[], bool]) -> None:
    limit_s = time.monotonic() + 10
    while not done():
        assert time.monotonic() < limit_s, "waited in vain"
        time.sleep(0.01)


def exchanged(port: int, data: bytes) -> bytes:
    """Send raw bytes on a connection of their own; the first block that comes back."""
    with socket.create_connection(("127.0.0.1", port), 10) as peer:
        peer.settimeout(10)
        peer.sendall(data)
        answer = b""
        while b"\x1c\r" not in answer:
            part = peer.recv(4096)
            assert part, "hung up without an answer"
            answer += part
    return answer


def test_python_hl7(listening: Listening) -> None:
    hl7 = pytest.importorskip("hl7", reason="the test extra brings python-hl7")
    client_of = pytest.importorskip("hl7.client")
    with client_of.MLLPClient("127.0.0.1", listening.port, encoding="utf-8") as client:
        answer = hl7.parse(client.send_message(message("P1")).strip(b"\x0b\x1c\r").decode())
    assert str(answer.segment("MSA")) == "MSA|AA|P1"
    assert str(answer.segment("MSH")[9]) == "ACK"
    until(lambda: listening.values() == VALUES)


def test_hl7apy(listening: Listening) -> None:
    """As hl7apy reads and writes the message; our answer is one that it reads."""
    parser = pytest.importorskip("hl7apy.parser", reason="the test extra brings hl7apy")
    core = pytest.importorskip("hl7apy.core")
    made = parser.parse_message(message("H1"), find_groups=False)
    assert isinstance(made, core.Message) and made.obx[1].obx_5.value == "96"
    answer = exchanged(listening.port, made.to_mllp().encode())
    read = parser.parse_message(answer.strip(b"\x0b\x1c\r").decode(), find_groups=False)
    assert read.msa.msa_1.value == "AA"
    assert read.msa.msa_2.value == "H1"
    until(lambda: listening.values() == VALUES)


def node(program: str, *arguments: str) -> Any:
    """What a program on Node.js prints as JSON."""
    if not PEERS.is_dir():
        pytest.skip("no peers of npm: run 'make peers'")
    done = subprocess.run(
        ["node", "-e", program, *arguments], capture_output=True, text=True, timeout=60,
        cwd=PEERS.parent,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


NODE_HL7_CLIENT = """
const { Client, Message } = require('node-hl7-client');
const client = new Client({ host: '127.0.0.1' });
const out = client.createConnection({ port: Number(process.argv[1]) }, (answer) => {
  const said = answer.getMessage();
  console.log(JSON.stringify([said.get('MSA.1').toString(), said.get('MSA.2').toString()]));
  process.exit(0);
});
out.once('connect', () => out.sendMessage(new Message({ text: process.argv[2] })));
"""
SIMPLE_HL7 = """
const hl7 = require('simple-hl7');
const client = hl7.Server.createTcpClient({ host: '127.0.0.1', port: Number(process.argv[1]) });
const parsed = new hl7.Parser().parse(process.argv[2]);
client.send(parsed, (error, ack) => {
  const msa = ack.getSegment('MSA');
  console.log(JSON.stringify([msa.getField(1), msa.getField(2)]));
  process.exit(error ? 1 : 0);
});
"""


@pytest.mark.parametrize("program", [NODE_HL7_CLIENT, SIMPLE_HL7], ids=["node-hl7", "simple-hl7"])
def test_node(program: str, listening: Listening) -> None:
    assert node(program, str(listening.port), message("N1")) == ["AA", "N1"]
    until(lambda: listening.values() == VALUES)


def test_each_message_on_a_connection_of_its_own(listening: Listening) -> None:
    """As many gateways do: the link stays up between them, and knows what was sent again."""
    for control in ("A", "B", "B", "C"):
        data = b"\x0b" + message(control).encode() + b"\x1c\r"
        assert f"MSA|AA|{control}\r".encode() in exchanged(listening.port, data)
    until(lambda: sum(isinstance(m, Numeric) for m in listening.heard) >= 3 * len(VALUES))
    assert sum(isinstance(m, Numeric) for m in listening.heard) == 3 * len(VALUES)
    assert sum(isinstance(m, LinkUp) for m in listening.heard) == 1


def test_control_what_is_no_report_is_refused(listening: Listening) -> None:
    refused = exchanged(listening.port, b"\x0bGET / HTTP/1.1\x1c\r")
    assert b"MSA|AE|" in refused
    assert not listening.values()
