"""Frames of the microcontroller link: COBS, CRC-16/X-25 and the common header. No I/O, no clock.

Implements medge_link.h; what a body holds is `protocol`'s. `FrameDecoder` finds frames again at the
next 00, counts what it refuses by the reason, and its result does not depend on how the bytes were
cut. A frame that the check could reject is never returned.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from firmware_bridge.counting import Counting
from firmware_bridge.crc import crc_x25

if TYPE_CHECKING:
    from collections.abc import Mapping

    from firmware_bridge.mcu.protocol import Layout, Wire

_CRC_BYTES = 2
# A device that starts again says so in one of these; from it alone may its clock go back.
_MAY_RESTART = ("HELLO", "BEAT")


@dataclass(frozen=True, slots=True)
class Frame:
    """A frame that passed its check. `t_us` is the sender's time; `data` is what follows fields."""

    name: str
    seq: int
    session: int
    t_us: int
    fields: Mapping[str, int]
    data: bytes = b""


@dataclass(frozen=True, slots=True)
class Foreign:
    """A sound frame of another definition: `layout_hash` is known if it came in a hello."""

    version: int
    layout_hash: int | None


def cobs_encode(data: bytes) -> bytes:
    """Consistent Overhead Byte Stuffing (Cheshire and Baker 1999), without the closing 00."""
    out = bytearray()
    runs = data.split(b"\0")
    for i, run in enumerate(runs):
        # A full block stands for no zero, so one before a zero is followed by an empty block.
        whole = max(0, len(run) - 1) // 254 if i == len(runs) - 1 else len(run) // 254
        for at in range(0, 254 * whole, 254):
            out += b"\xff" + run[at : at + 254]
        rest = run[254 * whole :]
        out += bytes([len(rest) + 1]) + rest
    return bytes(out)


def cobs_decode(stuffed: bytes) -> bytes | None:
    """The bytes that were stuffed, or None for what no encoder makes."""
    out = bytearray()
    at = 0
    while at < len(stuffed):
        code = stuffed[at]
        if code == 0 or at + code > len(stuffed):
            return None
        out += stuffed[at + 1 : at + code]
        at += code
        if code != 0xFF and at < len(stuffed):
            out.append(0)
    return bytes(out)


def encode(wire: Wire, layout: Layout, header: Mapping[str, int], body: bytes) -> bytes:
    """A whole frame with its closing 00; `header` is completed by version and type."""
    full = {"version": wire.numbers["WIRE_VERSION"], "type": layout.code, **header}
    raw = wire.header.pack(full) + body
    return cobs_encode(raw + crc_x25(raw).to_bytes(_CRC_BYTES, "little")) + b"\0"


class FrameDecoder(Counting):
    """Bytes of a device in, `Frame` and `Foreign` out. Holds back at most one frame's bytes.
    `counters.lost` are frames, by their sequence numbers."""

    def __init__(self, wire: Wire) -> None:
        super().__init__()
        self._wire = wire
        samples = next(m for m in wire.to_host.values() if m.has_counts)
        longest = wire.header.packer.size + samples.packer.size + wire.numbers["MAX_TAIL"]
        self._cap = longest + _CRC_BYTES + (longest + _CRC_BYTES) // 254 + 1
        self._pending = bytearray()
        self._overlong = False
        self._skipping = False
        self._last: Frame | None = None

    def feed(self, data: bytes) -> list[Frame | Foreign]:
        """Take the next bytes as they came and return what they complete. Never raises."""
        self._tally["received_bytes"] += len(data)
        out: list[Frame | Foreign] = []
        *segments, rest = data.split(b"\0")
        for segment in segments:
            self._append(segment)
            stuffed, overlong = bytes(self._pending), self._overlong
            self._pending.clear()
            self._overlong = False
            if (got := self._take(stuffed, overlong)) is not None:
                out.append(got)
        self._append(rest)
        return out

    def _append(self, part: bytes) -> None:
        room = self._cap - len(self._pending)
        if self._overlong or len(part) > room:
            self._tally["skipped_bytes"] += len(self._pending) + len(part)
            self._pending.clear()
            self._overlong = True
        else:
            self._pending += part

    def _take(self, stuffed: bytes, overlong: bool) -> Frame | Foreign | None:
        """What one segment is; a lone 00 is nothing."""
        if not stuffed and not overlong:
            self._tally["skipped_bytes"] += 1
            return None
        got = "overlong" if overlong else self._parse(stuffed)
        if isinstance(got, Frame):
            got = self._order(got)
        if isinstance(got, Frame):
            self._tally["frames"] += 1
            self._tally["resyncs"] += self._skipping
            self._skipping = False
            return got
        if got == "duplicate":
            self._tally["duplicates"] += 1
            return None
        self._tally["skipped_bytes"] += len(stuffed) + 1
        self._skipping = True
        if isinstance(got, Foreign):
            self._rejects["foreign"] += 1
            return got
        self._rejects[got] += 1
        return None

    def _parse(self, stuffed: bytes) -> Frame | Foreign | str:
        """A frame of this definition or another's, or why it is none."""
        raw = cobs_decode(stuffed)
        if raw is None:
            return "cobs"
        header_bytes = self._wire.header.packer.size
        if len(raw) < header_bytes + _CRC_BYTES:
            return "short"
        raw, check = raw[:-_CRC_BYTES], raw[-_CRC_BYTES:]
        if crc_x25(raw) != int.from_bytes(check, "little"):
            return "crc"
        header = self._wire.header.unpack(raw)
        body = raw[header_bytes:]
        if header["version"] != self._wire.numbers["WIRE_VERSION"]:
            return Foreign(header["version"], None)
        layout = self._wire.to_host.get(header["type"])
        if layout is None:
            return "type"
        # The layout hash stays the first field of a hello in every version, or this could not be.
        stated = int.from_bytes(body[:4], "little")
        if layout.name == "HELLO" and stated != self._wire.layout_hash:
            return Foreign(header["version"], stated)
        return _frame(layout, header, body)

    def _order(self, frame: Frame) -> Frame | str:
        """Count what was lost before a frame; refuse one again or from before."""
        last, self._last = self._last, frame
        if last is None or frame.session != last.session:
            return frame
        if frame.t_us < last.t_us:
            if frame.name in _MAY_RESTART:
                return frame
            self._last = last
            return "stale"
        if (frame.seq, frame.t_us) == (last.seq, last.t_us):
            return "duplicate"
        self._tally["lost"] += (frame.seq - last.seq - 1) % 0x10000
        return frame


def _frame(layout: Layout, header: Mapping[str, int], body: bytes) -> Frame | str:
    fixed_bytes = layout.packer.size
    if len(body) < fixed_bytes:
        return "length"
    fields, data = layout.unpack(body), body[fixed_bytes:]
    due = 0
    if layout.has_counts:
        due = fields["count"] * fields["channels"] * fields["width"]
        if fields["width"] not in (3, 4) or due == 0:
            return "length"
    if len(data) != due:
        return "length"
    return Frame(layout.name, header["seq"], header["session"], header["t_us"], fields, data)
