"""INT8 in the graph: symmetric Q/DQ pairs around convolutions, placed by ONNX Runtime's quantizer and finished for TensorRT."""

from __future__ import annotations

import logging
from fnmatch import fnmatchcase

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, numpy_helper
from onnxruntime.quantization import CalibrationMethod, QuantType
from onnxruntime.quantization.calibrate import TensorsData
from onnxruntime.quantization.qdq_quantizer import QDQQuantizer

from qtseg_edge.errors import UsageError
from qtseg_edge.export.precision.graph import consumers, producers
from qtseg_edge.export.precision.ranges import Ranges

QUANTISED = ("Conv", "ConvTranspose")
_OUTPUT_CHANNEL_AXIS = {"Conv": 0, "ConvTranspose": 1}
_LARGEST_INT8 = 127
_LEAST_SCALE = float(np.finfo(np.float16).tiny)
# Attention's own convolutions see two channels; quantising them costs more than it saves.
_LEAST_CHANNELS = 16
_OPTIONS = {
    "ActivationSymmetric": True,
    "WeightSymmetric": True,
    "QuantizeBias": False,  # TensorRT reads no INT32 bias
    "AddQDQPairToWeight": True,
    "DedicatedQDQPair": False,
    "OpTypesToExcludeOutputQuantization": list(QUANTISED),
    "QDQOpTypePerChannelSupportToAxis": _OUTPUT_CHANNEL_AXIS,
    "QDQDisableWeightAdjustForInt32Bias": True,
}


def quantisable_nodes(model: ModelProto) -> tuple[str, ...]:
    """Names of the convolutions that become INT8: all of 16 channels or more but the first, which reads the image.

    The mask head is a product of pixels and tokens, no convolution, and stays as it is.
    """
    shapes = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
    convolutions = [node for node in model.graph.node if node.op_type in QUANTISED and len(node.input) > 1 and node.input[1] in shapes]
    wide = [node.name for node in convolutions if min(shapes[node.input[1]][:2]) >= _LEAST_CHANNELS]
    return tuple(name for name in wide if not fnmatchcase(name, "graph/*"))


def quantised(model: ModelProto, ranges: Ranges, nodes: tuple[str, ...]) -> ModelProto:
    """A copy of a float32 graph whose `nodes` read and multiply INT8: activations per tensor, weights per output channel, bias float.

    ranges: of what the nodes read. Weights are stored as INT8. Scales are exact in float16. Raises UsageError where nothing is left.
    """
    if not nodes:
        raise UsageError("--exclude: leaves no convolution for INT8; build with --precision fp16 instead")
    copy = ModelProto()
    copy.CopyFrom(model)
    read = {node.input[0] for node in model.graph.node if node.name in nodes}
    quantizer = QDQQuantizer(
        copy,
        per_channel=True,
        reduce_range=False,
        weight_qType=QuantType.QInt8,
        activation_qType=QuantType.QInt8,
        tensors_range=TensorsData(CalibrationMethod.MinMax, {name: _as_arrays(ranges[name]) for name in sorted(read)}),
        nodes_to_quantize=list(nodes),
        nodes_to_exclude=[],
        op_types_to_quantize=list(QUANTISED),
        extra_options=dict(_OPTIONS),
    )
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)  # the quantizer talks to the root logger
    try:
        quantizer.quantize_model()
        quantizer.model.topological_sort()
    finally:
        root.setLevel(level)
    result: ModelProto = quantizer.model.model
    _scales_to_half_values(result)
    _only_for(nodes, result)
    _store_weights_int8(result)
    _quantise_residual_branches(result)
    _name_pairs(result)
    return result


def _as_arrays(low_high: tuple[float, float]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    low, high = low_high
    return np.array(low, np.float32), np.array(high, np.float32)


def _scales_to_half_values(model: ModelProto) -> None:
    """Round scales up to what float16 holds, so that INT8 values made with them mean the same in a half-precision graph.

    Below float16's smallest normal number they would lose bits; there they are that number, and the channel uses fewer levels.
    """
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    for name in {node.input[1] for node in model.graph.node if node.op_type == "DequantizeLinear"}:
        exact = numpy_helper.to_array(tensors[name])
        half = exact.astype(np.float16)
        half = np.where(half < exact, np.nextafter(half, np.float16(np.inf)), half)
        tensors[name].CopyFrom(numpy_helper.from_array(np.maximum(half.astype(np.float32), _LEAST_SCALE), name))


def _store_weights_int8(model: ModelProto) -> None:
    """Take away each Q that reads a weight and store what it would give; the float weight stays where another node reads it."""
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    kept: list[NodeProto] = []
    for node in model.graph.node:
        if node.op_type != "QuantizeLinear" or node.input[0] not in tensors:
            kept.append(node)
            continue
        weights, scale = (numpy_helper.to_array(tensors[name]) for name in node.input[:2])
        axis = next((attribute.i for attribute in node.attribute if attribute.name == "axis"), 0)
        per_channel = scale.reshape([-1 if index == axis % weights.ndim else 1 for index in range(weights.ndim)])
        levels = np.clip(np.rint(weights / per_channel), -_LARGEST_INT8, _LARGEST_INT8).astype(np.int8)
        model.graph.initializer.append(numpy_helper.from_array(levels, node.output[0]))
    del model.graph.node[:]
    model.graph.node.extend(kept)
    _drop_unused_weights(model)


def _only_for(nodes: tuple[str, ...], model: ModelProto) -> None:
    """The quantizer gives what a node of `nodes` reads to every reader of that tensor; the others take the float one back."""
    made = producers(model)
    for node in model.graph.node:
        if node.name in nodes:
            continue
        for index, name in enumerate(node.input):
            pair = made.get(name)
            if pair is not None and pair.op_type == "DequantizeLinear":
                node.input[index] = made[pair.input[0]].input[0]


def _quantise_residual_branches(model: ModelProto) -> None:
    """The skip input of an Add takes the INT8 value that the branch's first convolution reads, so that the sum can stay INT8.

    Only where the other input comes from a quantised convolution (with its activation) and nothing else.
    """
    made, readers = producers(model), consumers(model)
    dequantised = {node.input[0]: made_by.output[0] for node in model.graph.node if node.op_type == "QuantizeLinear"
                   for made_by in readers[node.output[0]] if made_by.op_type == "DequantizeLinear"}  # fmt: skip
    for node in model.graph.node:
        if node.op_type != "Add":
            continue
        for skip, other in ((0, 1), (1, 0)):
            if node.input[skip] in dequantised and _is_convolved(node.input[other], made):
                node.input[skip] = dequantised[node.input[skip]]
                break


def _is_convolved(name: str, made: dict[str, NodeProto]) -> bool:
    """Whether this tensor is a quantised convolution's, or such a one through its activation (x, or x times sigmoid of x)."""
    node = made.get(name)
    if node is not None and node.op_type == "Mul":
        inner = [made.get(other) for other in node.input]
        gate = next((found for found in inner if found is not None and found.op_type == "Sigmoid"), None)
        node = made.get(gate.input[0]) if gate is not None and gate.input[0] in node.input else None
    elif node is not None and node.op_type == "Relu":
        node = made.get(node.input[0])
    if node is None or node.op_type not in QUANTISED:
        return False
    source = made.get(node.input[0])
    return source is not None and source.op_type == "DequantizeLinear"


def _name_pairs(model: ModelProto) -> None:
    """`encoder.down16.norm/Conv` reads its input through `encoder.down16.norm/Conv/DequantizeLinear`. Empty value infos go as well."""
    readers = consumers(model)
    taken: set[str] = set()
    for node in model.graph.node:
        if node.op_type not in ("QuantizeLinear", "DequantizeLinear"):
            continue
        reader = readers[node.output[0]][0]
        convolution = reader if reader.op_type != "DequantizeLinear" else readers[reader.output[0]][0]
        part = ".weight" if node.op_type == "DequantizeLinear" and convolution.input[1:2] == [node.output[0]] else ""
        base = f"{convolution.name}{part}/{node.op_type}"
        node.name = base if base not in taken else f"{base}_{node.output[0]}"
        taken.add(node.name)
    del model.graph.value_info[:]


def _drop_unused_weights(model: ModelProto) -> None:
    used = {name for node in model.graph.node for name in node.input}
    kept = [tensor for tensor in model.graph.initializer if tensor.name in used]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)
