"""OpenBCI Cyton, 8 channels, serial: constants, packets to microvolts, decoder and dialogue.

Implements the OpenBCI "Cyton Data Format" and "Cyton Board SDK" pages (docs.openbci.com), 115200
8N1. A packet is 33 bytes: A0 | counter 0-255 | 8 x int24 | 6 aux bytes | C0..C6, big-endian.

There is no checksum, and A0 occurs inside data. What protects the samples is only the two fixed
bytes and the counter, so a packet is trusted when one of these holds:

1. expected: it starts a whole number of packets after the last trusted one (at most `MAX_SLOTS`)
   and its counter has moved on by just as many;
2. confirmed: the next 66 bytes are two packets, and the three counters go up by one each;
3. in order: it follows the last trusted packet directly, two packets follow it, and the four
   counters rise, by at most `MAX_STEP` in all (radio loss).

99 random bytes pass as three confirmed packets once in 5e16 positions; the two fixed bytes alone
would let 33 pass once in 9,000. A flipped bit in header, counter or stop byte costs exactly its own
packet, counted in `lost` (three of the eight stop bits have other legal values and pass). A flipped
bit among the 240 data bits cannot be seen here by anybody. A gap is known modulo 256 packets
(1.024 s), which is why silence of one second ends the link. A packet alone between noise is given
up as lost.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from firmware_bridge.devices.framing import Stepping
from firmware_bridge.session import Dialogue, Event, State, Step, usual
from firmware_bridge.types import Device, Feed, SampleBlock, Text, Wire

if TYPE_CHECKING:
    from numpy.typing import NDArray

WIRE = Wire(115_200)
RATE_HZ = 250.0
CHANNELS = 8
UNIT = "uV"
FEED = "exg"

PACKET_BYTES = 33
HEADER = 0xA0
STOPS = range(0xC0, 0xC7)
STOPS_WITH_ACCEL = (0xC0, 0xC3, 0xC4)
MAX_SLOTS = 8
MAX_STEP = 64

COUNT_MAX = 0x7FFFFF
COUNT_MIN = -0x800000
VREF_V = 4.5
GAIN = 24  # what `v` and `d` set; nothing in a packet tells another gain
UV_PER_LSB = VREF_V / GAIN / COUNT_MAX * 1e6
RAIL_HIGH_UV = COUNT_MAX * UV_PER_LSB
RAIL_LOW_UV = COUNT_MIN * UV_PER_LSB
G_PER_LSB = 0.002 / 16

SOFT_RESET = b"v"
DEFAULTS = b"d"
START = b"b"
STOP = b"s"
REGISTERS = b"?"
END_OF_TEXT = b"$$$"
MAX_TEXT_BYTES = 1024

_RUN_PACKETS = 1024
_PRINTABLE = frozenset(b"\t\n\r" + bytes(range(0x20, 0x7F)))


def uv_to_counts(uv: NDArray[np.floating]) -> NDArray[np.int32]:
    """Nearest converter counts of microvolts, any shape, clipped at the rails."""
    counts = np.rint(np.asarray(uv, np.float64) / UV_PER_LSB)
    return np.clip(counts, COUNT_MIN, COUNT_MAX).astype(np.int32)


def counts_to_uv(counts: NDArray[np.int32]) -> NDArray[np.float32]:
    """Microvolts of converter counts, any shape; `uv_to_counts` gives back every count exactly."""
    return (counts * UV_PER_LSB).astype(np.float32)


def encode(
    counts: NDArray[np.int32],
    counters: NDArray[np.integer],
    aux: NDArray[np.int16] | None = None,
    stop: int = STOPS[0],
) -> bytes:
    """Packets of int32 counts `[n, 8]` with the low bytes of `counters` `[n]`.

    `aux` is int16 `[n, 3]` (accelerometer counts under stop byte C0), zeros when None.
    """
    n = len(counts)
    out = np.zeros((n, PACKET_BYTES), np.uint8)
    out[:, 0] = HEADER
    out[:, 1] = counters & 0xFF
    int32_bytes = np.asarray(counts).astype(">i4").view(np.uint8).reshape(n, CHANNELS, 4)
    out[:, 2:26] = int32_bytes[:, :, 1:].reshape(n, 3 * CHANNELS)
    if aux is not None:
        out[:, 26:32] = np.asarray(aux).astype(">i2").view(np.uint8).reshape(n, 6)
    out[:, 32] = stop
    return out.tobytes()


def parse_counts(packets: NDArray[np.uint8]) -> NDArray[np.int32]:
    """Converter counts `[n, 8]` of whole, aligned packets `[n, 33]`."""
    n = len(packets)
    wide = np.zeros((n, CHANNELS, 4), np.uint8)
    wide[:, :, :3] = packets[:, 2:26].reshape(n, CHANNELS, 3)
    # int24 in the upper three bytes of an int32: the arithmetic shift extends the sign.
    return wide.view(">i4")[:, :, 0].astype(np.int32) >> 8


def parse_accel_g(packets: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Acceleration in g `[n, 3]` of packets `[n, 33]`; NaN where a packet carries none.

    The board refreshes it at 25 Hz and sends zeros in between (OpenBCI Cyton Data Format).
    """
    raw = np.ascontiguousarray(packets[:, 26:32]).view(">i2").astype(np.float32) * np.float32(
        G_PER_LSB
    )
    missing = ~np.isin(packets[:, 32], STOPS_WITH_ACCEL) | ~raw.any(axis=1)
    raw[missing] = np.nan
    return raw


class Decoder(Stepping):
    """Bytes in, `SampleBlock` and `Text` out; see the module for what is trusted.

    Holds back at most 98 bytes and `MAX_TEXT_BYTES` of unfinished text.
    """

    def __init__(self) -> None:
        super().__init__()
        self._text = b""
        self._seq = 0
        self._last: bytes | None = None  # the last trusted packet
        self._run: list[NDArray[np.uint8]] = []
        self._run_lost = 0

    def _step(self, buffer: bytes, at: int) -> int:
        if used := self._take_expected(buffer, at):
            return used
        if buffer[at] != HEADER:
            return self._skip_to_header(buffer, at)
        if len(buffer) - at < PACKET_BYTES:
            return 0
        if buffer[at + 32] not in STOPS:
            return self._reject("stop", buffer, at)
        return self._judge(buffer, at)

    def _take_expected(self, buffer: bytes, at: int) -> int:
        """Rule 1, for as many packets at once as follow each other."""
        slots, odd = divmod(self._since, PACKET_BYTES)
        n = min((len(buffer) - at) // PACKET_BYTES, _RUN_PACKETS)
        if self._last is None or odd or slots > MAX_SLOTS or n == 0:
            return 0
        first = (self._last[1] + 1 + slots) & 0xFF
        if n == 1 and (buffer[at], buffer[at + 1]) != (HEADER, first):
            return 0  # as a line brings them, one by one: known without arrays
        packets = np.frombuffer(buffer, np.uint8, n * PACKET_BYTES, at).reshape(n, PACKET_BYTES)
        if n == 1 and buffer[at + 32] in STOPS:
            self._accept(packets, slots)
            return PACKET_BYTES
        expected = (first + np.arange(n)) & 0xFF
        good = (packets[:, 0] == HEADER) & (packets[:, 1] == expected)
        good &= (packets[:, 32] >= STOPS[0]) & (packets[:, 32] <= STOPS[-1])
        n = n if good.all() else int(good.argmin())
        if n:
            self._accept(packets[:n], slots)
        return n * PACKET_BYTES

    @property
    def _due(self) -> bool:
        """Whether a packet is due here: directly after a trusted one."""
        return self._last is not None and not self._since

    def _judge(self, buffer: bytes, at: int) -> int:
        """Duplicates, then rules 2 and 3, for a well-formed packet that was not expected."""
        packet = buffer[at : at + PACKET_BYTES]
        if packet == self._last and not self._since:
            self._tally["duplicates"] += 1
            return PACKET_BYTES
        if len(buffer) - at < 3 * PACKET_BYTES:
            return 0
        if not self._in_order(buffer[at : at + 3 * PACKET_BYTES]):
            return self._reject("counter" if self._due else "unconfirmed", buffer, at)
        lost = 0 if self._last is None else _ahead(self._last, packet) - 1
        self._accept(np.frombuffer(packet, np.uint8).reshape(1, PACKET_BYTES), lost % 256)
        return PACKET_BYTES

    def _in_order(self, three: bytes) -> bool:
        """Whether 99 bytes are three packets whose counters obey rule 2 or 3."""
        first, second, third = (three[i : i + PACKET_BYTES] for i in (0, 33, 66))
        if any(p[0] != HEADER or p[32] not in STOPS for p in (second, third)):
            return False
        if _ahead(first, second) == _ahead(second, third) == 1:
            return True
        if self._last is None or self._since:
            return False
        steps = [_ahead(self._last, packet) for packet in (first, second, third)]
        return 0 < steps[0] < steps[1] < steps[2] <= MAX_STEP

    def _accept(self, packets: NDArray[np.uint8], lost: int) -> None:
        if lost:
            self._end_run()
            self._run_lost = lost
        self._tally["resyncs"] += self._last is not None and self._since > 0
        self._tally["frames"] += len(packets)
        self._tally["lost"] += lost
        self._run.append(packets)
        self._last = packets[-1].tobytes()
        self._since = 0
        self._text = b""

    def _end_run(self) -> None:
        """Turn the packets accepted since the last gap into one block."""
        if not self._run:
            return
        counts = parse_counts(np.concatenate(self._run))
        seq = self._seq + self._run_lost
        uv = counts_to_uv(counts)
        self._out.append(SampleBlock(seq, self._run_lost, RATE_HZ, UNIT, uv, FEED))
        self._seq = seq + len(counts)
        self._run, self._run_lost = [], 0

    def _reject(self, reason: str, buffer: bytes, at: int) -> int:
        """Count a frame that was due or complete but is not one, and look on from its next byte."""
        if reason == "unconfirmed" or self._due:
            self._rejects[reason] += 1
        return self._set_aside(buffer[at : at + 1])

    def _skip_to_header(self, buffer: bytes, at: int) -> int:
        if self._due:
            self._rejects["header"] += 1
        end = buffer.find(HEADER, at)
        return self._set_aside(buffer[at:end] if end >= 0 else buffer[at:])

    def _set_aside(self, skipped: bytes) -> int:
        """Set bytes aside that are no frame; those that end a text become a `Text`."""
        self._text += skipped
        while (end := self._text.find(END_OF_TEXT)) >= 0:
            self._take_text(self._text[:end])
            self._text = self._text[end + len(END_OF_TEXT) :]
        self._text = self._text[-MAX_TEXT_BYTES - len(END_OF_TEXT) :]
        return self._skip(len(skipped))

    def _take_text(self, before: bytes) -> None:
        tail = before[-MAX_TEXT_BYTES:]
        start = next((i for i in range(len(tail), 0, -1) if tail[i - 1] not in _PRINTABLE), 0)
        text_bytes = len(tail) - start + len(END_OF_TEXT)
        self._tally["text_bytes"] += text_bytes
        self._tally["skipped_bytes"] -= text_bytes
        self._end_run()
        self._out.append(Text(tail[start:].decode("ascii").strip()))


def _ahead(earlier: bytes, later: bytes) -> int:
    """How many packets `later` is after `earlier` by their counters, modulo 256."""
    return (later[1] - earlier[1]) % 256


def refusal(text: str) -> str | None:
    """Why this text means that the board cannot be used as 8 channels, or None.

    The USB dongle answers "Failure: ..." for a board that is off. With a Daisy module attached
    every other packet holds channels 9-16 (docs.openbci.com, "Cyton Data Format", 16 channels).
    """
    if "Failure" in text:
        return f"the dongle answers '{text}': switch the board on"
    if "Daisy" in text:
        return "a Daisy module is attached, which doubles channels and halves their rate: remove it"
    return None


# docs.openbci.com, "Cyton Board SDK": `v` resets and answers a banner ending in $$$, `b` starts,
# `s` stops. A stream joined without reset keeps whatever gain it had; ours assumes 24.
_TABLE = {
    **usual(State.LISTENING, State.RESETTING, State.STARTING, State.STREAMING),
    (State.CLOSED, Event.OPENED): Step(State.RESETTING, SOFT_RESET, forget=True),
    (State.CLOSED, Event.JOINED): Step(State.LISTENING),
    (State.LISTENING, Event.TIMEOUT): Step(State.RESETTING, SOFT_RESET, forget=True),
    (State.RESETTING, Event.FRAMES): Step(State.RESETTING, rearm=False),  # the stream of before
    (State.RESETTING, Event.READY): Step(State.STARTING, START, forget=True),
    (State.STREAMING, Event.READY): Step(State.LOST),  # a banner: the board has reset itself
}

DEVICE = Device(
    name="cyton",
    title="OpenBCI Cyton",
    spec='OpenBCI "Cyton Data Format" and "Cyton Board SDK" (docs.openbci.com)',
    wire=WIRE,
    feeds=(Feed(FEED, ("",) * CHANNELS, RATE_HZ, UNIT, UV_PER_LSB, RAIL_LOW_UV, RAIL_HIGH_UV),),
    dialogue=Dialogue(
        table=_TABLE,
        # A reset takes about 1 s. Silence must end before the counter wraps at 1.024 s.
        timeout_s={
            State.LISTENING: 0.25,
            State.RESETTING: 3.0,
            State.STARTING: 2.0,
            State.STREAMING: 1.0,
        },
        refusal=refusal,
        stop=STOP,
    ),
    decoder=Decoder,
    sure_frames=20,
    proved_by="BrainFlow 5 reads the emulator, exact microvolts",
    unproved="a real board",
)
