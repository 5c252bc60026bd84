"""What the precision steps need to know of an ONNX graph: element types, who makes and who reads a tensor, weights as float32."""

from __future__ import annotations

from collections import Counter, defaultdict

import numpy as np
import onnx
from onnx import AttributeProto, ModelProto, NodeProto, TensorProto, numpy_helper

from qtseg_edge.errors import IncompatibleError

FLOATS = (TensorProto.FLOAT, TensorProto.FLOAT16)
LEAST_OPSET = 19  # the first whose QuantizeLinear takes float16 scales


def as_float32(model: ModelProto) -> ModelProto:
    """A copy whose weights are float32 initialisers, whatever they were stored as. Raises IncompatibleError for a graph that is not plain.

    The weights that `store_weights_half` halved come with a Cast each; here they are whole again and the Casts are gone.
    """
    copy = ModelProto()
    copy.CopyFrom(model)
    _require_plain(copy)
    tensors = {tensor.name: tensor for tensor in copy.graph.initializer}
    kept = []
    for node in copy.graph.node:
        stored = tensors.get(node.input[0]) if node.op_type == "Cast" else None
        if stored is None or stored.data_type != TensorProto.FLOAT16:
            kept.append(node)
            continue
        stored.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(stored).astype(np.float32), node.output[0]))
    del copy.graph.node[:]
    copy.graph.node.extend(kept)
    return copy


def element_types(model: ModelProto) -> dict[str, int]:
    """Every tensor's element type (TensorProto.DataType), of initialisers, inputs, outputs and all between."""
    graph = onnx.shape_inference.infer_shapes(model, strict_mode=True).graph
    types = {info.name: info.type.tensor_type.elem_type for info in (*graph.input, *graph.value_info, *graph.output)}
    return types | {tensor.name: tensor.data_type for tensor in graph.initializer}


def producers(model: ModelProto) -> dict[str, NodeProto]:
    return {name: node for node in model.graph.node for name in node.output}


def consumers(model: ModelProto) -> dict[str, list[NodeProto]]:
    readers: dict[str, list[NodeProto]] = defaultdict(list)
    for node in model.graph.node:
        for name in node.input:
            readers[name].append(node)
    return readers


def _require_plain(model: ModelProto) -> None:
    opset = next((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), 0)
    if opset < LEAST_OPSET:
        raise IncompatibleError(f"wanted a graph of opset {LEAST_OPSET} or later, got {opset}; export it again without --opset")
    names = Counter(node.name for node in model.graph.node)
    if "" in names or max(names.values(), default=0) > 1:
        raise IncompatibleError("wanted a graph whose nodes all have a name of their own; export it with: qtseg-edge export CHECKPOINT")
    if any(attribute.type in (AttributeProto.GRAPH, AttributeProto.GRAPHS) for node in model.graph.node for attribute in node.attribute):
        raise IncompatibleError("wanted a graph without branches and loops; export it with: qtseg-edge export CHECKPOINT")
    if any(node.op_type in ("QuantizeLinear", "DequantizeLinear") for node in model.graph.node):
        raise IncompatibleError("wanted a float32 graph, got one that is quantised already; give the one it was made from")
