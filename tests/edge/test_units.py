"""Units are compared, never converted."""

from __future__ import annotations

import pytest

from edge.errors import StartError
from edge.units import require_unit, same_unit
from firmware_bridge.nomenclature import UNITS


@pytest.mark.parametrize(("mdc", "ucum"), UNITS.items())
def test_an_mdc_dimension_is_its_ucum_unit_and_no_other(mdc: str, ucum: str) -> None:
    assert {other for other in UNITS.values() if same_unit(mdc, other)} == {ucum}
    require_unit(mdc, ucum, "here")
    require_unit(ucum, mdc, "here")


@pytest.mark.parametrize(
    ("source", "manifest"),
    [("uV", "mV"), ("MDC_DIM_MICRO_VOLT", "mV"), ("mv", "mV"), ("", "mV"), ("ms", "s"), ("1", "%")],
)
def test_a_mismatch_is_refused(source: str, manifest: str) -> None:
    with pytest.raises(StartError, match=f"'ecg' delivers '{source}', the bundle needs"):
        require_unit(source, manifest, "source 'ecg'")
