"""docs/results/measure_peers.py, which compares with programs of others and reads what they print."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from docs.results import measure_peers
from docs.results.peer_networks import benchmark_app
from docs.results.peer_video import VideoRun, frames_and_stages

YOLO_LOG = """Ultralytics 8.4.190 Python-3.11.7 torch-2.14.1+cu130 CPU (AMD EPYC)
Loading yolo11n-seg_openvino_model for OpenVINO inference...
Using OpenVINO LATENCY mode for batch=1 inference on CPU...

video 1/1 (frame 1/3) /a (b): c/clip.mp4: 352x352 (no detections), 184.8ms
video 1/1 (frame 2/3) /a (b): c/clip.mp4: 352x352 1 0, 24.8ms
video 1/1 (frame 3/3) /a (b): c/clip.mp4: 352x352 12 0s, 24.1ms
Speed: 4.1ms preprocess, 134.0ms inference, 0.8ms postprocess per image at shape (1, 3, 352, 352)
Results saved to runs/out
"""


def test_the_lines_of_yolo_are_read() -> None:
    frames, stages = frames_and_stages(YOLO_LOG)
    assert frames == [("352x352", 0), ("352x352", 1), ("352x352", 12)]
    assert stages == {"preprocess": 4.1, "inference": 134.0, "postprocess": 0.8}


def test_a_run_of_yolo_that_ended_early_is_no_measurement() -> None:
    with pytest.raises(AssertionError, match="no line of speeds"):
        frames_and_stages(YOLO_LOG.split("Speed:")[0])


def test_frames_a_second_leave_out_the_start() -> None:
    assert VideoRun(251, 2.0, 12.0, {}).fps == 25


def test_every_second_round_goes_backwards() -> None:
    turns: list[str] = []

    def measured(name: str) -> int:
        turns.append(name)
        return len(turns)

    results = measure_peers.by_turns({name: lambda name=name: measured(name) for name in "abc"}, 3, 0)  # type: ignore[misc]
    assert turns == list("abccbaabc")
    assert results == {"a": [1, 6, 7], "b": [2, 5, 8], "c": [3, 4, 9]}


def test_ours_is_compared_with_benchmark_app_by_medians() -> None:
    latencies = {measure_peers.OURS: [{"p50": 21.0, "least": 18.0}, {"p50": 30.0, "least": 19.0}]}
    latencies[measure_peers.APP] = [{"p50": 28.0, "least": 20.0}, {"p50": 20.0, "least": 15.0}]
    assert measure_peers.Networks({}, latencies).against_app == {"best": 1.05, "rounds": [0.75, 1.5], "shortest": 1.2, "wanted": 1.05}


def test_the_report_of_the_real_benchmark_app_is_read(small_onnx: Path) -> None:
    pytest.importorskip("openvino", reason="benchmark_app comes with it")
    times = benchmark_app(small_onnx, (64, 96), 3)
    assert 0 < times["least"] <= times["p50"] < 10_000


@pytest.mark.slow
def test_one_round_is_measured_and_written(
    small_checkpoint: Path, small_onnx: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "peers.json"
    measure_peers.main(rounds=1, calls=2, pause=0, model=small_onnx, checkpoint=small_checkpoint, ultralytics=None, output=output)
    document = json.loads(output.read_text())
    assert list(document["latency_ms"]) == [
        measure_peers.TORCH,
        measure_peers.NAIVE,
        "our onnxruntime",
        measure_peers.OURS,
        measure_peers.APP,
    ]
    assert all(rounds[0]["p50"] > 0 for rounds in document["latency_ms"].values())
    assert document["network"]["naive_onnx"]["nodes"] > 100 and document["size_hw"] == [64, 96]
    assert "wanted <= 1.05" in capsys.readouterr().out
