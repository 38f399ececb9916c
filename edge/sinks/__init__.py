"""Sinks: where committed results go. Each factory carries its own strict `Options`.

A sink is made as `Factory(options)`, which opens nothing, and is a context manager.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

SINKS = {"jsonl": "edge.sinks.jsonl:Jsonl"}


class Sink(Protocol):
    """Driven by the journal's thread; whatever it raises is counted and tried again later."""

    def __enter__(self) -> Sink:
        """Open it. Raises `StartError`."""
        ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...

    def resume_after(self) -> int:
        """The journal row it had last, 0 for none; delivery goes on after it."""
        ...

    def deliver(self, rows: Sequence[tuple[int, bytes]]) -> None:
        """Take (row id, JSON line) in order; what it took must show in `resume_after`."""
        ...
