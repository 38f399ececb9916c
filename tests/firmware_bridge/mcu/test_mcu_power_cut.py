"""Power or flash fail at any write to flash during an update: it boots one whole image, always.

Each cut leaves one write or erase half done. At the next boot the device runs the old image or the
new one, and the same update brought to its end keeps the new one. All cuts run by `make mcu-cuts`;
without MEDGE_ALL_CUTS a few, picked by a fixed seed, with the last ones (marks of a byte's size).
"""

from __future__ import annotations

import os
import random
import threading
from typing import TYPE_CHECKING, Any

import pytest

from firmware_bridge.mcu import dfu
from firmware_bridge.mcu.dfu import Result
from firmware_bridge.mcu.image import UpdateError, read_image

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.integration

# 8 pages erased, 13 pieces written, then the marks: generation, pending, tried, confirmed.
OPERATIONS = 25
MARKS = range(22, 26)
TRIED = 24
CUT_EXIT = 99
NO_IMAGE_EXIT = 3
BRIEF = dfu.Patience(answer_s=0.3, boot_s=1.5, healthy_s=0.2, retry_s=0.05, retries=200)
SOME = sorted({*random.Random(6).sample(range(1, 22), 2), *MARKS})
CUTS = range(1, OPERATIONS + 1) if os.environ.get("MEDGE_ALL_CUTS") else SOME


@pytest.mark.parametrize("cut", CUTS)
def test_a_power_cut_leaves_a_whole_image(
    board: Any, make_image: Callable[..., bytes], cut: int
) -> None:
    pytest.importorskip("smpclient")
    board.make(make_image((1, 0, 0)))
    board.power_on(cut=cut)
    new = read_image(make_image((1, 1, 0)))
    ended: list[int] = []

    def power_comes_back() -> None:
        while (status := board.ended()) is None:
            if stop.wait(0.005):
                return
        ended.append(status)
        board.power_on()

    stop = threading.Event()
    power = threading.Thread(target=power_comes_back)
    power.start()
    try:
        first = dfu.update(str(board.port), new, patience=BRIEF)
    finally:
        stop.set()
        power.join()
    assert ended == [CUT_EXIT]
    assert board.ended() is None  # it has booted something
    # A cut after the trial began ends the trial; the same update again brings it through.
    assert first.result in (Result.UPDATED, Result.REVERTED)
    if first.result is Result.REVERTED:
        assert dfu.update(str(board.port), new, patience=BRIEF).result is Result.UPDATED
    booted = [(row[5], row[6]) for row in board.lines("boot")]
    assert set(booted) <= {
        ("1.0.0", "confirmed"),
        ("1.1.0", "trial"),
        ("1.1.0", "confirmed"),
    }
    board.power_off()
    board.power_on()
    assert board.lines("boot")[-1][5:] == ["1.1.0", "confirmed"]


# An erase, a piece, and each mark: generation, pending, tried, confirmed.
@pytest.mark.parametrize("wear", [1, 9, *MARKS])
def test_flash_that_wears_out_leaves_the_image_of_before(
    board: Any, make_image: Callable[..., bytes], wear: int
) -> None:
    """From one operation on all of them fail; one that cannot be noted as tried is not tried."""
    pytest.importorskip("smpclient")
    board.make(make_image((1, 0, 0)))
    board.power_on(wear=wear, trial_ms=2000)
    new = read_image(make_image((1, 1, 0)))
    try:
        result = dfu.update(str(board.port), new, patience=BRIEF).result
    except UpdateError:
        result = None
    assert result is (Result.REVERTED if wear == TRIED else None)
    booted = [(row[5], row[6]) for row in board.lines("boot")]
    assert (("1.1.0", "trial") in booted) == (wear > TRIED)
    board.power_off()
    board.power_on(wear=1)
    assert board.lines("boot")[-1][5:] == ["1.0.0", "confirmed"]


def test_there_are_no_more_operations(board: Any, make_image: Callable[..., bytes]) -> None:
    """The number above is right: a cut after the last operation never comes."""
    pytest.importorskip("smpclient")
    board.make(make_image((1, 0, 0)))
    board.power_on(cut=OPERATIONS + 1)
    new = read_image(make_image((1, 1, 0)))
    assert dfu.update(str(board.port), new, patience=BRIEF).result is Result.UPDATED
    assert board.ended() is None


def test_control_a_board_without_a_whole_image_is_seen(
    board: Any, make_image: Callable[..., bytes]
) -> None:
    """The rig notices what must never happen: here one flipped bit in the only image."""
    board.make(make_image((1, 0, 0)))
    flash = bytearray(board.flash.read_bytes())
    flash[1000] ^= 1
    board.flash.write_bytes(flash)
    board.power_on()
    assert board._process.wait(5) == NO_IMAGE_EXIT
