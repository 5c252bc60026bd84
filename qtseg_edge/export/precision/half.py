"""FP16 in the graph: half-precision tensors, and Casts around the nodes that stay float32."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from qtseg_edge.export.precision.graph import FLOATS, element_types

LARGEST_HALF = 65504.0
# These inputs are float32 by ONNX's definition, whatever the rest of the node is.
_ALWAYS_FLOAT32 = {"Resize": (1, 2)}


def half_precision(model: ModelProto, float32_nodes: Collection[str]) -> ModelProto:
    """A copy of a float32 graph (Q/DQ allowed) that computes in float16 but for `float32_nodes`, which keep every bit.

    Between two nodes that stay float32 nothing is rounded: there are Casts only where the precision changes, one per tensor.
    Inputs and outputs of the graph keep their types.
    """
    return _Halving(model, float32_nodes).converted()


class _Halving:
    def __init__(self, model: ModelProto, float32_nodes: Collection[str]) -> None:
        self._model = ModelProto()
        self._model.CopyFrom(model)
        self._types = element_types(model)
        self._weights = {tensor.name: tensor for tensor in self._model.graph.initializer}
        self._float32_nodes = frozenset(float32_nodes)
        self._is_half: dict[str, bool] = {}  # activations that have been produced so far
        self._nodes: list[NodeProto] = []
        self._kept: dict[str, TensorProto] = {}
        self._made: set[str] = set()

    def converted(self) -> ModelProto:
        for node in self._model.graph.node:
            half = self._computes_in_half(node)
            for index, name in enumerate(node.input):
                if name and self._types[name] in FLOATS and not (half and index in _ALWAYS_FLOAT32.get(node.op_type, ())):
                    node.input[index] = self._as(name, half)
                elif name in self._weights:
                    self._kept[name] = self._weights[name]
            self._nodes.append(node)
            for name in node.output:
                self._is_half[name] = half and self._types.get(name) in FLOATS
        graph = self._model.graph
        del graph.node[:], graph.initializer[:], graph.value_info[:]
        graph.node.extend(self._nodes)
        graph.initializer.extend(self._kept.values())
        return self._model

    def _computes_in_half(self, node: NodeProto) -> bool:
        """A Cast is the border to whole numbers, where the graph was float32 and stays it."""
        touched = [name for name in (*node.input, *node.output) if name and self._types.get(name) in FLOATS]
        return bool(touched) and node.op_type != "Cast" and node.name not in self._float32_nodes

    def _as(self, name: str, half: bool) -> str:
        """The name under which this tensor is had in the wanted precision."""
        if name in self._weights:
            return self._weight(name, half)
        if self._is_half.get(name, False) == half:
            return name
        cast = f"{name}.{'half' if half else 'float'}"
        if cast not in self._made:
            self._made.add(cast)
            to = TensorProto.FLOAT16 if half else TensorProto.FLOAT
            self._nodes.append(helper.make_node("Cast", [name], [cast], name=f"{cast}/Cast", to=to))
        return cast

    def _weight(self, name: str, half: bool) -> str:
        if not half:
            self._kept[name] = self._weights[name]
            return name
        stored = f"{name}.half"
        if stored not in self._kept:
            values = numpy_helper.to_array(self._weights[name])
            self._kept[stored] = numpy_helper.from_array(values.astype(np.float16), stored)
        return stored
