"""`medge listen`: what a device says as a person reads it."""

from __future__ import annotations

import json
import os
import pty
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from edge.listen import summary
from firmware_bridge.devices import device
from firmware_bridge.emulators.capture import captured
from firmware_bridge.emulators.emulated import emulator
from firmware_bridge.emulators.patient import Scene
from firmware_bridge.types import (
    Alert,
    AlertKind,
    LinkLost,
    LinkUp,
    Loss,
    Numeric,
    Priority,
    SampleBlock,
    Validity,
)

if TYPE_CHECKING:
    from pathlib import Path

ECG = "MDC_ECG_ELEC_POTL"


def test_a_second_is_summed_up_without_hiding_anything() -> None:
    def block(values: list[float], channels: tuple[str, ...] = ()) -> SampleBlock:
        samples = np.array(values, np.float32)[:, None]
        return SampleBlock(0, 0, 300.0, "mV", samples, "ecg1", channels)

    said = summary(
        device("ge-s5"),
        [
            LinkUp(0),
            Numeric("MDC_PULS_RATE", 70.0, "/min", Validity.VALID),
            Numeric("MDC_PULS_RATE", 71.0, "/min", Validity.QUESTIONABLE),
            Numeric("MDC_TEMP", None, "Cel", Validity.UNAVAILABLE),
            block([0.5, -0.25]),
            block([1.5]),
            block([np.nan], (f"{ECG}_II",)),
            Alert("MDC_EVT_LEADS_OFF", AlertKind.TECHNICAL, Priority.LOW, True, "off", ECG),
            Alert("ge-s5:HR HIGH", AlertKind.OTHER, Priority.HIGH, False, "HR HIGH"),
            LinkLost(0, Loss.SILENT, "0 unrecognised bytes while streaming"),
        ],
    )
    assert said == {
        "values": {
            "MDC_PULS_RATE": "71 /min (questionable)",
            "MDC_TEMP": "- Cel (unavailable)",
        },
        "waves": {
            f"ecg1 {ECG}": "3 samples, -0.25 to 1.5 mV",
            f"ecg1 {ECG}_II": "1 samples, none usable",
        },
        "told": [
            "link up",
            f"technical alert began: MDC_EVT_LEADS_OFF of {ECG}: off",
            "other alert ended: ge-s5:HR HIGH: HR HIGH",
            "link lost: silent: 0 unrecognised bytes while streaming",
        ],
    }


@pytest.mark.integration
def test_a_capture_is_heard_to_its_end(medge: Any, tmp_path: Path) -> None:
    data = b"".join(frame.data for frame in captured(emulator("nonin-7"), Scene(), 6.0)[0])
    (tmp_path / "night.bin").write_bytes(data)
    address = f"file://{tmp_path}/night.bin?device=nonin-7"
    done = medge("listen", address, "--seconds", "2", "--json")
    assert done.returncode == 0, done.stderr
    seconds = [json.loads(line) for line in done.stdout.splitlines()]
    assert [s["values"]["MDC_PULS_OXIM_PULS_RATE"] for s in seconds] == ["72 /min"] * 2
    assert seconds[0]["told"] == ["link up"] and seconds[1]["told"] == []
    done = medge("listen", f"{address}&pace=fast", "--seconds", "1", "--json")
    second = json.loads(done.stdout)
    assert second["waves"]["pleth MDC_PULS_OXIM_PLETH"].startswith("451 samples, ")
    assert second["told"][1].startswith("link lost: unplugged: capture ")
    assert second["values"]["MDC_PULS_OXIM_PULS_RATE"] == "- /min (unavailable)"  # it is over


@pytest.mark.integration
def test_silence_is_said_and_is_no_success(medge: Any) -> None:
    ours, theirs = pty.openpty()
    try:
        done = medge("listen", os.ttyname(theirs), "--device", "nonin-2", "--seconds", "3")
    finally:
        os.close(ours)
        os.close(theirs)
    assert done.returncode == 1
    assert "nothing" in done.stdout and "link lost: silent" in done.stdout


@pytest.mark.integration
def test_what_cannot_be_is_refused(medge: Any, tmp_path: Path) -> None:
    assert medge("listen", str(tmp_path / "none"), "--device", "nonin-2").returncode == 3
    done = medge("listen", "/dev/null", "--device", "nonin")
    assert done.returncode == 2 and "use one of: nonin-" in done.stderr
