"""The front: samples of one source to windows, bad-signal and no-beat events, in stream order.

Owns continuity (gaps, loss, staleness), which stretches are usable, and when silence of the trigger
is an event. Filters, trigger and cutting are `edge.signals`. No clock in here: every time is that
of the samples, or passed in. Positions are `seq` numbers of the source's samples.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from edge.clock import NS_PER_MS, NS_PER_S
from edge.pipeline.items import BadSignal, NoBeat
from edge.pipeline.silence import Silence
from edge.signals.beats import BeatCutter
from edge.signals.quality import Quality
from edge.types import Reason, Window

if TYPE_CHECKING:
    from edge.bundle.manifest import Manifest
    from edge.pipeline.items import Item
    from edge.signals.beats import Beat
    from edge.types import SourceLost, Waveform

REPEAT_NS = 2 * NS_PER_S
"""While there is no usable signal, it is said again this often."""


class Front:
    """One source of one patient, from its first block on."""

    def __init__(self, manifest: Manifest, source: str) -> None:
        self._signal, rhythm = manifest.signal_part()
        self._source = source
        self._max_age_ns = int(self._signal.max_age_ms * NS_PER_MS)
        self._cutter = BeatCutter(self._signal)
        self._quality = Quality(self._signal)
        self._silence = Silence(rhythm, self._signal.rate_hz)
        self._block: Waveform | None = None  # the newest, for the times of positions
        self._next_seq: int | None = None  # None: the next block starts anew
        self._origin = 0  # position of the cutter's sample 0
        self._bad: Reason | None = None
        self._bad_from = 0
        self._said_ns = 0  # when the present reason was last said
        self._heard_ns: int | None = None

    def expect(self, now_ns: int) -> None:
        """Samples are expected from `now_ns` on: silence of the source counts from here."""
        self._heard_ns = now_ns

    def feed(self, block: Waveform) -> list[Item]:
        """Items completed by `block`. Raises `StartError` where it is not what the bundle needs."""
        self._signal.require(block.channel, block.unit, block.rate_hz, self._source)
        items = self._continue_with(block)
        self._heard_ns = block.received_ns
        for part in self._quality.feed(block.samples, block.rail, block.leads_off):
            if part.reason is not None:
                items += self._unusable(block.seq + part.start, block.seq + part.end, part.reason)
            else:
                items += self._usable(block, part.start, part.end)
        return items

    def lost(self, event: SourceLost) -> list[Item]:
        """The source went away: nothing is known from when it was last heard."""
        return self._nothing(event.t_ns, event.cause)

    def tick(self, now_ns: int) -> list[Item]:
        """Says, once due and again while it lasts, that no samples come."""
        due_ns = self.next_deadline_ns()
        if due_ns is None or now_ns < due_ns:
            return []
        return self._nothing(due_ns, "no samples")

    def next_deadline_ns(self) -> int | None:
        """When `tick` has something to say if nothing comes before."""
        if self._heard_ns is None:
            return None
        if self._bad is Reason.STALE:
            return self._said_ns + REPEAT_NS
        return self._heard_ns + self._max_age_ns

    def _continue_with(self, block: Waveform) -> list[Item]:
        """Make `block` the newest; where it does not follow the last one, note the gap."""
        items: list[Item] = []
        expected = self._next_seq
        if expected is not None and expected != block.seq:
            t0_ns = self._time(expected)
            detail = f"{block.seq - expected} samples missing"
            items.append(BadSignal(block.t_ns, t0_ns, block.t_ns, Reason.GAP, detail))
        self._block = block
        self._next_seq = block.seq + len(block.samples)
        if expected != block.seq:
            self._quality.reset()
            self._begin(block.seq, float(block.samples[0]))
        return items

    def _begin(self, at: int, level: float) -> None:
        """Good signal starts at position `at`, settled at `level`: no memory of what was before."""
        self._bad = None
        self._origin = at
        self._cutter.reset(level)
        self._silence.restart(at)

    def _usable(self, block: Waveform, start: int, end: int) -> list[Item]:
        items: list[Item] = []
        if self._bad is not None:
            items.append(self._usable_again(block.seq + start, self._bad))
            self._begin(block.seq + start, float(block.samples[start]))
        for beat in self._cutter.feed(block.samples[start:end]):
            self._silence.beat(self._origin + beat.r_index)
            items.append(self._window(beat, block))
        searched_to = self._origin + self._cutter.searched_to
        for silent in self._silence.reached(searched_to):
            t0_ns, t1_ns = self._time(silent.start), self._time(silent.end)
            seconds = (silent.end - silent.start) / self._signal.rate_hz
            items.append(NoBeat(t1_ns, t0_ns, t1_ns, silent.name, seconds))
        return items

    def _usable_again(self, at: int, reason: Reason) -> BadSignal:
        """Where the unusable stretch ended: no window can begin before `at`."""
        t_ns = self._time(at)
        t1_ns = t_ns + round(self._signal.before_ms * NS_PER_MS)
        return BadSignal(t_ns, self._unanswered_from(), t1_ns, reason, "usable again")

    def _unanswered_from(self) -> int:
        """No window can reach into the unusable stretch: beats shortly before it have none."""
        return self._time(self._bad_from) - round(self._signal.after_ms * NS_PER_MS)

    def _unusable(self, first: int, end: int, reason: Reason) -> list[Item]:
        """Say why at once, and again every two seconds of signal."""
        end_ns = self._time(end)
        if self._bad is reason and end_ns - self._said_ns < REPEAT_NS:
            return []
        if self._bad is not reason:
            self._bad, self._bad_from = reason, first
            self._silence.stop()
        self._said_ns = end_ns
        return [BadSignal(end_ns, self._unanswered_from(), end_ns, reason, "")]

    def _nothing(self, t_ns: int, detail: str) -> list[Item]:
        """No samples: forget the stream, so that what comes next starts anew."""
        since_ns = self._heard_ns if self._heard_ns is not None else t_ns
        self._bad, self._said_ns, self._next_seq = Reason.STALE, t_ns, None
        self._silence.stop()
        return [BadSignal(t_ns, since_ns, t_ns, Reason.STALE, detail)]

    def _window(self, beat: Beat, block: Waveform) -> Window:
        end, ready = self._origin + beat.end, self._origin + beat.ready
        return Window(
            t_ns=self._time(self._origin + beat.r_index),
            t0_ns=self._time(self._origin + beat.start),
            t1_ns=self._time(end - 1),
            complete_ns=self._time(max(end, ready) - 1),
            acquired_ns=block.received_ns,
            source=self._source,
            rr_s=beat.rr_s,
            filter_delay_ms=self._cutter.filter_delay_ms,
            arrays={"window": beat.samples, "rr": beat.rr},
        )

    def _time(self, seq: int) -> int:
        """Time of a position, by the newest block."""
        assert self._block is not None
        return self._block.t_ns + round((seq - self._block.seq) * NS_PER_S / self._block.rate_hz)
