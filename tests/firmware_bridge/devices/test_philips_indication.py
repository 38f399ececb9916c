"""The indication by which an IntelliVue makes itself known: its bytes, and hearing it."""

from __future__ import annotations

import socket
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from firmware_bridge.announced import DEVICE, Announced, announced
from firmware_bridge.devices import philips_indication
from firmware_bridge.devices.big_endian import Malformed
from firmware_bridge.devices.philips_indication import Indication, encode, parse
from firmware_bridge.errors import AddressError, LinkError

if TYPE_CHECKING:
    from collections.abc import Iterator

# Written down from the layout: nomenclature, ROIV, event of the object 0023, connect indication; a
# monitor that also speaks protocol 1 over UDP port 24106, and one attribute that nobody reads.
WORKED = bytes.fromhex(
    "00000100"
    "0001 0056"  # ROIV, length
    "0007 0000 0050"  # invoke, event, length
    "0023 0000 0000 00000000 0D17 0042"  # object, time, connect indication, length
    "0004 003E"  # attributes, length
    "0986 0002 0001"
    "F100 000E 0009FB001122 0A000007 FFFFFF00"
    "F101 0014 0002 0010 0001 0001 5E2A 0000 0005 0001 5E29 0000"
    "0928 000A 0003 504D53 0003 4D3730".replace(" ", "")
)


def test_a_worked_datagram() -> None:
    assert parse(WORKED) == Indication(24_105, "00:09:fb:00:11:22", "PMS M70")


def test_what_is_said_is_what_is_read() -> None:
    said = encode(bytes(range(6)), "10.0.0.7", 24_105, "Philips", "MX 800")
    assert parse(said) == Indication(24_105, "00:01:02:03:04:05", "Philips MX 800")


@pytest.mark.parametrize("size", range(len(WORKED)))
def test_what_is_cut_is_refused(size: int) -> None:
    with pytest.raises(Malformed):
        parse(WORKED[:size])


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("00000100", "00000200"),  # another nomenclature
        ("0D17", "0D06"),  # another event
        ("0005 0001 5E29", "0005 0002 5E29"),  # data export, but not over UDP
        ("F101 0014", "F102 0014"),  # no protocols
        ("0005 0001 5E29", "0005 0001 0000"),  # no port
    ],
)
def test_another_datagram_is_refused(before: str, after: str) -> None:
    old, new = (bytes.fromhex(text.replace(" ", "")) for text in (before, after))
    assert WORKED.count(old) == 1
    with pytest.raises(Malformed):
        parse(WORKED.replace(old, new))


@settings(max_examples=300, deadline=None)
@given(st.integers(0, len(WORKED) - 1), st.binary(max_size=6))
def test_damage_is_refused_or_read(at: int, noise: bytes) -> None:
    try:
        found = parse(WORKED[:at] + noise + WORKED[at + len(noise) :])
    except Malformed:
        return
    assert 0 <= found.port <= 0xFFFF and found.model.isprintable()


@contextmanager
def saying(datagrams: list[bytes], port: int) -> Iterator[None]:
    """All of them, again and again, to a port of this machine."""
    stop = threading.Event()

    def say() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as place:
            while not stop.wait(0.02):
                for datagram in datagrams:
                    place.sendto(datagram, ("127.0.0.1", port))

    thread = threading.Thread(target=say)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.mark.parametrize("host", ["127.0.0.1", philips_indication.GROUP])
def test_monitors_are_heard_once_each_and_noise_not_at_all(host: str) -> None:
    """Two monitors behind one address, as of a router; what a group hears comes to us alone too."""
    if host == philips_indication.GROUP and {n for _, n in socket.if_nameindex()} == {"lo"}:
        pytest.skip("this machine is in no network")
    other = encode(bytes(6), "10.0.0.8", 24_107, "Philips", "MP 5")
    port = free_port()
    with saying([WORKED, b"noise", b"", other], port):
        found = announced(f"udp://{host}:{port}", 0.5)
    assert [each.port for each in found] == ["udp://127.0.0.1:24105", "udp://127.0.0.1:24107"]
    assert found[0] == Announced(DEVICE, found[0].port, "PMS M70", "00:09:fb:00:11:22")


def test_nobody_is_nobody() -> None:
    assert announced(f"udp://127.0.0.1:{free_port()}", 0.1) == ()


@pytest.mark.parametrize("address", ["udp://monitor:24005", "udp://127.0.0.1", "udp://:24005"])
def test_no_address_of_ipv4_is_refused(address: str) -> None:
    with pytest.raises(AddressError, match=r"listen at udp://224\.0\.23\.63:24005"):
        announced(address)


def test_an_address_of_another_machine_is_refused() -> None:
    with pytest.raises(LinkError, match="or at this machine's address"):
        announced("udp://192.0.2.1:24005")


def test_what_another_program_hears_is_not_taken_from_it() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("127.0.0.1", 0))
        with pytest.raises(LinkError, match="in use"):
            announced(f"udp://127.0.0.1:{other.getsockname()[1]}")


def test_a_model_that_is_said_otherwise_costs_the_name_alone() -> None:
    old = bytes.fromhex("0003504D5300034D3730")
    assert parse(WORKED.replace(old, old[:5] + b"\0\x09" + old[7:])) == Indication(
        24_105, "00:09:fb:00:11:22", ""
    )
