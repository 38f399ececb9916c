"""Sample frames of one stream to blocks with numbers that never go back. No I/O, no clock."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from firmware_bridge.session import NS_PER_S
from firmware_bridge.types import SampleBlock

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from firmware_bridge.mcu.framing import Frame


PATIENCE = 16  # blocks from before that count on from each other, until their numbers are believed


@dataclass(frozen=True, slots=True)
class Feed:
    """What a stream must be: anything else is refused. One count is `lsb` in `unit` (UCUM)."""

    stream: int
    channels: int
    rate_hz: float
    unit: str
    lsb: float


def parse_counts(data: bytes, width: int) -> NDArray[np.int32]:
    """Counts `[n]` of little-endian two's complement numbers of `width` (3 or 4) bytes."""
    wide = np.zeros((len(data) // width, 4), np.uint8)
    wide[:, 4 - width :] = np.frombuffer(data, np.uint8).reshape(-1, width)
    # An int24 in the upper three bytes of an int32: the arithmetic shift extends the sign.
    return wide.view("<i4")[:, 0].astype(np.int32) >> (8 * (4 - width))


class FeedDecoder:
    """One stream. `rejects` counts blocks of another shape, and with numbers from before."""

    def __init__(self, feed: Feed) -> None:
        self._feed = feed
        self._next_first: int | None = None  # the device's number of the next sample
        self._astray = 0  # blocks from before in a row, each after the one before it
        self._next_astray = 0
        self._next_seq = 0  # ours
        self._t_ns: int | None = None
        self.rejects: Counter[str] = Counter()

    def restart(self) -> None:
        """The device counts anew: go on by the time that goes by, not by its numbers."""
        self._next_first = None
        self._astray = 0

    def take(self, frame: Frame, now_ns: int) -> SampleBlock | None:
        """The block of a SAMPLES frame that arrived at `now_ns`, or None for one refused."""
        f, feed = frame.fields, self._feed
        if (f["channels"], f["rate_mhz"]) != (feed.channels, round(feed.rate_hz * 1000)):
            self.rejects["shape"] += 1
            return None
        if self._next_first is not None and f["first"] < self._next_first:
            if not self._counts_on(f["first"], f["count"]):
                self.rejects["order"] += 1
                return None
            self.restart()
        self._astray = 0
        lost = self._gap(f["first"], f["count"], now_ns)
        counts = parse_counts(frame.data, f["width"]).reshape(f["count"], feed.channels)
        samples = (counts * feed.lsb).astype(np.float32)
        return SampleBlock(self._next_seq - f["count"], lost, feed.rate_hz, feed.unit, samples)

    def _counts_on(self, first: int, count: int) -> bool:
        """Whether so many blocks from before have counted on, with this one, that the number of the
        last one taken was wild. One block that is repeated for ever does not count on."""
        self._astray = self._astray + 1 if first >= self._next_astray else 1
        self._next_astray = first + count
        return self._astray > PATIENCE

    def _gap(self, first: int, count: int, now_ns: int) -> int:
        """Move to the end of a block; return how many samples the device's numbers lack."""
        lost = 0
        if self._next_first is not None:
            lost = first - self._next_first
            self._next_seq += lost
        elif self._t_ns is not None:
            away = round((now_ns - self._t_ns) * self._feed.rate_hz / NS_PER_S)
            self._next_seq += max(1, away - count)
        self._next_first = first + count
        self._next_seq += count
        self._t_ns = now_ns
        return lost
