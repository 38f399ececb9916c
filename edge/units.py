"""Units: a mismatch is refused. The table from MDC dimensions to UCUM is `nomenclature.UNITS`.

Nothing is converted here. Where a device file states a conversion, its source applies it.
"""

from __future__ import annotations

from edge.errors import StartError
from firmware_bridge.nomenclature import UNITS


def same_unit(a: str, b: str) -> bool:
    """Whether two units, UCUM codes or MDC dimensions of the table, are one and the same."""
    return UNITS.get(a, a) == UNITS.get(b, b)


def require_unit(source_unit: str, manifest_unit: str, where: str) -> None:
    """Raises `StartError` naming `where` unless both are the same unit, whatever their scale."""
    if not same_unit(source_unit, manifest_unit):
        raise StartError(
            f"{where} delivers '{source_unit}', the bundle needs '{manifest_unit}'",
            "state the unit in the source's configuration",
        )
