"""An emulated OpenBCI Cyton: answers its commands and plays its patient, with scripted faults.

Constants and packet layout are those of `devices.cyton`. The electrodes are on channel 1 unless
told otherwise; channels without any are zero.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from firmware_bridge.devices import cyton
from firmware_bridge.emulators.electrodes import WORN
from firmware_bridge.emulators.emulated import Emulator
from firmware_bridge.emulators.faults import Kind
from firmware_bridge.errors import FaultScriptError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from firmware_bridge.emulators.patient import Scene

NOISE_UV = 20.0
ELECTRODES = ("MDC_ECG_ELEC_POTL_II",)

# Texts of board firmware 3.1, as third-party drivers expect them.
_REPLIES = {
    cyton.SOFT_RESET: b"OpenBCI V3 8-16 channel\r\nOn Board ADS1299 Device ID: 0x3E\r\n"
    b"LIS3DH Device ID: 0x33\r\nFirmware: v3.1.2\r\n$$$",
    cyton.DEFAULTS: b"updating channel settings to default$$$",
    cyton.REGISTERS: b"Board ADS Registers\r\nADS_ID, 00, 3E\r\nCONFIG1, 01, 96\r\n$$$",
}


class Board:
    """A Cyton without a cable. Same scene and seed: same bytes, however they are asked for.

    Its signal begins with the first `b` and never waits: what passes while nobody streams is gone.
    `electrodes` are the patient's waves on channels 1, 2, ... Raises `FaultScriptError` for a fault
    of a channel that there is not.
    """

    def __init__(self, scene: Scene, electrodes: Sequence[str] = ELECTRODES, seed: int = 0) -> None:
        for fault in scene.faults:
            if fault.kind in WORN and fault.channel > cyton.CHANNELS:
                cause = f"a Cyton has no channel {fault.channel}"
                raise FaultScriptError(cause, f"use 1 to {cyton.CHANNELS}")
        self._scene = scene
        self._electrodes = electrodes
        self._noise_uv = np.random.default_rng(seed).normal(0.0, NOISE_UV, 4096)
        self._began_s: float | None = None
        self._sample = 0
        self._counter = 0
        self.streaming = False

    def hear(self, data: bytes, t_s: float) -> list[bytes]:
        """Act on command bytes and give the answers; unknown ones are ignored."""
        out = []
        for command in (bytes([b]) for b in data):
            if command in _REPLIES and (not self.streaming or command == cyton.SOFT_RESET):
                out.append(_REPLIES[command])
            if command in (cyton.SOFT_RESET, cyton.STOP):
                self.streaming = False
            elif command == cyton.START and not self.streaming:
                self.streaming, self._counter = True, 0
                self._began_s = t_s if self._began_s is None else self._began_s
                self._sample = int((t_s - self._began_s) * cyton.RATE_HZ)
        return out

    def next_s(self) -> float | None:
        """A sample is sent when its period is over."""
        return self._due_s(self._sample) if self.streaming else None

    def say(self, t_s: float) -> list[bytes]:
        first = end = self._sample
        while self.streaming and self._due_s(end) <= t_s:
            end += 1
        return self._packets(first, end) if end > first else []

    def _due_s(self, sample: int) -> float:
        assert self._began_s is not None
        return self._began_s + (sample + 1) / cyton.RATE_HZ

    def _packets(self, first: int, end: int) -> list[bytes]:
        at = np.arange(first, end)
        counts = cyton.uv_to_counts(self._uv(at))
        data = cyton.encode(counts, self._counter + np.arange(end - first), _accel(at))
        self._sample, self._counter = end, self._counter + end - first
        return [data[i : i + cyton.PACKET_BYTES] for i in range(0, len(data), cyton.PACKET_BYTES)]

    def _uv(self, at: NDArray[np.int64]) -> NDArray[np.float64]:
        uv = np.zeros((len(at), cyton.CHANNELS))
        for column, channel in enumerate(self._electrodes):
            uv[:, column] = self._wave_uv(channel, int(at[0]), len(at))
        for fault in self._scene.faults:
            if fault.kind not in WORN:
                continue
            first, end = fault.span(cyton.RATE_HZ)
            hit, column = (at >= first) & (at < end), fault.channel - 1
            if fault.kind is Kind.ASYSTOLE:
                uv[hit, column] = self._noise_uv[at[hit] % len(self._noise_uv)]
            elif fault.kind is Kind.FLAT and column < len(self._electrodes):
                channel = self._electrodes[column]
                uv[hit, column] = self._wave_uv(channel, max(0, first - 1), 1)
            elif fault.kind is Kind.SATURATE:
                limit_uv = fault.clip_mv * 1000.0
                uv[hit, column] = np.clip(uv[hit, column], -limit_uv, limit_uv)
            elif fault.kind is Kind.LEAD_OFF:
                uv[hit, column] = cyton.RAIL_HIGH_UV
        return uv

    def _wave_uv(self, channel: str, first: int, n: int) -> NDArray[np.float64]:
        return self._scene.patient.wave(channel, first, n, cyton.RATE_HZ) * 1000.0


def _accel(at: NDArray[np.int64]) -> NDArray[np.int16]:
    """A board lying nearly still: 1 g on the third axis, at 25 Hz with zeros in between.

    It is tilted a little, because host programs take a zero on the first axis for no update.
    """
    counts = np.zeros((len(at), 3), np.int16)
    counts[at % 10 == 0] = np.rint(np.array([0.125, 0.0, 1.0]) / cyton.G_PER_LSB)
    return counts


EMULATOR = Emulator(cyton.DEVICE, Board, WORN)
