from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import NodeProto, TensorProto, helper, numpy_helper

from qtseg_edge.onnx_layers import layers_by_precision, multiply_accumulates, parameter_count

FP16, FP32, INT8 = TensorProto.FLOAT16, TensorProto.FLOAT, TensorProto.INT8


def graph_of(
    nodes: list[NodeProto], weights: dict[str, np.ndarray], element: int = FP32, shape: tuple[int | str, ...] = (1, 4, 8, 8)
) -> onnx.ModelProto:
    """From `x` of that shape to `y`."""
    graph = helper.make_graph(
        nodes,
        "made by hand",
        [helper.make_tensor_value_info("x", element, shape)],
        [helper.make_tensor_value_info("y", element, None)],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=10)
    onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True)  # raises where it is no graph
    return model


def a_kernel(dtype: type = np.float32, channels: int = 4) -> np.ndarray:
    return np.ones((channels, 4, 3, 3), dtype)


def quantised(name: str, scale: str = "scale", zero: str = "zero", axis: int | None = None) -> list[NodeProto]:
    """`name` -> Q -> DQ -> `name.dq`."""
    attributes = {} if axis is None else {"axis": axis}
    return [
        helper.make_node("QuantizeLinear", [name, scale, zero], [f"{name}.q"], **attributes),
        helper.make_node("DequantizeLinear", [f"{name}.q", scale, zero], [f"{name}.dq"], **attributes),
    ]


def test_a_plain_graph_is_counted_by_type_in_its_own_precision() -> None:
    nodes = [helper.make_node("Conv", ["x", "w"], ["c"]), helper.make_node("Relu", ["c"], ["y"])]
    assert layers_by_precision(graph_of(nodes, {"w": a_kernel()})) == {"FP32": {"Conv": 1, "Relu": 1}}
    assert layers_by_precision(graph_of(nodes, {"w": a_kernel(np.float16)}, FP16)) == {"FP16": {"Conv": 1, "Relu": 1}}


def test_a_float32_island_is_counted_apart_and_its_casts_are_no_layers() -> None:
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"]),
        helper.make_node("Cast", ["c"], ["wide"], to=FP32),
        helper.make_node("Softmax", ["wide"], ["s"]),
        helper.make_node("Cast", ["s"], ["narrow"], to=FP16),
        helper.make_node("Sigmoid", ["narrow"], ["y"]),
    ]
    layers = layers_by_precision(graph_of(nodes, {"w": a_kernel(np.float16)}, FP16))
    assert layers == {"FP16": {"Conv": 1, "Sigmoid": 1}, "FP32": {"Softmax": 1}}


def test_weights_stored_half_with_a_cast_are_computed_in_float32() -> None:
    nodes = [helper.make_node("Cast", ["w.half"], ["w"], to=FP32), helper.make_node("Conv", ["x", "w"], ["y"])]
    model = graph_of(nodes, {"w.half": a_kernel(np.float16)})
    assert layers_by_precision(model) == {"FP32": {"Conv": 1}}
    assert parameter_count(model) == 4 * 4 * 9


@pytest.mark.parametrize("scale_type", [np.float32, np.float16])
def test_int8_is_a_convolution_whose_image_and_weights_are_dequantised(scale_type: type) -> None:
    element = FP32 if scale_type is np.float32 else FP16
    settings = {"scale": np.array(0.1, scale_type), "zero": np.array(0, np.int8)}
    per_channel = {"w.scale": np.full(4, 0.1, scale_type), "w.zero": np.zeros(4, np.int8)}
    stored_float = [*quantised("x"), *quantised("w", "w.scale", "w.zero", axis=0)]
    stored_int8 = [*quantised("x"), helper.make_node("DequantizeLinear", ["w.q", "w.scale", "w.zero"], ["w.dq"], axis=0)]
    convolution = helper.make_node("Conv", ["x.dq", "w.dq", "bias"], ["y"])
    for before, weights in ((stored_float, {"w": a_kernel(scale_type)}), (stored_int8, {"w.q": a_kernel(np.int8)})):
        model = graph_of([*before, convolution], {**settings, **per_channel, **weights, "bias": np.zeros(4, scale_type)}, element)
        assert layers_by_precision(model) == {"INT8": {"Conv": 1}}
        assert parameter_count(model) == 4 * 4 * 9 + 4, "scales and zero points are no parameters"


def test_a_convolution_of_which_one_side_is_float_is_not_int8() -> None:
    settings = {"scale": np.array(0.1, np.float32), "zero": np.array(0, np.int8), "w": a_kernel()}
    image_only = graph_of([*quantised("x"), helper.make_node("Conv", ["x.dq", "w"], ["y"])], settings)
    weights_only = graph_of([*quantised("w"), helper.make_node("Conv", ["x", "w.dq"], ["y"])], settings)
    assert layers_by_precision(image_only) == layers_by_precision(weights_only) == {"FP32": {"Conv": 1}}


def test_a_cast_between_dequantising_and_the_product_is_not_int8() -> None:
    nodes = [
        *quantised("x"),
        *quantised("w"),
        helper.make_node("Cast", ["x.dq"], ["x.half"], to=FP16),
        helper.make_node("Cast", ["w.dq"], ["w.half"], to=FP16),
        helper.make_node("Conv", ["x.half", "w.half"], ["c"]),
        helper.make_node("Cast", ["c"], ["y"], to=FP32),
    ]
    settings = {"scale": np.array(0.1, np.float32), "zero": np.array(0, np.int8), "w": a_kernel()}
    assert layers_by_precision(graph_of(nodes, settings)) == {"FP16": {"Conv": 1}}


def test_uint8_is_not_int8() -> None:
    settings = {"scale": np.array(0.1, np.float32), "zero": np.array(0, np.uint8), "w": a_kernel()}
    model = graph_of([*quantised("x"), *quantised("w"), helper.make_node("Conv", ["x.dq", "w.dq"], ["y"])], settings)
    assert layers_by_precision(model) == {"FP32": {"Conv": 1}}


def test_what_follows_on_dequantised_numbers_keeps_their_type() -> None:
    settings = {"scale": np.array(0.1, np.float16), "zero": np.array(0, np.int8)}
    nodes = [*quantised("x"), helper.make_node("MatMul", ["x.dq", "x.dq"], ["m"]), helper.make_node("Add", ["m", "x.dq"], ["y"])]
    assert layers_by_precision(graph_of(nodes, settings, FP16)) == {"INT8": {"MatMul": 1}, "FP16": {"Add": 1}}


def test_resize_has_the_precision_of_its_image_not_of_its_scales() -> None:
    scales = {"scales": np.array([1, 1, 2, 2], np.float32)}
    model = graph_of([helper.make_node("Resize", ["x", "", "scales"], ["y"], mode="linear")], scales, FP16)
    assert layers_by_precision(model) == {"FP16": {"Resize": 1}}
    assert parameter_count(model) == 0


def test_whole_numbers_and_moving_of_data_are_no_layers() -> None:
    nodes = [
        helper.make_node("Shape", ["x"], ["shape"]),
        helper.make_node("Mul", ["shape", "one"], ["same"]),
        helper.make_node("Reshape", ["x", "same"], ["r"]),
        helper.make_node("Transpose", ["r"], ["t"], perm=[0, 1, 3, 2]),
        helper.make_node("Concat", ["t", "t"], ["y"], axis=1),
    ]
    model = graph_of(nodes, {"one": np.ones(4, np.int64)})
    assert layers_by_precision(model) == {}
    assert parameter_count(model) == 0
    assert multiply_accumulates(model) == 0


def test_a_type_that_cannot_be_inferred_is_said_and_not_guessed() -> None:
    nodes = [helper.make_node("Unheard", ["x"], ["u"], domain="somebody.else"), helper.make_node("Sigmoid", ["u"], ["y"])]
    model = helper.make_model(
        helper.make_graph(
            nodes, "foreign", [helper.make_tensor_value_info("x", FP32, [1])], [helper.make_tensor_value_info("y", FP32, None)]
        ),
        opset_imports=[helper.make_opsetid("", 19), helper.make_opsetid("somebody.else", 1)],
    )
    assert layers_by_precision(model) == {"FP32": {"Unheard": 1}, "other": {"Sigmoid": 1}}


def test_a_product_of_unknown_shape_has_no_number() -> None:
    nodes = [helper.make_node("NonZero", ["x"], ["n"]), helper.make_node("Cast", ["n"], ["f"], to=FP32)]
    nodes.append(helper.make_node("Transpose", ["f"], ["t"]))
    model = graph_of([*nodes, helper.make_node("MatMul", ["f", "t"], ["y"])], {})
    assert multiply_accumulates(model) is None


@pytest.mark.parametrize(
    ("node", "weights", "wanted"),
    [
        (helper.make_node("Conv", ["x", "w"], ["y"], strides=[2, 2]), np.ones((6, 4, 3, 3)), 6 * 3 * 3 * 4 * 9),
        (helper.make_node("Conv", ["x", "w"], ["y"], group=4), np.ones((4, 1, 3, 3)), 4 * 6 * 6 * 9),
        (helper.make_node("ConvTranspose", ["x", "w"], ["y"], strides=[2, 2]), np.ones((4, 6, 2, 2)), 4 * 8 * 8 * 6 * 4),
        (helper.make_node("MatMul", ["x", "w"], ["y"]), np.ones((8, 5)), 4 * 8 * 8 * 5),
    ],
)
@pytest.mark.parametrize("batch", [1, 3, "batch"])
def test_multiply_accumulates_of_one_image(node: NodeProto, weights: np.ndarray, wanted: int, batch: int | str) -> None:
    model = graph_of([node], {"w": weights.astype(np.float32)}, shape=(batch, 4, 8, 8))
    assert multiply_accumulates(model) == wanted


@pytest.mark.parametrize("transposed", [0, 1])
def test_multiply_accumulates_of_a_gemm(transposed: int) -> None:
    shape = (1, 1, 6, 7) if transposed else (1, 1, 7, 6)
    nodes = [
        helper.make_node("Reshape", ["x", "flat"], ["a"]),
        helper.make_node("Gemm", ["a", "w"], ["y"], transA=transposed, transB=1),
    ]
    model = graph_of(nodes, {"w": np.ones((5, 6), np.float32), "flat": np.array(shape[2:])}, shape=shape)
    assert multiply_accumulates(model) == 7 * 6 * 5


def test_counting_leaves_the_graph_as_it_was() -> None:
    model = graph_of([helper.make_node("Conv", ["x", "w"], ["y"])], {"w": a_kernel()}, shape=("batch", 4, 8, 8))
    before = model.SerializeToString()
    layers_by_precision(model)
    parameter_count(model)
    assert multiply_accumulates(model) == 4 * 6 * 6 * 4 * 9
    assert model.SerializeToString() == before
