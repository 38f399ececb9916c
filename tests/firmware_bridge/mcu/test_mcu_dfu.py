"""Firmware update by the real `smpclient` against the C server, in every way it can end."""

from __future__ import annotations

import sys
import threading
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from firmware_bridge.mcu import dfu
from firmware_bridge.mcu.dfu import Outcome, Result, Slot, Step
from firmware_bridge.mcu.image import UpdateError, read_image

if TYPE_CHECKING:
    from collections.abc import Callable

integration = pytest.mark.integration
BRIEF = dfu.Patience(answer_s=0.5, boot_s=2.0, healthy_s=0.3, retry_s=0.05, retries=200)


def slot(number: int, digest: bytes, flags: str = "") -> Slot:
    return Slot(number, digest, "a" in flags, "c" in flags, "p" in flags)


OLD, NEW, OTHER = b"o" * 32, b"n" * 32, b"x" * 32


@pytest.mark.parametrize(
    ("slots", "step"),
    [
        ([slot(0, OLD, "ac")], Step.UPLOAD),
        ([slot(0, OLD, "ac"), slot(1, OTHER)], Step.UPLOAD),
        ([slot(0, OLD, "ac"), slot(1, NEW)], Step.TEST),
        ([slot(0, OLD, "ac"), slot(1, NEW, "p")], Step.RESET),
        ([slot(0, OLD, "c"), slot(1, NEW, "a")], Step.PROVE),
        ([slot(0, NEW, "a")], Step.PROVE),
        ([slot(0, OLD, "c"), slot(1, NEW, "ac")], Step.DONE),
        ([slot(0, NEW, "ac"), slot(1, OLD)], Step.DONE),
        ([slot(0, OLD, "ac"), slot(1, NEW, "c")], Step.TEST),  # kept once, and replaced since
        ([], Step.UPLOAD),
    ],
)
def test_what_is_next_follows_from_the_slots(slots: list[Slot], step: Step) -> None:
    assert dfu.next_step(slots, dfu_image(NEW)) is step


def dfu_image(digest: bytes) -> Any:
    from firmware_bridge.mcu.image import Image

    return Image("1.0.0+0", digest, b"")


def test_an_image_is_read(make_image: Callable[..., bytes]) -> None:
    data = make_image((1, 2, 3))
    image = read_image(data)
    assert image.version == "1.2.3+0"
    assert image.digest == data[-32:]


@pytest.mark.parametrize("at", [0, 12, 33, 3000, -1, -36, -40])
def test_a_damaged_image_is_refused(make_image: Callable[..., bytes], at: int) -> None:
    data = bytearray(make_image((1, 2, 3)))
    data[at] ^= 0x11
    with pytest.raises(UpdateError):
        read_image(bytes(data))


@pytest.mark.parametrize("size", [0, 31, 32, 6031, 6035, 6071])
def test_a_short_image_is_refused(make_image: Callable[..., bytes], size: int) -> None:
    with pytest.raises(UpdateError):
        read_image(make_image((1, 2, 3))[:size])


def test_without_the_package_it_says_which(
    monkeypatch: pytest.MonkeyPatch, make_image: Callable[..., bytes]
) -> None:
    monkeypatch.setitem(sys.modules, "smpclient", None)
    with pytest.raises(UpdateError, match=r"pip install '\.\[mcu\]'"):
        dfu.update("nowhere", read_image(make_image((1, 1, 0))))


def versions(board: Any) -> list[str]:
    """What it booted, in order: version and whether on trial."""
    return [f"{row[5]} {row[6]}" for row in board.lines("boot")]


@pytest.fixture
def smpclient() -> Any:
    return pytest.importorskip("smpclient")


@integration
@pytest.mark.usefixtures("smpclient")
def test_an_update_is_tried_proved_and_kept(board: Any, make_image: Callable[..., bytes]) -> None:
    board.make(make_image((1, 0, 0)))
    board.power_on(erase_ms=85)
    new = read_image(make_image((1, 1, 0)))
    steps: list[tuple[Step, int]] = []
    outcome = dfu.update(
        str(board.port), new, patience=BRIEF, on_progress=lambda *a: steps.append(a[:2])
    )
    assert outcome == Outcome(Result.UPDATED)
    assert versions(board) == ["1.0.0 confirmed", "1.1.0 trial"]
    order = [step for step, _ in dict.fromkeys(steps)]
    assert list(dict.fromkeys(order)) == [Step.UPLOAD, Step.TEST, Step.RESET, Step.PROVE, Step.DONE]
    # Nobody has set the alarm lower: it was on all the while.
    assert {tuple(row[2:]) for row in board.lines("alarm")} == {("high", "sounds", "active")}
    longest_us = int(board.lines("watchdog")[-1][2])
    assert 85_000 <= longest_us < 100_000
    board.power_off()
    board.power_on()
    assert versions(board)[-1] == "1.1.0 confirmed"
    assert dfu.update(str(board.port), new, patience=BRIEF) == Outcome(Result.ALREADY)


@integration
@pytest.mark.usefixtures("smpclient")
@pytest.mark.parametrize(
    ("behave", "why"),
    [
        ("mute", "it said no hello"),
        ("deaf", "it said no hello"),
        ("stranger", "microcontroller speaks version 1 layout"),
        ("broken", "mcu-sensor-fault"),
    ],
)
def test_firmware_that_does_not_prove_itself_is_not_kept(
    board: Any, make_image: Callable[..., bytes], behave: str, why: str
) -> None:
    """Even one that does not answer at all: its watchdog ends the trial."""
    board.make(make_image((1, 0, 0)))
    board.power_on(trial_ms=1500)
    new = read_image(make_image((1, 1, 0), behave))
    hurried = replace(BRIEF, answer_s=0.2, boot_s=0.7)
    outcome = dfu.update(str(board.port), new, patience=hurried)
    assert outcome.result is Result.REVERTED
    assert why in outcome.detail
    assert versions(board) == ["1.0.0 confirmed", "1.1.0 trial", "1.0.0 confirmed"]


@integration
@pytest.mark.usefixtures("smpclient")
def test_a_noisy_line_slows_an_update_and_does_not_spoil_it(
    board: Any, make_image: Callable[..., bytes]
) -> None:
    """A bit in every 3,000 bytes: three or four damaged messages, none of which is believed."""
    board.make(make_image((1, 0, 0)))
    board.power_on(noise=3000)
    new = read_image(make_image((1, 1, 0)))
    patience = replace(BRIEF, answer_s=0.15)
    assert dfu.update(str(board.port), new, patience=patience) == Outcome(Result.UPDATED)
    assert versions(board) == ["1.0.0 confirmed", "1.1.0 trial"]


@integration
@pytest.mark.usefixtures("smpclient")
def test_firmware_of_another_layout_can_be_replaced(
    board: Any, make_image: Callable[..., bytes]
) -> None:
    board.make(make_image((0, 9, 0), "stranger"))
    board.power_on()
    outcome = dfu.update(str(board.port), read_image(make_image((1, 0, 0))), patience=BRIEF)
    assert outcome == Outcome(Result.UPDATED)


@integration
@pytest.mark.usefixtures("smpclient")
def test_a_reverted_image_can_be_sent_again(board: Any, make_image: Callable[..., bytes]) -> None:
    """The power fails during the trial, through no fault of the image."""
    board.make(make_image((1, 0, 0)))
    board.power_on()
    new = read_image(make_image((1, 1, 0)))
    cut = threading.Event()

    def on_progress(step: Step, done: int, total: int) -> None:
        if step is Step.RESET and not cut.is_set():
            cut.set()
            threading.Timer(0.35, lambda: (board.power_off(), board.power_on())).start()

    slow = replace(BRIEF, healthy_s=1.0)
    first = dfu.update(str(board.port), new, patience=slow, on_progress=on_progress)
    assert first.result is Result.REVERTED
    assert dfu.update(str(board.port), new, patience=BRIEF) == Outcome(Result.UPDATED)
    expected = ["1.0.0 confirmed", "1.1.0 trial", "1.0.0 confirmed", "1.1.0 trial"]
    assert versions(board) == expected


@integration
@pytest.mark.usefixtures("smpclient")
def test_the_trial_of_an_update_that_was_killed_goes_on(
    board: Any, make_image: Callable[..., bytes]
) -> None:
    """Our process ends after the reset: another one finds the trial running, and proves it."""
    board.make(make_image((1, 0, 0)))
    board.power_on()
    new = read_image(make_image((1, 1, 0)))

    class Killed(BaseException):
        pass

    def on_progress(step: Step, done: int, total: int) -> None:
        if step is Step.PROVE:
            raise Killed

    with pytest.raises(Killed):
        dfu.update(str(board.port), new, patience=BRIEF, on_progress=on_progress)
    assert dfu.update(str(board.port), new, patience=BRIEF) == Outcome(Result.UPDATED)
    assert versions(board) == ["1.0.0 confirmed", "1.1.0 trial"]


@integration
@pytest.mark.usefixtures("smpclient")
def test_an_image_too_large_is_refused_at_once(
    board: Any, make_image: Callable[..., bytes]
) -> None:
    board.make(make_image((1, 0, 0)))
    board.power_on()
    new = read_image(make_image((1, 1, 0), size=30_000))
    with pytest.raises(UpdateError, match="refuses the image"):
        dfu.update(str(board.port), new, patience=BRIEF)
    assert versions(board) == ["1.0.0 confirmed"]


@integration
@pytest.mark.usefixtures("smpclient")
def test_a_port_without_a_device_is_given_up(
    tmp_path: Any, make_image: Callable[..., bytes]
) -> None:
    started_s = time.monotonic()
    hurried = dfu.Patience(answer_s=0.1, retry_s=0.01, retries=3)
    with pytest.raises(UpdateError, match=r"no answer.*check cable"):
        dfu.update(str(tmp_path / "no"), read_image(make_image((1, 1, 0))), patience=hurried)
    assert time.monotonic() - started_s < 5
