"""Finds frames in a stream of bytes when each frame by itself proves little.

Owns the search, what a frame has to bring to be trusted, and the count of every byte. What a frame
is, a device's `check` says; what it means is the device's own. A device whose frames are found in
another way is a `Stepping` decoder.

`Framer` trusts a frame when its check passes and one of these holds:

1. it follows the last trusted frame directly;
2. it starts a whole number of slots (at most `max_slots`) after it, all of them damaged frames;
3. it is the first of `confirm` frames in a row.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Union

from firmware_bridge.counting import Counting
from firmware_bridge.types import Counters, Message

Check = Callable[[bytes, int], Union[int, str]]
"""`check(buffer, at)`: the length of the frame at `at`; 0 to wait for more of it; or why there is
none. More bytes behind it must not change an answer other than 0."""

Found = tuple[int, bytes]
"""How many bytes were skipped just before the frame, and the frame."""


class Framer:
    """Bytes in, frames out, however they were cut.

    `slot_bytes` is the length of all frames, where they have one. `singles` are bytes that are an
    answer by themselves: they count directly after a frame and as the very first byte, and are
    given out as frames of one byte. Holds back less than `confirm` frames.
    """

    def __init__(
        self,
        check: Check,
        *,
        confirm: int = 1,
        slot_bytes: int = 0,
        max_slots: int = 0,
        singles: bytes = b"",
    ) -> None:
        self._check = check
        self._confirm = confirm
        self._slot_bytes = slot_bytes
        self._reach_bytes = slot_bytes * max_slots
        self._singles = frozenset(singles)
        self._pending = b""
        self._since = 0  # bytes skipped since the last trusted frame
        self._locked = False
        self.tally: Counter[str] = Counter()
        self.rejects: Counter[str] = Counter()

    @property
    def counters(self) -> Counters:
        """Totals since the framer was made; the decoder adds what it loses to `tally`."""
        return Counters(**self.tally, rejects=dict(self.rejects))

    def feed(self, data: bytes) -> list[Found]:
        """The trusted frames that `data` completes."""
        self.tally["received_bytes"] += len(data)
        buffer = self._pending + data if self._pending else data
        out: list[Found] = []
        at = 0
        while at < len(buffer):
            used = self._step(buffer, at, out)
            if not used:
                break
            at += used
        self._pending = buffer[at:]
        return out

    def _step(self, buffer: bytes, at: int, out: list[Found]) -> int:
        """Deal with the bytes at `at`; how many are done with, 0 to wait for more."""
        verdict = self._check(buffer, at)
        if isinstance(verdict, str):
            return self._refuse(buffer, at, verdict, out)
        if verdict == 0:
            return 0
        if not self._expected():
            confirmed = self._confirmed(buffer, at)
            if confirmed is None:
                return 0
            if not confirmed:
                return self._skip()
        self.tally["resyncs"] += self._locked and self._since > 0
        self.tally["frames"] += 1
        out.append((self._since, buffer[at : at + verdict]))
        self._locked, self._since = True, 0
        return verdict

    def _expected(self) -> bool:
        """Whether a frame is due here, by rules 1 and 2."""
        if not self._locked or self._since > self._reach_bytes:
            return False
        return self._since == 0 or self._since % self._slot_bytes == 0

    def _confirmed(self, buffer: bytes, at: int) -> bool | None:
        """Rule 3; None while there are too few bytes to tell."""
        for _ in range(self._confirm):
            verdict = self._check(buffer, at) if at < len(buffer) else 0
            if isinstance(verdict, str):
                return False
            if verdict == 0:
                return None
            at += verdict
        return True

    def _refuse(self, buffer: bytes, at: int, reason: str, out: list[Found]) -> int:
        if self._since == 0 and buffer[at] in self._singles:
            self.tally["text_bytes"] += 1
            out.append((0, buffer[at : at + 1]))
            return 1
        if self._expected():
            self.rejects[reason] += 1
        return self._skip()

    def _skip(self) -> int:
        self._since += 1
        self.tally["skipped_bytes"] += 1
        return 1


class Framed:
    """A decoder whose frames each say all that they say: `_take` gives the messages of one."""

    def __init__(self, framer: Framer) -> None:
        self._framer = framer

    @property
    def counters(self) -> Counters:
        """Totals since the decoder was made."""
        return self._framer.counters

    def feed(self, data: bytes) -> list[Message]:
        """Take the next bytes as they came and return what they complete. Never raises."""
        return [m for _, frame in self._framer.feed(data) for m in self._take(frame)]

    def _take(self, frame: bytes) -> list[Message]:
        raise NotImplementedError


class Stepping(Counting):
    """A decoder that finds its frames itself, one place in the stream after the other.

    `_step` appends to `_out` and counts in `_tally` and `_rejects`. `_end_run`, where there are
    samples, turns those since the last gap into blocks.
    """

    def __init__(self) -> None:
        super().__init__()
        self._pending = b""
        self._since = 0  # bytes skipped after the last trusted frame
        self._out: list[Message] = []

    def feed(self, data: bytes) -> list[Message]:
        """Take the next bytes as they came and return what they complete. Never raises."""
        self._tally["received_bytes"] += len(data)
        buffer = self._pending + data
        at = 0
        while at < len(buffer) and (used := self._step(buffer, at)):
            at += used
        self._pending = buffer[at:]
        self._end_run()
        out, self._out = self._out, []
        return out

    def _step(self, buffer: bytes, at: int) -> int:
        """Deal with the bytes at `at`; return how many are done with, 0 to wait for more."""
        raise NotImplementedError

    def _end_run(self) -> None:
        pass

    def _skip(self, n: int) -> int:
        """Pass over `n` bytes that belong to no frame."""
        self._since += n
        self._tally["skipped_bytes"] += n
        return n
