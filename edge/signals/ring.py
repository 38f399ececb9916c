"""A ring buffer addressed by absolute sample index. Owns storage only: fixed, allocated once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray


class Ring:
    """The last `capacity` samples, float32; sample 0 is the first one appended since `reset`."""

    def __init__(self, capacity: int) -> None:
        self._data = np.zeros(capacity, np.float32)
        self._end = 0

    @property
    def end(self) -> int:
        """How many samples were appended: the index that the next one gets."""
        return self._end

    def reset(self) -> None:
        """Forget everything; the next sample is sample 0."""
        self._end = 0

    def append(self, samples: ArrayLike) -> None:
        """Add samples `[n]`; where n exceeds the capacity only the last ones stay."""
        x = np.asarray(samples, np.float32)
        size = len(self._data)
        self._end += len(x)
        kept = x[-size:]
        at = (self._end - len(kept)) % size
        head = min(len(kept), size - at)
        self._data[at : at + head] = kept[:head]
        self._data[: len(kept) - head] = kept[head:]

    def cut(self, start: int, end: int) -> NDArray[np.float32] | None:
        """A copy of samples `[start, end)`; None where any is overwritten or not there yet."""
        size = len(self._data)
        if start < max(0, self._end - size) or end > self._end or end < start:
            return None
        at, count = start % size, end - start
        head = self._data[at : at + count]
        return np.concatenate((head, self._data[: count - len(head)]))
