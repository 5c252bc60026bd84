from __future__ import annotations

import onnx
import pytest
from onnx import TensorProto, helper

from qtseg_edge.benchmark.limits import Cost, Limit, Rate, cost_of_onnx, limit_of
from qtseg_edge.benchmark.rates import _torch_works, works
from tests.benchmark.made import RATES, candidate, result

COST = Cost({"FP32": 3_000_000, "INT8": 1_000_000}, {"FP32": 1000, "INT8": 4000}, (32, 64))
INT8 = Rate("cpu", "INT8", "by hand", 8e9, 10)


def test_the_limit_is_two_operations_for_each_multiply_accumulate_at_the_rate_of_its_precision() -> None:
    limit = limit_of(COST, 1, "cpu", [*RATES, INT8])
    assert isinstance(limit, Limit)
    assert limit.arithmetic_ms == pytest.approx(1e3 * (2 * 3e6 / 2e9 + 2 * 1e6 / 8e9))
    assert limit.bytes_ms == pytest.approx(1e3 * (4 * 1000 + 4000 + 5 * 32 * 64) / 1e9)
    assert limit.ms == limit.arithmetic_ms


def test_a_batch_multiplies_more_but_reads_the_weights_once() -> None:
    one, eight = (limit_of(COST, batch, "cpu", [*RATES, INT8]) for batch in (1, 8))
    assert isinstance(one, Limit) and isinstance(eight, Limit)
    assert eight.arithmetic_ms == pytest.approx(8 * one.arithmetic_ms)
    assert eight.bytes_ms - one.bytes_ms == pytest.approx(1e3 * 7 * 5 * 32 * 64 / 1e9)


def test_the_limit_of_what_is_mostly_weights_is_their_bytes() -> None:
    limit = limit_of(Cost({"FP32": 1000}, {"FP32": 10_000_000}, (32, 32)), 1, "cpu", RATES)
    assert isinstance(limit, Limit)
    assert limit.ms == limit.bytes_ms == pytest.approx(40, rel=0.01)


def test_an_engine_that_computes_in_bfloat16_is_held_to_that_rate_and_half_the_bytes() -> None:
    narrow = COST.computed_in("BF16")
    assert narrow.macs == {"BF16": 3_000_000, "INT8": 1_000_000}
    assert narrow.bytes_of(1) == 2 * 1000 + 4000 + 5 * 32 * 64
    assert COST.computed_in(None) == COST


def test_the_fastest_library_sets_the_rate_and_another_place_does_not_count() -> None:
    rates = [*RATES, Rate("cpu", "FP32", "faster", 6e9, 3), Rate("gpu", "FP32", "elsewhere", 1e15, 3)]
    limit = limit_of(Cost({"FP32": 3_000_000}, {}, (32, 32)), 1, "cpu", rates)
    assert isinstance(limit, Limit) and limit.arithmetic_ms == pytest.approx(1.0)


def test_a_rate_that_is_lacking_is_named() -> None:
    assert limit_of(COST, 1, "cpu", RATES) == "no rate of INT8 was measured on the CPU"
    assert limit_of(COST, 1, "gpu", RATES) == "no rate of FP32, INT8, bytes was measured on the GPU"


@pytest.mark.parametrize(("engine", "milliseconds"), [("openvino f32", 10.0), ("onnxruntime", 10.0), ("openvino bf16", 5.0)])
def test_the_engines_own_name_says_what_it_computes_in(engine: str, milliseconds: float) -> None:
    limit = result(candidate(), [1.0], engine=engine).limit(RATES)
    assert isinstance(limit, Limit) and limit.ms == pytest.approx(milliseconds)


def test_the_cost_is_counted_in_the_graph(tmp_path: object) -> None:
    path = f"{tmp_path}/conv.onnx"
    weights = helper.make_tensor("w", TensorProto.FLOAT, (4, 3, 3, 3), [0.0] * 108)
    sides = [
        helper.make_tensor_value_info("x", TensorProto.FLOAT, (2, 3, 8, 8)),
        helper.make_tensor_value_info("y", TensorProto.FLOAT, None),
    ]
    graph = helper.make_graph([helper.make_node("Conv", ["x", "w"], ["y"], pads=[1] * 4)], "g", sides[:1], sides[1:], [weights])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)]), path)
    assert cost_of_onnx(path, (8, 8)) == Cost({"FP32": 8 * 8 * 4 * 27}, {"FP32": 108}, (8, 8))  # type: ignore[arg-type]


def test_the_cpu_multiplies_in_single_precision_and_copies() -> None:
    found = {(work.what, work.by.split()[0]): work for work in works(with_gpu=False)}
    assert found.keys() >= {("FP32", "numpy"), ("bytes", "numpy")}
    assert found["FP32", "numpy"].amount == 2 * 2048**3
    for work in found.values():
        work.call()


def test_what_is_measured_on_a_gpu_runs() -> None:
    """On the CPU, through the same calls."""
    pytest.importorskip("torch")
    found = _torch_works("cpu", side=32, copied=1 << 10)
    assert [work.what for work in found] == ["FP32", "FP16", "BF16", "INT8", "bytes"]
    for work in found:
        work.call()
