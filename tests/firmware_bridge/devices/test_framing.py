"""Framing, on frames `F0 n n^FF` of three bytes.

Split: however the bytes are cut, frames and counts are the same. Account: every byte received is in
a frame, an answer, skipped, or pending.
"""

from __future__ import annotations

import itertools

from hypothesis import given, settings
from hypothesis import strategies as st

from firmware_bridge.devices.framing import Found, Framer


def frame(n: int) -> bytes:
    return bytes([0xF0, n, n ^ 0xFF])


def check(buffer: bytes, at: int) -> int | str:
    if buffer[at] != 0xF0:
        return "start"
    if len(buffer) - at < 3:
        return 0
    return 3 if buffer[at + 1] ^ buffer[at + 2] == 0xFF else "check"


def framer() -> Framer:
    return Framer(check, confirm=3, slot_bytes=3, max_slots=2, singles=b"\x06")


def test_three_in_a_row_begin_and_one_is_enough_then() -> None:
    f = framer()
    assert not f.feed(frame(1) + frame(2))
    assert f.feed(frame(3)) == [(0, frame(1)), (0, frame(2)), (0, frame(3))]
    assert f.feed(frame(4)) == [(0, frame(4))]


def test_damaged_slots_are_crossed_and_no_more_than_allowed() -> None:
    bad = b"\xf0\x01\x01"
    f = framer()
    f.feed(frame(1) * 3)
    assert f.feed(bad * 2 + frame(5)) == [(6, frame(5))]
    assert f.rejects == {"check": 2}
    assert not f.feed(bad * 3 + frame(6))
    assert len(f.feed(frame(7) * 2)) == 3


def test_off_the_grid_a_frame_has_to_be_confirmed_again() -> None:
    f = framer()
    f.feed(frame(1) * 3)
    assert not f.feed(b"\x00" + frame(2))
    assert f.feed(frame(3) + frame(4)) == [(1, frame(2)), (0, frame(3)), (0, frame(4))]
    assert f.tally["resyncs"] == 1


def test_an_answer_counts_first_or_after_a_frame_only() -> None:
    assert framer().feed(b"\x06") == [(0, b"\x06")]
    assert not framer().feed(b"\x00\x06")
    f = framer()
    f.feed(frame(1) * 3)
    assert f.feed(b"\x06" + frame(2)) == [(0, b"\x06"), (0, frame(2))]


PIECES = st.one_of(
    st.integers(0, 255).map(frame),
    st.binary(min_size=1, max_size=7),
    st.sampled_from([b"\x06", b"\xf0", b"\xf0\xf0\x0f", frame(9) * 4]),
)


def fed(pieces: list[bytes]) -> tuple[list[Found], Framer]:
    f = framer()
    return [found for piece in pieces for found in f.feed(piece)], f


@settings(max_examples=200, deadline=None)
@given(st.lists(PIECES, max_size=20).map(b"".join), st.lists(st.integers(0, 80), max_size=8))
def test_cuts_change_nothing_and_every_byte_is_accounted_for(data: bytes, cuts: list[int]) -> None:
    edges = [0, *sorted(min(c, len(data)) for c in cuts), len(data)]
    whole, f = fed([data])
    for pieces in (
        [data[a:b] for a, b in itertools.pairwise(edges)],
        [data[i : i + 1] for i in range(len(data))],
    ):
        parts, other = fed(pieces)
        assert parts == whole
        assert other.counters == f.counters
    c = f.counters
    pending = c.received_bytes - 3 * c.frames - c.text_bytes - c.skipped_bytes
    assert c.received_bytes == len(data)
    assert 0 <= pending < 9
