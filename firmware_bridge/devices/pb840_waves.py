"""Puritan-Bennett 840 ventilator, its waveform port: flow and pressure, breath by breath.

Implements the waveform output of the Puritan-Bennett 840 as the public repository `mdpnp` reads it
(PB840Waveforms.java), 38400 8N1, lines that end with CR, LF or both, nothing to ask for:

    BS, S:<breath number>,      a breath begins
    <flow L/min>, <pressure cmH2O>      one line a sample
    BE      it ends

The rate of 50 Hz is from memory. There is no checksum: samples are trusted inside a breath alone,
that is after its BS, when their line is two plain numbers in what a ventilator can do; other lines
there count as one lost sample each, and their number is not known better. Where the breath number
jumps, the missing breaths count as so many samples as the last whole one had. Who joins in the
middle of a breath, or misses its BS, waits for the next one: `SIGN_SAMPLES` at a time say that the
device is there, for `LONGEST_BREATH_S` at the rate above.
"""

from __future__ import annotations

import math
import re
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from firmware_bridge.counting import Counting
from firmware_bridge.session import Event, State, Step, listening
from firmware_bridge.types import Device, Feed, SampleBlock, Sign, Wire

if TYPE_CHECKING:
    from firmware_bridge.types import Message

WIRE = Wire(38_400)
RATE_HZ = 50.0
SILENT_S = 2.0
LONGEST_BREATH_S = 20.0  # three breaths a minute
SIGN_SAMPLES = 50  # what comes more slowly than half of what is due is silence
MAX_LINE_BYTES = 64
MAX_MISSING_BREATHS = 100
FLOW = Feed("flow", ("MDC_FLOW_AWAY",), RATE_HZ, "L/min", 0.1, -500.0, 500.0)
PRESSURE = Feed("pressure", ("MDC_PRESS_AWAY",), RATE_HZ, "cm[H2O]", 0.1, -100.0, 200.0)

_BEGIN = re.compile(rb"BS, *S: *(\d{1,9}) *,")
_SAMPLE = re.compile(rb" *(-?\d{1,3}\.?\d{0,3}) *, *(-?\d{1,3}\.?\d{0,3}) *")
_LINE_END = re.compile(rb"[\r\n]")


def begin(breath: int) -> bytes:
    """The line that begins a breath."""
    return b"BS, S:%d,\n" % breath


def sample(flow_l_min: float, pressure_cmh2o: float) -> bytes:
    """The line of one sample."""
    return f"{flow_l_min:.1f}, {pressure_cmh2o:.1f}\n".encode()


END = b"BE\n"


class Decoder(Counting):
    """Bytes in, `SampleBlock`s out; see the module for what is trusted.

    Holds back at most `MAX_LINE_BYTES`.
    """

    def __init__(self) -> None:
        super().__init__()
        self._pending = b""
        self._overlong = False  # the line so far was too long and has been skipped
        self._breath: int | None = None  # the number of the last one that began
        self._inside = False
        self._samples_in_breath = self._last_breath_samples = 0
        self._samples_outside = 0
        self._skipped = False
        self._seq = self._lost = 0
        self._run: list[tuple[float, float]] = []
        self._out: list[Message] = []

    def feed(self, data: bytes) -> list[Message]:
        """Take the next bytes as they came and return what they complete. Never raises."""
        self._tally["received_bytes"] += len(data)
        *lines, rest = _LINE_END.split(self._pending + data)
        for line in lines:
            self._end_line(line)
        if self._overlong or len(rest) > MAX_LINE_BYTES:
            self._overlong = True
            self._skip(len(rest))
            rest = b""
        self._pending = rest
        self._end_run()
        out, self._out = self._out, []
        return out

    def _end_line(self, line: bytes) -> None:
        if self._overlong or len(line) > MAX_LINE_BYTES:
            self._overlong = False
            self._wrong(len(line) + 1)
        elif line:
            self._take_line(line)
        else:
            self._tally["text_bytes"] += 1  # of CR LF

    def _take_line(self, line: bytes) -> None:
        if match := _BEGIN.fullmatch(line):
            self._begin(int(match[1]))
        elif line.strip() == b"BE" and self._inside:
            self._inside = False
            self._last_breath_samples = self._samples_in_breath
        elif (match := _SAMPLE.fullmatch(line)) and self._inside:
            self._run.append((float(match[1]), float(match[2])))
            self._samples_in_breath += 1
        elif match and self._samples_outside < LONGEST_BREATH_S * RATE_HZ:
            self._samples_outside += 1
            if self._samples_outside % SIGN_SAMPLES == 0:
                self._out.append(Sign(Event.ALIVE))
            self._tally["text_bytes"] += len(line) + 1
            return
        else:
            self._wrong(len(line) + 1)
            return
        self._tally["frames"] += 1
        self._tally["resyncs"] += self._skipped
        self._skipped = False

    def _begin(self, breath: int) -> None:
        missing = 0 if self._breath is None else breath - self._breath - 1
        if 0 < missing <= MAX_MISSING_BREATHS:
            self._lose(missing * self._last_breath_samples)
        self._breath, self._inside = breath, True
        self._samples_in_breath = self._samples_outside = 0

    def _wrong(self, n: int) -> None:
        """A line that says nothing; inside a breath it was a sample."""
        if self._inside:
            self._rejects["line"] += 1
            self._lose(1)
            self._samples_in_breath += 1
        self._skip(n)

    def _lose(self, samples: int) -> None:
        self._end_run()
        self._lost += samples
        self._tally["lost"] += samples

    def _end_run(self) -> None:
        if not self._run:
            return
        both = np.array(self._run, np.float32)
        seq = self._seq + self._lost
        for feed, column in ((FLOW, both[:, :1]), (PRESSURE, both[:, 1:])):
            column = np.where(
                (column < feed.rail_low) | (column > feed.rail_high), math.nan, column
            )
            samples = np.ascontiguousarray(column, np.float32)
            self._out.append(SampleBlock(seq, self._lost, RATE_HZ, feed.unit, samples, feed.name))
        self._seq, self._lost, self._run = seq + len(both), 0, []

    def _skip(self, n: int) -> None:
        self._skipped = True
        self._tally["skipped_bytes"] += n


_LISTENING = listening(SILENT_S)
_DIALOGUE = replace(
    _LISTENING,
    table={**_LISTENING.table, (State.LISTENING, Event.ALIVE): Step(State.LISTENING)},
)
DEVICE = Device(
    name="pb840-waves",
    title="Puritan-Bennett 840, waveforms",
    spec="Puritan-Bennett 840 waveform output, as mdpnp reads it",
    wire=WIRE,
    dialogue=_DIALOGUE,
    decoder=Decoder,
    feeds=(FLOW, PRESSURE),
    sure_frames=100,
    proved_by="lines worked by hand from the public reader",
    unproved="a real ventilator; the rate of 50 Hz",
)
