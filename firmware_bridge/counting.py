"""What became of a stream's bytes, counted."""

from __future__ import annotations

from collections import Counter

from firmware_bridge.types import Counters


class Counting:
    """Counts in `_tally` by the names of `Counters`, and in `_rejects` by reason."""

    def __init__(self) -> None:
        self._tally: Counter[str] = Counter()
        self._rejects: Counter[str] = Counter()

    @property
    def counters(self) -> Counters:
        """Totals since it was made."""
        return Counters(**self._tally, rejects=dict(self._rejects))
