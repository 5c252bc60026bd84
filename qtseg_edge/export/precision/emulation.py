"""A half-precision graph as float32, rounded wherever the real one rounds: what ONNX Runtime on a CPU can judge it by.

On a CPU ONNX Runtime computes float16 graphs in float32 and leaves out the roundings between, overflow included, which flatters them
(docs/decisions/0012-precision.md). Here every float16 tensor is rounded to float16, beyond 65,504 to infinity, and held as float32.
"""

from __future__ import annotations

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from qtseg_edge.export.precision.graph import element_types

# They hand on what they read, which is rounded already.
_EXACT = {"Reshape", "Transpose", "Concat", "Split", "Slice", "Gather", "Squeeze", "Unsqueeze", "Expand", "Identity", "Flatten"}
_EXACT |= {"MaxPool", "ReduceMax", "ReduceMin", "Relu", "Max", "Min"}


def emulated(model: ModelProto) -> ModelProto:
    """A copy with the same results as the graph has where float16 is computed in float16 with float32 sums."""
    copy = ModelProto()
    copy.CopyFrom(model)
    types = element_types(model)
    nodes: list[NodeProto] = []
    for node in copy.graph.node:
        halves = [name for name in node.output if types.get(name) == TensorProto.FLOAT16]
        nodes.append(node)
        if node.op_type in _EXACT or not halves:
            continue
        if node.op_type == "Cast":
            node.attribute[0].i = TensorProto.FLOAT
        for index, name in enumerate(node.output):
            if name in halves:
                exact, half = f"{name}.exact", f"{name}.rounded"
                node.output[index] = exact
                nodes.append(helper.make_node("Cast", [exact], [half], name=f"{half}/Cast", to=TensorProto.FLOAT16))
                nodes.append(helper.make_node("Cast", [half], [name], name=f"{name}.emulated/Cast", to=TensorProto.FLOAT))
    for tensor in copy.graph.initializer:
        if tensor.data_type == TensorProto.FLOAT16:
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float32), tensor.name))
    del copy.graph.node[:], copy.graph.value_info[:]
    copy.graph.node.extend(nodes)
    return copy
