"""Sources: where samples come from. Each factory carries its own strict `Options`.

A source is made as `Factory(options)`, which opens nothing; none has a thread.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from edge.types import SourceLost, Waveform

SOURCES = {
    "monitor": "edge.sources.monitor:Monitor",
    "wfdb": "edge.sources.recordings:Recording",
    "synthetic": "edge.sources.synthetic:Synthetic",
}


class Source(Protocol):
    """Driven by the daemon's loop, which tells the time, monotonic ns; nothing here waits."""

    @property
    def name(self) -> str: ...

    def open(self, now_ns: int) -> None:
        """Raises `StartError` for what cannot be, `LinkError` for what is not there now."""
        ...

    def fileno(self) -> int | None:
        """What to wait on for reading; None when only time matters, or while it is away."""
        ...

    def next_deadline_ns(self) -> int | None:
        """When `poll` has something to do even if nothing arrives; None when never."""
        ...

    def poll(self, now_ns: int) -> list[Waveform | SourceLost]:
        """What has come until now, in order."""
        ...

    def counters(self) -> dict[str, int]:
        """At least `received` and `lost` samples and `gaps`, since it was opened."""
        ...

    def close(self) -> None: ...
