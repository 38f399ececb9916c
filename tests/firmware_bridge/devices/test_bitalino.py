"""BITalino frames against the CRC and the unpacking that PLUX's own package does."""

from __future__ import annotations

import itertools
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from firmware_bridge.devices import bitalino
from firmware_bridge.emulators.emulated import emulated
from firmware_bridge.emulators.faults import Fault, Kind
from firmware_bridge.emulators.patient import Scene
from firmware_bridge.emulators.play import play
from firmware_bridge.emulators.pty import Pty
from firmware_bridge.session import Event, State
from firmware_bridge.types import SampleBlock, Text

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

# Number 10, no digital line set, A1..A6 = 512, 1023, 0, 682, 63, 1: packed by hand from the layout,
# from the last byte down A|crc, 0000|1000, 000000|11, 11111111, ...; the CRC nibble, by the
# algorithm of PLUX (below), is D.
WORKED = bytes.fromhex("C1 AF 2A 00 FF 03 08 AD")
WORKED_COUNTS = [512, 1023, 0, 682, 63, 1]


def plux_crc(frame: bytes) -> int:
    """The CRC-4 as PLUX's package computes it, bit by bit."""
    x = 0
    for byte in [*frame[:-1], frame[-1] & 0xF0]:
        for bit in range(7, -1, -1):
            x = x << 1
            if x & 0x10:
                x = x ^ 0x03
            x = x ^ byte >> bit & 1
    return x & 15


def plux_counts(f: bytes) -> list[int]:
    """A1..A6 as PLUX's package unpacks them."""
    return [
        (f[-2] & 0x0F) << 6 | f[-3] >> 2, (f[-3] & 3) << 8 | f[-4], f[-5] << 2 | f[-6] >> 6,
        (f[-6] & 0x3F) << 4 | f[-7] >> 4, (f[-7] & 0x0F) << 2 | f[-8] >> 6, f[-8] & 0x3F,
    ]  # fmt: skip


def stream(n: int, first: int = 0) -> bytes:
    """`n` frames whose A1 and A2 count frames."""
    at = np.arange(first, first + n)
    counts = np.zeros((n, 6), np.int64)
    counts[:, 0], counts[:, 1] = at % 1024, at // 1024
    return b"".join(bitalino.encode(counts, at))


def numbers(messages: list[Any]) -> list[int]:
    """The frame numbers of `stream` that came out."""
    fine = [m.samples for m in messages if isinstance(m, SampleBlock) and m.feed == bitalino.FINE]
    if not fine:
        return []
    counts = np.rint(np.concatenate(fine) / bitalino.FINE_MV_PER_LSB).astype(int)
    return (counts[:, 0] + 1024 * counts[:, 1]).tolist()


def test_a_worked_frame() -> None:
    assert plux_crc(WORKED) == WORKED[-1] & 15
    assert plux_counts(WORKED) == WORKED_COUNTS
    frame = np.frombuffer(WORKED, np.uint8).reshape(1, 8)
    assert bitalino.parse_counts(frame).tolist() == [WORKED_COUNTS]
    assert bitalino.encode(np.array([WORKED_COUNTS]), np.array([10])) == [WORKED]


@given(st.lists(st.integers(0, 63), min_size=1, max_size=6), st.integers(0, 15), st.integers(0, 15))
def test_frames_of_any_number_of_inputs_are_plux_frames(
    counts: list[int], number: int, digital: int
) -> None:
    [frame] = bitalino.encode(np.array([counts]), np.array([number]), digital)
    assert plux_crc(frame) == frame[-1] & 15
    assert (frame[-1] >> 4, frame[-2] >> 4) == (number, digital)
    assert plux_counts(bytes(8 - len(frame)) + frame)[: len(counts)] == counts


def test_counts_are_volts_of_the_supply() -> None:
    messages = bitalino.Decoder().feed(WORKED + b"".join(
        bitalino.encode(np.zeros((6, 6), np.int64), np.arange(11, 17))))  # fmt: skip
    fine, coarse = messages
    assert isinstance(fine, SampleBlock) and isinstance(coarse, SampleBlock)
    np.testing.assert_allclose(fine.samples[0], [1650.0, 3296.777, 0.0, 2197.852], atol=1e-3)
    np.testing.assert_allclose(coarse.samples[0], [3248.4375, 51.5625])
    assert (fine.unit, fine.rate_hz, coarse.feed) == ("mV", 1000.0, bitalino.COARSE)


def test_the_version_is_a_text_also_between_frames() -> None:
    decoder = bitalino.Decoder()
    assert decoder.feed(b"BITalino_v5.2\n") == [Text("BITalino_v5.2")]
    messages = decoder.feed(stream(8) + b"BITalino_v5.2\n" + stream(8, 8))
    assert numbers(messages) == list(range(16))
    assert decoder.counters.text_bytes == 28 and not decoder.counters.skipped_bytes


def test_an_endless_name_is_given_up() -> None:
    decoder = bitalino.Decoder()
    assert decoder.feed(b"BITalino" + b"x" * 100) == []
    assert decoder.counters.received_bytes - decoder.counters.skipped_bytes < 48


def test_a_gap_is_counted_modulo_sixteen() -> None:
    decoder = bitalino.Decoder()
    messages = decoder.feed(stream(10) + stream(10, 17))
    fine = [m for m in messages if isinstance(m, SampleBlock) and m.feed == bitalino.FINE]
    assert [(m.seq, m.lost, len(m.samples)) for m in fine] == [(0, 0, 10), (17, 7, 10)]
    assert (decoder.counters.lost, decoder.counters.rejects) == (7, {})


def test_noise_costs_nothing_and_a_damaged_frame_itself() -> None:
    decoder = bitalino.Decoder()
    assert numbers(decoder.feed(stream(10) + b"\x55\xaa\x55" + stream(10, 10))) == list(range(20))
    assert (decoder.counters.resyncs, decoder.counters.lost) == (1, 0)
    data = bytearray(stream(20))
    data[8 * 10 + 3] ^= 0x10
    decoder = bitalino.Decoder()
    assert numbers(decoder.feed(bytes(data))) == [n for n in range(20) if n != 10]
    assert (decoder.counters.rejects, decoder.counters.lost) == ({"crc": 1}, 1)


def test_a_repeated_frame_is_dropped() -> None:
    decoder = bitalino.Decoder()
    assert numbers(decoder.feed(stream(8) + stream(1, 7) + stream(9, 8))) == list(range(17))
    assert (decoder.counters.duplicates, decoder.counters.lost) == (1, 0)


def corrupted(n: int) -> tuple[bytes, NDArray[np.bool_]]:
    """`n` frames, every fourth with one to three flipped bits; which of them PLUX's CRC rejects,
    or their number. More damage would make gaps of 16, whose length nobody can know."""
    rng = np.random.default_rng(5)
    frames = np.frombuffer(stream(n), np.uint8).reshape(n, 8).copy()
    for _ in range(3):
        hit, bit = np.arange(n) % 4 == 3, rng.integers(0, 64, n)
        hit[:8] = False
        frames[hit, bit[hit] // 8] ^= (1 << bit[hit] % 8).astype(np.uint8)
    clean = np.frombuffer(stream(n), np.uint8).reshape(n, 8)
    bad = frames[:, -1] >> 4 != clean[:, -1] >> 4
    for i in np.flatnonzero((frames != clean).any(axis=1)):
        bad[i] |= plux_crc(frames[i].tobytes()) != frames[i, -1] & 15
    return frames.tobytes(), bad


def accepted_bad(data: bytes, bad: NDArray[np.bool_]) -> int:
    """How many samples came out at the place of a frame that its own check rejects."""
    blocks = [m for m in bitalino.Decoder().feed(data) if isinstance(m, SampleBlock)]
    seen = np.zeros(len(bad) + 32, np.bool_)
    for block in blocks:
        if block.feed == bitalino.FINE:
            seen[block.seq : block.seq + len(block.samples)] = True
    return int(seen[: len(bad)][bad].sum())


def test_no_frame_is_accepted_that_its_crc_or_number_rejects() -> None:
    data, bad = corrupted(20_000)
    assert bad.sum() > 4_000
    assert accepted_bad(data, bad) == 0


def test_control_without_the_crc_bad_frames_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    data, bad = corrupted(2_000)
    monkeypatch.setattr(bitalino, "crc4", lambda frames: frames[:, -1] & 15)
    assert accepted_bad(data, bad) > 100


@settings(max_examples=30, deadline=None)
@given(st.binary(max_size=400), st.lists(st.integers(0, 600), max_size=6))
def test_cuts_change_nothing(noise: bytes, cuts: list[int]) -> None:
    data = stream(9) + noise + stream(9, 9)
    whole, other = bitalino.Decoder(), bitalino.Decoder()
    edges = [0, *sorted(min(c, len(data)) for c in cuts), len(data)]
    pieces = [data[a:b] for a, b in itertools.pairwise(edges)]
    assert numbers([m for p in pieces for m in other.feed(p)]) == numbers(whole.feed(data))
    assert other.counters == whole.counters


def test_random_bytes_give_no_samples() -> None:
    rng, decoder = np.random.default_rng(6), bitalino.Decoder()
    assert not numbers([m for _ in range(10) for m in decoder.feed(rng.bytes(10_000))])
    assert decoder.counters.received_bytes - decoder.counters.skipped_bytes <= 47


OPEN = (State.LISTENING, State.RESETTING, State.CONFIGURING, State.STARTING, State.STREAMING)
EXPECTED = {
    **{
        (state, event): (state, b"")
        for state in OPEN
        for event in (Event.FRAMES, Event.READY, Event.ALIVE)
    },
    (State.CLOSED, Event.OPENED): (State.RESETTING, b"\x00"),
    (State.CLOSED, Event.JOINED): (State.LISTENING, b""),
    (State.LISTENING, Event.FRAMES): (State.STREAMING, b""),
    (State.LISTENING, Event.TIMEOUT): (State.RESETTING, b"\x00"),
    (State.RESETTING, Event.TIMEOUT): (State.CONFIGURING, b"\x07"),
    (State.CONFIGURING, Event.READY): (State.STARTING, b"\xc3"),
    (State.CONFIGURING, Event.TIMEOUT): (State.LOST, b""),
    (State.STARTING, Event.FRAMES): (State.STREAMING, b""),
    (State.STARTING, Event.TIMEOUT): (State.LOST, b""),
    (State.STREAMING, Event.TIMEOUT): (State.LOST, b""),
    **{(state, Event.REFUSED): (State.LOST, b"") for state in OPEN},
}


@pytest.mark.parametrize(("state", "event"), list(itertools.product(State, Event)))
def test_every_pair(state: State, event: Event, check_pair: Any) -> None:
    check_pair(bitalino.DEVICE.dialogue, EXPECTED, state, event)


def test_a_lead_off_is_at_the_rail(wire: Any) -> None:
    wired = wire("bitalino", Scene(faults=(Fault(2.0, 2.0, Kind.LEAD_OFF),)))
    blocks = [m for m in wired.run(5.0) if isinstance(m, SampleBlock) and m.feed == bitalino.FINE]
    mv = np.concatenate([m.samples[:, 0] for m in blocks])
    assert (mv == np.float32(bitalino.DEVICE.feeds[0].rail_high)).sum() == 2000
    assert wired.cable.heard == b"\x00\x07\xc3\xfd"


@pytest.fixture
def on_a_pty(tmp_path: Path) -> Iterator[str]:
    """The emulated board on a pty: the path that a program opens."""
    stop, place, link = threading.Event(), Pty(tmp_path / "board"), tmp_path / "board"
    with ThreadPoolExecutor() as pool:
        future = pool.submit(play, emulated("bitalino", Scene()), place, stop=stop, linger_s=0.0)
        while not (link.exists() or future.done()):
            time.sleep(0.01)
        yield str(link.resolve())
        stop.set()
        assert future.result(10).dropped_bytes == 0


@pytest.mark.integration
@pytest.mark.parametrize("inputs", [[0, 1, 2, 3, 4, 5], [0, 1]], ids=["six", "two"])
def test_plux_package_reads_the_emulator(on_a_pty: str, inputs: list[int]) -> None:
    """PLUX's own host package checks the CRC of every frame and unpacks it."""
    plux = pytest.importorskip("bitalino")
    board = plux.BITalino(on_a_pty, timeout=5)
    try:
        assert board.version() == "BITalino_v5.2"
        board.start(1000, inputs)
        rows = board.read(300)
        board.stop()
    finally:
        board.close()
    assert rows[:, 0].tolist() == [n % 16 for n in range(300)]
    assert not rows[:, 1:5].any()
    ecg_mv = (rows[:, 5] / 1024 - 0.5) * bitalino.SUPPLY_MV / 1100
    assert rows.shape[1] == 5 + len(inputs)
    assert np.ptp(ecg_mv) > 0.1 and abs(float(np.median(ecg_mv))) < 0.1


@pytest.mark.benchmark
def test_decodes_at_fifty_times_the_link_rate(times_the_link: Any) -> None:
    """115200 baud carry 1440 frames/s; a Bluetooth port hands them over 8 ms at a time."""
    assert times_the_link(bitalino.Decoder, bitalino.WIRE, stream(8000), 64, 8000) >= 50
