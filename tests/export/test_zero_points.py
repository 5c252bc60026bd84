"""Whether a graph quantises to uint8, told from its bytes alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from qtseg_edge.errors import IncompatibleError
from qtseg_edge.export.zero_points import require_int8

SCALE = numpy_helper.from_array(np.float32(0.1), "scale")


def saved(path: Path, nodes: list[onnx.NodeProto], tensors: list[onnx.TensorProto], opset: int = 21) -> Path:
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [4]) for name in ("x", "y")]
    graph = helper.make_graph(nodes, "graph", ends[:1], ends[1:], [SCALE, *tensors])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)]), path)
    return path


def quantised(path: Path, zero_point: np.dtype[Any] | None = None, constant: bool = False, **attributes: int) -> Path:
    """x -> QuantizeLinear -> DequantizeLinear -> y."""
    names = ["scale"] if zero_point is None else ["scale", "zero"]
    zero = None if zero_point is None else numpy_helper.from_array(np.zeros((), zero_point), "zero")
    nodes = [
        helper.make_node("QuantizeLinear", ["x", *names], ["q"], name="quantise", **attributes),
        helper.make_node("DequantizeLinear", ["q", *names], ["y"], name="back"),
    ]
    if zero is not None and constant:
        nodes.insert(0, helper.make_node("Constant", [], ["zero"], value=zero))
    return saved(path, nodes, [] if zero is None or constant else [zero])


@pytest.mark.parametrize("constant", [False, True], ids=["initializer", "Constant"])
def test_int8_is_taken_and_uint8_refused(tmp_path: Path, constant: bool) -> None:
    require_int8(quantised(tmp_path / "a.onnx", np.dtype(np.int8), constant))
    with pytest.raises(IncompatibleError, match=r"a\.onnx: QuantizeLinear 'quantise' is of uint8, .*--precision int8"):
        require_int8(quantised(tmp_path / "a.onnx", np.dtype(np.uint8), constant))


def test_without_a_zero_point_it_is_uint8_unless_it_says_otherwise(tmp_path: Path) -> None:
    require_int8(quantised(tmp_path / "a.onnx", output_dtype=TensorProto.INT8))
    for attributes in ({}, {"output_dtype": TensorProto.UINT8}):
        with pytest.raises(IncompatibleError, match="QuantizeLinear 'quantise' is of uint8"):
            require_int8(quantised(tmp_path / "a.onnx", **attributes))


@pytest.mark.parametrize("element", [np.int8, np.uint8])
@pytest.mark.parametrize("with_zero_point", [False, True])
def test_stored_weights_count_too(tmp_path: Path, element: type[np.generic], with_zero_point: bool) -> None:
    weights = numpy_helper.from_array(np.zeros(4, element), "weights")
    zero = numpy_helper.from_array(np.zeros((), element), "zero")
    inputs = ["weights", "scale", "zero"] if with_zero_point else ["weights", "scale"]
    nodes = [helper.make_node("DequantizeLinear", inputs, ["w"], name="w"), helper.make_node("Add", ["x", "w"], ["y"], name="add")]
    path = saved(tmp_path / "a.onnx", nodes, [weights, zero])
    if element is np.int8:
        require_int8(path)
        return
    with pytest.raises(IncompatibleError, match="DequantizeLinear 'w' is of uint8"):
        require_int8(path)


def test_a_uint8_tensor_that_is_no_zero_point_is_taken(tmp_path: Path) -> None:
    nodes = [helper.make_node("Cast", ["table"], ["t"], to=TensorProto.FLOAT), helper.make_node("Add", ["x", "t"], ["y"])]
    require_int8(saved(tmp_path / "a.onnx", nodes, [numpy_helper.from_array(np.zeros(4, np.uint8), "table")]))


@given(st.binary(max_size=60))
def test_bytes_that_are_no_graph_are_refused_or_hold_no_quantisation(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "any.onnx"
    path.write_bytes(content)
    try:
        require_int8(path)
    except IncompatibleError as error:
        assert "not a whole ONNX file" in str(error)


@given(at=st.integers(0, 200), byte=st.integers(0, 255))
def test_a_damaged_graph_never_ends_in_anything_but_a_refusal(tmp_path_factory: pytest.TempPathFactory, at: int, byte: int) -> None:
    path = quantised(tmp_path_factory.getbasetemp() / "damaged.onnx", np.dtype(np.int8))
    content = bytearray(path.read_bytes())
    content[at % len(content)] = byte
    path.write_bytes(content)
    try:
        require_int8(path)
    except IncompatibleError as error:
        assert "not a whole ONNX file" in str(error) or "is of uint8" in str(error)
