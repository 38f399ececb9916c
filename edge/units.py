"""Units: one table from MDC dimensions (ISO/IEEE 11073-10101) to UCUM; a mismatch is refused.

Nothing is converted here. Where a device file states a conversion, its source applies it.
"""

from __future__ import annotations

from edge.errors import StartError

UCUM = {
    "MDC_DIM_MILLI_VOLT": "mV",
    "MDC_DIM_MICRO_VOLT": "uV",
    "MDC_DIM_BEAT_PER_MIN": "/min",
    "MDC_DIM_PERCENT": "%",
    "MDC_DIM_SEC": "s",
    "MDC_DIM_MILLI_SEC": "ms",
}


def same_unit(a: str, b: str) -> bool:
    """Whether two units, UCUM codes or MDC dimensions of the table, are one and the same."""
    return UCUM.get(a, a) == UCUM.get(b, b)


def require_unit(source_unit: str, manifest_unit: str, where: str) -> None:
    """Raises `StartError` naming `where` unless both are the same unit, whatever their scale."""
    if not same_unit(source_unit, manifest_unit):
        raise StartError(
            f"{where} delivers '{source_unit}', the bundle needs '{manifest_unit}'",
            "state the unit in the source's configuration",
        )
