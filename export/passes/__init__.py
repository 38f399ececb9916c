"""Passes: one rewrite of the graph a file, none of which changes what the model computes.

Except `scale_input`, which takes the declared scaling into the model on purpose.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from edge.registry import resolve
from export.graph import read, write

if TYPE_CHECKING:
    from export.graph import Model

PASSES = {
    "leftovers": "export.passes.leftovers:remove_leftovers",
    "sort": "export.passes.sort:sort",
    "names": "export.passes.names:name_nodes",
    "fold": "export.passes.fold:fold",
}
"""In the order in which a build runs them."""


def clean(data: bytes) -> bytes:
    """The model after every pass."""
    model: Model = read(data)
    for name in PASSES:
        model = resolve(PASSES, name, "pass")(model)
    return write(model)
