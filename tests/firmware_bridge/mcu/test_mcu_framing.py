"""Frames against the packages `cobs` and `crcmod`, in Python and in C; cuts change nothing."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from firmware_bridge.crc import crc_x25
from firmware_bridge.mcu import framing, protocol

WIRE = protocol.wire()
MOSTLY_FULL = st.binary(max_size=800) | st.integers(0, 800).flatmap(
    lambda n: st.just(bytes(1 + i % 255 for i in range(n)))
)

# Consistent Overhead Byte Stuffing, of the paper's kind of examples.
STUFFED = [
    ("00", "0101"),
    ("11220033", "0311220233"),
    (bytes(range(1, 255)).hex(), "ff" + bytes(range(1, 255)).hex()),
    (bytes(range(1, 255)).hex() + "00", "ff" + bytes(range(1, 255)).hex() + "0101"),
    (bytes(range(1, 256)).hex(), "ff" + bytes(range(1, 255)).hex() + "02ff"),
]


@pytest.mark.parametrize(("plain", "stuffed"), STUFFED)
def test_stuffing_vectors(driver: Any, plain: str, stuffed: str) -> None:
    assert framing.cobs_encode(bytes.fromhex(plain)).hex() == stuffed
    assert framing.cobs_decode(bytes.fromhex(stuffed)) == bytes.fromhex(plain)
    assert driver.run([f"e {plain}", f"d {stuffed}"]) == [stuffed, plain]


def test_crc_check_value(driver: Any) -> None:
    """CRC-16/X-25 of "123456789" is 906E (catalogue of parametrised CRC algorithms)."""
    assert crc_x25(b"123456789") == 0x906E
    assert driver.run([f"c {b'123456789'.hex()}"]) == ["906e"]


@settings(max_examples=30, deadline=None)
@given(st.lists(MOSTLY_FULL, min_size=1, max_size=10))
def test_agrees_with_cobs_and_crcmod(driver: Any, plain: list[bytes]) -> None:
    cobs = pytest.importorskip("cobs.cobs")
    x25 = pytest.importorskip("crcmod.predefined").mkPredefinedCrcFun("x-25")
    stuffed = [cobs.encode(data) for data in plain]
    assert [framing.cobs_encode(data) for data in plain] == stuffed
    assert [framing.cobs_decode(data) for data in stuffed] == plain
    assert [crc_x25(data) for data in plain] == [x25(data) for data in plain]
    lines = [f"{what} {data.hex()}" for data in plain for what in "ec"]
    by_c = driver.run([*lines, *(f"d {data.hex()}" for data in stuffed)])
    assert by_c[0 : len(lines) : 2] == [data.hex() for data in stuffed]
    assert by_c[1 : len(lines) : 2] == [f"{x25(data):04x}" for data in plain]
    assert by_c[len(lines) :] == [data.hex() for data in plain]


@settings(max_examples=30, deadline=None)
@given(st.lists(st.lists(st.integers(1, 12), min_size=1, max_size=20).map(bytes), max_size=10))
def test_refuses_what_cobs_refuses(driver: Any, stuffed: list[bytes]) -> None:
    cobs = pytest.importorskip("cobs.cobs")
    by_c = driver.run([f"d {data.hex()}" for data in stuffed])
    for data, c in zip(stuffed, by_c):
        try:
            plain = cobs.decode(data)
        except cobs.DecodeError:
            plain = None
        assert framing.cobs_decode(data) == plain
        assert bytes.fromhex(c) == (plain or b"")


def device_frame(name: str, seq: int, t_us: int, session: int = 3, **fields: int) -> bytes:
    layout = next(m for m in WIRE.to_host.values() if m.name == name)
    body = dict.fromkeys(layout.fields, 0) | fields
    header = {"seq": seq, "session": session, "t_us": t_us}
    return framing.encode(WIRE, layout, header, layout.pack(body))


PIECES = st.one_of(
    st.builds(device_frame, st.just("BEAT"), st.integers(0, 3), st.integers(0, 3)),
    st.builds(device_frame, st.just("ACK"), st.integers(65534, 65535), st.integers(0, 9)),
    st.binary(max_size=30),
    st.sampled_from([b"\0", b"\0\0", b"\x05" * 700, b"\x05" * 700 + b"\0"]),
)


@settings(max_examples=100, deadline=None)
@given(st.lists(PIECES, max_size=12), st.lists(st.integers(0, 2000), max_size=20))
def test_cuts_change_nothing(pieces: list[bytes], cuts: list[int]) -> None:
    data = b"".join(pieces)
    whole = framing.FrameDecoder(WIRE)
    frames = whole.feed(data)
    edges = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    for chunks in (
        [data[a:b] for a, b in itertools.pairwise(edges)],
        [data[i : i + 1] for i in range(len(data))],
    ):
        parts = framing.FrameDecoder(WIRE)
        assert [frame for chunk in chunks for frame in parts.feed(chunk)] == frames
        assert parts.counters == whole.counters


def test_losses_duplicates_and_frames_from_before() -> None:
    decoder = framing.FrameDecoder(WIRE)
    numbers = [(0, 10), (1, 20), (1, 20), (5, 30), (4, 25), (6, 40)]
    data = b"".join(device_frame("ACK", seq, t_us) for seq, t_us in numbers)
    frames = [f for f in decoder.feed(data) if isinstance(f, framing.Frame)]
    assert [frame.seq for frame in frames] == [0, 1, 5, 6]
    counters = decoder.counters
    assert (counters.frames, counters.duplicates, counters.lost) == (4, 1, 3)
    assert counters.rejects == {"stale": 1}


def test_the_sequence_wraps_and_a_new_session_starts_it_anew() -> None:
    decoder = framing.FrameDecoder(WIRE)
    decoder.feed(device_frame("ACK", 65535, 10) + device_frame("ACK", 0, 20))
    decoder.feed(device_frame("ACK", 40000, 5, session=4))
    assert decoder.counters.lost == 0
    assert decoder.counters.frames == 3


@pytest.mark.parametrize(
    ("damaged", "reason"),
    [
        (b"\x09\x01\0", "cobs"),
        (b"\x02\x01\0", "short"),
        (device_frame("ACK", 0, 0).replace(b"\x03\x01", b"\x03\x02", 1), "crc"),
        (b"\x05" * 600 + b"\0", "overlong"),
    ],
)
def test_damage_is_counted_by_its_reason(damaged: bytes, reason: str) -> None:
    decoder = framing.FrameDecoder(WIRE)
    assert decoder.feed(damaged) == []
    assert decoder.counters.rejects == {reason: 1}
    assert decoder.counters.skipped_bytes == len(damaged)
    assert len(decoder.feed(device_frame("ACK", 0, 0))) == 1
    assert decoder.counters.resyncs == 1


def resealed(frame: bytes, at: int, value: int, more: bytes = b"") -> bytes:
    """A frame with one raw byte changed and its check made right again."""
    raw = bytearray((framing.cobs_decode(frame[:-1]) or b"")[:-2])
    raw[at] = value
    raw += more
    return framing.cobs_encode(bytes(raw) + crc_x25(raw).to_bytes(2, "little")) + b"\0"


def test_sound_frames_that_are_not_ours() -> None:
    ack = device_frame("ACK", 0, 0)
    for data, reason in ((resealed(ack, 1, 0x77), "type"), (resealed(ack, 1, 4, b"!"), "length")):
        decoder = framing.FrameDecoder(WIRE)
        assert decoder.feed(data) == []
        assert decoder.counters.rejects == {reason: 1}
    decoder = framing.FrameDecoder(WIRE)
    hello = device_frame("HELLO", 0, 0, layout=0x12345678)
    foreign = [framing.Foreign(9, None), framing.Foreign(1, 0x12345678)]
    assert decoder.feed(resealed(ack, 0, 9) + hello) == foreign
    assert decoder.counters.rejects == {"foreign": 2}


def test_pending_bytes_are_bounded() -> None:
    decoder = framing.FrameDecoder(WIRE)
    for _ in range(1000):
        decoder.feed(b"\x01" * 997)
        assert len(decoder._pending) <= 476
