"""A recording as a source: paced by the time it is told, continuous, honest at its end."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge.clock import NS_PER_MS, NS_PER_S
from edge.errors import StartError
from edge.sources.recordings import Recording, RecordingOptions
from edge.sources.wfdb import read_record
from edge.types import SourceLost, Waveform

MDC = "MDC_ECG_ELEC_POTL_II"


def played(source: Any, seconds: float, step_ms: int = 70) -> list[Waveform | SourceLost]:
    source.open(0)
    times = range(0, round(seconds * 1000) + 1, step_ms)
    return [block for ms in times for block in source.poll(ms * NS_PER_MS)]


def continuous(blocks: list[Waveform]) -> np.ndarray:
    """All samples, having checked that numbers and times of the blocks join up."""
    for before, block in zip(blocks, blocks[1:]):
        assert block.seq == before.seq + len(before.samples)
        assert block.t_ns == before.t_ns + len(before.samples) * NS_PER_S // 250
    assert all(b.received_ns >= b.t_ns + (len(b.samples) - 1) * NS_PER_S // 250 for b in blocks)
    return np.concatenate([block.samples for block in blocks])


def test_a_record_is_played_once_and_then_lost(medge_data: Path) -> None:
    path = medge_data / "mitdb" / "101"
    source = Recording(RecordingOptions(record=str(path), mdc=MDC, rate_hz=250.0))
    blocks = played(source, 5.0)
    samples = continuous([b for b in blocks if isinstance(b, Waveform)])
    assert len(samples) == pytest.approx(1250, abs=20)
    length_s = len(read_record(path).samples) / 360.0
    rest = source.poll(round((length_s + 1) * NS_PER_S))
    assert isinstance(rest[-1], SourceLost)
    assert source.next_deadline_ns() is None
    assert source.poll(round((length_s + 9) * NS_PER_S)) == []


def test_a_record_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StartError):
        played(Recording(RecordingOptions(record=str(tmp_path / "none"), mdc=MDC)), 1.0)
