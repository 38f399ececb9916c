"""An emulated gateway that connects and reports by ORU^R01 once a second, after IHE PCD-01.

Sends the next report whatever the answer, as a monitor would; what was answered is kept for tests.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from firmware_bridge.devices.hl7_oru import DEVICE, NUMERICS
from firmware_bridge.emulators.emulated import Emulator
from firmware_bridge.emulators.faults import Kind
from firmware_bridge.mllp import Unframer, framed
from firmware_bridge.nomenclature import TERMS

if TYPE_CHECKING:
    from firmware_bridge.emulators.patient import Scene

SWITCHED_ON_S = 1_790_000_000  # in unix time: September 2026
PERIOD_S = 1.0
OXIMETRY = ("MDC_PULS_OXIM_SAT_O2", "MDC_PULS_OXIM_PULS_RATE")
_UNIT = {
    "/min": "264864^MDC_DIM_BEAT_PER_MIN^MDC",
    "%": "262688^MDC_DIM_PERCENT^MDC",
    "mm[Hg]": "266016^MDC_DIM_MMHG^MDC",
    "Cel": "268192^MDC_DIM_DEGC^MDC",
}


def stamp(t_s: float) -> str:
    """An HL7 time in UTC with its zone, of seconds since the gateway was on."""
    whole = int(t_s)
    at = time.strftime("%Y%m%d%H%M%S", time.gmtime(SWITCHED_ON_S + whole))
    return f"{at}.{int((t_s - whole) * 1000):03d}+0000"


def report(scene: Scene, t_s: float, number: int) -> bytes:
    """One ORU^R01, not framed."""
    now = stamp(scene.device_s(t_s))
    rows = [
        f"MSH|^~\\&|GATEWAY^0011223344556677^EUI-64|WARD|MEDGE|BED|{now}||ORU^R01^ORU_R01|G{number}"
        "|P|2.6|||NE|AL||UNICODE UTF-8|||IHE_PCD_001^IHE PCD^1.3.6.1.4.1.19376.1.6.1.1.1^ISO",
        "PID|||NOBODY||Nobody^Nobody",
        f"OBR|1|{number}^GATEWAY|{number}^GATEWAY|182777000^monitoring of patient^SCT|||{now}",
    ]
    for i, channel in enumerate(NUMERICS, 1):
        term, off = TERMS[channel], channel in OXIMETRY and scene.during(Kind.LEAD_OFF, t_s)
        value = "" if off else f"{scene.patient.value(channel, t_s):.1f}"
        rows.append(
            f"OBX|{i}|NM|{term.code}^{channel}^MDC|1.1.1.{i}|{value}|{_UNIT[term.unit]}"
            f"|||||{'X' if off else 'R'}|||{now}"
        )
    return "\r".join(rows).encode() + b"\r"


class Gateway:
    """`answers` are the acknowledgements that came back."""

    def __init__(self, scene: Scene) -> None:
        self._scene = scene
        self._number = 0
        self._unframer = Unframer()
        self.answers: list[bytes] = []

    def hear(self, data: bytes, t_s: float) -> list[bytes]:
        self.answers += self._unframer.feed(data)
        return []

    def say(self, t_s: float) -> list[bytes]:
        out = []
        while t_s >= self.next_s():
            self._number += 1
            out.append(framed(report(self._scene, self._number * PERIOD_S, self._number)))
        return out

    def next_s(self) -> float:
        return (self._number + 1) * PERIOD_S


EMULATOR = Emulator(DEVICE, Gateway, frozenset({Kind.LEAD_OFF, Kind.CLOCK_JUMP}))
