"""OpenView frames of three ProtoCentral boards, as their public sketches send them."""

from __future__ import annotations

import itertools
import struct
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from firmware_bridge.devices import device, openview
from firmware_bridge.emulators.emulated import emulated
from firmware_bridge.emulators.faults import Fault, Kind
from firmware_bridge.emulators.patient import Scene
from firmware_bridge.types import Alert, Numeric, SampleBlock, Validity

if TYPE_CHECKING:
    from firmware_bridge.devices.openview import Layout

LAYOUTS = (openview.MAX30102, openview.ADS1292R, openview.ADS1293)
NAMES = ("openview-max30102", "openview-ads1292r", "openview-ads1293")

# Continuos.ino: red 0x01ADB0 = 110000, infrared 0x01FBD0 = 130000.
LIGHT = bytes.fromhex("0A FA 08 00 02 B0 AD 01 00 D0 FB 01 00 00 0B")
# 02.OpenView.ino: ECG 89, breathing -2, heart rate 72, breathing rate 15; then an electrode off.
ONE_LEAD = bytes.fromhex("0A FA 08 00 02 59 00 FE FF 48 00 0F 00 00 0B")
OFF = bytes.fromhex("0A FA 08 00 02 00 00 00 00 00 00 00 00 00 0B")
# 03-5-lead-ECG-openview.ino: lead I 1, lead II -1, V1 the positive rail 0x7FFFFF.
THREE_LEADS = bytes.fromhex("0A FA 0C 00 02 01 00 00 00 FF FF FF FF FF FF 7F 00 00 0B")


def frames(layout: Layout, n: int, first: int = 0) -> bytes:
    """`n` frames whose first wave counts frames; other fields 7."""
    values = np.full((n, layout.waves + len(layout.numerics)), 7)
    values[:, 0] = np.arange(first, first + n)
    return b"".join(openview.encode(layout, values))


def numbers(messages: list[Any]) -> list[int]:
    blocks = [m.samples[:, 0] for m in messages if isinstance(m, SampleBlock)]
    return np.concatenate(blocks).astype(int).tolist() if blocks else []


@pytest.mark.parametrize(
    ("name", "frame", "samples"),
    [
        (NAMES[0], LIGHT, [110_000, 130_000]),
        (NAMES[1], ONE_LEAD, [89, -2]),
        (NAMES[2], THREE_LEADS, [1, -1, 0x7FFFFF]),
    ],
    ids=NAMES,
)
def test_worked_frames(name: str, frame: bytes, samples: list[int]) -> None:
    messages = device(name).decoder().feed(frame + frame[:5])
    [block] = [m for m in messages if isinstance(m, SampleBlock)]
    assert block.samples.tolist() == [samples]
    assert (block.unit, block.feed) == ("1", "wave")
    rates = [(m.channel, m.value) for m in messages if isinstance(m, Numeric)]
    expected = [("MDC_ECG_HEART_RATE", 72.0), ("MDC_RESP_RATE", 15.0)]
    assert rates == (expected if name == NAMES[1] else [])


@given(st.integers(0, 2), st.data())
def test_round_trip(which: int, data: st.DataObject) -> None:
    layout = LAYOUTS[which]
    row_of = st.tuples(*(st.integers(int(low), int(high)) for low, high in layout.bounds))
    rows = data.draw(st.lists(row_of, min_size=1))
    stream = b"".join(openview.encode(layout, np.array(rows)))
    found = openview.Decoder(layout).feed(stream + layout.header)
    samples = np.concatenate([m.samples for m in found if isinstance(m, SampleBlock)])
    for row, sample in zip(rows, samples.tolist()):
        off = layout.off is not None and not any(row)
        assert np.isnan(sample).all() if off else sample == list(row[: layout.waves])


def test_rates_are_told_on_change_and_once_a_second() -> None:
    layout = openview.ADS1292R
    values = np.tile([1, 2, 72, 15], (300, 1))
    values[200:, 2] = 75
    messages = openview.Decoder(layout).feed(b"".join(openview.encode(layout, values)))
    heart = [m.value for m in messages if isinstance(m, Numeric) and "HEART" in m.channel]
    assert heart == [72.0, 72.0, 75.0]


def test_a_rate_of_zero_is_not_available() -> None:
    layout = openview.ADS1292R
    [frame] = openview.encode(layout, np.array([[1, 2, 0, 0]]))
    found = openview.Decoder(layout).feed(frame + layout.header)
    assert [(m.value, m.validity) for m in found if isinstance(m, Numeric)] == [
        (None, Validity.UNAVAILABLE)] * 2  # fmt: skip


@pytest.mark.parametrize("rates", [[351, 15], [-1, 15], [72, 251], [72, -1]], ids=str)
def test_an_impossible_rate_is_no_frame_of_this_board(rates: list[int]) -> None:
    layout = openview.ADS1292R
    [frame] = openview.encode(layout, np.array([[1, 2, *rates]]))
    decoder = openview.Decoder(layout)
    assert decoder.feed(frame + layout.header) == []
    assert decoder.counters.rejects == {"range": 1}


def test_each_of_the_two_boards_alike_rejects_the_other() -> None:
    light, lead = (b"".join(emulated(name, Scene()).say(8.0)) for name in NAMES[:2])
    for layout, other in ((openview.ADS1292R, light), (openview.MAX30102, lead)):
        decoder = openview.Decoder(layout)
        assert not [m for m in decoder.feed(other) if isinstance(m, SampleBlock)]
        assert decoder.counters.rejects["range"] > 500


def test_no_light_at_all_is_a_sensor_that_does_not_answer() -> None:
    messages = openview.Decoder(openview.MAX30102).feed(LIGHT * 3 + OFF * 20 + LIGHT * 2)
    assert [(m.code, m.active) for m in messages if isinstance(m, Alert)] == [
        ("openview:no-light", True), ("openview:no-light", False)]  # fmt: skip
    [block] = [m for m in messages if isinstance(m, SampleBlock)]
    assert np.isnan(block.samples[3:23]).all() and np.isfinite(block.samples[:3]).all()


def test_leads_off_is_an_alert_on_change_and_its_samples_are_nan() -> None:
    decoder = openview.Decoder(openview.ADS1292R)
    messages = decoder.feed(ONE_LEAD * 3 + OFF * 30 + ONE_LEAD * 3 + OFF * 3 + ONE_LEAD)
    alerts = [m for m in messages if isinstance(m, Alert)]
    assert [(a.code, a.active) for a in alerts] == [
        ("MDC_EVT_LEADS_OFF", True), ("MDC_EVT_LEADS_OFF", False)]  # fmt: skip
    samples = np.concatenate([m.samples for m in messages if isinstance(m, SampleBlock)])
    assert np.isnan(samples[3:33]).all() and np.isfinite(samples[:3]).all()
    told = [m.validity for m in messages if isinstance(m, Numeric)]
    assert told[:4] == [Validity.VALID] * 2 + [Validity.UNAVAILABLE] * 2


def test_lead_off_of_the_emulated_board(wire: Any) -> None:
    wired = wire("openview-ads1292r", Scene(faults=(Fault(2.0, 2.0, Kind.LEAD_OFF),)))
    alerts = [m.active for m in wired.run(6.0) if isinstance(m, Alert)]
    assert alerts == [True, False]


@pytest.mark.parametrize(
    ("change", "reason"),
    [({0: 0x0B}, "header"), ({1: 0}, "header"), ({2: 9}, "length"), ({4: 3}, "type"),
     ({13: 1}, "trailer"), ({14: 0x0A}, "trailer"), ({8: 1}, "range"), ({7: 4}, "range")],
    ids=str,
)  # fmt: skip
def test_a_damaged_frame_costs_itself(change: dict[int, int], reason: str) -> None:
    data = bytearray(frames(openview.MAX30102, 20))
    for place, value in change.items():
        data[10 * 15 + place] = value
    decoder = openview.Decoder(openview.MAX30102)
    messages = decoder.feed(bytes(data))
    assert numbers(messages) == [n for n in range(20) if n != 10]
    assert [m.seq for m in messages if isinstance(m, SampleBlock)] == [0, 11]
    assert decoder.counters.lost == 1 and reason in decoder.counters.rejects


def test_noise_between_frames_loses_none() -> None:
    decoder = openview.Decoder(openview.ADS1293)
    messages = decoder.feed(
        frames(openview.ADS1293, 5) + b"\x0a\xfa\x0a" + frames(openview.ADS1293, 5, 5)
    )
    assert numbers(messages) == list(range(10))
    assert (decoder.counters.lost, decoder.counters.resyncs) == (0, 1)


def test_one_frame_alone_is_not_trusted() -> None:
    decoder = openview.Decoder(openview.MAX30102)
    assert decoder.feed(LIGHT + b"\x55" * 30) == []
    assert decoder.counters.rejects["unconfirmed"] == 1


def bad_frames(n: int) -> tuple[bytes, list[int]]:
    """`n` frames of a MAX30102, every fourth with flipped bits; those that a check can reject."""
    rng = np.random.default_rng(4)
    size = 15
    data = bytearray(frames(openview.MAX30102, n))
    rejected = []
    for i in range(1, n, 4):
        for bit in rng.integers(0, 8 * size, int(rng.integers(1, 4))):
            data[size * i + bit // 8] ^= 1 << int(bit) % 8
        red, infrared = struct.unpack_from("<II", data, size * i + 5)
        fixed = data[size * i : size * i + 5] + data[size * i + 13 : size * i + 15]
        if fixed != LIGHT[:5] + LIGHT[13:] or max(red, infrared) >= 2**18:
            rejected.append(i)
    return bytes(data), rejected


def accepted(data: bytes, n: int) -> set[int]:
    seen = set()
    for block in openview.Decoder(openview.MAX30102).feed(data + LIGHT[:5]):
        if isinstance(block, SampleBlock):
            seen |= set(range(block.seq, block.seq + len(block.samples)))
    return seen


def test_no_frame_is_accepted_that_a_check_rejects() -> None:
    data, rejected = bad_frames(20_000)
    assert len(rejected) > 4_000
    seen = accepted(data, 20_000)
    assert not seen & set(rejected)
    assert len(seen) == 20_000 - len(rejected)


def test_control_without_the_range_check_bad_frames_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    data, rejected = bad_frames(4_000)
    monkeypatch.setattr(openview.Decoder, "_possible", lambda self, fields: True)
    assert len(accepted(data, 4_000) & set(rejected)) > 100


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2), st.binary(max_size=80), st.lists(st.integers(0, 400), max_size=8))
def test_cuts_change_nothing(which: int, noise: bytes, cuts: list[int]) -> None:
    layout = LAYOUTS[which]
    data = frames(layout, 5) + noise + frames(layout, 5, 5)
    edges = [0, *sorted(min(c, len(data)) for c in cuts), len(data)]
    whole, other = openview.Decoder(layout), openview.Decoder(layout)
    pieces = [data[a:b] for a, b in itertools.pairwise(edges)]
    assert numbers([m for p in pieces for m in other.feed(p)]) == numbers(whole.feed(data))
    assert other.counters == whole.counters


@pytest.mark.parametrize("name", NAMES)
def test_random_bytes_give_nothing(name: str) -> None:
    rng, decoder = np.random.default_rng(6), device(name).decoder()
    assert not [m for _ in range(20) for m in decoder.feed(rng.bytes(10_000))]
    counters = decoder.counters
    assert counters.received_bytes - counters.skipped_bytes <= 24


@pytest.mark.benchmark
@pytest.mark.parametrize("which", range(3), ids=NAMES)
def test_decodes_at_fifty_times_the_link_rate(which: int, times_the_link: Any) -> None:
    """57600 baud carry 384 frames/s of 15 bytes; one frame a read is the worst case."""
    data = frames(LAYOUTS[which], 4000)
    make = partial(openview.Decoder, LAYOUTS[which])
    assert times_the_link(make, openview.WIRE, data, len(data) // 4000, 4000) >= 50
