"""Lines: cuts change nothing, every byte is settled, length is capped."""

from __future__ import annotations

import itertools

from hypothesis import given, settings
from hypothesis import strategies as st

from firmware_bridge.devices.lines import Lines


def fed(pieces: list[bytes]) -> tuple[list[bytes], Lines]:
    """Lines that begin with "a" are accepted, empty ones told, others refused."""
    lines, found = Lines(16), []
    for piece in pieces:
        for line in lines.feed(piece):
            if line.startswith(b"a"):
                lines.accept(line)
                found.append(line)
            elif line.strip():
                lines.refuse(line, "other")
            else:
                lines.tell(line)
    return found, lines


def test_a_line_that_is_too_long_is_dropped_to_its_end() -> None:
    found, lines = fed([b"a1\r\n" + b"a" * 40, b"a" * 40, b"\na2\n"])
    assert found == [b"a1\r\n", b"a2\n"]
    assert lines.counters.rejects == {"length": 1}
    assert (lines.counters.skipped_bytes, lines.counters.resyncs) == (81, 1)


def test_memory_is_bounded() -> None:
    lines = Lines(16)
    for _ in range(100):
        lines.feed(b"x" * 1000)
        assert len(lines._pending) < 16


def test_what_comes_before_the_first_good_line_is_no_reject() -> None:
    _, lines = fed([b"rest of one\na1\nother\n"])
    assert lines.counters.rejects == {"other": 1}
    assert lines.counters.resyncs == 0


PIECES = st.sampled_from([b"a1\r\n", b"a\n", b"b\n", b"\r\n", b"\n", b"a" * 15, b"b" * 20, b"\x00"])


@settings(max_examples=200, deadline=None)
@given(st.lists(PIECES, max_size=12).map(b"".join), st.lists(st.integers(0, 60), max_size=6))
def test_cuts_change_nothing_and_every_byte_is_accounted_for(data: bytes, cuts: list[int]) -> None:
    edges = [0, *sorted(min(c, len(data)) for c in cuts), len(data)]
    found, lines = fed([data])
    for pieces in (
        [data[a:b] for a, b in itertools.pairwise(edges)],
        [data[i : i + 1] for i in range(len(data))],
    ):
        parts, other = fed(pieces)
        assert parts == found
        assert other.counters == lines.counters
    c = lines.counters
    pending = c.received_bytes - sum(map(len, found)) - c.text_bytes - c.skipped_bytes
    assert c.received_bytes == len(data)
    assert 0 <= pending < 16
