"""PhysioNet/CinC Challenge 2012, set A: ICU stays as hourly rows of what the bedside knew.

Owns reading the archive and the columns' codes, units and possible ranges. Of several measurements
in an hour the mean counts, of urine the sum. Source: Silva et al. 2012, Computing in Cardiology.
"""

from __future__ import annotations

import tarfile
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from edge.bundle.manifest import Quantity
from edge.signals.rows import FeatureRows

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

HOURS = 48
SUMMED = "Urine"
PARTS = {"train": 0.7, "held back": 0.1, "judged": 0.2}
SPLIT_SEED = 11
ELDERLY_YEARS = 65
UNITS = ("CoronaryCareUnit", "CardiacSurgeryUnit", "MedicalUnit", "SurgicalUnit")
"""Of `ICUType` 1 to 4."""

_COLUMNS = """
HR MDC_ECG_HEART_RATE /min 10 300
SysABP MDC_PRESS_BLD_ART_ABP_SYS mm[Hg] 20 300
DiasABP MDC_PRESS_BLD_ART_ABP_DIA mm[Hg] 10 250
MAP MDC_PRESS_BLD_ART_ABP_MEAN mm[Hg] 10 280
NISysABP MDC_PRESS_BLD_NONINV_SYS mm[Hg] 20 300
NIDiasABP MDC_PRESS_BLD_NONINV_DIA mm[Hg] 10 250
NIMAP MDC_PRESS_BLD_NONINV_MEAN mm[Hg] 10 280
RespRate MDC_RESP_RATE /min 1 100
Temp MDC_TEMP_BODY Cel 25 45
SaO2 LOINC:2708-6 % 20 100
FiO2 LOINC:3150-6 1 0.2 1
GCS LOINC:9269-2 {score} 3 15
Urine LOINC:9187-6 mL/h 0 12000
pH LOINC:2744-1 [pH] 6.5 8
PaCO2 LOINC:2019-8 mm[Hg] 5 150
PaO2 LOINC:2703-7 mm[Hg] 10 700
BUN LOINC:3094-0 mg/dL 0 300
Creatinine LOINC:2160-0 mg/dL 0.1 40
Na LOINC:2951-2 mmol/L 90 200
K LOINC:2823-3 mmol/L 1 15
Mg LOINC:2601-3 mmol/L 0.1 10
HCO3 LOINC:1963-8 mmol/L 2 60
Glucose LOINC:2345-7 mg/dL 5 1500
HCT LOINC:4544-3 % 5 75
WBC LOINC:6690-2 10*3/uL 0.05 500
Platelets LOINC:777-3 10*3/uL 1 2000
Lactate LOINC:2524-7 mmol/L 0.1 40
Albumin LOINC:1751-7 g/dL 0.5 8
ALP LOINC:6768-6 U/L 1 5000
ALT LOINC:1742-6 U/L 1 20000
AST LOINC:1920-8 U/L 1 30000
Bilirubin LOINC:1975-2 mg/dL 0.05 80
Cholesterol LOINC:2093-3 mg/dL 20 600
TroponinI LOINC:10839-9 ug/L 0 200
TroponinT LOINC:6598-7 ug/L 0 100
MechVent LOINC:20124-4 1 0 1
Weight LOINC:29463-7 kg 20 350
Age LOINC:30525-0 a 0 130
Gender LOINC:46098-0 1 0 1
Height LOINC:8302-2 cm 100 250
CoronaryCareUnit - 1 0 1
CardiacSurgeryUnit - 1 0 1
MedicalUnit - 1 0 1
SurgicalUnit - 1 0 1
"""


def _column(line: str) -> Quantity:
    name, code, unit, low, high = line.split()
    return Quantity(
        name=name,
        code="" if code == "-" else code.replace(":", " "),
        unit=unit,
        low=float(low),
        high=float(high),
    )


COLUMNS = tuple(map(_column, _COLUMNS.strip().split("\n")))
NAMES = tuple(column.name for column in COLUMNS)
SKEWED = tuple(
    NAMES.index(name)
    for name in ("Urine", "ALP", "ALT", "AST", "Bilirubin", "BUN", "Creatinine", "Glucose",
                 "Lactate", "Platelets", "TroponinI", "TroponinT", "WBC", "PaO2", "PaCO2")
)  # fmt: skip
"""Columns that range over decades."""


@dataclass(frozen=True, slots=True)
class Stays:
    """n stays: `values` `[n, 48, columns]` measured in each hour (NaN: not measured), `planes`
    `[n, 48, 3, columns]` as a model takes them, `died` in hospital `[n]`, `record` its number."""

    values: NDArray[np.float32]
    planes: NDArray[np.float32]
    died: NDArray[np.int64]
    record: NDArray[np.str_]


@lru_cache(1)
def read_stays(data: Path) -> Stays:
    """Every stay of set A in order of its number."""
    folder = data / "physionet2012_icu"
    lines = (folder / "Outcomes-a.txt").read_text(encoding="ascii").split()[1:]
    died = {row[0]: int(row[5]) for row in (line.split(",") for line in lines)}
    with tarfile.open(folder / "set-a.tar.gz") as archive:
        texts = {
            member.name.rsplit("/", 1)[-1].removesuffix(".txt"): file.read().decode("ascii")
            for member in archive
            if member.isfile() and (file := archive.extractfile(member))
        }
    record = sorted(set(texts) & set(died))
    hourly = [_hourly(texts[name]) for name in record]
    return Stays(
        np.stack([_values(rows) for rows in hourly]),
        np.stack([_planes(rows) for rows in hourly]),
        np.array([died[name] for name in record]),
        np.array(record),
    )


def part(count: int, name: str) -> NDArray[np.bool_]:
    """Which of `count` stays belong to the part of `PARTS`, drawn with a fixed seed."""
    ends = np.cumsum(list(PARTS.values()))
    drawn = np.searchsorted(ends, np.random.default_rng(SPLIT_SEED).random(count), side="right")
    return np.asarray(np.minimum(drawn, len(PARTS) - 1) == list(PARTS).index(name))


def subgroups(stays: Stays) -> dict[str, NDArray[np.str_]]:
    """By sex and by age, as far as known at admission."""
    male, age = (stays.values[:, 0, NAMES.index(name)] for name in ("Gender", "Age"))
    sex = np.where(np.isnan(male), "unknown", np.where(male > 0, "male", "female"))
    old = np.where(age >= ELDERLY_YEARS, "65 and over", "under 65")
    return {"sex": sex, "age": old}


def _hourly(text: str) -> list[dict[str, float]]:
    """One stay's measurements hour by hour; below zero is the archive's "unknown"."""
    found: list[dict[str, list[float]]] = [{} for _ in range(HOURS)]
    for line in text.split("\n")[1:]:
        time, _, rest = line.partition(",")
        name, _, value = rest.partition(",")
        hour = min(int(time[:2]), HOURS - 1) if value else 0
        if name == "ICUType":
            found[hour] |= {unit: [float(i == int(value) - 1)] for i, unit in enumerate(UNITS)}
        elif name in NAMES and float(value) >= 0:
            found[hour].setdefault(name, []).append(float(value))
    return [
        {name: sum(x) / (1 if name == SUMMED else len(x)) for name, x in row.items()}
        for row in found
    ]


def _values(rows: list[dict[str, float]]) -> NDArray[np.float32]:
    values = np.full((HOURS, len(COLUMNS)), np.nan, np.float32)
    for hour, row in enumerate(rows):
        for name, value in row.items():
            i = NAMES.index(name)
            if COLUMNS[i].low <= value <= COLUMNS[i].high:
                values[hour, i] = value
    return values


def _planes(rows: list[dict[str, float]]) -> NDArray[np.float32]:
    taken = FeatureRows(COLUMNS)
    planes = np.empty((HOURS, 3, len(COLUMNS)), np.float32)
    for hour, row in enumerate(rows):
        taken.step(row)
        planes[hour] = taken.planes
    return planes
