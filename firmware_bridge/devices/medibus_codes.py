"""What MEDIBUS codes mean here: tables from Draeger's codes to MDC terms.

Codes, units and alarms are those on which two public tables agree (`mdpnp`: measured-data-cp1.map,
measured-data-cp2.map, alarm-message-cp1.map, alarm-message-cp2.map, text-message.map,
realtime-data.map; `VSCaptureDrgVent`: DataConstants), for MEDIBUS.X the second. Codes that are in
those tables and not here are known and not claimed; others are unknown, and counted. An alarm on
which they do not agree (40H, 63H, 79H, A3H, BFH, C5H) keeps the device's words and says no kind.
"""

from __future__ import annotations

from dataclasses import dataclass

from firmware_bridge.types import AlertKind, Priority

CM_H2O_PER_MBAR = 1.0197162
MM_HG_PER_MBAR = 0.7500617
MM_HG_PER_KPA = 7.500617


@dataclass(frozen=True, slots=True)
class Term:
    """A measurement: the MDC id, and its unit there per unit of the device."""

    channel: str
    factor: float = 1.0


MEASURED_CP1 = {
    0x07: Term("MDC_COMPL_LUNG", 1 / CM_H2O_PER_MBAR),  # L/bar
    0x6B: Term("MDC_PRESS_AIR_AMBIENT", MM_HG_PER_MBAR),
    0x73: Term("MDC_PRESS_AWAY_INSP_MEAN", CM_H2O_PER_MBAR),
    0x74: Term("MDC_PRESS_RESP_PLAT", CM_H2O_PER_MBAR),
    0x78: Term("MDC_PRESS_AWAY_END_EXP_POS", CM_H2O_PER_MBAR),
    0x7D: Term("MDC_PRESS_AWAY_INSP_PEAK", CM_H2O_PER_MBAR),
    0x88: Term("MDC_VOL_AWAY_TIDAL"),  # mL
    0xB9: Term("MDC_VOL_MINUTE_AWAY"),  # L/min
    0xD6: Term("MDC_RESP_RATE"),
    0xDA: Term("MDC_CONC_AWAY_CO2_INSP"),
    0xDB: Term("MDC_CONC_AWAY_CO2_ET"),
    0xE1: Term("MDC_PULS_OXIM_PULS_RATE"),
    0xE3: Term("MDC_AWAY_CO2_ET", MM_HG_PER_KPA),
    0xE6: Term("MDC_AWAY_CO2_ET"),
    0xEB: Term("MDC_PULS_OXIM_SAT_O2"),
    0xEF: Term("MDC_CONC_AWAY_O2_ET"),
    0xF0: Term("MDC_CONC_AWAY_O2_INSP"),
}
MEASURED_CP2 = {0x21: Term("MDC_VOL_AWAY_TIDAL_EXP")}  # mL
MEASURED_X = {  # in MEDIBUS.X besides those of CP1
    0x8C: Term("MDC_PRESS_BLD_NONINV_DIA"),
    0x91: Term("MDC_PRESS_BLD_NONINV_MEAN"),
    0x96: Term("MDC_PRESS_BLD_NONINV_SYS"),
    0xA5: Term("MDC_PRESS_BLD_VEN_CENT_MEAN"),
    0xC8: Term("MDC_PRESS_BLD_ART_DIA"),
    0xCD: Term("MDC_PRESS_BLD_ART_MEAN"),
    0xD2: Term("MDC_PRESS_BLD_ART_SYS"),
    0xDC: Term("MDC_ECG_HEART_RATE"),
}
KNOWN_CP1 = frozenset(
    bytes.fromhex(
        "05 06 08 09 0B 2A 50 51 52 53 54 55 56 57 58 59 5A 5B 5C 5D 64 71 72 79 7A 7B 7E 7F 81 82"
        "83 84 85 89 8A 8B AC AD AE AF B0 B1 B2 B3 B4 B5 B6 B7 B8 BD C1 C4 C9 D5 D7 D9 DD DE DF E2"
        "E5 E7 E8 E9 EA ED EE F4 F5 F6 F7 F8 F9 FB FC FF"
    )
)
KNOWN_X = KNOWN_CP1 | frozenset(
    bytes.fromhex(
        "00 01 03 04 0A 0D 0E 0F 10 11 12 16 19 1A 1B 1C 1D 1E 1F 21 22 23 24 25 26 27 28 2B 2C"
        "2D 2E 2F 30 31 32 33 34 35 36 37 38 39 3C 5E 5F 60 61 62 63 65 66 68 69 6A 6C 6D 6E 6F"
        "76 7C 86 8D 92 9B 9C 9D 9E 9F A0 A1 A2 A3 A6 A7 AB BE C0 C2 C3 C5 C6 C7 D0 E4 EC F1 F2"
        "F3 FA"
    )
)
KNOWN_CP2 = frozenset(bytes.fromhex("00 06 07 22 23 7B 7D"))
KNOWN_CP2_X = KNOWN_CP2 | frozenset(
    bytes.fromhex("03 04 05 09 0A 0B 0C 0D 0E 0F 10 11 12 13 14 15 16 17 18 19 1A 1B 1C 1D 1E 1F")
    + bytes.fromhex("24 25 28 29 2A 2B 2C 2D 2E 2F 30 31 32 33 34 35 36 37 38 39 3A 3B 3C 3D 3E")
    + bytes(range(0x3F, 0x54))
)

HIGH, LOW = "MDC_EVT_HI", "MDC_EVT_LO"
LIMITS_CP1 = {  # alarms of a value outside its limits
    0x02: (LOW, "MDC_PULS_OXIM_PULS_RATE"),
    0x07: (LOW, "MDC_PULS_OXIM_SAT_O2"),
    0x08: (LOW, "MDC_CONC_AWAY_O2_INSP"),
    0x10: (HIGH, "MDC_PRESS_AWAY_INSP_PEAK"),
    0x19: (LOW, "MDC_VOL_MINUTE_AWAY"),
    0x1E: (HIGH, "MDC_PULS_OXIM_PULS_RATE"),
    0x22: (HIGH, "MDC_PULS_OXIM_SAT_O2"),
    0x27: (LOW, "MDC_AWAY_CO2_ET"),
    0x28: (HIGH, "MDC_AWAY_CO2_ET"),
    0x37: (HIGH, "MDC_CONC_AWAY_O2_INSP"),
    0x3C: (HIGH, "MDC_CONC_AWAY_CO2_INSP"),
    0x90: (HIGH, "MDC_RESP_RATE"),
    0x9B: (HIGH, "MDC_VOL_MINUTE_AWAY"),
    0xC0: (LOW, "MDC_CONC_AWAY_O2_INSP"),
    0xDA: (HIGH, "MDC_PRESS_AWAY_END_EXP_POS"),
    0xE8: (HIGH, "MDC_VOL_AWAY_TIDAL"),
}
BREATHING_CP1 = frozenset(bytes.fromhex("00 0D 0E 0F 98"))  # apnoea, however it was found
NO_PULSE_CP1 = frozenset([0x01])
TECHNICAL_CP1 = {  # the device, its supplies and sensors; the measurement that suffers, if one
    0x35: "MDC_PULS_OXIM_SAT_O2", 0x5B: "MDC_PULS_OXIM_SAT_O2", 0x68: "MDC_PULS_OXIM_SAT_O2",
    0xA1: "MDC_CONC_AWAY_O2_INSP", 0xBE: "MDC_CONC_AWAY_O2_INSP", 0xF7: "MDC_CONC_AWAY_CO2_INSP",
    **dict.fromkeys(bytes.fromhex("3D 57 64 6A D9"), "MDC_AWAY_CO2_ET"),
    **dict.fromkeys(
        bytes.fromhex(
            "11 12 13 42 4B 5E 65 67 69 6E 78 7C 9A 9F A0 A4 AC AD B0 B7 B8 B9 BC BD C1 C2 C7 C8 C9"
            "CA ED EF F1 F4"
        ),
        "",
    ),
}  # fmt: skip
PHYSIOLOGICAL_CP2 = frozenset(bytes.fromhex("3A 93 A2 A3 A4 A5 A6"))
TECHNICAL_CP2 = frozenset(
    bytes.fromhex(
        "31 32 33 34 35 36 37 38 39 6A 8D 91 9C A0 A1 A7 A8 A9 AC AF B0 B1 B2 B3 B4 B5 C7 C8 C9 CA"
        "CB"
    )
)

NOT_VENTILATING = {0x1E: "standby", 0x53: "leakage test", 0x54: "standby"}
"""Texts under which what is measured is not the patient's."""

WAVES = {
    0x00: ("paw", Term("MDC_PRESS_AWAY", CM_H2O_PER_MBAR), "cm[H2O]"),
    0x01: ("flow", Term("MDC_FLOW_AWAY"), "L/min"),
    0x03: ("volume", Term("MDC_VOL_AWAY"), "mL"),
    0x06: ("co2", Term("MDC_AWAY_CO2"), "mm[Hg]"),
}
"""Realtime codes: feed, term, unit."""


def alert_of(page: str, code: int) -> tuple[str, AlertKind, str]:
    """Event code, kind and channel of an alarm of code page "cp1", "cp2" or "cp3"."""
    own = f"medibus:{page}-{code:02X}"
    if page == "cp1":
        if code in LIMITS_CP1:
            event, channel = LIMITS_CP1[code]
            return event, AlertKind.PHYSIOLOGICAL, channel
        if code in BREATHING_CP1:
            return own, AlertKind.PHYSIOLOGICAL, "MDC_RESP_RATE"
        if code in NO_PULSE_CP1:
            return own, AlertKind.PHYSIOLOGICAL, "MDC_PULS_OXIM_PULS_RATE"
        if code in TECHNICAL_CP1:
            return own, AlertKind.TECHNICAL, TECHNICAL_CP1[code]
    elif page == "cp2" and code in PHYSIOLOGICAL_CP2:
        return own, AlertKind.PHYSIOLOGICAL, ""
    elif page == "cp2" and code in TECHNICAL_CP2:
        return own, AlertKind.TECHNICAL, ""
    return own, AlertKind.OTHER, ""


def priority_of(priority: int) -> Priority:
    """Draeger's 31 steps: advisories without tone (to 6) and with (to 10), cautions (to 24),
    warnings."""
    if priority <= 6:
        return Priority.NONE
    if priority <= 10:
        return Priority.LOW
    return Priority.MEDIUM if priority <= 24 else Priority.HIGH
