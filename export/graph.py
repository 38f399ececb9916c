"""Reading and editing an ONNX graph: who makes a tensor, who takes it, what is constant."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from edge.errors import StartError

if TYPE_CHECKING:
    from numpy.typing import NDArray

Model = Any  # onnx.ModelProto: onnx has no types of its own to check against
Node = Any


class Graph:
    """Lookups over a model's top graph; made anew after the graph is changed."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self.nodes: list[Node] = list(model.graph.node)
        self.producer = {o: n for n in self.nodes for o in n.output}
        self.consumers: dict[str, list[Node]] = {}
        for node in self.nodes:
            for name in node.input:
                self.consumers.setdefault(name, []).append(node)
        self._constants = {i.name: i for i in model.graph.initializer}
        self.outputs = {o.name for o in model.graph.output}

    def is_constant(self, name: str) -> bool:
        """Whether `name` is an initializer."""
        return name in self._constants

    def constants(self) -> list[str]:
        """The names of all initializers whose values are in the model."""
        return [name for name, tensor in self._constants.items() if not tensor.data_location]

    def external(self) -> list[str]:
        """The names of initializers whose values lie in another file."""
        return [name for name, tensor in self._constants.items() if tensor.data_location]

    def constant(self, name: str) -> NDArray[Any]:
        """The value of an initializer."""
        from onnx import numpy_helper

        return np.asarray(numpy_helper.to_array(self._constants[name]))


def read(data: bytes) -> Model:
    """The model in `data`. Raises `StartError` where it is not ONNX or breaks its own rules."""
    import onnx

    from edge.engines.onnx_bytes import require_self_contained

    require_self_contained(data)
    model = onnx.load_from_string(data)
    try:
        onnx.checker.check_model(model)
    except onnx.checker.ValidationError as error:
        first = str(error).strip().split("\n")[0][:300]
        raise StartError(f"the model is not valid ONNX ({first})", "export it again") from None
    return model


def write(model: Model) -> bytes:
    """The bytes of `model`, the same for the same model; nodes sorted, unused constants gone."""
    import onnx

    drop_unused(model)
    onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString(deterministic=True))


def drop_unused(model: Model) -> None:
    """Remove initializers that nothing takes, and shapes that were inferred for another graph."""
    graph = model.graph
    used = {name for node in graph.node for name in taken_by(node)} | {o.name for o in graph.output}
    kept = [i for i in graph.initializer if i.name in used]
    del graph.initializer[:], graph.value_info[:]
    graph.initializer.extend(kept)


def taken_by(node: Node) -> list[str]:
    """Names a node takes, those inside its subgraphs included."""
    names = list(node.input)
    for attribute in node.attribute:
        for inner in (attribute.g, *attribute.graphs):
            names += [name for n in inner.node for name in taken_by(n)]
            names += [o.name for o in inner.output]
    return names


def attribute(node: Node, name: str, default: int) -> int:
    """An integer attribute."""
    return next((int(a.i) for a in node.attribute if a.name == name), default)


def add_constant(model: Model, name: str, value: NDArray[Any]) -> str:
    """Add an initializer; its name."""
    from onnx import numpy_helper

    model.graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
    return name


def replace_nodes(model: Model, nodes: list[Node]) -> None:
    """Put `nodes` in the place of all there were."""
    del model.graph.node[:]
    model.graph.node.extend(nodes)
