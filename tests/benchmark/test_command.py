"""The command, on real engines where it measures, and with a stand-in where it has to fail."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from qtseg_edge.cli import app
from tests.benchmark.conftest import Models
from tests.export.builds import builders_of, is_running
from tests.labelled import box, marked_split

ROOT = Path(__file__).parents[2]
QUICK = ("--rounds", "2", "--seconds", "0.05")


@pytest.fixture(autouse=True)
def signals_as_before() -> Iterator[None]:
    """The command takes over Ctrl-C and SIGTERM for the rest of its process."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in handlers.items():
        signal.signal(number, handler)


def call(*arguments: object) -> Any:
    return CliRunner().invoke(app, ["benchmark", *map(str, arguments)], env={"COLUMNS": "200"})


@pytest.fixture(scope="module")
def measured(small_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Path]:
    """The document and the folder of a run of a checkpoint, at another size than its own and two images at a time, on real engines."""
    for package in ("onnxruntime", "openvino"):
        pytest.importorskip(package, reason="pip install 'qtseg-edge[cpu]'")
    folder = tmp_path_factory.mktemp("report")
    split = marked_split(folder / "val", {name: (box(9, 9, 40, 40), box(9, 9, 40, 40)) for name in ("x", "y")})
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    options = ["--device", "torch", "--device", "onnxruntime", "--device", "openvino:f32", "--batch", "2", "--imgsz", "32x64"]
    result = call(small_checkpoint, *options, *QUICK, "--data", split, "-o", folder / "out", "--json")
    for number, handler in handlers.items():
        signal.signal(number, handler)
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout), folder / "out"


def test_every_backend_is_measured_both_ways(measured: tuple[dict[str, Any], Path]) -> None:
    document, _ = measured
    found = [(Path(one["model"]).name, one["device"], one["size_hw"], one["batch"]) for one in document["candidates"]]
    assert found == [("small.safetensors", device, [32, 64], 2) for device in ("torch", "onnxruntime", "openvino:f32")]
    for one in document["candidates"]:
        assert one["error"] is None
        device_only, end_to_end = one["device_only_ms"], one["end_to_end_ms"]
        assert 0 < device_only["p10"] <= device_only["p50"] <= device_only["p95"] <= device_only["p99"]
        assert 0 < end_to_end["p10"] <= end_to_end["p99"]
        assert device_only["fps"] == pytest.approx(1000 * one["batch"] / device_only["mean"], rel=1e-3)
        assert one["memory_bytes"] > 0 and one["file_bytes"] == Path(one["model"]).stat().st_size
        assert 0 < one["limit_ms"] < device_only["p50"] and one["macs"]["FP32"] > 0
        assert one["times_limit"]["device_only"]["p10"] == pytest.approx(device_only["p10"] / one["limit_ms"], rel=0.01)
    assert document["candidates"][0]["times_as_fast_as_first"]["device_only"] == {"median": 1, "low": 1, "high": 1}
    assert document["skipped"] == []


def test_the_masks_of_one_network_agree_on_every_backend(measured: tuple[dict[str, Any], Path]) -> None:
    document, _ = measured
    assert document["compared_on_images"] == 2
    for one in document["candidates"]:
        assert one["reference"] == "small.safetensors torch 32x64 x2"
        assert one["pixels_equal"] > 0.999 and one["mask_iou"] > 0.99
        assert one["dice"] == pytest.approx(document["candidates"][0]["dice"], abs=0.01)


def test_machine_and_rates_are_in_the_document_and_in_the_files(measured: tuple[dict[str, Any], Path]) -> None:
    document, folder = measured
    assert {rate["what"] for rate in document["rates"]} >= {"FP32", "bytes"}
    assert all(rate["per_second"] > 1e8 and rate["calls"] >= 2 for rate in document["rates"])
    assert document["machine"]["cores"] == len(os.sched_getaffinity(0)) and "onnxruntime" in document["machine"]["versions"]
    assert json.loads((folder / "benchmark.json").read_text(encoding="utf-8")) == document
    assert "| 1 torch " in (folder / "benchmark.md").read_text(encoding="utf-8")
    assert (folder / "benchmark.png").read_bytes().startswith(b"\x89PNG")


def test_a_run_of_the_fake_prints_tables_and_dice(models: Models, tmp_path: Path) -> None:
    marked = box(16, 16, 48, 48, (64, 64))
    split = marked_split(tmp_path / "val", {"a": (marked, marked), "b": (np.roll(marked, 16, axis=1), marked)})
    done = call(*models("a"), "--device", "fake", "--data", split, *QUICK, "--fail-under-dice", "75.01")
    assert done.exit_code == 5
    assert "a.onnx fake 64 has a Dice of 75.00, 0.01 under the 75.01 wanted" in done.stderr
    lines = done.stdout.splitlines()
    assert [line for line in lines if line.startswith("Device only")] and [line for line in lines if line.startswith("End to end")]
    assert next(line.split()[:4] for line in lines if line.startswith("1 a.onnx")) == ["1", "a.onnx", "fake", "64"]
    assert "Masks on 2 images (the labelled images)" in done.stdout
    assert "round 2 of 2" in done.stderr


def test_a_list_in_parts_is_the_whole_list(models: Models, tmp_path: Path) -> None:
    done = call(*models("a"), "--device", "fake", "--batch", "1", "--batch", "2,4", *QUICK, "--json")
    assert [one["batch"] for one in json.loads(done.stdout)["candidates"]] == [1, 2, 4]


def test_a_crash_is_a_row_and_fails_the_gate(models: Models, stand_in: Path) -> None:
    crashing, good = models("crashing", "a")
    done = call(crashing, good, "--device", "onnxruntime", *QUICK, "--json", "--fail-over-ms", "1000")
    first, second = json.loads(done.stdout)["candidates"]
    assert "crashed (SIGABRT): out of luck" in first["error"] and first["device_only_ms"] is None
    assert second["error"] is None and second["device_only_ms"]["p50"] >= 1 and second["times_as_fast_as_first"]["device_only"] is None
    last = done.stderr.splitlines()[-1]
    assert done.exit_code == 5 and "crashing.onnx onnxruntime 64 was not measured" in last and "a.onnx" not in last


def test_where_nothing_opens_the_command_ends_with_the_reason(models: Models, stand_in: Path) -> None:
    done = call(*models("refused"), "--device", "onnxruntime", *QUICK)
    assert done.exit_code == 4 and "no such operation" in done.stderr


@pytest.mark.parametrize(
    ("options", "code", "text"),
    [
        (("--imgsz", "350"), 2, "--imgsz: wanted multiples of 32 such as 256,352"),
        (("--imgsz", "352,"), 2, "--imgsz: wanted"),
        (("--batch", "0"), 2, "--batch: wanted numbers from 1 to 64"),
        (("--batch", "1,x"), 2, "--batch: wanted"),
        (("--device", "tpu"), 2, "--device: wanted one of"),
        (("--fail-under-dice", "90"), 2, "Dice needs labels: add --data DIR"),
        (("--data", "none"), 2, "none/images: no such folder"),
        (("--rounds", "0"), 2, ""),
        (("none.onnx",), 2, "no such model"),
    ],
)
def test_what_cannot_be_measured_is_told_before_anything_runs(options: tuple[str, ...], code: int, text: str) -> None:
    done = call(*options)
    assert done.exit_code == code and text in done.stderr
    assert "opening" not in done.stderr


def test_a_folder_for_the_report_must_be_one(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert "wanted a folder, found a file" in call("-o", tmp_path / "file").stderr
    assert "is part of the data" in call("--data", tmp_path, "-o", tmp_path / "images").stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_reports_what_was_measured_and_leaves_no_process(
    models: Models, stand_in: Path, tmp_path: Path, number: signal.Signals
) -> None:
    names = models("a", "slow")
    command = [sys.executable, "-m", "qtseg_edge.cli", "benchmark", *map(str, names), "--device", "onnxruntime"]
    process = subprocess.Popen(
        [*command, "--rounds", "1000", "--seconds", "0.05", "--json"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": f"{tmp_path / 'modules'}{os.pathsep}{ROOT}"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # a background job would ignore it
    )
    assert process.stderr is not None
    try:
        while "round 2 of" not in (line := process.stderr.readline()):
            assert line, process.communicate()
        children = builders_of(process.pid)
        process.send_signal(number)
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
    document = json.loads(out)
    assert process.returncode == 130 and err.splitlines()[-1].startswith("qtseg-edge: interrupted")
    assert document["interrupted"] and all(one["device_only_ms"]["count"] >= 1 for one in document["candidates"])
    assert len(children) == 3 and not any(map(is_running, children))


def test_the_children_end_when_the_command_is_killed(models: Models, stand_in: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "qtseg_edge.cli", "benchmark", *map(str, models("slow")), "--device", "onnxruntime"]
    process = subprocess.Popen(
        [*command, "--seconds", "600"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": f"{tmp_path / 'modules'}{os.pathsep}{ROOT}"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    try:
        while "round 1 of" not in (line := process.stderr.readline()):
            assert line
        children = builders_of(process.pid)
    finally:
        process.kill()
        process.communicate()
    deadline = time.monotonic() + 30
    while any(map(is_running, children)):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert len(children) == 2


def test_an_image_without_its_label_is_told_before_anything_runs(tmp_path: Path, models: Models) -> None:
    marked = box(16, 16, 48, 80)
    split = marked_split(tmp_path / "val", {"a": (marked, marked)})
    (split / "masks" / "a.png").rename(split / "masks" / "b.png")
    done = call(*models("a"), "--device", "fake", "--data", split)
    assert done.exit_code == 2 and "no mask for 1 of 1 images" in done.stderr
