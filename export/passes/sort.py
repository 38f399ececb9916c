"""Put the nodes in topological order, as ONNX asks and some converters forget.

Before: an acyclic graph in any order. After: every node comes after those it takes from; nodes that
do not depend on each other keep their order.
"""

from __future__ import annotations

from heapq import heappop, heappush
from typing import TYPE_CHECKING

from edge.errors import StartError
from export.graph import Graph, replace_nodes, taken_by

if TYPE_CHECKING:
    from export.graph import Model


def sort(model: Model) -> Model:
    """In place; the same model. Raises `StartError` for a cycle."""
    graph = Graph(model)
    made_by = {o: i for i, node in enumerate(graph.nodes) for o in node.output}
    needs = [{made_by[n] for n in taken_by(node) if n in made_by} for node in graph.nodes]
    feeds: list[list[int]] = [[] for _ in needs]
    for i, sources in enumerate(needs):
        for source in sources:
            feeds[source].append(i)
    waiting = [len(sources) for sources in needs]
    ready = [i for i, count in enumerate(waiting) if count == 0]
    order: list[int] = []
    while ready:
        order.append(heappop(ready))
        for i in feeds[order[-1]]:
            waiting[i] -= 1
            if waiting[i] == 0:
                heappush(ready, i)
    if len(order) < len(needs):
        raise StartError("the graph has a cycle", "export it again")
    replace_nodes(model, [graph.nodes[i] for i in order])
    return model
