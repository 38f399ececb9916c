"""Decoding keeps far ahead of the wire: at least fifty times 115,200 baud, samples included."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import numpy as np
import pytest

from firmware_bridge.mcu import framing, protocol
from firmware_bridge.mcu.events import Samples
from firmware_bridge.mcu.feeds import Feed
from firmware_bridge.mcu.host import Mcu

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.benchmark

WIRE_BYTES_PER_S = 115_200 / 10
TIMES = 50
FRAMES = 2000


def recording() -> bytes:
    """A hello, and frames of 5 samples of 8 channels: what 250 Hz in blocks of 20 ms look like."""
    wire = protocol.wire()
    hello, samples = wire.to_host[1], wire.to_host[5]
    rng = np.random.default_rng(8)
    out = framing.encode(
        wire,
        hello,
        {"seq": 0, "session": 1, "t_us": 0},
        hello.pack(dict.fromkeys(hello.fields, 0) | {"layout": wire.layout_hash}),
    )
    shape = {"stream": 1, "channels": 8, "width": 3, "count": 5, "faults": 0, "age_us": 0}
    for n in range(FRAMES):
        body = samples.pack({**shape, "rate_mhz": 250_000, "first": 5 * n}) + rng.bytes(120)
        header = {"seq": n + 1, "session": 1, "t_us": 20_000 * n}
        out += framing.encode(wire, samples, header, body)
    return out


def decode_s(data: bytes, chunk: int) -> float:
    mcu = Mcu([Feed(1, 8, 250.0, "uV", 0.02)], session=2)
    mcu.open(0)
    started_s = time.perf_counter()
    blocks = 0
    for at in range(0, len(data), chunk):
        events = mcu.feed(data[at : at + chunk], at)
        blocks += sum(isinstance(event, Samples) for event in events)
    assert blocks == FRAMES
    return time.perf_counter() - started_s


@pytest.mark.parametrize("chunk", [64, 4096])
def test_decoding_is_fifty_times_the_wire(
    record_property: Callable[[str, object], None], chunk: int
) -> None:
    data = recording()
    best_s = min(decode_s(data, chunk) for _ in range(5))
    times = len(data) / best_s / WIRE_BYTES_PER_S
    record_property("times", times)
    print(f"{times:.0f} times the wire at {chunk} bytes a read")
    assert times >= TIMES
