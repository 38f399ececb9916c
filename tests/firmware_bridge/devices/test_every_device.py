"""What holds for every registered device, whatever it says.

Split: however the bytes are cut, values and counters are the same. Account: every byte received is
in a frame, a text, skipped, or among the few pending. Damage: nothing raises, memory is bounded.
"""

from __future__ import annotations

import itertools
import math
import random
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from firmware_bridge.devices import DEVICES, device
from firmware_bridge.emulators.emulated import EMULATORS, Emulator, emulator
from firmware_bridge.emulators.patient import Scene
from firmware_bridge.nomenclature import TERMS, WITH_NUMBER, numeric
from firmware_bridge.session import Event, State
from firmware_bridge.types import Alert, LinkLost, LinkUp, Numeric, SampleBlock

FROM_THE_WIRE = (Event.READY, Event.ALIVE, Event.REFUSED, Event.FRAMES, Event.TIMEOUT)
SECONDS = 12.0
MAP = Path(__file__).with_name("modbus.toml")
EVERY = [*map(emulator, EMULATORS), emulator("modbus", str(MAP))]


@pytest.fixture
def heard(wire_to: Any) -> Any:
    """`heard(each)`: the emulator beside a link for a while, and what the link made of it."""

    def run(each: Emulator) -> tuple[Any, list[Any]]:
        wired = wire_to(each.device, each.make(Scene()))
        return wired, wired.run(SECONDS)

    return run


def flat(messages: list[Any]) -> list[Any]:
    """Messages with the cuts between blocks of a feed taken out: (feed, seq, sample) one by one."""
    out: list[Any] = []
    for m in messages:
        if isinstance(m, SampleBlock):
            rows = [tuple(map(repr, row.tolist())) for row in m.samples]
            out += [(m.feed, m.seq + i, m.lost if i == 0 else 0, r) for i, r in enumerate(rows)]
        else:
            out.append(m)
    return out


def by_kind(items: list[Any]) -> dict[Any, list[Any]]:
    """In order within each feed, and within everything that is no sample: a cut may change how
    samples of different feeds alternate, nothing else."""
    kinds: dict[Any, list[Any]] = {}
    for item in items:
        kinds.setdefault(item[0] if isinstance(item, tuple) else "values", []).append(item)
    return kinds


def test_every_device_has_an_emulator() -> None:
    assert EMULATORS.keys() == DEVICES.keys()
    for name in EMULATORS:
        assert emulator(name).device is device(name)


@pytest.mark.parametrize("each", EVERY)
def test_every_device_says_what_it_is(each: Emulator) -> None:
    found = each.device
    assert found.title and found.spec and found.proved_by and found.unproved
    assert found.feeds or found.numerics
    assert all(channel in TERMS for channel in found.numerics)
    channels = [c for feed in found.feeds for c in feed.channels]
    assert all(channel == "" or channel in TERMS for channel in channels)


@pytest.mark.parametrize(
    "channel", ["MDC_PULS_OXIM_SAT_O2", "MDC_PULS_OXIM_PULS_RATE", "MDC_PRESS_BLD_NONINV_SYS"]
)
def test_where_no_patient_gives_zero_zero_is_no_number(channel: str) -> None:
    """An empty register or field; a heart rate of 0 is asystole."""
    assert numeric(channel, 0.0).value is None
    assert numeric("MDC_ECG_HEART_RATE", 0.0).value == 0.0


@pytest.mark.parametrize("each", EVERY)
def test_no_event_of_an_open_port_is_illegal(each: Emulator) -> None:
    """What a device does is never our bug; every state that waits has a deadline."""
    dialogue = each.device.dialogue
    reached = {step.state for step in dialogue.table.values()} - {State.LOST}
    for pair in itertools.product(reached, FROM_THE_WIRE):
        assert pair in dialogue.table, pair
    assert reached <= set(dialogue.timeout_s)


@pytest.mark.parametrize("each", EVERY)
def test_link_and_emulator_come_together(each: Emulator, heard: Any) -> None:
    """Everything in the capability list arrives, in its unit, with numbers that can be."""
    wired, messages = heard(each)
    assert not [m for m in messages if isinstance(m, LinkLost)]
    assert sum(isinstance(m, LinkUp) for m in messages) == 1
    numerics = [m for m in messages if isinstance(m, Numeric)]
    assert {m.channel for m in numerics} == set(each.device.numerics)
    for m in numerics:
        assert m.unit == TERMS[m.channel].unit
        assert (m.value is not None) == (m.validity in WITH_NUMBER)
        assert m.value is None or math.isfinite(m.value)
    blocks = [m for m in messages if isinstance(m, SampleBlock)]
    assert {m.feed for m in blocks} == {feed.name for feed in each.device.feeds}
    for feed in each.device.feeds:
        mine = [m for m in blocks if m.feed == feed.name]
        assert all(m.samples.shape[1] == len(feed.channels) for m in mine)
        assert all(m.samples.dtype == np.float32 and m.unit == feed.unit for m in mine)
        ends = [m.seq + len(m.samples) for m in mine]
        assert [m.seq for m in mine[1:]] == ends[:-1]  # nothing lost, nothing twice
    assert not [m for m in messages if isinstance(m, Alert) and m.active]
    assert not wired.link.counters.stream.rejects


@pytest.mark.parametrize("each", EVERY)
def test_cuts_change_nothing(each: Emulator, heard: Any) -> None:
    """Whole frames, single bytes and random pieces of the very same stream."""
    if each.device.datagrams:
        pytest.skip("datagrams are not cut")
    said = heard(each)[0].cable.said
    rng = random.Random(1)
    pieces, at = [], 0
    while at < len(said):
        size = rng.randint(1, 400)
        pieces.append(said[at : at + size])
        at += size
    singles = [said[i : i + 1] for i in range(min(len(said), 4000))]
    for cut in (pieces, singles):
        data = b"".join(cut)
        whole, other = each.device.decoder(), each.device.decoder()
        expected = flat(whole.feed(data))
        found = flat([m for piece in cut for m in other.feed(piece)])
        assert by_kind(found) == by_kind(expected)
        assert other.counters == whole.counters
        assert whole.counters.received_bytes == len(data)


def damaged(said: bytes, rng: random.Random) -> bytes:
    """Flipped bits, torn frames and noise, one every hundred bytes or so."""
    dirty = bytearray(said)
    for _ in range(len(dirty) // 100):
        at = rng.randrange(len(dirty))
        action = rng.random()
        if action < 0.5:
            dirty[at] ^= 1 << rng.randrange(8)
        elif action < 0.75:
            del dirty[at : at + rng.randint(1, 12)]
        else:
            dirty[at:at] = rng.randbytes(rng.randint(1, 30))
    return bytes(dirty)


@pytest.mark.parametrize("each", EVERY)
def test_cuts_change_nothing_of_a_damaged_stream(each: Emulator, heard: Any) -> None:
    """What is trusted, given up or waited for may not depend on where a read ended either."""
    if each.device.datagrams:
        pytest.skip("datagrams are not cut")
    said = heard(each)[0].cable.said[:6000]
    rng = random.Random(3)
    for _ in range(3):
        data = damaged(said, rng)
        whole = each.device.decoder()
        expected = by_kind(flat(whole.feed(data)))
        for size in (1, rng.randint(2, 40)):
            other = each.device.decoder()
            pieces = [data[at : at + size] for at in range(0, len(data), size)]
            found = flat([m for piece in pieces for m in other.feed(piece)])
            assert by_kind(found) == expected
            assert other.counters == whole.counters


@pytest.mark.parametrize("each", EVERY)
def test_damage_raises_nothing_and_is_counted(each: Emulator, heard: Any) -> None:
    """Flipped bits, lost and doubled bytes, noise: no exception, no impossible number, bounded
    memory, and no more bytes accounted for than came."""
    said = heard(each)[0].cable.said[:20_000]
    rng = random.Random(2)
    decoder = each.device.decoder()
    for _ in range(20):
        dirty = bytearray(said)
        for _ in range(max(1, len(dirty) // 60)):
            at = rng.randrange(len(dirty))
            action = rng.random()
            if action < 0.6:
                dirty[at] ^= 1 << rng.randrange(8)
            elif action < 0.8:
                del dirty[at]
            else:
                dirty[at:at] = rng.randbytes(rng.randint(1, 9))
        for m in decoder.feed(bytes(dirty)):
            if isinstance(m, Numeric) and m.value is not None:
                assert TERMS[m.channel].low <= m.value <= TERMS[m.channel].high
    decoder.feed(rng.randbytes(200_000))
    c = decoder.counters
    assert c.text_bytes + c.skipped_bytes <= c.received_bytes


@pytest.mark.benchmark
@pytest.mark.parametrize("each", EVERY)
def test_hostile_bytes_are_done_with_faster_than_they_can_come(
    each: Emulator, wire_to: Any
) -> None:
    """Beginnings of frames without end, at twice the rate of the line at least; the cost of a byte
    does not grow with how many came before."""
    wired = wire_to(each.device, each.make(Scene()))
    wired.run(1.5)
    said, rate = wired.cable.said, each.device.wire.bytes_per_s
    size = 1400 if each.device.datagrams else 4096
    for beginning in (b"\0", b"\xff", *(said[:n] for n in (1, 2, 4, 8, 40))):
        data = (beginning * 40_000)[:40_000]
        decoder = each.device.decoder()
        began_s = time.process_time()
        for at in range(0, len(data), size):
            decoder.feed(data[at : at + size])
        assert len(data) / (time.process_time() - began_s) > 2 * rate, beginning
