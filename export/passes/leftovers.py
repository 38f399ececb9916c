"""Remove what training left in a graph: dropout, identities, documentation, metadata.

Before: any valid graph. After: no Dropout in inference mode, no Identity between nodes, no text.
A dropout in training mode is not removed: it would change the answers, and lint refuses it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from export.graph import Graph, replace_nodes

if TYPE_CHECKING:
    from export.graph import Model, Node


def remove_leftovers(model: Model) -> Model:
    """In place; the same model."""
    graph = Graph(model)
    renamed: dict[str, str] = {}
    kept = []
    for node in graph.nodes:
        for i, name in enumerate(node.input):
            node.input[i] = renamed.get(name, name)
        if _does_nothing(node, graph):
            renamed[node.output[0]] = node.input[0]
        else:
            kept.append(node)
    replace_nodes(model, kept)
    strip(model)
    return model


def _does_nothing(node: Node, graph: Graph) -> bool:
    if node.output[0] in graph.outputs or any(
        o and graph.consumers.get(o) for o in node.output[1:]
    ):
        return False
    if node.op_type == "Dropout":
        training = node.input[2] if len(node.input) > 2 else ""
        return not training or (graph.is_constant(training) and not graph.constant(training).any())
    return bool(node.op_type == "Identity")


def strip(model: Model) -> None:
    """Remove every documentation string and metadata entry: they hold traces and paths."""
    graph = model.graph
    for thing in (model, graph, *graph.node, *graph.initializer, *graph.input, *graph.output,
                  *graph.value_info):  # fmt: skip
        thing.ClearField("doc_string")
        thing.ClearField("metadata_props")
    del graph.value_info[:]
