"""IntelliVue frames of the MIB/RS232 port against documented bytes and a wrong check known of.

Invariant: no frame is accepted whose check or length is wrong, however the bytes were cut.
"""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from firmware_bridge.crc import crc_x25
from firmware_bridge.devices import philips_frames

# Single poll of numerics, invoke 0, FCS 958E sent as 8E 95.
POLL = bytes.fromhex(
    "C0 11 01 00 24 E1 00 00 02 00 01 00 1C 00 00 00 07 00 16 00 21 00 00 00 00"
    "00 00 00 00 0C 16 00 08 00 01 00 01 00 06 00 00 8E 95 C1"
)


def deframer() -> Any:
    return philips_frames.Deframer(lambda message: message)


def crc_by_bits(data: bytes) -> int:
    """CRC-16/X-25 as the guide defines it, bit by bit."""
    crc = 0xFFFF
    for byte in data:
        crc = _eight_bits(crc ^ byte)
    return crc ^ 0xFFFF


def _eight_bits(crc: int) -> int:
    for _ in range(8):
        crc = crc >> 1 ^ (0x8408 if crc & 1 else 0)
    return crc


TABLE = [_eight_bits(byte) for byte in range(256)]


def crc_shifted_left(data: bytes) -> int:
    """As a public driver computes it: the table of the reflected polynomial, shifted the other
    way."""
    crc = 0xFFFF
    for byte in data:
        crc = (crc << 8 & 0xFFFF) ^ TABLE[(crc >> 8 ^ byte) & 0xFF]
    return crc ^ 0xFFFF


def test_the_documented_poll_request_is_a_frame() -> None:
    assert crc_x25(POLL[1:-3]) == 0x958E
    [message] = deframer().feed(POLL)
    assert message == POLL[5:-3]
    assert philips_frames.frame(message) == POLL


def test_check_value_of_the_catalogue() -> None:
    assert crc_x25(b"123456789") == 0x906E


def test_a_check_shifted_the_wrong_way_is_refused() -> None:
    assert crc_shifted_left(POLL[1:-3]) != 0x958E
    body = POLL[1:-3] + crc_shifted_left(POLL[1:-3]).to_bytes(2, "little")
    decoder = deframer()
    assert decoder.feed(b"\xc0" + body + b"\xc1") == []
    assert decoder.rejects == {"crc": 1}


@given(st.binary(max_size=300))
@settings(max_examples=100, deadline=None)
def test_any_message_survives_the_wire(message: bytes) -> None:
    sent = philips_frames.frame(message)
    assert sent.count(b"\xc0") == sent.count(b"\xc1") == 1
    assert deframer().feed(sent) == [message]
    assert crc_x25(message) == crc_by_bits(message)


@pytest.mark.parametrize(
    ("sent", "reason"),
    [
        (POLL[:20] + b"\x7d\xc1", "aborted"),
        (POLL[:20] + b"\x7d\x41" + POLL[20:], "escape"),
        (b"\xc0\x11\x01\xc1", "length"),
        (b"\xc0\xc1", "length"),
        (POLL[:-3] + b"\x95\x8e\xc1", "crc"),  # high byte first
        (POLL[:20], "truncated"),  # the next frame begins in it
    ],
)
def test_what_is_no_frame_is_counted_and_the_next_is_read(sent: bytes, reason: str) -> None:
    decoder = deframer()
    assert decoder.feed(sent + POLL) == [POLL[5:-3]]
    assert decoder.rejects == {reason: 1}
    assert decoder.tally["resyncs"] == (decoder.tally["skipped_bytes"] > 0)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"\x11\x02\x00\x01\x00", "header"),
        (b"\x11\x01\x00\x02\x00", "length"),
        (b"\x11\x01\x00\x00\x00", "length"),
        (b"\x11\x01\xff\xff\x00", "length"),
    ],
)
def test_a_header_that_lies_is_refused_in_spite_of_its_check(body: bytes, reason: str) -> None:
    body += crc_x25(body).to_bytes(2, "little")
    decoder = deframer()
    assert decoder.feed(b"\xc0" + body + b"\xc1") == []
    assert decoder.rejects == {reason: 1}


def test_noise_is_not_kept() -> None:
    decoder = deframer()
    decoder.feed(b"\xc0")
    for _ in range(100):
        decoder.feed(bytes(1000))
        assert len(decoder._pending) <= philips_frames.MAX_BODY_BYTES
    assert decoder.feed(POLL) == [POLL[5:-3]]
    assert decoder.rejects == {"oversized": 1}
    assert decoder.tally["skipped_bytes"] == 100_000


def test_a_datagram_that_is_too_long_is_refused() -> None:
    decoder: Any = philips_frames.Datagrams(bytes)
    assert decoder.feed(bytes(philips_frames.MAX_MESSAGE_BYTES + 1)) == []
    assert decoder.feed(b"abc") == [b"abc"]
    assert decoder.rejects == {"oversized": 1}


def test_cuts_change_nothing() -> None:
    rng = random.Random(3)
    data = b"".join(
        POLL[: rng.randint(1, len(POLL))] + rng.randbytes(rng.randint(0, 9)) + POLL
        for _ in range(50)
    )
    data += b"\xc0" + bytes(philips_frames.MAX_BODY_BYTES + 7) + POLL
    whole, single = deframer(), deframer()
    expected = whole.feed(data)
    assert [m for i in range(len(data)) for m in single.feed(data[i : i + 1])] == expected
    assert (single.tally, single.rejects) == (whole.tally, whole.rejects)


def corrupted(n: int, seed: int) -> tuple[bytes, int]:
    """Damaged frames, and how many of them the protocol's check cannot reject."""
    rng = random.Random(seed)
    message = bytes(range(12))
    frames, undetectable = [], 0
    for _ in range(n):
        body = bytearray(philips_frames.restored(philips_frames.frame(message)[1:-1]))
        for bit in rng.sample(range(8 * len(body)), rng.randint(1, 3)):
            body[bit // 8] ^= 1 << bit % 8
        undetectable += crc_by_bits(body[:-2]) == int.from_bytes(body[-2:], "little")
        sent = bytes(body)
        for byte in (0x7D, 0xC0, 0xC1):
            sent = sent.replace(bytes([byte]), bytes([0x7D, byte ^ 0x20]))
        frames.append(b"\xc0" + sent + b"\xc1")
    return b"".join(frames), undetectable


def test_no_frame_is_accepted_that_the_check_can_reject(monkeypatch: pytest.MonkeyPatch) -> None:
    frames, undetectable = corrupted(20_000, 1)
    decoder = deframer()
    assert len(decoder.feed(frames)) == undetectable == 0
    assert sum(decoder.rejects.values()) == 20_000
    blind = deframer()
    monkeypatch.setattr(philips_frames, "checked", lambda body: body[:-2])
    assert len(blind.feed(frames)) > 10_000  # the control: without it they pass
