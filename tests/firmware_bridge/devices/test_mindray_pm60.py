"""Mindray PM-60: a worked packet, every rate, what was not read in the manual, damage."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from firmware_bridge.devices import mindray_pm60 as pm60
from firmware_bridge.devices.mindray_pm60 import Packet, decode, encode
from firmware_bridge.devices.oximetry import PULSE, SPO2
from firmware_bridge.emulators.faults import Fault, Kind
from firmware_bridge.emulators.patient import Scene
from firmware_bridge.types import Alert, Numeric, Validity

VALID, QUESTIONABLE, UNAVAILABLE = Validity.VALID, Validity.QUESTIONABLE, Validity.UNAVAILABLE

# Rate 200 (1, 1001000: the upper bit in bit 5 of the fourth byte), saturation 97 (61), not
# searching. Low halves: 8 + 0 + 1 + 0 = 9.
WORKED = bytes.fromhex("F1 99 48 20 61 00")


def values(messages: list[Any]) -> list[tuple[str, float | None, Validity]]:
    return [(m.channel, m.value, m.validity) for m in messages if isinstance(m, Numeric)]


def alerts(messages: list[Any]) -> list[bool]:
    return [m.active for m in messages if isinstance(m, Alert)]


def test_worked_packet_both_ways() -> None:
    assert encode(Packet(200, 97)) == WORKED
    assert decode(WORKED) == Packet(200, 97)
    decoder = pm60.Decoder()
    assert not decoder.feed(WORKED)
    assert values(decoder.feed(WORKED)) == [(PULSE, 200, VALID), (SPO2, 97, VALID)] * 2
    assert values(decoder.feed(WORKED)) == [(PULSE, 200, VALID), (SPO2, 97, VALID)]


def test_every_rate_has_nine_bits() -> None:
    for pulse in range(1, 351):
        assert values(pm60.Decoder().feed(encode(Packet(pulse, 97)) * 2))[0] == (
            PULSE,
            pulse,
            VALID,
        )


@pytest.mark.parametrize(
    ("packet", "expected"),
    [
        (Packet(0x1FF, 0x7F), [UNAVAILABLE] * 2),
        (Packet(0, 0), [UNAVAILABLE] * 2),
        (Packet(400, 120), [Validity.INVALID] * 2),
        (Packet(72, 97, searching=True), [QUESTIONABLE] * 2),
        (Packet(72, 97, last=1), [VALID, UNAVAILABLE]),
    ],
)
def test_what_values_are_worth(packet: Packet, expected: list[Validity]) -> None:
    assert [v for _, _, v in values(pm60.Decoder().feed(encode(packet) * 2))] == expected * 2


@pytest.mark.parametrize("bit", range(4))
def test_bits_for_future_use_make_no_packet(bit: int) -> None:
    """Were the rate's upper bits there, 200 would read as 72."""
    data = bytearray(WORKED)
    data[3] ^= 1 << bit
    data[1] = 0x90 | pm60._nibbles(bytes(data[2:]))
    decoder = pm60.Decoder()
    decoder.feed(WORKED * 2)
    assert not decoder.feed(bytes(data))
    assert decoder.counters.rejects == {"future": 1}


def test_the_search_is_said_on_change() -> None:
    data = encode(Packet(72, 97, searching=True)) * 3 + WORKED * 2
    assert alerts(pm60.Decoder().feed(data)) == [True, False]


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 511), st.integers(0, 127), st.booleans(), st.integers(0, 127))
def test_what_is_encoded_is_decoded(pulse: int, spo2: int, searching: bool, last: int) -> None:
    packet = Packet(pulse, spo2, searching, last)
    assert decode(encode(packet)) == packet


def acceptable(p: bytes) -> bool:
    """Whether marks and checksum of a packet are right, by the manual's words."""
    marks = p[0] == 0b11110001 and p[1] >> 4 == 0b1001 and max(p[2:]) < 128
    return marks and p[3] % 16 == 0 and sum(b % 16 for b in p[2:]) % 16 == p[1] % 16


def damaged(n: int, seed: int) -> list[bytes]:
    """Packets, half of them with 1-3 flipped bits."""
    rng = np.random.default_rng(seed)
    packets = []
    for i in range(n):
        packet = bytearray(encode(Packet(40 + i % 200, 97)))
        for bit in rng.integers(0, 48, 1 + i % 3) if i % 2 else ():
            packet[bit // 8] ^= 1 << (bit % 8)
        packets.append(bytes(packet))
    return packets


def accepted_wrongly(packets: list[bytes]) -> int:
    """Each packet behind two good ones, so that it is expected."""
    wrong = 0
    for packet in packets:
        decoder = pm60.Decoder()
        decoder.feed(WORKED * 2)
        wrong += bool(decoder.feed(packet)) and not acceptable(packet)
    return wrong


def test_twenty_thousand_damaged_packets() -> None:
    packets = damaged(20_000, seed=1)
    assert sum(not acceptable(packet) for packet in packets) > 8_000
    assert accepted_wrongly(packets) == 0


def test_control_without_the_checksum_damage_comes_through(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pm60, "_sum_is_right", lambda data, sent: True)
    assert accepted_wrongly(damaged(1_000, seed=1)) > 50


def test_noise_is_no_signal() -> None:
    decoder = pm60.Decoder()
    assert not decoder.feed(np.random.default_rng(3).bytes(100_000))
    assert decoder.counters.frames == 0


def test_the_emulator_obeys_the_script(wire: Any) -> None:
    messages = wire("mindray-pm60", Scene(faults=(Fault(4.0, 3.0, Kind.LEAD_OFF),))).run(10.0)
    assert alerts(messages) == [True, False]
    assert sum(validity is UNAVAILABLE for _, _, validity in values(messages)) == 6


@pytest.mark.benchmark
def test_decodes_at_fifty_times_the_link_rate(times_the_link: Any) -> None:
    """One packet at a time."""
    assert times_the_link(pm60.Decoder, pm60.WIRE, 2000 * WORKED, pm60.PACKET_BYTES, 2000) >= 50
