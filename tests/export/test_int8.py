from __future__ import annotations

import logging

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, numpy_helper

from qtseg_edge.errors import IncompatibleError, UsageError
from qtseg_edge.export.precision.graph import as_float32, producers
from qtseg_edge.export.precision.int8 import quantisable_nodes, quantised
from qtseg_edge.export.precision.ranges import Ranges, int8_ranges
from tests.export.graphs import frames, residual, run

BLOCK = ("block.first/Conv", "block.second/Conv")


@pytest.fixture(scope="module")
def plain() -> ModelProto:
    return residual(spread=1000.0)


@pytest.fixture(scope="module")
def ranges(plain: ModelProto) -> Ranges:
    return int8_ranges(plain, frames(8), BLOCK, "minmax")


@pytest.fixture(scope="module")
def int8(plain: ModelProto, ranges: Ranges) -> ModelProto:
    model = quantised(plain, ranges, quantisable_nodes(plain))
    onnx.checker.check_model(model, full_check=True)
    return model


def weights(model: ModelProto) -> dict[str, NDArray[np.generic]]:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


def test_the_first_convolution_and_narrow_ones_are_left_alone(plain: ModelProto) -> None:
    assert quantisable_nodes(plain) == BLOCK


def test_activations_are_symmetric_and_weights_have_a_scale_per_output_channel(int8: ModelProto) -> None:
    tensors, made = weights(int8), producers(int8)
    convolutions = [node for node in int8.graph.node if node.name in BLOCK]
    assert len(convolutions) == 2
    for node in convolutions:
        activation, weight = (made[name] for name in node.input[:2])
        assert activation.op_type == weight.op_type == "DequantizeLinear"
        assert tensors[activation.input[1]].size == 1
        assert tensors[weight.input[0]].dtype == np.int8
        assert tensors[weight.input[1]].shape == (16,)
        for pair in (activation, weight):
            zero = tensors[pair.input[2]]
            assert zero.dtype == np.int8 and not zero.any()


def test_biases_stay_float(int8: ModelProto) -> None:
    assert {weights(int8)[node.input[2]].dtype for node in int8.graph.node if node.op_type == "Conv"} == {np.dtype(np.float32)}


def test_weights_are_within_half_a_step_of_what_they_were(plain: ModelProto, int8: ModelProto) -> None:
    before, after, made = weights(plain), weights(int8), producers(int8)
    for name in ("block.first", "block.second"):
        node = next(node for node in int8.graph.node if node.name == f"{name}/Conv")
        pair = made[node.input[1]]
        scale = after[pair.input[1]].astype(np.float32).reshape(-1, 1, 1, 1)
        error = np.abs(after[pair.input[0]] * scale - before[f"{name}.weight"])
        assert (error <= 0.5001 * scale).all()
        assert np.abs(after[pair.input[0]]).max(axis=(1, 2, 3)).min() > 100, "every channel uses its levels"


def test_scales_are_exact_in_half_precision_and_none_is_too_small_for_it(plain: ModelProto) -> None:
    tiny = residual(seed=5, spread=1e-6)
    model = quantised(tiny, int8_ranges(tiny, frames(2), BLOCK, "minmax"), BLOCK)
    scales = [weights(model)[node.input[1]] for node in model.graph.node if node.op_type == "DequantizeLinear"]
    for scale in scales:
        assert np.array_equal(scale.astype(np.float16).astype(np.float32), scale)
        assert scale.min() >= np.finfo(np.float16).tiny


def test_the_range_of_an_activation_is_what_was_seen(int8: ModelProto, ranges: Ranges) -> None:
    for node in int8.graph.node:
        if node.op_type == "QuantizeLinear":
            largest = max(map(abs, ranges[node.input[0]]))
            assert 127 * weights(int8)[node.input[1]] == pytest.approx(largest, rel=2e-3)


def test_the_sum_of_a_residual_block_reads_the_quantised_branch(int8: ModelProto) -> None:
    node = next(node for node in int8.graph.node if node.name == "block/Add")
    first = next(node for node in int8.graph.node if node.name == BLOCK[0])
    assert node.input[0] == first.input[0], "one Q/DQ pair for both readers"
    assert node.input[1] == "block.second.act.silu", "not between convolution and sum, where TensorRT could not fuse them"


def test_the_branch_stays_as_it_was_where_its_convolution_is_left_out(plain: ModelProto, ranges: Ranges) -> None:
    model = quantised(plain, ranges, BLOCK[:1])
    assert list(next(node for node in model.graph.node if node.name == "block/Add").input) == ["stem.act.silu", "block.second.act.silu"]
    assert sum(node.op_type == "DequantizeLinear" for node in model.graph.node) == 2


def test_the_result_is_close_to_float32() -> None:
    plain = residual()
    int8 = quantised(plain, int8_ranges(plain, frames(8), BLOCK, "minmax"), BLOCK)
    moved = [np.abs(run(int8, frame)[1].astype(int) - run(plain, frame)[1]).max() for frame in frames(4, seed=9)]
    assert 0 < max(moved) <= 8


def test_nodes_have_names_of_their_own_after_what_they_serve(int8: ModelProto) -> None:
    names = [node.name for node in int8.graph.node]
    assert len(set(names)) == len(names) and all(names)
    assert {"block.first/Conv/QuantizeLinear", "block.first/Conv/DequantizeLinear"} <= set(names)
    assert "block.first/Conv.weight/DequantizeLinear" in names


def test_nothing_is_unsigned_or_int32(int8: ModelProto) -> None:
    kinds = {tensor.data_type for tensor in int8.graph.initializer}
    assert kinds <= {TensorProto.FLOAT, TensorProto.INT8, TensorProto.INT64}


def test_the_graph_that_was_given_is_not_changed(plain: ModelProto, ranges: Ranges) -> None:
    before = plain.SerializeToString(deterministic=True)
    quantised(plain, ranges, BLOCK)
    assert plain.SerializeToString(deterministic=True) == before


def test_nothing_left_to_quantise_is_an_error(plain: ModelProto, ranges: Ranges) -> None:
    with pytest.raises(UsageError, match="leaves no convolution for INT8; build with --precision fp16"):
        quantised(plain, ranges, ())


def test_a_quantised_graph_is_not_quantised_again(int8: ModelProto) -> None:
    with pytest.raises(IncompatibleError, match="quantised already"):
        as_float32(int8)


def test_the_quantizer_says_nothing_of_its_own(plain: ModelProto, ranges: Ranges, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        quantised(plain, ranges, BLOCK)
    assert caplog.records == []
