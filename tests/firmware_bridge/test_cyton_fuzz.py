"""Invariants of the Cyton decoder under damage.

Split: however the bytes are cut, the samples, gaps, texts and counters are the same.
Account: every byte received is in an accepted frame, a duplicate, a text, skipped, or pending.
Damage: no packet whose header, counter or stop byte is damaged is delivered, every undamaged packet
is, and `seq` stays that of the true packet. Damaged *data* bits pass: the format has no checksum.
"""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from firmware_bridge.devices import cyton
from firmware_bridge.types import Message, SampleBlock, Text

PIECES = st.one_of(
    st.tuples(st.just("packets"), st.integers(1, 6), st.integers(0, 3)),
    st.tuples(st.just("noise"), st.binary(min_size=1, max_size=50), st.just(0)),
    st.tuples(st.just("noise"), st.sampled_from([b"\xa0" * 40, b"\xa0\x01" * 20]), st.just(0)),
    st.tuples(st.just("noise"), st.sampled_from([b"hello$$$", b"$$$$$$", b"a" * 1500]), st.just(0)),
    st.tuples(st.just("torn"), st.integers(1, 32), st.just(0)),
    st.tuples(st.just("again"), st.just(1), st.just(0)),
)


@st.composite
def wire(draw: st.DrawFn) -> bytes:
    """A stream of packets with gaps, noise, texts, torn and repeated packets."""
    out, number = b"", draw(st.integers(0, 255))
    packet = cyton.encode(np.zeros((1, 8), np.int32), np.array([number]))
    for kind, what, gap in draw(st.lists(PIECES, max_size=12)):
        if kind == "packets":
            for _ in range(what):
                counts = np.full((1, 8), number * 0xA0C0 & 0x7FFFFF, np.int32)
                packet = cyton.encode(counts, np.array([number]))
                out, number = out + packet, number + 1
            number += gap
        else:
            out += {"noise": what, "torn": packet[: what if kind == "torn" else 0]}.get(
                kind, packet
            )
    return out


def flat(messages: list[Message]) -> list[object]:
    """Messages with the cuts between blocks taken out: (seq, lost, samples) and texts, in order."""
    out: list[object] = []
    for m in messages:
        if isinstance(m, Text):
            out.append(m.text)
        else:
            lost = [m.lost] + [0] * (len(m.samples) - 1)
            out += [(m.seq + i, lost[i], row.tolist()) for i, row in enumerate(m.samples)]
    return out


def decode(chunks: list[bytes]) -> tuple[list[object], cyton.Decoder]:
    decoder = cyton.Decoder()
    return flat([m for chunk in chunks for m in decoder.feed(chunk)]), decoder


@settings(max_examples=400, deadline=None)
@given(wire(), st.lists(st.integers(0, 3000), max_size=40))
def test_cuts_change_nothing(data: bytes, cuts: list[int]) -> None:
    whole, decoder = decode([data])
    edges = [0, *sorted(min(c, len(data)) for c in cuts), len(data)]
    for chunks in (
        [data[a:b] for a, b in itertools.pairwise(edges)],
        [data[i : i + 1] for i in range(len(data))],
    ):
        parts, other = decode(chunks)
        assert parts == whole
        assert other.counters == decoder.counters


@settings(max_examples=400, deadline=None)
@given(wire())
def test_every_byte_is_accounted_for(data: bytes) -> None:
    _, decoder = decode([data])
    c = decoder.counters
    framed = cyton.PACKET_BYTES * (c.frames + c.duplicates)
    pending = c.received_bytes - framed - c.text_bytes - c.skipped_bytes
    assert c.received_bytes == len(data)
    assert 0 <= pending <= 98


def damaged_stream(n: int, seed: int) -> tuple[bytes, np.ndarray, np.ndarray]:
    """`n` packets of random data, half of them with 1-3 flipped bits; which had a guard damaged."""
    rng = np.random.default_rng(seed)
    counts = rng.integers(cyton.COUNT_MIN, cyton.COUNT_MAX, (n, 8), endpoint=True, dtype=np.int32)
    counts[:, 0] = np.arange(n)
    clean = np.frombuffer(cyton.encode(counts, np.arange(n)), np.uint8).reshape(n, 33)
    dirty = clean.copy()
    for _ in range(3):
        hit = rng.random(n) < 0.25
        bit = rng.integers(0, 264, n)
        dirty[hit, bit[hit] // 8] ^= (1 << (bit[hit] % 8)).astype(np.uint8)
    legal_stop = (dirty[:, 32] >= 0xC0) & (dirty[:, 32] <= 0xC6)
    guard = (dirty[:, 0] != clean[:, 0]) | (dirty[:, 1] != clean[:, 1]) | ~legal_stop
    return dirty.tobytes(), guard, (dirty != clean).any(axis=1)


def delivered_wrongly(data: bytes, guard: np.ndarray, chunk: int = 4096) -> tuple[int, int, int]:
    """Damaged packets that came through, intact ones that did not, samples at a wrong seq."""
    decoder, seen, misplaced = cyton.Decoder(), np.zeros(len(guard), np.int64), 0
    packets = np.frombuffer(data, np.uint8).reshape(-1, 33)
    truth = cyton.counts_to_uv(cyton.parse_counts(packets))
    for at in range(0, len(data), chunk):
        for block in decoder.feed(data[at : at + chunk]):
            if isinstance(block, SampleBlock):
                end = block.seq + len(block.samples)
                seen[block.seq : end] += 1
                same = end <= len(truth) and np.array_equal(truth[block.seq : end], block.samples)
                misplaced += not same
    return int(seen[guard].sum()), int((seen[~guard] != 1).sum()), misplaced


def test_hundred_thousand_damaged_packets() -> None:
    data, guard, damaged = damaged_stream(220_000, seed=1)
    assert damaged.sum() >= 100_000
    assert guard.sum() >= 10_000
    assert delivered_wrongly(data, guard) == (0, 0, 0)


def test_control_trusting_every_well_formed_packet_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same rig must catch a decoder that trusts header and stop byte alone."""
    monkeypatch.setattr(cyton.Decoder, "_in_order", lambda self, three: True)
    data, guard, _ = damaged_stream(20_000, seed=1)
    came_through, _, misplaced = delivered_wrongly(data, guard)
    assert came_through > 100
    assert misplaced > 100


def test_random_bytes_give_no_samples_and_bounded_memory() -> None:
    """A wrong baud rate: 4 MB of noise hold 450 well-formed packets by chance; none is trusted."""
    rng = np.random.default_rng(2)
    decoder = cyton.Decoder()
    for _ in range(1024):
        decoder.feed(rng.bytes(4096))
        assert len(decoder._pending) <= 98
        assert len(decoder._text) <= cyton.MAX_TEXT_BYTES + 3
    assert decoder.counters.frames == 0
    assert decoder.counters.rejects["unconfirmed"] > 300
    assert decoder.counters.received_bytes - decoder.counters.skipped_bytes <= 98


def test_stream_is_found_again_after_noise() -> None:
    rng = np.random.default_rng(3)
    for _ in range(300):
        before = cyton.encode(np.zeros((5, 8), np.int32), np.arange(5))
        after = cyton.encode(np.zeros((5, 8), np.int32), np.arange(5, 10))
        rows, decoder = decode([before, rng.bytes(int(rng.integers(1, 500))), after])
        assert decoder.counters.frames == 10
        assert len(rows) == 10
