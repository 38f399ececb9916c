"""The measurements medge knows, by their MDC reference id: unit, and what is possible at all.

Implements: ISO/IEEE 11073-10101 (reference ids, codes) with UCUM units. The ranges are not alarm
limits: outside them a reading is a fault of sensor or line, whoever the patient is. Where no
patient can give 0, a register or field that says 0 has no value. Codes are partition << 16 | term;
None where none was verified.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from firmware_bridge.types import Numeric, Validity

UNITS = {
    "MDC_DIM_MILLI_VOLT": "mV",
    "MDC_DIM_MICRO_VOLT": "uV",
    "MDC_DIM_BEAT_PER_MIN": "/min",
    "MDC_DIM_RESP_PER_MIN": "/min",
    "MDC_DIM_PERCENT": "%",
    "MDC_DIM_MMHG": "mm[Hg]",
    "MDC_DIM_CM_H2O": "cm[H2O]",
    "MDC_DIM_DEGC": "Cel",
    "MDC_DIM_MILLI_L": "mL",
    "MDC_DIM_L_PER_MIN": "L/min",
    "MDC_DIM_KILO_G": "kg",
    "MDC_DIM_DIMLESS": "1",
    "MDC_DIM_SEC": "s",
    "MDC_DIM_MILLI_SEC": "ms",
    "262656": "1",
    "262688": "%",
    "263762": "mL",
    "263875": "kg",
    "264864": "/min",
    "264928": "/min",
    "265216": "L/min",
    "266016": "mm[Hg]",
    "266048": "cm[H2O]",
    "268192": "Cel",
}
"""MDC dimensions, by reference id and by code, in UCUM."""

WITH_NUMBER = (Validity.VALID, Validity.QUESTIONABLE)


@dataclass(frozen=True, slots=True)
class Term:
    """One measurement: `unit` UCUM, `low`..`high` in it."""

    code: int | None
    unit: str
    low: float
    high: float


TERMS = {
    # electrocardiogram and pulse
    "MDC_ECG_HEART_RATE": Term(147842, "/min", 0, 350),
    "MDC_PULS_OXIM_PULS_RATE": Term(149530, "/min", 1, 350),
    "MDC_PULS_RATE": Term(149514, "/min", 0, 350),
    "MDC_PULS_RATE_NON_INV": Term(149546, "/min", 1, 350),
    "MDC_ECG_ELEC_POTL": Term(131328, "mV", -20, 20),
    "MDC_ECG_ELEC_POTL_I": Term(131329, "mV", -20, 20),
    "MDC_ECG_ELEC_POTL_II": Term(131330, "mV", -20, 20),
    "MDC_ECG_ELEC_POTL_III": Term(131389, "mV", -20, 20),
    "MDC_ECG_ELEC_POTL_AVR": Term(131390, "mV", -20, 20),
    "MDC_ECG_ELEC_POTL_AVL": Term(131391, "mV", -20, 20),
    "MDC_ECG_ELEC_POTL_AVF": Term(131392, "mV", -20, 20),
    "MDC_ECG_ELEC_POTL_V": Term(None, "mV", -20, 20),
    "MDC_ECG_AMPL_ST_I": Term(None, "mm", -25, 25),
    "MDC_ECG_AMPL_ST_II": Term(None, "mm", -25, 25),
    "MDC_ECG_AMPL_ST_V": Term(None, "mm", -25, 25),
    # oximetry
    "MDC_PULS_OXIM_SAT_O2": Term(150456, "%", 1, 100),
    "MDC_PULS_OXIM_PLETH": Term(150452, "1", -math.inf, math.inf),
    "MDC_BLD_PERF_INDEX": Term(None, "%", 0, 100),
    "MDC_SAT_O2_VEN": Term(None, "%", 1, 100),
    # blood pressure
    "MDC_PRESS_BLD_NONINV_SYS": Term(150021, "mm[Hg]", 1, 350),
    "MDC_PRESS_BLD_NONINV_DIA": Term(150022, "mm[Hg]", 0, 350),
    "MDC_PRESS_BLD_NONINV_MEAN": Term(150023, "mm[Hg]", 1, 350),
    "MDC_PRESS_BLD_ART_ABP": Term(150036, "mm[Hg]", -50, 400),  # Philips' label 0002 4A14
    "MDC_PRESS_BLD_ART_ABP_SYS": Term(150037, "mm[Hg]", -50, 400),
    "MDC_PRESS_BLD_ART_ABP_DIA": Term(150038, "mm[Hg]", -50, 400),
    "MDC_PRESS_BLD_ART_ABP_MEAN": Term(150039, "mm[Hg]", -50, 400),
    "MDC_PRESS_BLD_ART_SYS": Term(150033, "mm[Hg]", -50, 400),
    "MDC_PRESS_BLD_ART_DIA": Term(150034, "mm[Hg]", -50, 400),
    "MDC_PRESS_BLD_ART_MEAN": Term(150035, "mm[Hg]", -50, 400),
    "MDC_PRESS_BLD_ART": Term(150032, "mm[Hg]", -50, 400),
    "MDC_PRESS_BLD_VEN_CENT_MEAN": Term(150087, "mm[Hg]", -50, 150),
    "MDC_PRESS_BLD_VEN_CENT": Term(150084, "mm[Hg]", -50, 150),
    "MDC_PRESS_BLD_ART_PULM_SYS": Term(150045, "mm[Hg]", -50, 250),
    "MDC_PRESS_BLD_ART_PULM_DIA": Term(150046, "mm[Hg]", -50, 250),
    "MDC_PRESS_BLD_ART_PULM_MEAN": Term(150047, "mm[Hg]", -50, 250),
    "MDC_PRESS_INTRA_CRAN_MEAN": Term(None, "mm[Hg]", -50, 150),
    "MDC_PRESS_BLD": Term(None, "mm[Hg]", -50, 400),
    "MDC_PRESS_BLD_SYS": Term(None, "mm[Hg]", -50, 400),
    "MDC_PRESS_BLD_DIA": Term(None, "mm[Hg]", -50, 400),
    "MDC_PRESS_BLD_MEAN": Term(None, "mm[Hg]", -50, 400),
    # temperature
    "MDC_TEMP": Term(150344, "Cel", 0, 50),
    "MDC_TEMP_BODY": Term(150364, "Cel", 10, 50),
    # breathing and ventilation
    "MDC_RESP_RATE": Term(151562, "/min", 0, 250),
    "MDC_RESP": Term(None, "1", -math.inf, math.inf),
    "MDC_AWAY_CO2": Term(None, "mm[Hg]", -10, 200),
    "MDC_AWAY_CO2_ET": Term(None, "mm[Hg]", 0, 200),
    "MDC_CONC_AWAY_CO2_ET": Term(None, "%", 0, 25),
    "MDC_CONC_AWAY_CO2_INSP": Term(None, "%", 0, 25),
    "MDC_CONC_AWAY_CO2": Term(None, "%", -1, 25),
    "MDC_CONC_AWAY_O2": Term(None, "%", 0, 105),
    "MDC_CONC_AWAY_O2_INSP": Term(None, "%", 0, 105),
    "MDC_CONC_AWAY_O2_ET": Term(None, "%", 0, 105),
    "MDC_PRESS_AWAY": Term(None, "cm[H2O]", -100, 200),
    "MDC_PRESS_AWAY_INSP_PEAK": Term(None, "cm[H2O]", -100, 200),
    "MDC_PRESS_AWAY_INSP_MEAN": Term(None, "cm[H2O]", -100, 200),
    "MDC_PRESS_RESP_PLAT": Term(None, "cm[H2O]", -100, 200),
    "MDC_PRESS_AWAY_END_EXP_POS": Term(None, "cm[H2O]", -100, 200),
    "MDC_FLOW_AWAY": Term(None, "L/min", -500, 500),
    "MDC_VOL_AWAY": Term(None, "mL", -10000, 10000),
    "MDC_VOL_AWAY_TIDAL": Term(None, "mL", 0, 10000),
    "MDC_VOL_AWAY_TIDAL_EXP": Term(None, "mL", 0, 10000),
    "MDC_VOL_MINUTE_AWAY": Term(None, "L/min", 0, 100),
    "MDC_COMPL_LUNG": Term(None, "mL/cm[H2O]", 0, 1000),
    "MDC_PRESS_AIR_AMBIENT": Term(None, "mm[Hg]", 200, 900),
    # body
    "MDC_MASS_BODY_ACTUAL": Term(188736, "kg", 0, 700),
}


def numeric(
    channel: str,
    value: float | None,
    validity: Validity = Validity.VALID,
    device_ns: int | None = None,
    unit: str | None = None,
) -> Numeric:
    """The value of a registered measurement as a `Numeric`.

    None, NaN and what is outside the possible range never stay numbers: they become INVALID (or
    what `validity` says of them). `unit` is the device's own; another one than the term's raises
    `ValueError`, because units are converted by the device's file or not at all.
    """
    term = TERMS[channel]
    if unit is not None and unit != term.unit:
        raise ValueError(f"{channel} comes in '{unit}', its unit here is '{term.unit}'")
    if validity not in WITH_NUMBER:
        return Numeric(channel, None, term.unit, validity, device_ns)
    if value is None or not term.low <= value <= term.high:
        return Numeric(channel, None, term.unit, Validity.INVALID, device_ns)
    return Numeric(channel, value, term.unit, validity, device_ns)
