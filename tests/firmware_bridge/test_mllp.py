"""MLLP framing: messages out of bytes however they were cut, and nothing that is not framed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firmware_bridge import mllp
from firmware_bridge.mllp import Unframer, framed

PLAIN = st.binary(max_size=40).map(lambda b: bytes(c for c in b if c not in (0x0B, 0x1C)))


@given(st.lists(PLAIN, max_size=6), st.lists(st.integers(0, 300), max_size=10))
def test_cuts_change_nothing(messages: list[bytes], cuts: list[int]) -> None:
    data = b"".join(map(framed, messages))
    edges = [0, *sorted(min(c, len(data)) for c in cuts), len(data)]
    unframer = Unframer()
    found = [m for a, b in zip(edges, edges[1:]) for m in unframer.feed(data[a:b])]
    assert found == messages
    assert not unframer.tally["skipped_bytes"] and not unframer.rejected


def test_what_is_outside_is_skipped_and_counted() -> None:
    unframer = Unframer()
    assert unframer.feed(b"noise" + framed(b"A") + b"\r\rmore" + framed(b"B")) == [b"A", b"B"]
    assert unframer.tally["skipped_bytes"] == len("noise\r\rmore")


def test_the_carriage_return_may_be_missing() -> None:
    assert Unframer().feed(b"\x0bA\x1c\x0bB\x1c\r") == [b"A", b"B"]


def test_a_torn_message_is_given_up_when_the_next_begins() -> None:
    unframer = Unframer()
    assert unframer.feed(b"\x0bMSH|torn" + framed(b"whole")) == [b"whole"]
    assert unframer.rejected == {"torn": 1}
    assert unframer.tally["skipped_bytes"] == len(b"\x0bMSH|torn")


def test_a_message_without_end_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mllp, "MAX_MESSAGE_BYTES", 100)
    unframer = Unframer()
    assert unframer.feed(b"\x0b" + b"x" * 1000) == []
    assert unframer.rejected == {"too long": 1}
    assert unframer.feed(framed(b"after")) == [b"after"]
