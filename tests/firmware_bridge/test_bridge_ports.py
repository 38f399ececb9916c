"""Addresses and ports against real sockets, files and a network whose cable is pulled."""

from __future__ import annotations

import os
import resource
import select
import shutil
import socket
import subprocess
import sys
import termios
import threading
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from firmware_bridge import network_ports, ports
from firmware_bridge.address import parse
from firmware_bridge.devices import DEVICES, cyton, device
from firmware_bridge.emulators.pty import Pty
from firmware_bridge.errors import AddressError, LinkError
from firmware_bridge.link import CONNECT_S, Link
from firmware_bridge.ports import Connecting, open_port, peers_of, stable_path
from firmware_bridge.session import NS_PER_S
from firmware_bridge.types import LinkLost, LinkUp, Loss, SampleBlock, Wire

if TYPE_CHECKING:
    from collections.abc import Iterator

    from firmware_bridge.ports import Port

WIRE = Wire(9600)


@pytest.fixture
def server() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as made:
        made.settimeout(5)
        yield made


def opened(address: str, timeout_s: float = 5.0) -> Port:
    port = open_port(address, WIRE)
    while isinstance(port, Connecting):
        assert select.select([port.fileno()], [], [], timeout_s)[0]
        port = port.settled() or port
    return port


def read(port: Port, n: int) -> bytes:
    data = b""
    while len(data) < n:
        assert select.select([port.fileno()], [], [], 5)[0]
        data += port.read()
    return data


def address_of(server: socket.socket) -> str:
    host, port = server.getsockname()
    return f"{host}:{port}"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("tcp://10.0.0.9", "no port; write it as tcp://10.0.0.9:port"),
        ("tcp:///dev/ttyUSB0", "no host; write it as tcp://host:port"),
        ("tcp://10.0.0.9:99999", "no address"),
        ("tcp://10.0.0.9:5000?pace=real", "no option 'pace'; leave it out"),
        ("udp://:24105", "names no host"),
        ("tcp-listen://ward-gateway:2575", "listen on an IP address"),
        ("file://capture.bin?pace=slow", "pace=real or pace=fast"),
        ("file://capture.bin?speed=2", "no option 'speed'"),
        ("serial:///dev/ttyUSB0?baud=fast", "'baud=fast' is nothing a serial port can have"),
        ("serial:///dev/ttyUSB0?speed=9600", "'speed' is nothing.*&baud=9600"),
        ("serial://ttyUSB0", "serial:///dev/ttyUSB0"),
        ("usb://1234", "no port of kind 'usb'; use one of: serial, tcp"),
        ("tcp://a:1?device=x&device=y", "says something twice"),
    ],
)
def test_a_wrong_address_names_its_fix(text: str, says: str) -> None:
    with pytest.raises(AddressError, match=says):
        open_port(text, WIRE)


def test_an_address_has_its_parts() -> None:
    found = parse("tcp://[::1]:2404?device=nonin-7")
    assert (found.host, found.port, found.device) == ("::1", 2404, "nonin-7")
    assert parse("/dev/ttyUSB0").path == "/dev/ttyUSB0"
    assert parse("file://captures/a.bin?device=cyton&pace=fast").path == "captures/a.bin"


def test_bytes_go_both_ways_and_a_hang_up_is_told(server: socket.socket) -> None:
    port = opened(f"tcp://{address_of(server)}")
    peer, _ = server.accept()
    assert port.read() == b""
    port.write(b"ask")
    assert peer.recv(10) == b"ask"
    peer.send(b"answer")
    assert read(port, 6) == b"answer"
    peer.close()
    with pytest.raises(LinkError, match="the peer has hung up"):
        read(port, 1)
    port.close()


@pytest.mark.integration
def test_a_name_is_looked_up_without_waiting(
    server: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A resolver that takes half a second delays nobody; what it finds is used."""
    real = socket.getaddrinfo

    def slow(*arguments: Any, **options: Any) -> Any:
        time.sleep(0.5)
        return real(*arguments, **options)

    monkeypatch.setattr(network_ports.socket, "getaddrinfo", slow)
    began_s = time.monotonic()
    pending = open_port(f"tcp://localhost:{server.getsockname()[1]}", WIRE)
    assert isinstance(pending, Connecting) and pending.settled() is None
    assert time.monotonic() - began_s < 0.4
    pending.close()
    port = opened(f"tcp://localhost:{server.getsockname()[1]}")
    server.accept()[0].close()
    port.close()


@pytest.mark.integration
def test_a_name_that_nobody_knows_says_so() -> None:
    with pytest.raises(LinkError, match=r"is not known.*correct its name"):
        opened("tcp://no-such-host.invalid:2404", 30)


@pytest.mark.parametrize("host", ["monitor..ward", "m" * 64, f"ward.{'m' * 64}.org"])
def test_a_name_that_cannot_be_one_says_so_and_leaves_nothing_open(host: str) -> None:
    """An empty label, labels above 63 characters: at every try the port says that there is no such
    host, and gives its descriptors back."""
    address = f"udp://{host}:24105"
    before = descriptors()
    for _ in range(3):
        with pytest.raises(LinkError, match=r"is not known.*correct its name"):
            opened(address)
    assert descriptors() == before
    [lost], link = link_losses(address)
    assert lost.reason is Loss.ABSENT
    link.close()
    assert descriptors() == before


def descriptors() -> int:
    """How many this process has open."""
    return len(os.listdir("/proc/self/fd"))


@contextmanager
def left(free: int) -> Iterator[None]:
    """No more than `free` descriptors can be opened here."""
    found = [os.open(os.devnull, os.O_RDONLY) for _ in range(free + 1)]
    for fd in found:
        os.close(fd)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (found[-1], hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.parametrize(
    ("address", "needs"),
    [("tcp://127.0.0.1", 2), ("udp://127.0.0.1", 2), ("tcp://localhost", 3),
     ("tcp-listen://127.0.0.1", 2)],
)  # fmt: skip
def test_a_port_for_which_no_descriptor_is_left_says_so(address: str, needs: int) -> None:
    """Each that it needs may be the one that is not there; those before it are given back."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        address += f":{free.getsockname()[1]}"
    socket.getaddrinfo("127.0.0.1", 1)  # loads its codec on first use
    before = descriptors()
    for some in range(needs):
        with left(some), pytest.raises(LinkError, match=r"Too many open files.*; close what holds"):
            open_port(address, WIRE)
        assert descriptors() == before
    with left(needs):  # control: it needs no more
        open_port(address, WIRE).close()
    with left(0):
        [lost], link = link_losses(address)
    assert lost.reason is Loss.ABSENT and "Too many open files" in lost.detail
    link.close()


def test_a_name_that_was_found_when_no_descriptor_is_left_says_so(server: socket.socket) -> None:
    with left(0):
        least, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    pending = open_port(f"tcp://localhost:{server.getsockname()[1]}", WIRE)
    assert isinstance(pending, Connecting) and select.select([pending.fileno()], [], [], 5)[0]
    resource.setrlimit(resource.RLIMIT_NOFILE, (least, hard))
    try:
        with pytest.raises(LinkError, match=r"Too many open files.*; close what holds"):
            pending.settled()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        pending.close()


def link_losses(address: str, until_s: float = 5.0) -> tuple[list[LinkLost], Link]:
    """The losses of a link that is polled as the daemon does, until the first one."""
    link = Link(cyton.DEVICE, address, random01=lambda: 0.0)
    messages = link.open(time.monotonic_ns())
    limit_s = time.monotonic() + until_s
    while not any(isinstance(m, LinkLost) for m in messages) and time.monotonic() < limit_s:
        fd, due_ns = link.fileno(), link.next_deadline_ns()
        assert due_ns is not None
        pause_s = max(0.0, (due_ns - time.monotonic_ns()) / NS_PER_S)
        select.select([] if fd is None else [fd], [], [], pause_s)
        messages += link.poll(time.monotonic_ns())
    return [m for m in messages if isinstance(m, LinkLost)], link


def test_nobody_listening_is_an_absent_device() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"tcp://{address_of(free)}"
    [lost], link = link_losses(address)
    assert lost.reason is Loss.ABSENT
    assert "refused" in lost.detail and "switch the device on" in lost.detail
    assert (link.counters.opens, link.counters.failed_opens) == (0, 1)
    link.close()


def test_a_peer_that_does_not_answer_blocks_nothing_and_has_a_deadline() -> None:
    """A listener whose queue is full drops what calls it, as a host that is off does."""
    with socket.socket() as full, socket.socket() as first, socket.socket() as second:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for caller in (first, second):
            caller.setblocking(False)
            caller.connect_ex(full.getsockname())
        time.sleep(0.05)
        link = Link(cyton.DEVICE, f"tcp://{address_of(full)}", random01=lambda: 0.0)
        began_s = time.monotonic()
        assert link.open(0) == []
        assert link.poll(NS_PER_S) == []
        assert time.monotonic() - began_s < 0.5
        due_ns = int(CONNECT_S * NS_PER_S)
        assert link.next_deadline_ns() == due_ns
        [lost] = link.poll(due_ns)
        assert isinstance(lost, LinkLost) and lost.reason is Loss.ABSENT
        link.close()


def test_listening_takes_one_peer_after_the_other_and_stays_up() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"tcp-listen://{address_of(free)}"
    host, number = address.removeprefix("tcp-listen://").split(":")
    port = opened(address)
    assert port.read() == b""
    port.write(b"to nobody")
    callers = [socket.create_connection((host, int(number)), 5) for _ in range(2)]
    callers[1].send(b"second")
    callers[0].send(b"first")
    assert read(port, 5) == b"first"
    assert peers_of(port) == 1
    assert not select.select([port.fileno()], [], [], 0.1)[0]  # the second waits, unheard
    port.write(b"yes")
    assert callers[0].recv(10) == b"yes"
    callers[0].close()
    assert read(port, 6) == b"second"
    assert peers_of(port) == 2
    callers[1].close()
    with pytest.raises(LinkError, match="port that is free"):
        open_port(address, WIRE)
    port.close()
    opened(address).close()


def test_a_call_that_cannot_be_taken_is_said_and_not_tried_for_ever() -> None:
    """No descriptor is left: the call goes on waiting, so the port must not look idle."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        host, number = free.getsockname()
    port = opened(f"tcp-listen://{host}:{number}")
    caller = socket.create_connection((host, number), 5)
    assert select.select([port.fileno()], [], [], 5)[0]
    with (
        left(0),
        pytest.raises(LinkError, match=r"cannot take a call .*Too many open files.*; close"),
    ):
        port.read()
    caller.send(b"now")
    assert read(port, 3) == b"now"
    caller.close()
    port.close()


def test_each_read_is_one_datagram() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as device:
        device.bind(("127.0.0.1", 0))
        port = opened(f"udp://{address_of(device)}")
        port.write(b"associate")
        data, host = device.recvfrom(100)
        assert data == b"associate"
        for datagram in (b"one", b"two" * 5000):
            device.sendto(datagram, host)
        assert select.select([port.fileno()], [], [], 5)[0]
        assert [port.read(), port.read(), port.read()] == [b"one", b"two" * 5000, b""]
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
            stranger.sendto(b"another's", host)
        device.sendto(b"", host)
        device.sendto(b"three", host)
        assert read(port, 5) == b"three"  # nothing of the stranger's
    port.write(b"anybody?")
    with pytest.raises(LinkError, match="refused"):
        read(port, 1)
    port.close()


STREAM = cyton.encode(np.zeros((400, 8), np.int32), np.arange(400))


@pytest.mark.integration
def test_a_capture_is_paced_as_its_wire_was(tmp_path: Path) -> None:
    (tmp_path / "capture.bin").write_bytes(bytes(480))
    took_s = {}
    for pace in ("real", "fast"):
        port = open_port(f"file://{tmp_path}/capture.bin?pace={pace}", WIRE)
        assert not isinstance(port, Connecting)
        port.write(b"into the void")
        began_s = time.monotonic()
        assert len(read(port, 480)) == 480
        took_s[pace] = time.monotonic() - began_s
        with pytest.raises(LinkError, match="has ended"):
            read(port, 1)
        port.close()
    assert 0.45 < took_s["real"] < 1.5
    assert took_s["fast"] < 0.4


def test_a_capture_can_be_left_early_and_leaves_no_thread(tmp_path: Path) -> None:
    (tmp_path / "capture.bin").write_bytes(bytes(1_000_000))
    before = threading.active_count(), len(os.listdir("/proc/self/fd"))
    for pace in ("real", "fast"):
        port = open_port(f"file://{tmp_path}/capture.bin?pace={pace}", WIRE)
        assert not isinstance(port, Connecting)
        read(port, 10)
        port.close()
    assert (threading.active_count(), len(os.listdir("/proc/self/fd"))) == before


def test_a_capture_runs_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "capture.bin").write_bytes(STREAM)
    link = Link(cyton.DEVICE, f"file://{tmp_path}/capture.bin?pace=fast", join=True)
    messages = link.open(0)
    while not any(isinstance(m, LinkLost) for m in messages):
        select.select([link.fileno()], [], [], 1)
        messages += link.poll(0)
    assert sum(len(m.samples) for m in messages if isinstance(m, SampleBlock)) == 400
    assert isinstance(messages[-1], LinkLost) and "has ended" in messages[-1].detail
    # For good: read once more it would give old samples as new ones.
    assert (link.fileno(), link.next_deadline_ns()) == (None, None)
    assert link.poll(3600 * NS_PER_S) == []
    link.close()


def test_a_capture_that_is_not_there() -> None:
    with pytest.raises(LinkError, match="name a readable file"):
        open_port("file:///no/such/capture.bin", WIRE)


@pytest.mark.parametrize("kind", ["fifo", "folder", "terminal"])
def test_a_capture_is_a_regular_file(kind: str, tmp_path: Path) -> None:
    """A FIFO would keep whoever opens it until somebody writes, and whoever closes it too."""
    at, before = tmp_path / "capture.bin", descriptors()
    if kind == "fifo":
        os.mkfifo(at)
    elif kind == "folder":
        at.mkdir()
    else:
        at = Path("/dev/ptmx")
    failed: list[LinkError] = []

    def refused() -> None:
        with pytest.raises(LinkError, match=r"capture .* cannot be read .*; name a .*file") as why:
            open_port(f"file://{at}", WIRE)
        failed.append(why.value)

    opening = threading.Thread(target=refused, daemon=True)
    opening.start()
    opening.join(5)
    assert failed and descriptors() == before


def test_a_capture_for_which_no_descriptor_is_left_says_so(tmp_path: Path) -> None:
    (tmp_path / "capture.bin").write_bytes(bytes(10))
    open_port(f"file://{tmp_path}/capture.bin", WIRE).close()  # loads what is loaded on first use
    before = descriptors()
    for some in range(3):
        with left(some), pytest.raises(LinkError, match="Too many open files"):
            open_port(f"file://{tmp_path}/capture.bin", WIRE)
        assert descriptors() == before
    with left(3):  # control: it needs no more
        open_port(f"file://{tmp_path}/capture.bin", WIRE).close()


def test_a_device_with_parity_is_opened_again_on_a_pty(tmp_path: Path) -> None:
    """Which has none: what was set by the first must not be an error for the next."""
    line = Pty(tmp_path / "port")
    line.plug()
    for _ in range(3):
        port = open_port(str(tmp_path / "port"), Wire(19_200, parity="E"))
        assert not isinstance(port, Connecting)
        port.write(b"x")
        assert line.wait(1.0) == b"x"
        port.close()
    line.unplug()


def test_all_that_waits_is_taken_by_one_poll(tty: tuple[int, str]) -> None:
    """More than one read of a terminal gives: what is due is judged when all is heard."""
    device_end, path = tty
    link = Link(device("cyton"), path, join=True)
    link.open(0)
    said = cyton.encode(np.zeros((360, cyton.CHANNELS), np.int32), np.arange(360))
    sent = os.write(device_end, said)
    assert sent > 2 * ports.READ_BYTES
    link.poll(1)
    assert link.counters.stream.received_bytes == sent
    link.close()


@pytest.mark.parametrize("name", ["loop", "a\0b"])
def test_a_name_that_leads_nowhere_is_a_port_that_is_not_there(tmp_path: Path, name: str) -> None:
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with pytest.raises(LinkError, match="cannot be opened"):
        open_port(f"{tmp_path}/{name}", WIRE)


def test_a_plain_name_has_a_stable_one(tmp_path: Path) -> None:
    tty, by_id = tmp_path / "ttyUSB0", tmp_path / "by-id"
    tty.touch()
    assert stable_path(str(tty), by_id) is None
    by_id.mkdir()
    (by_id / "usb-FTDI_FT232R_A900-if00-port0").symlink_to("../ttyUSB0")
    assert stable_path(str(tty), by_id) == f"{by_id}/usb-FTDI_FT232R_A900-if00-port0"
    assert stable_path(str(tmp_path / "ttyUSB1"), by_id) is None


def test_a_device_is_found_by_its_stable_name(emulate: Any, tmp_path: Path, collect: Any) -> None:
    """A link to a link, as /dev/serial/by-id has them; and another baud rate in the address."""
    board = emulate(np.zeros(500), loop=True)
    by_id = tmp_path / "usb-OpenBCI-if00"
    by_id.symlink_to(board.link)
    address = f"serial://{by_id}?baud=230400"
    messages, _ = collect(address, lambda m, _: any(isinstance(x, LinkUp) for x in m))
    assert messages


@pytest.fixture
def tty() -> Iterator[tuple[int, str]]:
    """The near end of a pty, non-blocking, and the name of the other, which stays open."""
    master, slave = os.openpty()
    os.set_blocking(master, False)
    yield master, os.ttyname(slave)
    os.close(master)
    os.close(slave)


def heard(master: int) -> int:
    """How many bytes there are at the near end."""
    n = 0
    while select.select([master], [], [], 0.1)[0]:
        n += len(os.read(master, 4096))
    return n


def filled(name: str) -> tuple[Port, int]:
    """A serial port that took what it could, and how many bytes that were at least."""
    port, written = opened(name), 0
    with suppress(LinkError):
        while written < 10_000_000:
            port.write(bytes(1000))
            written += 1000
    assert written < 10_000_000
    return port, written


def closing_s(port: Port) -> float:
    """How long the port takes to close."""
    began_s = time.monotonic()
    port.close()
    return time.monotonic() - began_s


def test_a_lost_port_closes_at_once_and_throws_away_what_was_not_taken(
    tty: tuple[int, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel would wait 30 s for the other end to take it. Control: without that it is kept."""
    master, name = tty
    port, written = filled(name)
    assert closing_s(port) < 0.1
    assert heard(master) < written
    monkeypatch.setattr(ports.termios, "tcflush", lambda fd, queue: None)
    port, written = filled(name)
    port.close()
    assert heard(master) >= written


def test_what_is_said_last_leaves_before_the_port_closes(tty: tuple[int, str]) -> None:
    master, name = tty
    for _ in range(20):
        port = opened(name)
        assert port.read() == b""
        port.write(b"stop")
        assert closing_s(port) < 0.1
        assert heard(master) == 4


def test_a_line_that_is_held_up_keeps_nobody_long(
    tty: tuple[int, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pty holds nothing back, so its driver is asked in vain. Last words get `CLOSING_S`; what
    was followed by a read, as before a loss by silence, and what was not taken gets none of it."""
    _, name = tty
    thrown: list[int] = []
    monkeypatch.setattr(ports, "_unsent_bytes", lambda fd: 4)
    monkeypatch.setattr(ports.termios, "tcflush", lambda fd, queue: thrown.append(queue))
    port = opened(name)
    thrown.clear()
    port.write(b"stop")
    assert ports.CLOSING_S <= closing_s(port) < ports.CLOSING_S + 0.2
    assert thrown == [termios.TCOFLUSH]
    port = opened(name)
    thrown.clear()
    port.write(b"poll")
    assert port.read() == b""
    assert closing_s(port) < 0.1
    assert thrown == [termios.TCOFLUSH]
    assert closing_s(port) < 0.1  # once more does nothing
    assert closing_s(filled(name)[0]) < 0.1


def test_the_last_words_of_every_device_leave_in_the_time_given() -> None:
    for found in map(device, DEVICES):
        if not found.datagrams:
            assert len(found.dialogue.stop) / found.wire.bytes_per_s < ports.CLOSING_S / 2


PULL = """
import select, socket, subprocess, sys, time
from dataclasses import replace
from firmware_bridge import network_ports
from firmware_bridge.devices import device
from firmware_bridge.emulators.capture import captured
from firmware_bridge.emulators.emulated import emulator
from firmware_bridge.emulators.patient import Scene
from firmware_bridge.link import Link
from firmware_bridge.session import listening
from firmware_bridge.types import LinkLost, LinkUp

pulls, asked = int(sys.argv[1]), sys.argv[2] == "asked"
if not asked:
    network_ports._watch = lambda peer: None
patient = replace(device("nonin-7"), dialogue=listening(60.0))
said = b"".join(frame.data for frame in captured(emulator("nonin-7"), Scene(), 3.0)[0])

def wait(link, kind, until_s):
    while (left_s := until_s - time.monotonic()) > 0:
        due_s = link.next_deadline_ns() / 1e9 - time.monotonic()
        select.select([link.fileno()], [], [], max(0, min(left_s, due_s)))
        if any(isinstance(m, kind) for m in link.poll(time.monotonic_ns())):
            return True
    return False

for i in range(pulls):
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    with socket.create_server(("127.0.0.1", 0)) as server:
        link = Link(patient, "tcp://127.0.0.1:%d" % server.getsockname()[1])
        link.open(time.monotonic_ns())
        peer, _ = server.accept()
        peer.send(said)
        assert wait(link, LinkUp, time.monotonic() + 5)
        assert not wait(link, LinkLost, time.monotonic() + 1.1 * i / pulls)
        subprocess.run(["ip", "link", "set", "lo", "down"], check=True)
        pulled_s = time.monotonic()
        print(time.monotonic() - pulled_s if wait(link, LinkLost, pulled_s + 4) else 9.9)
        link.close()
        peer.close()
"""


def pulled_s(pulls: int, how: str) -> list[float]:
    """How long each pulled network cable went unnoticed, in a network of its own; 9.9: for ever."""
    command = ["unshare", "-rn", sys.executable, "-c", PULL, str(pulls), how]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    if "unshare failed" in done.stderr or "not permitted" in done.stderr:
        pytest.skip("this machine allows no network namespace")
    assert done.returncode == 0, done.stderr
    return [float(line) for line in done.stdout.split()]


@pytest.mark.integration
@pytest.mark.skipif(not (shutil.which("unshare") and shutil.which("ip")), reason="no iproute2")
def test_a_pulled_network_cable_is_noticed_in_two_seconds() -> None:
    assert max(pulled_s(6, "asked")) < 2.0
    assert min(pulled_s(1, "unasked")) > 4  # control: nobody notices by himself
