"""Give every node a name of its own, so that reports and precisions can speak of it.

Before: any graph. After: names are unique; a node that had a good one keeps it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from export.graph import Model


def name_nodes(model: Model) -> Model:
    """In place; the same model."""
    taken: set[str] = set()
    counts: dict[str, int] = {}
    for node in model.graph.node:
        name = node.name
        while not name or name in taken:
            counts[node.op_type] = counts.get(node.op_type, 0) + 1
            name = f"{node.op_type.lower()}_{counts[node.op_type]}"
        node.name = name
        taken.add(name)
    return model
