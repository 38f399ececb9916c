"""GE S/5 requests, frames and records against the specification's examples and a monitor's record.

Invariant of the codec: no frame is accepted whose checksum or length is wrong.
"""

from __future__ import annotations

import random
import struct
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from firmware_bridge.devices import ge_s5, ge_s5_phdb, ge_s5_records
from firmware_bridge.devices.ge_s5_phdb import Group, Phdb
from firmware_bridge.types import Validity

if TYPE_CHECKING:
    pass

TIME_S = 1251973827  # 2009-09-03 10:30:27 UTC


def deframer() -> Any:
    return ge_s5_records.Deframer(lambda record: record)


# --- requests -----------------------------------------------------------------------------------

# M1017617 appendix A: displayed values of all classes every 10 s; end them; wave ECG 1; end it.
EVERY_10_S = bytes.fromhex(
    "7e 31 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 ff 00 "
    "00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 01 0a 00 0e 00 00 00 "
    "00 00 49 7e"
)
NO_VALUES = bytes.fromhex(
    "7e 31 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 ff 00 "
    "00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 01 00 00 00 00 00 00 "
    "00 00 31 7e"
)
WAVE_ECG1 = bytes.fromhex(
    "7e 48 00 00 00 00 00 00 00 00 00 00 00 00 00 01 00 00 00 00 00 00 ff 00 "
    "00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 01 ff 00 "
    "00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 "
    "00 48 7e"
)
NO_WAVES = bytes.fromhex(
    "7e 48 00 00 00 00 00 00 00 00 00 00 00 00 00 01 00 00 00 00 00 00 ff 00 "
    "00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 01 00 00 00 ff 00 00 "
    "00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 "
    "00 48 7e"
)


def test_requests_are_the_examples_of_the_specification() -> None:
    assert ge_s5_records.frame(ge_s5.phdb_request(10)) == EVERY_10_S
    assert ge_s5_records.frame(ge_s5.phdb_request(0, classes=0)) == NO_VALUES
    assert ge_s5_records.frame(ge_s5.wave_request([1])) == WAVE_ECG1
    assert ge_s5_records.frame(ge_s5.wave_request([], ge_s5.STOP)) == NO_WAVES


def test_requests_are_what_an_independent_client_sends() -> None:
    """VSCaptureWave says that it is of level 9 (byte 3), we nothing: values every second (checksum
    49), waves ECG1, INVP1, INVP2, PLETH (checksum 62)."""
    one_second = ge_s5.phdb_request(1)
    assert one_second.hex() == "31" + "00" * 20 + "ff" + "00" * 18 + "0101000e0000000000"
    assert (len(one_second), sum(one_second) + 9 & 0xFF) == (49, 0x49)
    four_waves = ge_s5.wave_request([1, 4, 5, 8])
    assert four_waves[:40].hex() == "48" + "00" * 13 + "01" + "00" * 6 + "ff" + "00" * 18
    assert four_waves[40:].hex() == "00000000" + "01040508ff" + "00" * 23
    assert (len(four_waves), sum(four_waves) + 9 & 0xFF) == (72, 0x62)


def test_what_is_asked_fits_the_line_and_the_monitor() -> None:
    """M1017617: an interval of at least 5 s, at most 600 samples a second."""
    assert ge_s5.DISPLAYED_EVERY_S >= 5
    assert sum(feed.rate_hz for feed in ge_s5.WAVES.values()) <= 600
    assert ge_s5.ASK.count(b"\x7e") == 6
    assert ge_s5.ASK.startswith(ge_s5_records.frame(ge_s5.phdb_request(5)))


# --- a real record ------------------------------------------------------------------------------


def test_every_documented_value_of_the_record_of_2009(trend_2009: bytes) -> None:
    """Values asserted by LNhealth for the record it captured."""
    [record] = deframer().feed(ge_s5_records.frame(trend_2009))
    assert (record.number, record.level, record.plug_id, record.time_s) == (17, 8, 35588, TIME_S)
    assert [kind for kind, _ in record.parts] == [1, 1, 1, 1]
    basic, ext1, ext2, ext3 = (ge_s5_phdb.parse(part) for _, part in record.parts)
    assert [p.data_class for p in (basic, ext1, ext2, ext3)] == [0, 1, 2, 3]
    assert all(p.time_s == TIME_S and p.marker == 2 for p in (basic, ext1, ext2, ext3))
    groups = basic.groups
    assert groups["ecg"].raw["hr"] == 0
    assert ge_s5_phdb.ecg_lead(groups["ecg"].label, 1) == "II"
    p1 = groups["p1"]
    assert ge_s5_phdb.label_text(ge_s5_phdb.PRESSURE_LABELS, p1.label) == "ART"
    assert [p1.reading(f, 100)[0] for f in ("sys", "dia", "mean")] == [9.0, 0.9, 4.86]
    p2 = groups["p2"]
    assert ge_s5_phdb.label_text(ge_s5_phdb.PRESSURE_LABELS, p2.label) == "CVP"
    assert [p2.raw[f] for f in ("sys", "dia", "mean")] == [261, 136, 221]
    assert groups["t1"].reading("temp", 100)[0] == 18.0
    assert groups["t2"].reading("temp", 100)[0] == 27.07
    assert groups["t4"].reading("temp", 100) == (None, Validity.UNDER)
    assert [groups["o2"].reading(f, 100)[0] for f in ("et", "fi")] == [29.43, 29.43]
    assert groups["co2"].reading("amb_press", 10)[0] == 755.1
    assert ge_s5_phdb.label_text(ge_s5_phdb.AGENTS, groups["aa"].label) == "ISO"
    assert ext2.groups["bis"].raw["sqi"] == 92


def test_the_leads_of_the_record_of_2009_are_not_read_from_the_wrong_end(
    trend_2009: bytes,
) -> None:
    """A public reading of the label takes the lowest nibble for channel 1 and so finds aVL."""
    part = ge_s5_records.parse(trend_2009).parts[0][1]
    label = ge_s5_phdb.parse(part).groups["ecg"].label
    assert [ge_s5_phdb.ecg_lead(label, channel) for channel in (1, 2, 3)] == ["II", "V", "AVL"]
    assert ge_s5_phdb.ECG_LEADS[label & 0xF] == "AVL"


# --- frames -------------------------------------------------------------------------------------


def test_checksum_is_over_the_record_before_replacement() -> None:
    """VSCaptureWave sums what is sent instead; a record with 7E in it tells them apart."""
    record = ge_s5_records.encode(ge_s5_records.WAVE, [(8, ge_s5.encode_wave(np.array([0x7E7D])))])
    assert deframer().feed(ge_s5_records.frame(record))
    sent = record.replace(b"\x7d", b"\x7d\x5d").replace(b"\x7e", b"\x7d\x5e")
    wrong = deframer()
    assert not wrong.feed(b"\x7e" + sent + bytes([sum(sent) & 0xFF]) + b"\x7e")
    assert wrong.rejects == {"checksum": 1}


def test_a_replaced_checksum_is_restored() -> None:
    """M1017617 appendix A: the request for 60 s trends has the checksum 7D, sent as 7D 5D."""
    part = struct.pack("<BhIh", 3, 60, 0x0E, 0)
    assert ge_s5_records.frame(ge_s5_records.encode(0, [(0, part)]))[-3:].hex() == "7d5d7e"


@given(st.binary(min_size=0, max_size=600), st.integers(0, 255), st.integers(0, 2**32 - 1))
@settings(max_examples=100, deadline=None)
def test_any_record_survives_the_wire(data: bytes, number: int, time_s: int) -> None:
    parts = [(7, data)] if data else []
    record = ge_s5_records.encode(8, parts, number=number, time_s=time_s)
    sent = ge_s5_records.frame(record)
    assert sent.count(b"\x7e") == 2
    [found] = deframer().feed(sent)
    assert (found.number, found.time_s, list(found.parts)) == (number, time_s, parts)


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda r: bytes([r[0] + 1]) + r[1:], "length"),  # says more than it has
        (lambda r: r[:16] + b"\x04\x00" + r[18:], "offset"),  # the first is not at 0
        (lambda r: r[:19] + b"\xff\x7f" + r[21:], "offset"),  # points outside
        (lambda r: r[:19] + b"\x00\x00" + r[21:], "offset"),  # two at the same place
        (lambda r: r[:40] + b"\xff\xff" + r[42:], "wave length"),  # counts more than it has
        (lambda r: r[:40] + b"\x02\x00" + r[42:], "wave length"),  # and fewer
        (lambda r: r[:39], "length"),
    ],
)
def test_what_does_not_add_up_is_rejected_whole(damage: Any, reason: str) -> None:
    record = ge_s5_records.encode(
        ge_s5_records.WAVE,
        [(1, ge_s5.encode_wave(np.arange(3))), (8, ge_s5.encode_wave(np.arange(2)))],
    )
    decoder = ge_s5.Decoder()
    assert decoder.feed(ge_s5_records.frame(damage(record))) == []
    assert decoder.counters.rejects == {reason: 1}
    assert decoder.counters.frames == 0
    assert decoder.feed(ge_s5_records.frame(record))
    assert decoder.counters.resyncs == 1


@pytest.mark.parametrize("part", [b"", bytes(277), bytes(276) + b"\x00\x04"])
def test_displayed_values_that_are_cut_or_of_no_class(part: bytes) -> None:
    decoder = ge_s5.Decoder()
    record = ge_s5_records.encode(ge_s5_records.PHDB, [(1, part)])
    assert decoder.feed(ge_s5_records.frame(record)) == []
    assert sum(decoder.counters.rejects.values()) == 1


def test_noise_without_a_flag_is_not_kept() -> None:
    decoder = deframer()
    for _ in range(100):
        decoder.feed(bytes(1000))
        assert len(decoder._pending) <= ge_s5_records.MAX_SEGMENT_BYTES
    record = ge_s5_records.encode(8, [])
    assert decoder.feed(ge_s5_records.frame(record))
    assert decoder.rejects == {"oversized": 1}
    assert decoder.tally["skipped_bytes"] == 100_000


def test_trends_are_not_taken_for_the_present() -> None:
    for kind in (2, 3, 4):
        part = ge_s5_phdb.encode(Phdb(TIME_S, 0, 0, {"t1": Group(3, 11, {"temp": 3700})}))
        record = ge_s5_records.encode(ge_s5_records.PHDB, [(kind, part)])
        assert ge_s5.Decoder().feed(ge_s5_records.frame(record)) == []


# --- corrupted frames ---------------------------------------------------------------------------


def _corrupted(n: int, seed: int) -> tuple[list[bytes], int]:
    """Damaged records between flags, and how many of them the protocol's check cannot reject."""
    rng = random.Random(seed)
    record = ge_s5_records.encode(ge_s5_records.WAVE, [(8, ge_s5.encode_wave(np.arange(20)))])
    segments, undetectable = [], 0
    for _ in range(n):
        body = bytearray(record + bytes([sum(record) & 0xFF]))
        for bit in rng.sample(range(8 * len(body)), rng.randint(1, 3)):
            body[bit // 8] ^= 1 << bit % 8
        sums = sum(body[:-1]) & 0xFF == body[-1]
        undetectable += sums and int.from_bytes(body[:2], "little") == len(body) - 1
        sent = bytes(body).replace(b"\x7d", b"\x7d\x5d").replace(b"\x7e", b"\x7d\x5e")
        segments.append(b"\x7e" + sent + b"\x7e")
    return segments, undetectable


def test_no_frame_is_accepted_that_the_check_can_reject(monkeypatch: pytest.MonkeyPatch) -> None:
    segments, undetectable = _corrupted(20_000, 1)
    decoder = deframer()
    assert len(decoder.feed(b"".join(segments))) <= undetectable < 400
    blind = deframer()
    monkeypatch.setattr(ge_s5_records, "checked", lambda body: body[:-1])
    assert len(blind.feed(b"".join(segments))) > 10_000  # the control: without it they pass
