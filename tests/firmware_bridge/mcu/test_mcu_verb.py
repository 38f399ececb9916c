"""`medge mcu` as a user runs it, with the reference firmware's host build at the other end."""

from __future__ import annotations

import json
import os
import pty
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.integration


def test_who_is_there_and_how_it_is(
    medge: Any, board: Any, make_image: Callable[..., bytes]
) -> None:
    board.make(make_image((1, 2, 3)))
    board.power_on()
    done = medge("mcu", board.port)
    assert done.returncode == 0, done.stderr
    assert ", firmware 1.2.3+0, last reset " in done.stdout
    assert "alarm HIGH (sounds), line ACTIVE" in done.stdout
    assert "mcu-untrusted: state " in done.stdout  # no host beats
    found = json.loads(medge("mcu", board.port, "--json").stdout)
    assert found["identity"]["firmware"] == "1.2.3+0"
    assert found["heartbeat"]["line"] == "ACTIVE"
    assert list(found["conditions"]) == ["mcu-untrusted"]
    # Looking has changed nothing: the alarm was on all the while.
    assert {tuple(row[2:]) for row in board.lines("alarm")} == {("high", "sounds", "active")}


def test_a_port_where_nobody_speaks_the_wire(medge: Any, tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    try:
        done = medge("mcu", os.ttyname(theirs))
    finally:
        os.close(ours)
        os.close(theirs)
    assert done.returncode == 1
    assert "no microcontroller that speaks this medge_link.h" in done.stdout
    assert "mcu-silent" in done.stdout
    done = medge("mcu", tmp_path / "none")
    assert (done.returncode, done.stdout) == (3, "")
    assert "plug the device in" in done.stderr


@pytest.mark.slow
def test_an_update_by_hand(
    medge: Any, board: Any, make_image: Callable[..., bytes], tmp_path: Path
) -> None:
    pytest.importorskip("smpclient")
    board.make(make_image((1, 0, 0)))
    board.power_on(trial_ms=60_000)
    new = tmp_path / "new.bin"
    new.write_bytes(make_image((1, 1, 0)))
    done = medge("mcu", board.port, "--firmware", new)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{board.port}: firmware 1.1.0+0 runs, is well and is kept\n"
    assert "upload 100 %" in done.stderr and "prove, then confirm" in done.stderr
    again = json.loads(medge("mcu", board.port, "--firmware", new, "--json").stdout)
    assert (again["version"], again["outcome"]["result"]) == ("1.1.0+0", "already")


def test_a_file_that_is_no_image_is_refused_before_the_port_is_touched(
    medge: Any, tmp_path: Path
) -> None:
    done = medge("mcu", "nowhere", "--firmware", tmp_path / "none.bin")
    assert done.returncode == 2 and "name a signed .bin" in done.stderr
    (tmp_path / "short.bin").write_bytes(b"no image")
    done = medge("mcu", "nowhere", "--firmware", tmp_path / "short.bin")
    assert done.returncode == 2 and "too short for an MCUboot image" in done.stderr
