"""GE S/5 physiological data: the fields of a displayed-values subrecord, and what they may mean.

Implements "Datex-Ohmeda Record Specification" (8005313), chapter 3: subrecord (table 3-4), group
header (3-8), special values (3-9) and the four classes (3.5 to 3.8). Values are raw 16-bit counts
here; which of them become measurements is `ge_s5`'s.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

from firmware_bridge.devices.big_endian import Malformed
from firmware_bridge.types import Validity

if TYPE_CHECKING:
    from collections.abc import Mapping

SUBRECORD_BYTES = 278
CLASS_BYTES = 270
DISPLAYED = 1  # subrecord types 2 and 3 are trends, 4 is auxiliary information
BASIC, EXT1, EXT2, EXT3 = range(4)

EXISTS = 1 << 0
ACTIVE = 1 << 1

NOT_VALID_FROM = -32001  # and downwards
SPECIAL = {
    -32767: Validity.UNAVAILABLE,  # no valid data
    -32766: Validity.UNAVAILABLE,  # not updated
    -32765: Validity.INVALID,  # discontinuity, as while calibrating
    -32764: Validity.UNDER,
    -32763: Validity.OVER,
    -32762: Validity.INVALID,  # not calibrated
}

_PRESSURE = "sys dia mean hr"
_EEG = "ampl sef mf delta theta alpha beta bsr"
_PICCO = (
    "cci cco cfi ci co cpi cpo dpmax elwi evlw gedi gedv gef itbi itbv ppv pvpi sv svi svr svri "
    "svv tblood tinj"
)
# Name of the group, its fields, and reserved bytes after them.
LAYOUT = {
    BASIC: (
        ("ecg", "hr st1 st2 st3 imp_rr", 0),
        *((f"p{i}", _PRESSURE, 0) for i in (1, 2, 3, 4)),
        ("nibp", _PRESSURE, 0),
        *((f"t{i}", "temp", 0) for i in (1, 2, 3, 4)),
        ("spo2", "spo2 pr ir_amp svo2", 0),
        ("co2", "et fi rr amb_press", 0),
        ("o2", "et fi", 0),
        ("n2o", "et fi", 0),
        ("aa", "et fi mac_sum", 0),
        ("flow_vol", "rr ppeak peep pplat tv_insp tv_exp compliance mv_exp", 0),
        ("co_wedge", "co blood_temp ref pcwp", 0),
        ("nmt", "t1 tratio ptc", 0),
        ("ecg_extra", "hr_ecg hr_max hr_min", 0),
        ("svo2", "svo2", 0),
        ("p5", _PRESSURE, 0),
        ("p6", _PRESSURE, 2),
    ),
    EXT1: (
        ("arrh_ecg", "hr rr_time pvc", 36),
        ("ecg12", "i ii iii avl avr avf v1 v2 v3 v4 v5 v6", 0),
        ("p7", _PRESSURE, 0),
        ("p8", _PRESSURE, 0),
        ("spo2_ch2", "spo2 pr ir_amp svo2", 0),
        ("t5", "temp", 0),
        ("t6", "temp", 134),
    ),
    EXT2: (
        ("nmt2", "count t1 t2 t3 t4", 8),
        ("eeg", "femg " + " ".join(f"{f}_{i}" for i in (1, 2, 3, 4) for f in _EEG.split()), 0),
        ("bis", "bis sqi emg sr", 2),
        ("entropy", "eeg emg bsr", 16 + 58),
        ("eeg2", "", 26),
        ("spi", "spi", 8 + 24),
    ),
    EXT3: (
        ("gasex", "vo2 vco2 ee rq", 0),
        ("flow_vol2", "ipeep pmean raw mv_insp epeep mv_spont ie_ratio insp_time exp_time "
         "compliance pplat peepe peepi", 14),
        ("balance_gas", "et fi", 0),
        ("tono", "prco2 pr_et pr_pa pa_delay phi phi_delay amb_press cpma", 0),
        ("aa2", "mac_age_sum", 16),
        ("delta_p", "spv ppv", 0),
        ("cpp", "cpp", 0),
        ("cpp2", "cpp", 0),
        ("picco", _PICCO, 74),
    ),
}  # fmt: skip
HEADLESS = ("ecg_extra",)  # its status is that of "ecg"

ECG_LEADS = ("", "I", "II", "III", "AVR", "AVL", "AVF", "V")
PRESSURE_LABELS = (
    "", "ART", "CVP", "PA", "RAP", "RVP", "LAP", "ICP", "ABP", "P1", "P2", "P3", "P4", "P5", "P6",
    "SP", "FEM", "UAC", "UVC", "ICP2", "P7", "P8", "FEMV",
)  # fmt: skip
TEMPERATURE_LABELS = (
    "", "ESO", "NASO", "TYMP", "RECT", "BLAD", "AXIL", "SKIN", "AIRW", "ROOM", "MYO", "T1", "T2",
    "T3", "T4", "CORE", "SURF", "T5", "T6",
)  # fmt: skip
AGENTS = ("", "NONE", "HAL", "ENF", "ISO", "DES", "SEV")


@dataclass(frozen=True, slots=True)
class Group:
    """One measurement: status bits, label field and raw counts by field."""

    status: int
    label: int
    raw: Mapping[str, int]

    @property
    def active(self) -> bool:
        """Whether the module exists and measures."""
        return self.status & (EXISTS | ACTIVE) == EXISTS | ACTIVE

    def reading(self, field: str, per_unit: float = 1.0) -> tuple[float | None, Validity]:
        """A field in its unit, of which `per_unit` counts make one."""
        raw = self.raw[field]
        if not self.active:
            return None, Validity.UNAVAILABLE
        if raw <= NOT_VALID_FROM:
            return None, SPECIAL.get(raw, Validity.INVALID)
        return raw / per_unit, Validity.VALID


@dataclass(frozen=True, slots=True)
class Phdb:
    """One subrecord: its time (seconds since 1970), class, last mark and groups by name."""

    time_s: int
    data_class: int
    marker: int
    groups: Mapping[str, Group]


def parse(data: bytes) -> Phdb:
    """A subrecord of displayed or trended values. Raises `Malformed`."""
    if len(data) < SUBRECORD_BYTES:
        raise Malformed("phdb length")
    (time_s,) = struct.unpack_from("<I", data)
    marker, _, classes = struct.unpack_from("<BBH", data, 4 + CLASS_BYTES)
    data_class = classes >> 8 & 0xF
    if data_class not in LAYOUT:
        raise Malformed("phdb class")
    return Phdb(time_s, data_class, marker, _groups(data[4 : 4 + CLASS_BYTES], data_class))


def _groups(body: bytes, data_class: int) -> dict[str, Group]:
    groups: dict[str, Group] = {}
    at = 0
    for name, fields, reserved_bytes in LAYOUT[data_class]:
        names = fields.split()
        if name in HEADLESS:
            status, label = groups["ecg"].status, 0
        else:
            status, label = struct.unpack_from("<IH", body, at)
            at += 6
        raw = struct.unpack_from(f"<{len(names)}h", body, at)
        at += 2 * len(names) + reserved_bytes
        groups[name] = Group(status, label, dict(zip(names, raw)))
    return groups


def encode(phdb: Phdb) -> bytes:
    """The subrecord; groups and fields that are not given are absent and without data."""
    body = b""
    for name, fields, reserved_bytes in LAYOUT[phdb.data_class]:
        group = phdb.groups.get(name, Group(0, 0, {}))
        if name not in HEADLESS:
            body += struct.pack("<IH", group.status, group.label)
        body += b"".join(struct.pack("<h", group.raw.get(f, -32767)) for f in fields.split())
        body += bytes(reserved_bytes)
    head = struct.pack("<I", phdb.time_s)
    return head + body + struct.pack("<BBH", phdb.marker, 0, phdb.data_class << 8)


def ecg_lead(label: int, channel: int) -> str:
    """The lead of ECG channel 1, 2 or 3 in a label field, channel 1 in the highest of the three
    nibbles; "" where none is selected."""
    code = label >> 4 * (3 - channel) & 0xF
    return ECG_LEADS[code] if code < len(ECG_LEADS) else ""


def label_text(labels: tuple[str, ...], label: int) -> str:
    """The name of a label value, "" for one that is not known."""
    return labels[label] if label < len(labels) else ""
