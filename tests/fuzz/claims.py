"""What has to hold of a decoder for any bytes at all; the fuzzer and the campaign both ask it.

Split: however the bytes are cut, values and counters are the same. Account: nothing is counted
twice. Possible: no number outside what its measurement can be, no infinite sample.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from firmware_bridge.nomenclature import TERMS, WITH_NUMBER
from firmware_bridge.types import Numeric, SampleBlock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from firmware_bridge.types import Counters, Decoder, Message

Outcome = tuple[dict[str, list[Any]], "Counters"]


def decoded(make: Callable[[], Decoder], parts: Iterable[bytes]) -> Outcome:
    """Everything said, by feed, with the cuts between blocks taken out, and the counters."""
    decoder = make()
    said: dict[str, list[Any]] = {}
    for part in parts:
        for message in decoder.feed(part):
            require_possible(message)
            if isinstance(message, SampleBlock):
                rows = message.samples.view(np.uint32).tolist()
                lost = [message.lost] + [0] * (len(rows) - 1)
                placed = [(message.seq + i, lost[i], tuple(row)) for i, row in enumerate(rows)]
                said.setdefault(f"feed {message.feed}", []).extend(placed)
            else:
                said.setdefault("values", []).append(message)
    return said, decoder.counters


def require_possible(message: Message) -> None:
    if isinstance(message, Numeric):
        assert (message.value is not None) == (message.validity in WITH_NUMBER), message
        if message.value is not None:
            term = TERMS[message.channel]
            assert term.low <= message.value <= term.high, message
    elif isinstance(message, SampleBlock):
        assert len(message.samples) >= 1, message
        assert not np.isinf(message.samples).any(), message


def require_accounted(counters: Counters, received: int) -> None:
    assert counters.received_bytes == received, counters
    assert 0 <= counters.text_bytes + counters.skipped_bytes <= received, counters


def cut(data: bytes, size: int) -> list[bytes]:
    return [data[i : i + size] for i in range(0, len(data), size)]


def require_all(make: Callable[[], Decoder], parts: list[bytes]) -> Outcome:
    """Raises `AssertionError` where a claim does not hold for `parts`, one after the other."""
    data = b"".join(parts)
    whole = decoded(make, [data])
    require_accounted(whole[1], len(data))
    if len(parts) > 1:
        cut_up = decoded(make, parts)
        assert cut_up == whole, f"pieces of {[*map(len, parts)]} bytes: {cut_up} is not {whole}"
    return whole
