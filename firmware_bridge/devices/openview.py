"""ProtoCentral boards that speak OpenView: MAX30102, ADS1292R and ADS1293 breakouts.

Implements the frame of ProtoCentral's OpenView and of the sketches that its boards run (public
repositories `protocentral_openview`: `lib/boards`, `lib/protocol/packet_framer_v3.dart`;
`Pulse_MAX30102`: Continuos.ino; `protocentral-ads1292r-arduino`: 02.OpenView.ino;
`protocentral-ads1293-arduino`: 03-5-lead-ECG-openview.ino), 57600 8N1, little-endian:

    0A FA | payload length u16 | type 02 | payload | 00 0B

MAX30102: red u32, infrared u32 (18 bits each). ADS1292R: ECG, breathing, heart rate and breathing
rate, int16 each; a packet of nothing but zeros means that an electrode is off. ADS1293: leads I,
II and V1, int32 each (24 bits). Sample rates are those of the sketches, which poll: nominal. All
samples are counts of the converter (unit 1), because gain and filters are the sketch's. A MAX30102
without any light at all does not answer, and its sketch sends zeros.

There is no checksum and no counter, and two of the boards have frames of the same length and type.
A frame is trusted when its seven fixed bytes are in place, its values are in the converter's range
and its rates are possible (which the other board's are not), and it either follows the last trusted
frame directly or is itself followed by the five bytes of a header. Random bytes pass once in 2^96
positions. What cannot be seen by anybody: damage inside the payload, and a cut of exactly one
frame's length out of two frames. Bytes skipped between frames count as the lost frames that would
fill them, rounded.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from firmware_bridge.devices.framing import Stepping
from firmware_bridge.nomenclature import TERMS, numeric
from firmware_bridge.session import listening
from firmware_bridge.types import (
    Alert,
    AlertKind,
    Device,
    Feed,
    Priority,
    SampleBlock,
    Validity,
    Wire,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

WIRE = Wire(57_600)
START = b"\x0a\xfa"
STOP = b"\x00\x0b"
TYPE_DATA = 2
HEADER_BYTES = 5
SILENT_S = 1.0

OFF_PACKETS = 13  # about 0.1 s of nothing but zeros
UNIT = "1"


@dataclass(frozen=True, slots=True)
class Layout:
    """One board's payload: `waves` samples of `dtype` with values in `low..high`, then rates.

    `numerics` are the MDC ids of int16 fields behind the waves; 0 there means not available. `off`
    is the alert that packets of zeros mean, if they mean one.
    """

    feed: Feed
    dtype: str
    waves: int
    low: int
    high: int
    numerics: tuple[str, ...] = ()
    off: Alert | None = None

    @property
    def bounds(self) -> tuple[tuple[float, float], ...]:
        """Lowest and highest possible value of each field."""
        rates = [(TERMS[channel].low, TERMS[channel].high) for channel in self.numerics]
        return ((self.low, self.high),) * self.waves + tuple(rates)

    @property
    def header(self) -> bytes:
        """The five bytes that every frame begins with."""
        size = np.dtype(self.dtype).itemsize * (self.waves + len(self.numerics))
        return START + size.to_bytes(2, "little") + bytes([TYPE_DATA])


def _feed(channels: tuple[str, ...], rate_hz: float, low: float, high: float) -> Feed:
    return Feed("wave", channels, rate_hz, UNIT, 1.0, low, high)


def _off(code: str, text: str, channel: str) -> Alert:
    return Alert(code, AlertKind.TECHNICAL, Priority.LOW, True, text, channel)


MAX30102 = Layout(
    _feed(("", ""), 100.0, 0, 2**18 - 1),
    "<u4", 2, 0, 2**18 - 1, off=_off("openview:no-light", "the sensor does not answer", ""),
)  # fmt: skip
ADS1292R = Layout(
    _feed(("MDC_ECG_ELEC_POTL", "MDC_RESP"), 125.0, -(2**15), 2**15 - 1),
    "<i2", 2, -(2**15), 2**15 - 1, ("MDC_ECG_HEART_RATE", "MDC_RESP_RATE"),
    _off("MDC_EVT_LEADS_OFF", "electrode off", "MDC_ECG_ELEC_POTL"),
)  # fmt: skip
ADS1293 = Layout(
    _feed(
        ("MDC_ECG_ELEC_POTL_I", "MDC_ECG_ELEC_POTL_II", "MDC_ECG_ELEC_POTL_V"),
        100.0, -(2**23), 2**23 - 1,
    ),
    "<i4", 3, -(2**23), 2**23 - 1,
)  # fmt: skip


def encode(layout: Layout, values: NDArray[np.integer]) -> list[bytes]:
    """Frames of values `[n, waves + numerics]`, each within its field."""
    payloads = values.astype(layout.dtype)
    return [layout.header + row.tobytes() + STOP for row in payloads]


class Decoder(Stepping):
    """Bytes of one board in, `SampleBlock`, `Numeric` and `Alert` out; see the module for trust.

    Holds back at most a frame and a header.
    """

    def __init__(self, layout: Layout) -> None:
        super().__init__()
        self._layout = layout
        self._header = layout.header
        self._size = HEADER_BYTES + int.from_bytes(self._header[2:4], "little") + len(STOP)
        width = layout.waves + len(layout.numerics)
        self._bounds = layout.bounds
        self._fields = struct.Struct(f"<{width}{np.dtype(layout.dtype).char}")
        self._seq = 0
        self._locked = False  # a frame was trusted before
        self._run: list[bytes] = []
        self._run_lost = 0
        self._told: dict[str, tuple[int, int]] = {}  # value last told, packets since
        self._zeros = 0  # packets of zeros in a row

    def _step(self, buffer: bytes, at: int) -> int:
        end = at + self._size
        if buffer[at : at + HEADER_BYTES] != self._header:
            return self._no_header(buffer, at)
        if len(buffer) < end:
            return 0
        if buffer[end - len(STOP) : end] != STOP:
            return self._reject("trailer")
        fields = self._fields.unpack_from(buffer, at + HEADER_BYTES)
        if not self._possible(fields):
            return self._reject("range")
        if not self._locked or self._since:
            behind = buffer[end : end + HEADER_BYTES]
            if not self._header.startswith(behind):
                return self._reject("unconfirmed")
            if len(behind) < HEADER_BYTES:
                return 0
        return self._accept(buffer[at + HEADER_BYTES : end - len(STOP)], fields)

    def _no_header(self, buffer: bytes, at: int) -> int:
        here = buffer[at : at + HEADER_BYTES]
        if self._header.startswith(here):
            return 0
        if here.startswith(START):
            return self._reject("type" if here[2:4] == self._header[2:4] else "length")
        if self._locked and not self._since:
            self._rejects["header"] += 1
        found = buffer.find(START[0], at + 1)
        return self._skip((found if found >= 0 else len(buffer)) - at)

    def _possible(self, fields: tuple[int, ...]) -> bool:
        return all(low <= value <= high for value, (low, high) in zip(fields, self._bounds))

    def _accept(self, payload: bytes, fields: tuple[int, ...]) -> int:
        lost = (2 * self._since + self._size) // (2 * self._size) if self._locked else 0
        if lost:
            self._end_run()
            self._run_lost = lost
        self._tally["resyncs"] += self._locked and self._since > 0
        self._tally["frames"] += 1
        self._tally["lost"] += lost
        self._locked, self._since = True, 0
        self._run.append(payload)
        self._take_rates(fields)
        if self._layout.off is not None:
            self._take_off(self._layout.off, fields)
        return self._size

    def _take_rates(self, fields: tuple[int, ...]) -> None:
        """Each rate when it changes, and about once a second."""
        for channel, value in zip(self._layout.numerics, fields[self._layout.waves :]):
            before, packets = self._told.get(channel, (None, 0))
            if value != before or packets + 1 >= self._layout.feed.rate_hz:
                validity = Validity.VALID if value else Validity.UNAVAILABLE
                self._out.append(numeric(channel, float(value), validity))
                packets = -1
            self._told[channel] = (value, packets + 1)

    def _take_off(self, off: Alert, fields: tuple[int, ...]) -> None:
        was_off = self._zeros >= OFF_PACKETS
        self._zeros = 0 if any(fields) else self._zeros + 1
        is_off = self._zeros >= OFF_PACKETS
        if is_off != was_off:
            self._out.append(replace(off, active=is_off))

    def _end_run(self) -> None:
        """Turn the frames accepted since the last gap into one block."""
        if not self._run:
            return
        layout, n = self._layout, len(self._run)
        fields = np.frombuffer(b"".join(self._run), layout.dtype).reshape(n, -1)
        samples = fields[:, : layout.waves].astype(np.float32)
        if layout.off is not None:
            samples[~fields.any(axis=1)] = np.nan
        seq = self._seq + self._run_lost
        self._out.append(
            SampleBlock(seq, self._run_lost, layout.feed.rate_hz, UNIT, samples, layout.feed.name)
        )
        self._seq = seq + n
        self._run, self._run_lost = [], 0

    def _reject(self, reason: str) -> int:
        self._rejects[reason] += 1
        return self._skip(1)


def _device(layout: Layout, name: str, title: str, sure_frames: int, unproved: str) -> Device:
    return Device(
        name=name,
        title=title,
        spec="ProtoCentral OpenView, packet framer v3, and the board's sketch",
        wire=WIRE,
        dialogue=listening(SILENT_S),
        decoder=partial(Decoder, layout),
        feeds=(layout.feed,),
        numerics=layout.numerics,
        sure_frames=sure_frames,
        proved_by="frames worked by hand from the public sketches",
        unproved=f"{unproved}; a real board",
    )


DEVICE_MAX30102 = _device(
    MAX30102, "openview-max30102", "ProtoCentral MAX30102", 100,
    "16-bit Arduinos, whose sketch shifts an int by 16",
)  # fmt: skip
DEVICE_ADS1292R = _device(
    ADS1292R, "openview-ads1292r", "ProtoCentral ADS1292R", 100, "older sketches, payload 20 bytes"
)
DEVICE_ADS1293 = _device(
    ADS1293, "openview-ads1293", "ProtoCentral ADS1293", 20, "rate: the app says 128 Hz"
)
