"""WFDB recordings: header, signals in storage format 212, and `.atr` annotations.

Owns the file formats; pacing and resampling are elsewhere. Implements the WFDB manual pages
header(5), signal(5) (format 212) and annot(5) (MIT format) for single-segment records.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edge.errors import StartError

if TYPE_CHECKING:
    from numpy.typing import NDArray

DEFAULT_GAIN = 200.0
"""header(5): ADC units per physical unit where the header gives 0 or nothing."""

INVALID_212 = -2048
"""signal(5): the value of format 212 that means "no valid sample"."""

SYMBOLS = {
    1: "N", 2: "L", 3: "R", 4: "a", 5: "V", 6: "F", 7: "J", 8: "A", 9: "S", 10: "E", 11: "j",
    12: "/", 13: "Q", 14: "~", 16: "|", 18: "s", 19: "T", 20: "*", 21: "D", 22: '"', 23: "=",
    24: "p", 25: "B", 26: "^", 27: "t", 28: "+", 29: "u", 30: "?", 31: "!", 32: "[", 33: "]",
    34: "e", 35: "n", 36: "@", 37: "x", 38: "f", 39: "(", 40: ")", 41: "r",
}  # fmt: skip
"""annot(5), ecgcodes.h: annotation code to its symbol."""

BEATS = frozenset("NLRaVFJASEj/QBenfr?")
"""Symbols that mark a QRS complex (ecgcodes.h, `isqrs`)."""

_SKIP, _NUM, _SUB, _CHN, _AUX = 59, 60, 61, 62, 63

_RECORD_LINE = re.compile(
    r"^(?P<name>[\w-]+)(?P<segments>/\d+)?\s+(?P<signals>\d+)"
    r"(?:\s+(?P<rate>[\d.eE+-]+)\S*(?:\s+(?P<samples>\d+))?)?"
)
_GAIN = re.compile(r"^(?P<gain>[\d.eE+-]+)(?:\((?P<baseline>-?\d+)\))?(?:/(?P<unit>\S+))?$")


@dataclass(frozen=True, slots=True)
class SignalSpec:
    """One signal of a header. Physical value = (adc - `baseline`) / `gain`, in `unit`."""

    name: str
    file: str
    gain: float
    baseline: int
    unit: str
    checksum: int | None


@dataclass(frozen=True, slots=True)
class Header:
    """`name.hea`: `samples` per signal is None where the header does not say."""

    name: str
    rate_hz: float
    samples: int | None
    signals: tuple[SignalSpec, ...]


@dataclass(frozen=True, slots=True)
class Record:
    """One signal of one record: float64 `[n]` in `unit`; NaN where the file marks it invalid."""

    rate_hz: float
    signal: str
    unit: str
    samples: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Annotations:
    """Annotations in time order: sample index int64 `[k]`, symbol and auxiliary text of each."""

    sample: NDArray[np.int64]
    symbol: tuple[str, ...]
    aux: tuple[str, ...]


def read_record(path: str | Path, signal: str = "MLII") -> Record:
    """Read the signal called `signal` of the record at `path` (with or without `.hea`).

    Signals are chosen by name, never by position: MIT-BIH record 114 has its leads swapped.
    Raises `StartError` for a missing, malformed, truncated or corrupted file.
    """
    base = _base(path)
    header = read_header(base)
    names = [s.name for s in header.signals]
    if signal not in names:
        raise StartError(f"'{base}' has no signal '{signal}'", f"use one of: {', '.join(names)}")
    spec = header.signals[names.index(signal)]
    in_file = [s.name for s in header.signals if s.file == spec.file]
    adc = _adc_of(base.parent / spec.file, in_file.index(signal), len(in_file), header.samples)
    _require_checksum(adc, spec, base)
    samples = (adc - spec.baseline) / spec.gain
    samples[adc == INVALID_212] = np.nan
    return Record(header.rate_hz, spec.name, spec.unit, samples)


def read_header(path: str | Path) -> Header:
    """Parse `path`.hea. Raises `StartError` for what is missing, malformed or not supported."""
    file = _base(path).with_name(_base(path).name + ".hea")
    text = _bytes_of(file).decode("latin-1")
    lines = [s for s in (line.strip() for line in text.splitlines()) if s and s[0] != "#"]
    first = _RECORD_LINE.match(lines[0]) if lines else None
    if first is None:
        raise _malformed(file, "no record line")
    if first["segments"]:
        raise StartError(f"'{file}' is a multi-segment record", "read its segments one by one")
    count = int(first["signals"])
    if len(lines) < 1 + count:
        raise _malformed(file, f"{count} signals announced, {len(lines) - 1} described")
    signals = tuple(_signal_spec(line, file) for line in lines[1 : 1 + count])
    samples = int(first["samples"] or 0) or None
    return Header(first["name"], _positive(first["rate"] or "250", file), samples, signals)


def read_annotations(path: str | Path, extension: str = "atr") -> Annotations:
    """Read `path`.`extension`. Raises `StartError` where it is missing or malformed."""
    base = _base(path)
    file = base.with_name(f"{base.name}.{extension}")
    raw = _bytes_of(file)
    sample: list[int] = []
    symbol: list[str] = []
    aux: list[str] = []
    at = now = 0
    while True:
        code, number, at = _word(raw, at, file)
        if code == 0 and number == 0:
            break
        if code == _SKIP:
            high, low = _u16(raw, at, file), _u16(raw, at + 2, file)
            now += _signed32(high << 16 | low)
            at += 4
        elif code == _AUX:
            text, at = _aux_text(raw, at, number, file)
            if aux:
                aux[-1] = text
        elif code not in (_NUM, _SUB, _CHN):
            now += number
            sample.append(now)
            symbol.append(SYMBOLS.get(code, ""))
            aux.append("")
    return Annotations(np.array(sample, np.int64), tuple(symbol), tuple(aux))


def _base(path: str | Path) -> Path:
    path = Path(path)
    return path.with_suffix("") if path.suffix in (".hea", ".dat", ".atr") else path


def _bytes_of(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise StartError(
            f"cannot read '{file}' ({error.strerror})", "give the path of a WFDB record"
        ) from None


def _malformed(file: Path, why: str) -> StartError:
    return StartError(f"'{file}' is malformed: {why}", "fetch the record again")


def _positive(text: str, file: Path) -> float:
    try:
        value = float(text)
    except ValueError:
        raise _malformed(file, f"'{text}' is not a number") from None
    if not 0 < value < float("inf"):
        raise _malformed(file, f"{text} is not positive")
    return value


def _signal_spec(line: str, file: Path) -> SignalSpec:
    """header(5): file format gain resolution zero initial checksum block description."""
    fields = line.split(None, 8)
    if len(fields) < 2:
        raise _malformed(file, f"signal line '{line}'")
    if fields[1] != "212":
        raise StartError(f"'{file}' stores format {fields[1]}", "convert it to format 212 (xform)")
    fields += ["0"] * (8 - len(fields))
    gain = _GAIN.match(fields[2])
    try:
        zero, checksum = int(fields[4]), int(fields[6])
        value = float(gain["gain"]) if gain else float("nan")
        baseline = int(gain["baseline"]) if gain and gain["baseline"] else zero
    except ValueError:
        raise _malformed(file, f"signal line '{line}'") from None
    if gain is None or not abs(value) < float("inf"):
        raise _malformed(file, f"gain '{fields[2]}'")
    name = fields[8].strip() if len(fields) > 8 else ""
    has_checksum = len(line.split()) > 6
    unit = gain["unit"] or "mV"
    return SignalSpec(
        name, fields[0], value or DEFAULT_GAIN, baseline, unit, checksum if has_checksum else None
    )


def _adc_of(file: Path, column: int, signals: int, count: int | None) -> NDArray[np.int64]:
    """ADC units `[n]` of one of `signals` interleaved signals."""
    adc = decode_212(_bytes_of(file))
    count = len(adc) // signals if count is None else count
    if len(adc) < count * signals:
        raise _malformed(file, f"{len(adc) // signals} of {count} samples are there")
    return adc[: count * signals].reshape(count, signals)[:, column]


def decode_212(raw: bytes) -> NDArray[np.int64]:
    """Pairs of 12-bit two's complement samples in three bytes each, to int64 `[n]`.

    A last odd sample takes two bytes (or three, then one sample too many comes back).
    """
    tail = len(raw) % 3
    padded = np.frombuffer(raw + b"\0" * (-len(raw) % 3), np.uint8).astype(np.int64).reshape(-1, 3)
    low = padded[:, 0] | (padded[:, 1] & 0x0F) << 8
    high = padded[:, 2] | (padded[:, 1] & 0xF0) << 4
    both = np.stack([low, high], axis=1).ravel()
    signed = both - ((both & 0x800) << 1)
    return np.asarray(signed[: len(signed) - (0, 2, 1)[tail]])


def _require_checksum(adc: NDArray[np.int64], spec: SignalSpec, base: Path) -> None:
    """header(5): 16-bit signed sum of all samples of the signal."""
    if spec.checksum is None:
        return
    total = int(adc.sum()) & 0xFFFF
    if total != spec.checksum & 0xFFFF:
        raise _malformed(base / spec.file, f"checksum of signal '{spec.name}'")


def _u16(raw: bytes, at: int, file: Path) -> int:
    if at + 2 > len(raw):
        raise _malformed(file, "annotations end without their end mark")
    return raw[at] | raw[at + 1] << 8


def _word(raw: bytes, at: int, file: Path) -> tuple[int, int, int]:
    """annot(5): 6 bits of code, 10 of interval or length; and where the next word starts."""
    word = _u16(raw, at, file)
    return word >> 10, word & 0x3FF, at + 2


def _signed32(value: int) -> int:
    return value - (1 << 32) if value & 0x8000_0000 else value


def _aux_text(raw: bytes, at: int, length: int, file: Path) -> tuple[str, int]:
    """Text of `length` bytes, padded to an even number."""
    end = at + length + length % 2
    if end > len(raw):
        raise _malformed(file, "auxiliary text is cut off")
    return raw[at : at + length].rstrip(b"\0").decode("latin-1"), end
