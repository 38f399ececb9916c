"""No corrupted frame acts: only what an independent codec finds sound is accepted, in C and here.

The C side is asked for a command that would make the alarm line quiet, 100,000 times, each one
damaged: by flipped bits, cut, joined, or replaced by noise. Our side gets as many damaged frames.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import pytest

from firmware_bridge.mcu import framing, protocol

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.integration

COUNT = 100_000
WIRE = protocol.wire()


def damaged(frame: bytes, rng: random.Random) -> bytes:
    out = bytearray(frame)
    kind = rng.randrange(8)
    at = rng.randrange(len(frame))
    if kind == 0:
        return frame[:at] + b"\0"
    if kind == 1:
        return frame[:at] + frame
    if kind == 2:
        return rng.randbytes(rng.randint(1, 60)) + b"\0"
    for _ in range(rng.randint(1, 4)):
        out[rng.randrange(len(out))] ^= 1 << rng.randrange(8)
    return bytes(out) + b"\0"  # if the end was hit, this one ends it


@pytest.fixture(scope="module")
def sound() -> Callable[[bytes], int]:
    """How many frames of some bytes two independent packages find sound."""
    cobs = pytest.importorskip("cobs.cobs")
    x25 = pytest.importorskip("crcmod.predefined").mkPredefinedCrcFun("x-25")

    def count(data: bytes) -> int:
        found = 0
        for part in data.split(b"\0")[:-1]:
            try:
                raw = cobs.decode(part)
            except cobs.DecodeError:
                continue
            found += len(raw) >= 18 and x25(raw[:-2]) == int.from_bytes(raw[-2:], "little")
        return found

    return count


def damaged_commands(host: Any, count: int) -> list[bytes]:
    rng = random.Random(1)
    frames = [host.frame("COMMAND", id=n, action=1, argument=0) for n in range(1000)]
    return [damaged(frames[n % 1000], rng) for n in range(count)]


def answers(driver: Any, host: Any, frames: list[bytes]) -> tuple[list[int], Any]:
    """How many answers each of the frames got from a link in RUN, and how that ended."""
    lead_in = ["i 1", "t 1000000", *(host.beat(n) for n in (1, 2, 3))]
    shown = driver.show([*lead_in, *("r " + frame.hex() for frame in frames)])[len(lead_in) :]
    return [one.sent.count(0) for one in shown], shown[-1]


def test_the_c_side_does_nothing_for_corrupted_commands(
    driver: Any, host: Any, sound: Callable[[bytes], int]
) -> None:
    frames = damaged_commands(host, COUNT)
    answered, end = answers(driver, host, frames)
    assert answered == [sound(frame) for frame in frames]
    assert sum(answered) < 0.15 * COUNT  # a whole frame after a piece of one is no damage
    assert end.rejects > 0.85 * COUNT


def test_control_without_the_check_corrupted_commands_act(
    build_driver: Any, host: Any, sound: Callable[[bytes], int]
) -> None:
    unchecked = build_driver("-O1", "-DMEDGE_ACCEPT_ANY_CRC")
    frames = damaged_commands(host, COUNT // 10)
    answered, end = answers(unchecked, host, frames)
    assert sum(answered) > 1.5 * sum(map(sound, frames))
    assert end.line == "QUIET"


def test_our_side_returns_no_corrupted_frame(sound: Callable[[bytes], int]) -> None:
    rng = random.Random(2)
    layout = WIRE.to_host[5]
    shape = {"stream": 1, "channels": 2, "width": 3, "count": 5, "faults": 0, "rate_mhz": 250_000}
    decoder = framing.FrameDecoder(WIRE)
    frames = []
    for n in range(1000):
        body = layout.pack({**shape, "age_us": 0, "first": n}) + rng.randbytes(30)
        header = {"seq": n, "session": 1, "t_us": n}
        frames.append(framing.encode(WIRE, layout, header, body))
    returned = due = 0
    for n in range(COUNT):
        frame = damaged(frames[n % 1000], rng)
        returned += len(decoder.feed(frame))
        due += sound(frame)
    # A sound frame of before is a duplicate or stale; none is more than sound.
    assert returned + decoder.counters.duplicates + decoder.counters.rejects.get("stale", 0) == due
    assert returned < 0.15 * COUNT


def test_noise_neither_raises_nor_passes() -> None:
    """A megabyte of noise holds some 4,000 candidates; one in 65,536 would pass the check alone."""
    rng = random.Random(3)
    decoder = framing.FrameDecoder(WIRE)
    assert [got for _ in range(256) for got in decoder.feed(rng.randbytes(4096))] == []
    assert decoder.counters.skipped_bytes >= (1 << 20) - 476
