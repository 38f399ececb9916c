"""Cyton packets against bytes whose meaning is known from elsewhere, and every converter count."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from firmware_bridge.devices import cyton
from firmware_bridge.types import SampleBlock, Text

# One packet on which two independent host programs (brainflow 5.23.0, openbci-utilities 0.3.6)
# agree: counter 0x2A; channels 0x400000, 0xC00000, 1, -1, 1, 0x7FFFFF, 0x800000, 0;
# accelerometer 1F40 E0C0 0010; stop byte C0.
WORKED = bytes.fromhex(
    "A0 2A 400000 C00000 000001 FFFFFF 000001 7FFFFF 800000 000000 1F40 E0C0 0010 C0"
)
WORKED_UV = [93750.01, -93750.01, 0.02235, -0.02235, 0.02235, 187500.0, -187500.02, 0.0]
WORKED_COUNTS = [[0x400000, -0x400000, 1, -1, 1, 0x7FFFFF, -0x800000, 0]]
WORKED_ACCEL_G = [1.0, -1.0, 0.002]

# What the board of an emulated Cyton says after a soft reset, and a dongle whose board is off.
BANNER = b"OpenBCI V3 8-16 channel\r\nOn Board ADS1299 Device ID: 0x3E\r\n$$$"
BOARD_OFF = b"Failure: Communications timeout - Device failed to poll Host$$$"


def stream(n: int, first: int = 0) -> bytes:
    """`n` packets whose channel 1 counts packets."""
    counts = np.zeros((n, 8), np.int32)
    counts[:, 0] = np.arange(first, first + n)
    return cyton.encode(counts, np.arange(first, first + n))


def numbers(messages: list[SampleBlock | Text]) -> list[int]:
    """Channel 1 of all blocks in counts: the packet numbers of `stream`."""
    uv = [m.samples[:, 0] for m in messages if isinstance(m, SampleBlock)]
    return [] if not uv else cyton.uv_to_counts(np.concatenate(uv)).tolist()


def test_worked_packet_decodes_to_published_values() -> None:
    packet = np.frombuffer(WORKED, np.uint8).reshape(1, 33)
    assert cyton.parse_counts(packet).tolist() == WORKED_COUNTS
    np.testing.assert_allclose(cyton.parse_accel_g(packet)[0], WORKED_ACCEL_G, rtol=1e-6)
    after = WORKED.replace(b"\xa0\x2a", b"\xa0\x2b"), WORKED.replace(b"\xa0\x2a", b"\xa0\x2c")
    [block] = cyton.Decoder().feed(WORKED + b"".join(after))
    np.testing.assert_allclose(block.samples[0], WORKED_UV, atol=0.006)
    assert (block.seq, block.lost, block.rate_hz, block.unit) == (0, 0, 250.0, "uV")
    assert block.samples.dtype == np.float32


def test_worked_packet_encodes_to_the_same_bytes() -> None:
    aux = np.array([[0x1F40, -0x1F40, 0x10]], np.int16)
    assert cyton.encode(np.array(WORKED_COUNTS), np.array([0x2A]), aux) == WORKED


def test_every_count_survives_microvolts_in_float32() -> None:
    for first in range(cyton.COUNT_MIN, cyton.COUNT_MAX + 1, 1 << 20):
        counts = np.arange(first, first + (1 << 20), dtype=np.int32)
        assert np.array_equal(cyton.uv_to_counts(cyton.counts_to_uv(counts)), counts)


def test_microvolts_beyond_the_rails_are_clipped_to_them() -> None:
    rails = cyton.uv_to_counts(np.array([1e9, -1e9, cyton.RAIL_HIGH_UV, cyton.RAIL_LOW_UV]))
    assert rails.tolist() == [0x7FFFFF, -0x800000] * 2
    assert cyton.DEVICE.feeds[0].rail_high == pytest.approx(187_500.0)
    assert cyton.DEVICE.feeds[0].lsb == pytest.approx(0.022351744, rel=1e-7)


def test_accel_is_absent_between_updates_and_under_raw_aux() -> None:
    aux = np.array([[1, 2, 3], [0, 0, 0]], np.int16)
    data = cyton.encode(np.zeros((2, 8), np.int32), np.arange(2), aux)
    accel_g = cyton.parse_accel_g(np.frombuffer(data, np.uint8).reshape(2, 33))
    assert np.isfinite(accel_g[0]).all() and np.isnan(accel_g[1]).all()
    raw = cyton.encode(np.zeros((2, 8), np.int32), np.arange(2), aux, stop=0xC1)
    assert np.isnan(cyton.parse_accel_g(np.frombuffer(raw, np.uint8).reshape(2, 33))).all()


@pytest.mark.parametrize("data", [BANNER, BOARD_OFF])
def test_text_ends_at_three_dollars(data: bytes) -> None:
    decoder = cyton.Decoder()
    assert decoder.feed(data) == [Text(data[:-3].decode().strip())]
    assert decoder.counters.text_bytes == len(data)
    assert decoder.counters.skipped_bytes == 0


def test_text_after_a_torn_packet_is_still_read() -> None:
    decoder = cyton.Decoder()
    messages = decoder.feed(stream(5) + stream(1, 5)[:20] + BANNER)
    assert numbers(messages) == [0, 1, 2, 3, 4]
    assert messages[-1] == Text(BANNER[:-3].decode().strip())


def test_refusals_name_what_to_do() -> None:
    assert "switch the board on" in str(cyton.refusal(BOARD_OFF[:-3].decode()))
    assert "Daisy" in str(cyton.refusal("On Board ADS1299\nOn Daisy ADS1299 Device ID: 0x3E"))
    assert cyton.refusal(BANNER[:-3].decode()) is None


def test_gap_is_counted_and_starts_a_new_block() -> None:
    messages = cyton.Decoder().feed(stream(10) + stream(10, 17))
    assert [(m.seq, m.lost, len(m.samples)) for m in messages] == [(0, 0, 10), (17, 7, 10)]


def test_gap_across_counter_wrap() -> None:
    messages = cyton.Decoder().feed(stream(250) + stream(20, 260))
    assert [(m.seq, m.lost) for m in messages] == [(0, 0), (260, 10)]


def test_heavy_radio_loss_keeps_every_packet_that_came() -> None:
    kept = [n for n in range(3, 300) if n % 2 or n % 7 == 0]
    data = stream(3) + b"".join(stream(1, n) for n in kept) + stream(3, 300)
    decoder = cyton.Decoder()
    assert numbers(decoder.feed(data)) == [0, 1, 2, *kept, 300, 301, 302]
    assert decoder.counters.lost == 297 - len(kept)


def test_noise_before_a_packet_loses_nothing() -> None:
    decoder = cyton.Decoder()
    messages = decoder.feed(stream(5) + b"\x55\x66" + stream(5, 5))
    assert numbers(messages) == list(range(10))
    assert (decoder.counters.lost, decoder.counters.resyncs) == (0, 1)


@pytest.mark.parametrize(
    ("offset", "reason"), [(0, "header"), (1, "counter"), (32, "stop")], ids=str
)
def test_a_damaged_guard_byte_costs_exactly_its_packet(offset: int, reason: str) -> None:
    data = bytearray(stream(20))
    data[10 * 33 + offset] ^= 0x11
    decoder = cyton.Decoder()
    messages = decoder.feed(bytes(data))
    assert numbers(messages) == [n for n in range(20) if n != 10]
    assert [(m.seq, m.lost) for m in messages] == [(0, 0), (11, 1)]
    assert decoder.counters.rejects == {reason: 1}


def test_repeated_packet_is_dropped_once_more() -> None:
    decoder = cyton.Decoder()
    messages = decoder.feed(stream(5) + stream(1, 4) + stream(5, 5))
    assert numbers(messages) == list(range(10))
    assert (decoder.counters.duplicates, decoder.counters.lost) == (1, 0)


def test_joining_in_the_middle_of_packets_full_of_headers() -> None:
    """Every data byte is A0 and every packet offers C0 at the right distance: only the counter
    tells which phase is true."""
    data = bytearray(stream(30))
    for packet in range(30):
        data[33 * packet + 2 : 33 * packet + 32] = bytes([0xA0, 0xC0] * 15)
    for cut in range(1, 33):
        decoder = cyton.Decoder()
        [block] = decoder.feed(bytes(data[cut:]))
        assert len(block.samples) == 29


@pytest.mark.benchmark
def test_decodes_at_fifty_times_the_link_rate(times_the_link: Any) -> None:
    """115200 baud carry 349 packets/s. Chunks of one packet are the worst case of a real port."""
    data = stream(4000)
    assert times_the_link(cyton.Decoder, cyton.WIRE, data, cyton.PACKET_BYTES, 4000) >= 50
