from __future__ import annotations

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from qtseg_edge.errors import IncompatibleError, UsageError
from qtseg_edge.export.onnx_graph import store_weights_half
from qtseg_edge.export.precision.emulation import emulated
from qtseg_edge.export.precision.graph import as_float32, element_types
from qtseg_edge.export.precision.half import half_precision
from qtseg_edge.export.precision.islands import float32_nodes, matching_nodes
from tests.export.graphs import frames, model_of, residual, run, scaled

GRAPH_NODES = frozenset(node.name for node in scaled().graph.node if node.name.startswith("graph/"))
RESIDUAL = residual()
FREE = sorted(node.name for node in RESIDUAL.graph.node if not node.name.startswith("graph/"))


def casts(model: onnx.ModelProto) -> list[str]:
    return [node.name for node in model.graph.node if node.op_type == "Cast"]


def test_what_is_not_kept_computes_in_half_and_the_interface_stays() -> None:
    half = half_precision(RESIDUAL, GRAPH_NODES)
    onnx.checker.check_model(half, full_check=True)
    types = element_types(half)
    assert {types[node.output[0]] for node in half.graph.node if node.name in FREE} == {TensorProto.FLOAT16}
    assert {types[name] for name in ("image", "mask", "confidence")} == {TensorProto.UINT8}
    assert types["pixels"] == TensorProto.FLOAT
    assert types["stem.weight.half"] == TensorProto.FLOAT16 and "stem.weight" not in types


def test_numbers_between_two_kept_nodes_are_never_rounded() -> None:
    """0.3 x 5e4 x 10 is beyond float16, and a Cast to it and back between the two would make infinity of it."""
    model = scaled(5e4, 10.0, 2e-6)
    frame = np.full((1, 8, 8, 3), 77, np.uint8)
    kept = half_precision(model, GRAPH_NODES | {"net.1/Mul", "net.2/Mul"})
    assert "x2.half/Cast" not in casts(kept)
    assert np.abs(run(emulated(kept), frame)[1].astype(int) - run(model, frame)[1]).max() <= 1
    lost = run(emulated(half_precision(model, GRAPH_NODES)), frame)
    assert not np.array_equal(lost[0], run(model, frame)[0]), "the emulation must show what float16 cannot hold"


def test_a_tensor_is_cast_once_for_all_its_readers() -> None:
    half = half_precision(RESIDUAL, GRAPH_NODES | {"block.first/Conv", "block/Add"})
    assert casts(half).count("stem.act.silu.float/Cast") == 1
    assert len(set(casts(half))) == len(casts(half))


def test_a_weight_that_both_precisions_read_is_there_in_both() -> None:
    model = scaled(2.0, 2.0)
    model.graph.node[5].input[1] = "by0"
    half = half_precision(model, GRAPH_NODES | {"net.1/Mul"})
    onnx.checker.check_model(half, full_check=True)
    assert {"by0", "by0.half"} <= {tensor.name for tensor in half.graph.initializer}


def test_the_scales_of_a_resize_stay_float32() -> None:
    nodes = [
        helper.make_node("ReduceMean", ["pixels", "axes"], ["x"], name="net/ReduceMean"),
        helper.make_node("Resize", ["x", "", "twice"], ["large"], name="net/Resize", mode="nearest"),
        helper.make_node("MaxPool", ["large"], ["logits"], name="net/MaxPool", kernel_shape=[2, 2], strides=[2, 2]),
    ]
    axes = np.array([1], np.int64)
    model = model_of(nodes, {"twice": np.array([1, 1, 2, 2], np.float32), "axes": axes})
    half = half_precision(model, GRAPH_NODES)
    onnx.checker.check_model(half, full_check=True)
    assert element_types(half)["twice"] == TensorProto.FLOAT


@settings(max_examples=30, deadline=None)
@given(st.sets(st.sampled_from(FREE)))
def test_any_choice_of_kept_nodes_gives_a_valid_graph_of_nearly_the_same_result(kept: set[str]) -> None:
    half = half_precision(RESIDUAL, GRAPH_NODES | kept)
    onnx.checker.check_model(half, full_check=True)
    (frame,) = frames(1)
    assert np.abs(run(emulated(half), frame)[1].astype(int) - run(RESIDUAL, frame)[1]).max() <= 2


def test_with_every_node_kept_nothing_changes() -> None:
    same = half_precision(RESIDUAL, {node.name for node in RESIDUAL.graph.node})
    assert list(same.graph.node) == list(RESIDUAL.graph.node)
    assert {tensor.name for tensor in same.graph.initializer} == {tensor.name for tensor in RESIDUAL.graph.initializer}


def test_the_emulation_rounds_as_float16_does() -> None:
    model = scaled(1.0, 1 / 3)
    frame = np.full((1, 8, 8, 3), 200, np.uint8)
    third = np.float16(np.float16(np.float32(200 / 255)) * np.float16(1 / 3))
    wanted = 255 / (1 + np.exp(-float(np.float16(third - np.float16(0.5)))))
    assert run(emulated(half_precision(model, GRAPH_NODES)), frame)[1][0, 0, 0] == int(wanted)


def test_weights_that_were_stored_in_half_are_whole_again() -> None:
    stored = residual(seed=3)
    store_weights_half(stored)
    plain = as_float32(stored)
    assert [node.op_type for node in plain.graph.node] == [node.op_type for node in RESIDUAL.graph.node]
    weights = {tensor.name: numpy_helper.to_array(tensor) for tensor in plain.graph.initializer}
    exact = {tensor.name: numpy_helper.to_array(tensor) for tensor in residual(seed=3).graph.initializer}
    assert np.array_equal(weights["stem.weight"], exact["stem.weight"].astype(np.float16).astype(np.float32))
    (frame,) = frames(1)
    assert np.array_equal(run(plain, frame)[1], run(stored, frame)[1])


def test_large_numbers_stay_float32() -> None:
    model = scaled(1e5, 1e-5)
    nodes = float32_nodes(model, {"x1": 20_000.0, "x0": 1.0})
    assert nodes - GRAPH_NODES == {"net.0/Mul", "net.1/Mul"}
    assert float32_nodes(model, {"x1": 16_000.0}) - GRAPH_NODES == {"net.0/Mul"}, "its factor is beyond float16"


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("decoder.stage0.blocks.1.channel/MatMul", True),
        ("decoder.stage0.attend_tokens/Softmax", True),
        ("decoder.stage0.last_norm/LayerNormalization", True),
        ("decoder.stage0.attend_channel/MatMul", False),
        ("encoder.stem.1.norm/Conv", False),
    ],
)
def test_what_needs_more_than_eleven_bits_stays_float32(name: str, kept: bool) -> None:
    model = scaled(1.0)
    model.graph.node[4].name = name
    assert (name in float32_nodes(model, {})) == kept


def test_an_exclusion_that_fits_no_node_is_told() -> None:
    assert matching_nodes(RESIDUAL, ("block.*/Conv",)) == {"block.first/Conv", "block.second/Conv"}
    with pytest.raises(UsageError, match=r"--exclude blok\.\*: no node"):
        matching_nodes(RESIDUAL, ("block.*", "blok.*"))


def test_graphs_that_cannot_be_converted_are_refused() -> None:
    with pytest.raises(IncompatibleError, match="opset 19 or later, got 18"):
        as_float32(model_of([helper.make_node("ReduceMax", ["pixels", "axis"], ["logits"], name="net/ReduceMax")], {}, opset=18))
    unnamed = residual()
    unnamed.graph.node[4].name = ""
    with pytest.raises(IncompatibleError, match="a name of their own"):
        as_float32(unnamed)
