"""Rows of values with holes, one a step, to what a model takes: values, what was measured, and how
long ago.

Owns the memory of the last values. An impossible value is never taken, and never silently: it
counts as not measured, and is named.
"""

from __future__ import annotations

import csv
import io
import math
from typing import TYPE_CHECKING, Optional

import numpy as np

from edge.errors import StartError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from edge.bundle.manifest import Quantity

VALUE, MEASURED, SINCE = 0, 1, 2
Row = dict[str, Optional[float]]
NEVER_STEPS = 1000.0
"""Steps since a value that never came; longer waits count as this long."""


def read_rows(data: bytes) -> list[Row]:
    """CSV: the first line names the columns, each further one is a step; an empty field was not
    measured. Raises `StartError` for anything else."""
    try:
        reader = csv.DictReader(io.StringIO(data.decode("utf-8"), newline=""), strict=True)
        names = reader.fieldnames or []
        if len(set(names)) != len(names):
            raise ValueError("two columns have one name")
        return [_row(reader.line_num, row) for row in reader]
    except (UnicodeDecodeError, csv.Error, ValueError) as error:
        raise StartError(
            f"the rows cannot be read ({error})",
            "give CSV: the columns' names, then a line a step, empty where not measured",
        ) from None


def _row(line: int, row: dict[str, str]) -> Row:
    if None in row or None in row.values():
        raise ValueError(f"line {line} has not as many fields as the first")
    return {name: float(x) if x.strip() else None for name, x in row.items()}


class FeatureRows:
    """One patient's rows. `planes` float32 `[3, columns]` are the newest: last value known (0
    before the first), 1 where it was measured in this step, and steps since it was."""

    def __init__(self, columns: Sequence[Quantity]) -> None:
        self._at = {column.name: i for i, column in enumerate(columns)}
        self._columns = columns
        self.planes: NDArray[np.float32] = np.empty((3, len(columns)), np.float32)
        self.reset()

    def reset(self) -> None:
        """Another patient: nothing is known."""
        self.planes[:] = 0.0
        self.planes[SINCE] = NEVER_STEPS

    def step(self, values: Mapping[str, float | None]) -> tuple[str, ...]:
        """Take one step's values by column name, in the column's unit; None, NaN or absent is not
        measured. Gives the names of impossible ones, which are left out. Raises `StartError` for a
        name that is no column."""
        self.planes[MEASURED] = 0.0
        np.minimum(self.planes[SINCE] + 1.0, NEVER_STEPS, out=self.planes[SINCE])
        impossible = []
        for name, value in values.items():
            i = self._index(name)
            column = self._columns[i]
            if value is None or math.isnan(value):
                continue
            if not column.low <= value <= column.high:
                impossible.append(name)
                continue
            self.planes[:, i] = value, 1.0, 0.0
        return tuple(impossible)

    def _index(self, name: str) -> int:
        try:
            return self._at[name]
        except KeyError:
            raise StartError(
                f"'{name}' is no column of this bundle", f"use of: {', '.join(self._at)}"
            ) from None
