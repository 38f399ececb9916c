"""Sources: where samples, texts, images and rows come from. Each factory carries its own strict
`Options`, and in `GIVES` the kind of bundle that it feeds where that is not a signal's; None says
that it feeds none.

A source is made as `Factory(options)`, which opens nothing and starts no thread.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from edge.types import Given, SourceLost, Waveform

SOURCES = {
    "monitor": "edge.sources.monitor:Monitor",
    "wfdb": "edge.sources.recordings:Recording",
    "synthetic": "edge.sources.synthetic:Synthetic",
    "texts": "edge.sources.spool:TEXTS",
    "images": "edge.sources.spool:IMAGES",
    "rows": "edge.sources.spool:ROWS",
    "vitals": "edge.sources.vitals:Vitals",
    "device": "edge.sources.watched:Watched",
    "mcu": "edge.sources.mcu:Microcontroller",
}


class Source(Protocol):
    """Driven by the daemon's loop, which tells the time, monotonic ns; nothing here waits. One that
    can tell before it is opened whether it is what a bundle needs has `serve(signal)` besides,
    called before the first `poll`; it raises `StartError` where it is not. One whose port may take
    a while to be there can be waited for with `reached(clock)`, by whoever only looks."""

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


class ItemSource(Protocol):
    """The same where whole things come, one at a time. One that makes its rows to a bundle's
    columns and step has `serve(features)` besides, called before the first `poll`; it raises
    `StartError` where it cannot give them."""

    @property
    def name(self) -> str: ...

    def fileno(self) -> int | None: ...

    def next_deadline_ns(self) -> int | None: ...

    def poll(self, now_ns: int) -> list[Given | SourceLost]:
        """What has come, in order; the next one only when the one before is settled."""
        ...

    def settle(self, result: str, refused: bool) -> None:
        """The one given last is judged, `result` being the id of its last result, and that is
        committed; `refused` where it could not be read."""
        ...
