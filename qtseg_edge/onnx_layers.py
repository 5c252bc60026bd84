"""What an ONNX graph computes: its layers by precision, the numbers it stores, and its multiply-accumulates. Needs onnx, not torch."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable

import onnx
from onnx import NodeProto, TensorProto

_PRECISIONS: dict[int, str] = {
    TensorProto.FLOAT16: "FP16",
    TensorProto.BFLOAT16: "BF16",
    TensorProto.FLOAT: "FP32",
    TensorProto.DOUBLE: "FP64",
}
_ORDER = ("INT8", *_PRECISIONS.values(), "other")
_PRODUCTS = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
_QUANTISING = frozenset({"QuantizeLinear", "DequantizeLinear"})
# Their inputs after the first say how, and are no weights. (Resize: its scales are float32 in every precision.)
_SETTINGS_AFTER_FIRST = _QUANTISING | {"Resize"}
_MOVES_DATA = _QUANTISING | {
    *("Cast", "CastLike", "Constant", "ConstantOfShape", "Identity", "Shape", "Size", "Range", "OneHot"),
    *("Reshape", "Flatten", "Squeeze", "Unsqueeze", "Expand", "Tile", "Pad", "Concat", "Split", "Slice", "Where"),
    *("Transpose", "DepthToSpace", "SpaceToDepth", "Gather", "GatherElements", "GatherND", "ScatterElements", "ScatterND"),
}


def layers_by_precision(model: onnx.ModelProto) -> dict[str, dict[str, int]]:
    """How many nodes of each type compute in INT8, FP16, BF16, FP32 and FP64, such as {"INT8": {"Conv": 60}, "FP32": {"Softmax": 27}}.

    Counted are nodes that compute on floating-point numbers; casts, quantising and moving of data are none. INT8: a convolution or matrix
    product of which both operands come straight from a DequantizeLinear of int8 (a bias may be anything). Everything else has the type
    of its first floating-point input; "other" where that type cannot be inferred. `model` stays as it is.
    """
    types = _element_types(model)
    int8 = _dequantised_int8(model, types)
    counts: dict[str, Counter[str]] = {precision: Counter() for precision in _ORDER}
    for node in model.graph.node:
        if node.op_type not in _MOVES_DATA and (precision := _precision(node, types, int8)):
            counts[precision][node.op_type] += 1
    return {precision: dict(sorted(found.items())) for precision, found in counts.items() if found}


def parameter_count(model: onnx.ModelProto) -> int:
    """Numbers stored for the arithmetic, in floating point or int8; scales and zero points of a quantised graph are none.

    Not exactly what the checkpoint has: folding takes batch norms away, and fixed tables such as positional encodings are stored here.
    """
    return sum(parameters_by_precision(model).values())


def parameters_by_precision(model: onnx.ModelProto) -> dict[str, int]:
    """What `parameter_count` counts, by the type that it is stored in: INT8, FP16, BF16, FP32 or FP64."""
    settings = {name for node in model.graph.node if node.op_type in _SETTINGS_AFTER_FIRST for name in node.input[1:]}
    names = {**_PRECISIONS, TensorProto.INT8: "INT8"}
    counts: Counter[str] = Counter()
    for tensor in model.graph.initializer:
        if tensor.data_type in names and tensor.name not in settings:
            counts[names[tensor.data_type]] += math.prod(tensor.dims)
    return dict(counts)


def multiply_accumulates(model: onnx.ModelProto) -> int | None:
    """Of one image, at the graph's own size: convolutions and matrix products. None where a shape cannot be inferred."""
    counts = macs_by_precision(model)
    return None if counts is None else sum(counts.values())


def macs_by_precision(model: onnx.ModelProto) -> dict[str, int] | None:
    """What `multiply_accumulates` counts, by the precision that `layers_by_precision` gives the layer."""
    types = _element_types(model)
    int8 = _dequantised_int8(model, types)
    inferred = onnx.ModelProto()
    inferred.CopyFrom(model)
    del inferred.graph.value_info[:]
    batch = _one_image(inferred)
    inferred = onnx.shape_inference.infer_shapes(inferred, data_prop=True)
    shapes = _shapes(inferred)
    counts: Counter[str] = Counter()
    for node in inferred.graph.node:
        if node.op_type in _PRODUCTS:
            tensors = [*node.input[:2], node.output[0]]
            if any(name not in shapes for name in tensors):
                return None
            counts[_precision(node, types, int8) or "other"] += _macs(node, *(shapes[name] for name in tensors))
    return {precision: macs // batch for precision, macs in counts.items()}


def _precision(node: NodeProto, types: dict[str, int], int8: frozenset[str]) -> str | None:
    """None for a node that computes on whole numbers only."""
    if node.op_type in _PRODUCTS and set(node.input[:2]) <= int8:
        return "INT8"
    found = [types.get(name) for name in node.input if name]
    floating = [_PRECISIONS[element] for element in found if element in _PRECISIONS]
    return floating[0] if floating else "other" if None in found else None


def _element_types(model: onnx.ModelProto) -> dict[str, int]:
    """By tensor name; a tensor whose type cannot be inferred is absent."""
    graph = onnx.shape_inference.infer_shapes(model).graph
    known = {info.name: info.type.tensor_type.elem_type for info in (*graph.value_info, *graph.input, *graph.output)}
    known.update((tensor.name, tensor.data_type) for tensor in graph.initializer)
    return {name: element for name, element in known.items() if element != TensorProto.UNDEFINED}


def _dequantised_int8(model: onnx.ModelProto, types: dict[str, int]) -> frozenset[str]:
    dequantising = (node for node in model.graph.node if node.op_type == "DequantizeLinear")
    return frozenset(node.output[0] for node in dequantising if types.get(node.input[0]) == TensorProto.INT8)


def _one_image(model: onnx.ModelProto) -> int:
    """Sets an open batch to 1 and gives the batch."""
    if not model.graph.input or not model.graph.input[0].type.tensor_type.shape.dim:
        return 1
    first = model.graph.input[0].type.tensor_type.shape.dim[0]
    first.dim_value = first.dim_value or 1
    for output in model.graph.output:
        output.type.tensor_type.ClearField("shape")  # it may name the batch that is a number now
    return int(first.dim_value)


def _shapes(model: onnx.ModelProto) -> dict[str, tuple[int, ...]]:
    """Of every tensor whose sides are all known."""
    shapes: dict[str, tuple[int, ...]] = {}
    for info in (*model.graph.input, *model.graph.value_info, *model.graph.output):
        tensor = info.type.tensor_type
        if tensor.HasField("shape") and all(dim.HasField("dim_value") for dim in tensor.shape.dim):
            shapes[info.name] = tuple(dim.dim_value for dim in tensor.shape.dim)
    shapes.update((tensor.name, tuple(tensor.dims)) for tensor in model.graph.initializer)
    return shapes


def _macs(node: NodeProto, first: tuple[int, ...], second: tuple[int, ...], result: tuple[int, ...]) -> int:
    if node.op_type == "Conv":
        return math.prod(result) * math.prod(second[1:])  # second: (out, in / group, *kernel)
    if node.op_type == "ConvTranspose":
        return math.prod(first) * math.prod(second[1:])  # second: (in, out / group, *kernel)
    depth = first[0] if node.op_type == "Gemm" and _integer(node.attribute, "transA") else first[-1]
    return math.prod(result) * depth


def _integer(attributes: Iterable[onnx.AttributeProto], name: str) -> int:
    return next((attribute.i for attribute in attributes if attribute.name == name), 0)
