"""WFDB reader: the same samples and annotations as the reference package, or a clear refusal."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.errors import StartError
from edge.sources.wfdb import decode_212, read_annotations, read_header, read_record


def write(folder: Path, *, hea: str, dat: bytes = b"", atr: bytes = b"") -> Path:
    (folder / "r.hea").write_text(hea)
    (folder / "r.dat").write_bytes(dat)
    (folder / "r.atr").write_bytes(atr)
    return folder / "r"


HEADER = "r 2 360 2\nr.dat 212 200(10)/mV 11 1024 0 {0} 0 V5\nr.dat 212 100 11 1024 0 {1} 0 MLII\n"

# Two frames of two signals, 12 bits each, little end first: 1, -1 | 2047, -2047
FRAMES = bytes([0x01, 0xF0, 0xFF, 0xFF, 0x87, 0x01])


def test_two_frames_by_hand(tmp_path: Path) -> None:
    path = write(tmp_path, hea=HEADER.format(2048, -2048), dat=FRAMES)
    assert decode_212(FRAMES).tolist() == [1, -1, 2047, -2047]
    lead = read_record(path, "MLII")  # chosen by name, though it is second
    assert (lead.rate_hz, lead.unit, lead.signal) == (360.0, "mV", "MLII")
    np.testing.assert_allclose(lead.samples, [(-1 - 1024) / 100, (-2047 - 1024) / 100])
    np.testing.assert_allclose(read_record(path, "V5").samples, [-9 / 200, 2037 / 200])


def test_invalid_samples_are_nan(tmp_path: Path) -> None:
    hea = "r 1 360 2\nr.dat 212 200 12 0 0 -2047 0 MLII\n"
    path = write(tmp_path, hea=hea, dat=bytes([0x00, 0x08, 0x01]))  # -2048, 1
    samples = read_record(path).samples
    assert np.isnan(samples[0])
    assert samples[1] == 1 / 200


@given(st.lists(st.integers(-2048, 2047), max_size=60))
def test_what_is_packed_comes_back(values: list[int]) -> None:
    """Any run of 12-bit samples survives packing, an odd one at the end included."""
    packed = bytearray()
    for a, b in zip(values[::2], [*values[1::2], None][: len(values[::2])]):
        low, high = a & 0xFFF, 0 if b is None else b & 0xFFF
        packed += bytes([low & 0xFF, low >> 8 | high >> 8 << 4])
        if b is not None:
            packed.append(high & 0xFF)
    assert decode_212(bytes(packed)).tolist() == values


def word(code: int, number: int) -> bytes:
    return (code << 10 | number).to_bytes(2, "little")


def test_annotations_by_hand(tmp_path: Path) -> None:
    atr = word(28, 18) + word(63, 3) + b"(N\0\0"  # '+' at 18, auxiliary text "(N"
    atr += word(1, 59) + word(61, 1)  # 'N' at 77, with a subtype
    atr += word(59, 0) + (1).to_bytes(2, "little") + (0).to_bytes(2, "little")  # skip 65536
    atr += word(5, 3) + word(0, 0)  # 'V'
    marks = read_annotations(write(tmp_path, hea=HEADER, atr=atr))
    assert marks.sample.tolist() == [18, 77, 77 + 65536 + 3]
    assert marks.symbol == ("+", "N", "V")
    assert marks.aux == ("(N", "", "")


@pytest.mark.parametrize(
    ("hea", "dat", "cause"),
    [
        ("", FRAMES, "no record line"),
        ("r 2 360 2\nr.dat 212 200 11 1024 0 0 0 MLII\n", FRAMES, "2 signals announced"),
        ("r/2 2 360 2\n", FRAMES, "multi-segment"),
        ("r 1 0 2\nr.dat 212 200 11 1024 0 0 0 MLII\n", FRAMES, "not positive"),
        ("r 1 360 2\nr.dat 16 200 11 1024 0 0 0 MLII\n", FRAMES, "format 16"),
        ("r 1 360 2\nr.dat 212 x 11 1024 0 0 0 MLII\n", FRAMES, "gain 'x'"),
        ("r 1 360 2\nr.dat 212 200 11 zero 0 0 0 MLII\n", FRAMES, "signal line"),
        ("r 1 360 9\nr.dat 212 200 11 1024 0 0 0 MLII\n", FRAMES, "4 of 9 samples"),
        (HEADER.format(2048, -2048), FRAMES[:-1] + b"\x02", "checksum"),
        (HEADER.format(2048, -2048).replace("MLII", "V1"), FRAMES, "no signal 'MLII'"),
    ],
)
def test_malformed_signals_are_refused(tmp_path: Path, hea: str, dat: bytes, cause: str) -> None:
    with pytest.raises(StartError, match=cause):
        read_record(write(tmp_path, hea=hea, dat=dat))


@pytest.mark.parametrize("atr", [b"", word(1, 5), word(63, 9) + b"(N", word(59, 0) + b"\0"])
def test_malformed_annotations_are_refused(tmp_path: Path, atr: bytes) -> None:
    with pytest.raises(StartError, match="malformed"):
        read_annotations(write(tmp_path, hea=HEADER, atr=atr))


def test_a_missing_record_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StartError, match="cannot read"):
        read_record(tmp_path / "none")
    with pytest.raises(StartError, match="cannot read"):
        read_annotations(tmp_path / "none")


@given(st.binary(max_size=200))
def test_any_annotation_bytes_give_annotations_or_a_refusal(
    tmp_path_factory: pytest.TempPathFactory, raw: bytes
) -> None:
    """No bytes raise anything but `StartError`."""
    path = write(tmp_path_factory.mktemp("fuzz"), hea=HEADER, atr=raw)
    try:
        marks = read_annotations(path)
    except StartError:
        return
    assert len(marks.sample) == len(marks.symbol) == len(marks.aux)


@pytest.mark.parametrize("record", ["114", "207", "208"])
def test_agrees_with_the_reference_package(medge_data: Path, record: str) -> None:
    wfdb = pytest.importorskip("wfdb")
    path = str(medge_data / "mitdb" / record)
    theirs = wfdb.rdrecord(path, channel_names=["MLII"])
    ours = read_record(path)
    np.testing.assert_allclose(ours.samples, theirs.p_signal[:, 0], atol=1e-12)
    assert (ours.rate_hz, ours.unit) == (theirs.fs, theirs.units[0])
    marks, expected = read_annotations(path), wfdb.rdann(path, "atr")
    assert marks.sample.tolist() == expected.sample.tolist()
    assert list(marks.symbol) == expected.symbol
    assert list(marks.aux) == [text.rstrip("\0") for text in expected.aux_note]


def test_record_114_has_its_leads_swapped(medge_data: Path) -> None:
    header = read_header(medge_data / "mitdb" / "114")
    assert [s.name for s in header.signals] == ["V5", "MLII"]
    by_name = read_record(medge_data / "mitdb" / "114").samples
    first = read_record(medge_data / "mitdb" / "114", header.signals[0].name).samples
    assert not np.array_equal(by_name, first)
