"""WFDB recordings as a source: one lead, resampled to the bundle's rate if asked, at its own pace.

Owns pacing; the file formats are `edge.sources.wfdb`'s.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import numpy as np

from edge.clock import NS_PER_S
from edge.signals.resampling import resample
from edge.sources.wfdb import read_record
from edge.types import SourceLost, Waveform

if TYPE_CHECKING:
    from numpy.typing import NDArray

BLOCK_S = 0.04


class RecordingOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`record`: path without extension. `rate_hz` resamples; 0 keeps the record's own rate."""

    record: str
    mdc: str
    signal: str = "MLII"
    rate_hz: float = 0.0
    name: str = "recording"


class Recording:
    """Plays one record once, in blocks of 40 ms; at its end the source is lost."""

    Options = RecordingOptions
    PATHS = ("record",)

    def __init__(self, options: RecordingOptions) -> None:
        self._options = options
        self._start_ns: int | None = None
        self._seq = 0
        self._ended = False

    @property
    def name(self) -> str:
        return self._options.name

    def open(self, now_ns: int) -> None:
        """Read the record. Raises `StartError` where it is missing or malformed."""
        o = self._options
        record = read_record(o.record, o.signal)
        self._rate_hz = o.rate_hz or record.rate_hz
        self._unit = record.unit
        samples = resample(record.samples, record.rate_hz, self._rate_hz)
        self._samples: NDArray[np.float32] = samples.astype(np.float32)
        self._block = round(BLOCK_S * self._rate_hz)
        self._start_ns = now_ns

    def fileno(self) -> int | None:
        return None

    def next_deadline_ns(self) -> int | None:
        return None if self._ended else self._time(min(self._seq + self._block, len(self._samples)))

    def poll(self, now_ns: int) -> list[Waveform | SourceLost]:
        """Blocks whose last sample's time has come."""
        out: list[Waveform | SourceLost] = []
        while (
            not self._ended and (due_ns := self.next_deadline_ns()) is not None and due_ns <= now_ns
        ):
            if self._seq >= len(self._samples):
                self._ended = True
                out.append(SourceLost(now_ns, self.name, "the recording has ended"))
            else:
                out.append(self._next_block(now_ns))
        return out

    def counters(self) -> dict[str, int]:
        return {"received": self._seq, "lost": 0, "gaps": 0}

    def close(self) -> None:
        self._ended = True

    def _next_block(self, now_ns: int) -> Waveform:
        o, seq = self._options, self._seq
        samples = self._samples[seq : seq + self._block]
        self._seq += len(samples)
        t_ns = self._time(seq)
        return Waveform(t_ns, now_ns, o.name, o.mdc, self._unit, self._rate_hz, seq, samples)

    def _time(self, seq: int) -> int:
        assert self._start_ns is not None
        return self._start_ns + round(seq * NS_PER_S / self._rate_hz)
