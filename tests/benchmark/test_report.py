from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

from qtseg_edge.benchmark.candidates import Skipped
from qtseg_edge.benchmark.plot import plot, vertical_limits
from qtseg_edge.benchmark.report import (
    benchmark_document,
    benchmark_markdown,
    benchmark_notes,
    benchmark_tables,
    benchmark_warnings,
    write_benchmark,
)
from qtseg_edge.benchmark.results import Benchmark
from qtseg_edge.benchmark.run import require
from qtseg_edge.errors import GateError, QtsegError
from tests.benchmark.made import benchmark_of, candidate, result


@pytest.fixture
def done(tmp_path: Path) -> Benchmark:
    """The second twice as fast as the first, in bfloat16; the third crashed; the fourth has no limit."""
    for name in ("a.onnx", "b.onnx"):
        (tmp_path / name).write_bytes(bytes(2_500_000))
    first = result(candidate(folder=tmp_path), [20.0] * 9, [40.0])
    second = result(candidate(device="openvino:bf16", folder=tmp_path), [10.0] * 9, [20.0], engine="openvino bf16")
    third, fourth = result(candidate("b.onnx", folder=tmp_path)), result(candidate("b.onnx", folder=tmp_path, cost="nobody knows"), [5.0])
    third.error = QtsegError("its process crashed (SIGSEGV): oh")
    first.dice, second.dice, fourth.dice = 0.9, 0.8912, 0.5
    second.pixels_equal, second.mask_iou, second.memory_bytes, second.watts = 0.99999, 0.987, 123_000_000, [5.0, 5.0]
    skipped = [Skipped("c.onnx x8", "it takes a batch of 1")]
    return benchmark_of(first, second, third, fourth, skipped=skipped, meter="board, by tegrastats")


def test_the_tables_tell_times_limits_and_ratios(done: Benchmark) -> None:
    device_only, end_to_end, quality, rates = benchmark_tables(done)
    columns, rows, title = device_only
    assert title.startswith("a CPU, 2 cores at 2500 MHz; governor performance; load before 0.10; 2 rounds of 0.5 s; 32x64\nDevice only")
    assert [row[0] for row in rows] == ["1 a.onnx onnxruntime", "2 a.onnx openvino:bf16", "3 b.onnx onnxruntime", "4 b.onnx onnxruntime"]
    first, second, third, fourth = (dict(zip(columns, row, strict=True)) for row in rows)
    assert (first["p50"], first["limit"], first["p10/limit"], first["x first"]) == ("20.00", "10.00", "2.00", "1.00")
    assert (second["p50"], second["limit"], second["p10/limit"]) == ("10.00", "5.00", "2.00")
    assert (second["x first"], second["in rounds"], second["fps"]) == ("2.00", "2.00-2.00", "90.9")
    assert set(list(third.values())[1:]) == {"-"}
    assert (fourth["p50"], fourth["limit"]) == ("5.00", "-")
    assert end_to_end[0] == columns
    values = dict(zip(quality[0], quality[1][1], strict=True))
    assert values["Dice"] == "89.12" and values["pixels as FP32, %"] == "99.9990" and values["mask IoU with FP32"] == "0.9870"
    assert (values["file, MB"], values["memory, MB"], values["frames/s per W"]) == ("2.5", "123", "18.18")
    assert "GPU memory, MB" not in quality[0] and "power of the board, by tegrastats" in quality[2]
    assert ["FP32 on the CPU", "by hand", "2.0 GFLOP/s"] in rates[1] and ["bytes on the CPU", "by hand", "1.0 GB/s"] in rates[1]
    assert benchmark_notes(done) == [
        "b.onnx onnxruntime 32x64: its process crashed (SIGSEGV): oh",
        "c.onnx x8: it takes a batch of 1",
        "b.onnx onnxruntime 32x64: no limit, nobody knows",
    ]


def test_the_document_has_every_figure_with_its_limit(done: Benchmark) -> None:
    document = json.loads(json.dumps(benchmark_document(done), allow_nan=False))
    first, second, third, fourth = document["candidates"]
    assert second["device_only_ms"] == {"count": 10, "mean": 11, "p10": 10, "p50": 10, "p95": 20, "p99": 20, "fps": pytest.approx(90.90909)}
    assert second["limit_ms"] == 5 and second["limit_of"]["bytes_ms"] == pytest.approx((2 * 250_000 + 5 * 2048) / 1e6, rel=1e-3)
    assert second["times_limit"]["device_only"] == {"mean": 2.2, "p10": 2, "p50": 2, "p95": 4, "p99": 4}
    assert second["times_as_fast_as_first"]["end_to_end"] == {"median": 2, "low": 2, "high": 2}
    assert (second["watts"], second["frames_per_joule"], second["memory_bytes"]) == (5, pytest.approx(18.18182), 123_000_000)
    assert third["device_only_ms"] is None and third["error"].startswith("its process crashed")
    assert fourth["limit_ms"] is None and fourth["limit_unknown"] == "nobody knows"
    assert document["machine"]["governor"] == "performance" and document["machine"]["load_average"] == [0.1, 0.2, 0.3]
    assert first.keys() == second.keys() == third.keys()


def test_heat_clock_and_throttling_are_shown_where_they_are_known(done: Benchmark) -> None:
    assert benchmark_warnings(done) == [] and "Throttled" not in benchmark_markdown(done)
    first, second, *_ = done.results
    first.celsius, first.gpu_mhz, second.celsius = [60.0, 71.25], [300.0, 612.0, 612.0], [99.5]
    second.throttled = ["gpu over temperature", "under-voltage"]
    columns, rows, _ = benchmark_tables(done)[2]
    values = [dict(zip(columns, row, strict=True)) for row in rows]
    assert [(one["hottest, °C"], one["GPU, MHz"]) for one in values[:2]] == [("71.2", "612"), ("99.5", "-")]
    documents = json.loads(json.dumps(benchmark_document(done), allow_nan=False))["candidates"]
    assert [(one["hottest_celsius"], one["gpu_mhz"]) for one in documents[:3]] == [(71.25, 612), (99.5, None), (None, None)]
    assert [one["throttled"] for one in documents[:2]] == [[], ["gpu over temperature", "under-voltage"]]
    assert benchmark_warnings(done) == [f"{second.candidate.label}: gpu over temperature, under-voltage"]
    assert benchmark_markdown(done).endswith(f"Throttled while measured:\n\n- {benchmark_warnings(done)[0]}\n")


def test_the_columns_of_markdown_stand_below_each_other(done: Benchmark) -> None:
    tables: list[list[str]] = [[]]
    for line in benchmark_markdown(done).splitlines():
        if line.startswith("|"):
            tables[-1].append(line)
        elif tables[-1]:
            tables.append([])
    found = [table for table in tables if table]
    assert len(found) == 4
    for table in found:
        bars = {tuple(index for index, letter in enumerate(line) if letter == "|") for line in table}
        assert len(bars) == 1, table
        assert set(table[1]) <= set("|-: ")


def test_the_files_are_written_whole(done: Benchmark, tmp_path: Path) -> None:
    write_benchmark(done, tmp_path / "new" / "report")
    names = sorted(path.name for path in (tmp_path / "new" / "report").iterdir())
    assert names == ["benchmark.json", "benchmark.md", "benchmark.png"]
    assert json.loads((tmp_path / "new" / "report" / "benchmark.json").read_text())["interrupted"] is False


@pytest.mark.parametrize("with_dice", [True, False])
def test_the_picture_is_a_picture_whatever_is_known(done: Benchmark, with_dice: bool) -> None:
    import matplotlib.image

    for one in done.results:
        one.dice = one.dice if with_dice else None
    picture = matplotlib.image.imread(io.BytesIO(plot(done)))
    blank = matplotlib.image.imread(io.BytesIO(plot(benchmark_of(result(candidate())))))
    assert picture.shape == blank.shape and (picture != blank).any()


def test_the_gates_name_who_is_over_and_by_how_much(done: Benchmark) -> None:
    done.results.remove(done.results[2])
    require(done, None, None)
    require(done, 20, 50)
    with pytest.raises(
        GateError, match=r"^benchmark: a.onnx onnxruntime 32x64 takes 20.00 ms end to end \(p50\), 5.00 over the 15 allowed$"
    ):
        require(done, 15, None)
    with pytest.raises(
        GateError, match=r"^benchmark: a.onnx openvino:bf16 32x64 has a Dice of 89.12, 0.88 under the 90 wanted; b.onnx .* 50.00"
    ):
        require(done, None, 90)


def test_what_was_not_measured_passes_no_gate(done: Benchmark) -> None:
    with pytest.raises(GateError, match=r"b.onnx onnxruntime 32x64 was not measured \(its process crashed"):
        require(done, 1000, None)
    require(done, None, None)
    failed = benchmark_of(result(candidate(), [1.0]), skipped=[Skipped("d", "not exported", is_failure=True)])
    with pytest.raises(GateError, match=r"d was not measured \(not exported\)"):
        require(failed, 1000, None)
    with pytest.raises(GateError, match=r"has no Dice under the 90 wanted"):
        require(benchmark_of(result(candidate(), [1.0])), None, 90)


def test_what_is_equal_looks_equal_and_no_axis_goes_far_beyond_what_there_is() -> None:
    assert vertical_limits(100, 100) == (99.5, 100.5)
    assert vertical_limits(86.2, 86.4) == pytest.approx((85.8, 86.8))
    assert vertical_limits(60, 80) == (55, 85)
