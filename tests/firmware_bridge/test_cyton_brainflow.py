"""A foreign host program on the other end: BrainFlow's own Cyton driver reads our emulator."""

from __future__ import annotations

import importlib.resources
import time
from typing import Any

import numpy as np
import pytest

from firmware_bridge.devices import cyton

board_shim = pytest.importorskip("brainflow.board_shim", reason="brainflow has no wheel here")

N = 500
SAMPLES_MV = np.random.default_rng(6).normal(0.0, 2.0, (N, 8))
SAMPLES_MV[:3] = [[200.0] * 8, [-200.0] * 8, [0.0] * 8]  # both rails, and zero


@pytest.fixture
def brainflow_rows(emulate: Any, monkeypatch: pytest.MonkeyPatch) -> np.ndarray:
    """Rows of BrainFlow's Cyton layout, `[24, n]`, of the whole recording."""
    # brainflow 5.23.0 finds its library by the files of a module, which Python before 3.12 refuses,
    # or else by pkg_resources, which setuptools 82 dropped: give it those of the package.
    monkeypatch.setattr(board_shim, "files", lambda _: importlib.resources.files("brainflow"))
    emulated = emulate(SAMPLES_MV, loop=True, speed=4.0)
    params = board_shim.BrainFlowInputParams()
    params.serial_port = str(emulated.link)
    board_shim.BoardShim.disable_board_logger()
    board = board_shim.BoardShim(board_shim.BoardIds.CYTON_BOARD, params)
    board.prepare_session()
    try:
        board.start_stream()
        deadline_s = time.monotonic() + 10
        while board.get_board_data_count() < N and time.monotonic() < deadline_s:
            time.sleep(0.02)
        return np.asarray(board.get_board_data(N))
    finally:
        board.release_session()


def same(rows_uv: np.ndarray, expected_uv: np.ndarray) -> bool:
    """Equal sample by sample: 1e-6 relative, and 1 nV where the value is about zero."""
    return rows_uv.shape == expected_uv.shape and np.allclose(
        rows_uv, expected_uv, rtol=1e-6, atol=1e-3
    )


def test_brainflow_reads_the_same_microvolts(brainflow_rows: np.ndarray) -> None:
    description = board_shim.BoardShim.get_board_descr(board_shim.BoardIds.CYTON_BOARD)
    rows_uv = brainflow_rows[description["eeg_channels"]].T
    ours_uv = cyton.counts_to_uv(cyton.uv_to_counts(SAMPLES_MV * 1000.0))
    assert same(rows_uv, ours_uv)
    assert not same(rows_uv, np.roll(ours_uv, 1, axis=0))  # control: one sample late
    assert not same(rows_uv, cyton.counts_to_uv(cyton.uv_to_counts(SAMPLES_MV * 1000.0) + 1))
    assert np.array_equal(brainflow_rows[description["package_num_channel"]], np.arange(N) % 256)
    accel_g = brainflow_rows[description["accel_channels"]]
    assert np.allclose(accel_g.T, [0.125, 0.0, 1.0])
