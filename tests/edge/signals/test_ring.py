"""Ring: what was appended comes back by absolute index, or None; never something else."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from edge.signals.ring import Ring


@given(
    capacity=st.integers(1, 20),
    sizes=st.lists(st.integers(0, 50), max_size=8),
    start=st.integers(-3, 120),
    length=st.integers(0, 25),
)
def test_a_cut_is_the_stream_or_none(
    capacity: int, sizes: list[int], start: int, length: int
) -> None:
    """A cut gives exactly the stream's samples where the last `capacity` hold them, else None."""
    ring, stream = Ring(capacity), np.arange(sum(sizes), dtype=np.float32)
    for first, size in zip(np.cumsum([0, *sizes]), sizes):
        ring.append(stream[first : first + size])
    assert ring.end == len(stream)
    cut = ring.cut(start, start + length)
    held = max(0, len(stream) - capacity) <= start and start + length <= len(stream)
    assert (cut is not None) == held
    if cut is not None:
        np.testing.assert_array_equal(cut, stream[start : start + length])


def test_a_cut_is_a_copy_and_reset_starts_at_zero() -> None:
    ring = Ring(4)
    ring.append([1.0, 2.0, 3.0])
    cut = ring.cut(0, 3)
    assert cut is not None
    ring.append([9.0, 9.0])
    assert cut.tolist() == [1.0, 2.0, 3.0]
    assert ring.cut(0, 3) is None  # overwritten
    ring.reset()
    ring.append([5.0])
    assert ring.end == 1
    assert ring.cut(0, 1) is not None


def test_storage_does_not_grow() -> None:
    ring = Ring(100)
    ring.append(np.zeros(100_000))
    assert ring._data.nbytes == 400
