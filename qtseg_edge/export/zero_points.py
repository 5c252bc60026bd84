"""Quantisation to uint8, which TensorRT reads as int8 without saying so. Found without the onnx package, which a board has not.

Wire format: https://protobuf.dev/programming-guides/encoding/; the numbers of the fields: onnx.proto.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from qtseg_edge.errors import IncompatibleError

_MODEL_GRAPH = 7
_GRAPH_NODE, _GRAPH_INITIALIZER = 1, 5
_NODE_INPUT, _NODE_OUTPUT, _NODE_NAME, _NODE_TYPE, _NODE_ATTRIBUTE = 1, 2, 3, 4, 5
_ATTRIBUTE_NAME, _ATTRIBUTE_INTEGER, _ATTRIBUTE_TENSOR = 1, 3, 5
_TENSOR_TYPE, _TENSOR_NAME = 2, 8
_UINT8 = 2  # TensorProto.UINT8
_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5
_FIXED_BYTES = {_FIXED64: 8, _FIXED32: 4}

Field = tuple[int, "int | memoryview"]


@dataclass
class _Node:
    name: str = ""
    type: str = ""
    inputs: list[str] = field(default_factory=list)
    outputs: list[str] = field(default_factory=list)
    output_type: int | None = None  # attribute `output_dtype` of QuantizeLinear
    constant_type: int | None = None  # of a tensor among its attributes, as a Constant has it


def require_int8(onnx_path: Path) -> None:
    """Raises IncompatibleError for a graph that quantises to uint8, or one that is no whole ONNX graph.

    A QuantizeLinear without a zero point quantises to uint8 too: that is the default of ONNX.
    """
    try:
        nodes, types = _graph(memoryview(onnx_path.read_bytes()))
    except (ValueError, IndexError) as error:
        raise IncompatibleError(f"{onnx_path}: not a whole ONNX file ({error})") from error
    for node in nodes:
        if _is_uint8(node, types):
            raise IncompatibleError(
                f"{onnx_path}: {node.type} {node.name!r} is of uint8, which TensorRT reads as int8 and so cuts off above 127; "
                "make the FP32 model int8 instead: qtseg-edge build-engine MODEL.onnx --precision int8"
            )


def _is_uint8(node: _Node, types: dict[str, int]) -> bool:
    zero_point = node.inputs[2] if len(node.inputs) > 2 else ""
    if node.type == "QuantizeLinear":
        return (types.get(zero_point) if zero_point else node.output_type or _UINT8) == _UINT8
    return node.type == "DequantizeLinear" and types.get(zero_point or "".join(node.inputs[:1])) == _UINT8


def _graph(model: memoryview) -> tuple[list[_Node], dict[str, int]]:
    """Its nodes, and the element types of its constants by name."""
    nodes: list[_Node] = []
    types: dict[str, int] = {}
    for content in _messages(model, _MODEL_GRAPH):
        nodes += [_node(node) for node in _messages(content, _GRAPH_NODE)]
        types.update(_tensor(tensor) for tensor in _messages(content, _GRAPH_INITIALIZER))
    types.update((node.outputs[0], node.constant_type) for node in nodes if node.constant_type is not None)
    return nodes, types


def _node(message: memoryview) -> _Node:
    node = _Node()
    for number, value in _fields(message):
        if isinstance(value, int):
            continue
        if number == _NODE_INPUT:
            node.inputs.append(_text(value))
        elif number == _NODE_OUTPUT:
            node.outputs.append(_text(value))
        elif number == _NODE_NAME:
            node.name = _text(value)
        elif number == _NODE_TYPE:
            node.type = _text(value)
        elif number == _NODE_ATTRIBUTE:
            _read_attribute(node, dict(_fields(value)))
    return node


def _read_attribute(node: _Node, attribute: dict[int, int | memoryview]) -> None:
    name, integer, tensor = (attribute.get(number) for number in (_ATTRIBUTE_NAME, _ATTRIBUTE_INTEGER, _ATTRIBUTE_TENSOR))
    if isinstance(name, memoryview) and _text(name) == "output_dtype" and isinstance(integer, int):
        node.output_type = integer
    if isinstance(tensor, memoryview):
        node.constant_type = _tensor(tensor)[1]


def _tensor(message: memoryview) -> tuple[str, int]:
    found = dict(_fields(message))
    name, element_type = found.get(_TENSOR_NAME, 0), found.get(_TENSOR_TYPE, 0)
    return "" if isinstance(name, int) else _text(name), element_type if isinstance(element_type, int) else 0


def _text(value: memoryview) -> str:
    return bytes(value).decode("utf-8")


def _messages(message: memoryview, wanted: int) -> Iterator[memoryview]:
    return (value for number, value in _fields(message) if number == wanted and isinstance(value, memoryview))


def _fields(message: memoryview) -> Iterator[Field]:
    at = 0
    while at < len(message):
        tag, at = _varint(message, at)
        number, wire_type = tag >> 3, tag & 7
        if wire_type == _VARINT:
            value, at = _varint(message, at)
            yield number, value
            continue
        length = _FIXED_BYTES.get(wire_type)
        if wire_type == _LENGTH:
            length, at = _varint(message, at)
        if length is None or at + length > len(message):
            raise ValueError(f"damaged at byte {at} of a part")
        if wire_type == _LENGTH:
            yield number, message[at : at + length]
        at += length


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    """The number that starts at byte `at`, and where the next one starts."""
    value = 0
    for shift in range(0, 70, 7):
        byte = message[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise ValueError("a number of more than 10 bytes")
