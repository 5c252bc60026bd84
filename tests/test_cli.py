from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from qtseg_edge import __version__
from qtseg_edge.cli import app
from qtseg_edge.console import print_table, progress
from qtseg_edge.runtime.monitor import STAGES
from tests.media import decoded, numbered_frame, numbered_frames, write_video

ROOT = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def signals_as_before() -> Iterator[None]:
    """`run` takes over Ctrl-C and SIGTERM for the rest of its process."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in handlers.items():
        signal.signal(number, handler)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with a video of 12 frames in it."""
    monkeypatch.chdir(tmp_path)
    write_video(tmp_path / "clip.mp4", numbered_frames(12))
    return tmp_path


def call(*arguments: str) -> Any:
    return CliRunner().invoke(app, list(arguments), env={"COLUMNS": "200"})


def run(*arguments: str) -> Any:
    return call("run", "--device", "fake", *arguments)


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_help_lists_the_commands_and_the_notice() -> None:
    result = call("--help")
    assert result.exit_code == 0
    for word in ("run", "export", "evaluate", "train", "Not a medical device"):
        assert word in result.stdout


@pytest.mark.parametrize("command", ["run", "export", "evaluate", "train"])
@pytest.mark.parametrize("option", ["--help", "-h"])
def test_every_command_has_help(command: str, option: str) -> None:
    result = call(command, option)
    assert result.exit_code == 0
    assert f"{command} [OPTIONS]" in result.stdout


def test_without_a_command_the_help_is_shown_as_a_usage_error() -> None:
    result = call()
    assert result.exit_code == 2
    assert "Commands" in result.output


def test_version() -> None:
    assert call("--version").stdout == f"qtseg-edge {__version__}\n"


@pytest.mark.parametrize("arguments", [["-m", "qtseg_edge.cli"], ["cli.py"]])
def test_it_runs_as_a_module_and_from_a_checkout(arguments: list[str]) -> None:
    done = subprocess.run([sys.executable, *arguments, "--version"], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == f"qtseg-edge {__version__}\n"


def test_without_an_output_the_overlay_is_named_after_the_video(folder: Path) -> None:
    result = run("--video", "clip.mp4")
    assert result.exit_code == 0, result.output
    assert names_in(folder) == ["clip-overlay.mp4", "clip.mp4"]
    assert len(decoded(folder / "clip-overlay.mp4")) == 12


def test_without_an_output_the_overlay_of_an_image_is_an_image(folder: Path) -> None:
    cv2.imwrite(str(folder / "photo.jpg"), numbered_frame(3))
    assert run("--source", "photo.jpg").exit_code == 0
    assert names_in(folder) == ["clip.mp4", "photo-overlay.png", "photo.jpg"]


@pytest.mark.parametrize(("source", "name"), [("*.mp4", "out-overlay.mp4"), ("cl*.mp4", "cl-overlay.mp4"), (".", "out-overlay.mp4")])
def test_without_an_output_the_overlay_of_many_has_a_plain_name(folder: Path, source: str, name: str) -> None:
    for number in (1, 2):
        cv2.imwrite(str(folder / f"{number}.png"), numbered_frame(number))
        write_video(folder / f"clip{number}.mp4", numbered_frames(2))
    result = run("--source", source)
    assert result.exit_code == 0, result.output
    assert name in names_in(folder)


def test_the_table_tells_frames_rate_files_and_the_latency_of_every_stage(folder: Path) -> None:
    result = run("--video", "clip.mp4", "-o", "a.mp4", "-o", "masks/")
    lines = result.stdout.splitlines()
    assert lines[0].startswith("12 frames in ")
    assert lines[0].endswith("fps; foreground in 10; written: a.mp4, masks/")  # two frames are held back
    assert lines[1].split() == ["ms", "mean", "p50", "p95", "p99", "max"]
    assert [line.split("  ")[0].strip() for line in lines[2:]] == list(STAGES)
    assert result.stderr == "fake on fake. Research use only. Not a medical device.\n"


def test_json_is_the_whole_of_standard_output(folder: Path) -> None:
    result = run("--video", "clip.mp4", "-o", "null://", "--json")
    document: dict[str, Any] = json.loads(result.stdout)
    assert (document["frames"], document["foreground_frames"]) == (12, 10)  # two are held back by the temporal filter
    assert (document["dropped"], document["interrupted"], document["error"]) == (0, False, None)
    assert (document["model"], document["device"]) == ("fake", "fake")
    (source,) = document["sources"]
    assert source.pop("frame_age_ms")["count"] == 12
    assert source == {"source": "clip.mp4", "frames": 12, "foreground_frames": 10, "dropped": {}, "reopened": 0}
    assert document["outputs"] == [{"output": "null://", "written": 12, "error": None}]
    assert document["version"] == __version__
    assert document["fps"] == pytest.approx(12 / document["seconds"], rel=0.05)
    assert list(document["latency_ms"]) == list(STAGES)
    assert {stage: values["count"] for stage, values in document["latency_ms"].items()} == {**dict.fromkeys(STAGES, 12), "draw": 0}
    assert set(document["latency_ms"]["infer"]) == {"count", "mean", "p50", "p95", "p99", "max"}


def test_json_tells_the_error_as_well(folder: Path) -> None:
    data = (folder / "clip.mp4").read_bytes()
    write_video(folder / "long.mp4", numbered_frames(100), container={"movflags": "+faststart"})
    data = (folder / "long.mp4").read_bytes()
    (folder / "long.mp4").write_bytes(data[: int(len(data) * 0.6)])
    result = run("--video", "long.mp4", "-o", "null://", "--json")
    assert result.exit_code == 6
    document = json.loads(result.stdout)
    assert "broke after frame" in document["error"]
    assert 0 < document["frames"] < 100


def test_a_source_is_wanted(folder: Path) -> None:
    result = run()
    assert result.exit_code == 2
    assert result.stderr.startswith("qtseg-edge: run: wanted --video FILE, --camera N or --source URI;")


def test_several_sources_have_outputs_of_their_own_and_a_line_each(folder: Path) -> None:
    write_video(folder / "other.mp4", numbered_frames(7))
    result = run("--video", "clip.mp4", "--source", "other.mp4", "-o", "out.mp4", "-o", "out.jsonl")
    assert result.exit_code == 0, result.output
    assert [len(decoded(folder / f"out-{number}.mp4")) for number in (1, 2)] == [12, 7]
    assert [len((folder / f"out-{number}.jsonl").read_text(encoding="utf-8").splitlines()) for number in (1, 2)] == [12, 7]
    lines = [line.split() for line in result.stdout.splitlines()]
    assert ["clip.mp4", "12", "0"] in [line[:3] for line in lines] and ["other.mp4", "7", "0"] in [line[:3] for line in lines]


def test_no_output_takes_the_place_of_another_source(folder: Path) -> None:
    write_video(folder / "out-1.mp4", numbered_frames(7))
    before = (folder / "out-1.mp4").read_bytes()
    result = run("--source", "clip.mp4", "--source", "out-1.mp4", "-o", "out.mp4")
    assert result.exit_code == 2 and "is the input itself" in result.stderr
    assert (folder / "out-1.mp4").read_bytes() == before
    assert sorted(path.name for path in folder.iterdir() if "out" in path.name) == ["out-1.mp4"]


def test_without_the_temporal_filter_every_frame_shows_what_the_network_marked(folder: Path) -> None:
    result = run("--video", "clip.mp4", "-o", "null://", "--temporal", "none", "--json")
    assert json.loads(result.stdout)["foreground_frames"] == 12


def test_a_test_picture_runs_as_a_camera_does(folder: Path) -> None:
    result = run("--source", "testsrc://160x120@60", "-o", "out.jsonl", "--max-frames", "30", "--json")
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    lines = [json.loads(line) for line in (folder / "out.jsonl").read_text(encoding="utf-8").splitlines()]
    assert document["frames"] == len(lines) and document["frames"] + document["dropped"] == 30
    assert all(0 < line["age_ms"] < 2000 for line in lines)


def test_a_file_played_as_if_live_takes_its_time(folder: Path) -> None:
    started = time.perf_counter()
    result = run("--video", "clip.mp4", "--realtime", "-o", "null://", "--json")
    document = json.loads(result.stdout)
    assert time.perf_counter() - started > 11 / 25
    assert document["frames"] + document["dropped"] == 12


def test_a_file_beside_something_live_is_refused_unless_it_is_played_as_live(folder: Path) -> None:
    mixed = ["--source", "testsrc://160x120@60", "--video", "clip.mp4", "-o", "null://", "--max-frames", "5"]
    result = run(*mixed)
    assert result.exit_code == 2 and "clip.mp4 is a file, beside something live" in result.stderr
    result = run(*mixed, "--realtime", "--json")
    assert result.exit_code == 0, result.output
    assert all(source["frames"] >= 1 for source in json.loads(result.stdout)["sources"])


def test_as_if_live_is_for_files(folder: Path) -> None:
    result = run("--source", "testsrc://160x120@60", "--realtime", "-o", "null://")
    assert result.exit_code == 2 and "testsrc://160x120@60 is live already" in result.stderr


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "2>/dev/full", ">&- 2>&- <&-"])
def test_a_stream_that_is_closed_does_not_end_a_run_nor_get_into_a_file(folder: Path, closed: str) -> None:
    command = f"{sys.executable} -m qtseg_edge.cli run --device fake --video clip.mp4 -o out.mp4 -o out.jsonl {closed}"
    done = subprocess.run(["sh", "-c", command], env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=60)
    assert (done.returncode, "Traceback" in done.stdout + done.stderr) == (0, False), done
    assert len(decoded(folder / "out.mp4")) == 12
    lines = (folder / "out.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["frame"] for line in lines] == list(range(12))


def test_a_live_source_wants_an_output(folder: Path) -> None:
    result = run("--source", "testsrc://160x120@60")
    assert result.exit_code == 2
    assert "a live source needs --output" in result.stderr


def test_a_camera_that_is_not_there_names_the_cure(folder: Path) -> None:
    result = run("--camera", "77", "-o", "null://")
    assert result.exit_code == 3
    assert "there is no camera /dev/video77; see which there are: v4l2-ctl --list-devices" in result.stderr


@pytest.mark.parametrize("output", ["clip.mp4", "./clip.mp4", "link.mp4"])
def test_the_input_is_never_overwritten(folder: Path, output: str) -> None:
    (folder / "link.mp4").symlink_to(folder / "clip.mp4")
    before = (folder / "clip.mp4").read_bytes()
    for source in (["--video", "clip.mp4"], ["--source", "cl*.mp4"], ["--source", f"{folder}/clip.mp4"]):
        result = run(*source, "-o", output)
        assert result.exit_code == 2
        assert f"--output {output}: is the input itself; give another name" in result.stderr
    assert (folder / "clip.mp4").read_bytes() == before
    assert names_in(folder) == ["clip.mp4", "link.mp4"]


def test_masks_never_overwrite_the_images_they_are_of(folder: Path) -> None:
    (folder / "photos").mkdir()
    cv2.imwrite(str(folder / "photos" / "a.png"), numbered_frame(1))
    before = (folder / "photos" / "a.png").read_bytes()
    for output in ("photos", "photos/"):
        result = run("--source", "photos", "-o", output)
        assert result.exit_code == 2
        assert "its masks would replace the input a.png" in result.stderr
    assert (folder / "photos" / "a.png").read_bytes() == before
    assert names_in(folder / "photos") == ["a.png"]


@pytest.mark.parametrize("alpha", ["-0.1", "1.1", "opaque", "nan"])
def test_an_opacity_that_is_none_is_refused(folder: Path, alpha: str) -> None:
    result = run("--video", "clip.mp4", "-o", "a.mp4", "--alpha", alpha)
    assert result.exit_code == 2
    assert "alpha" in result.stderr
    assert names_in(folder) == ["clip.mp4"]


def test_opacity_reaches_the_picture(folder: Path) -> None:
    rgb = np.full((64, 96, 3), 60, np.uint8)
    rgb[16:48, 16:80, 0] = 250
    cv2.imwrite(str(folder / "photo.png"), rgb[..., ::-1])
    for alpha, colour in (("0", (250, 60, 60)), ("1", (0, 200, 120)), ("0.5", (125, 130, 90))):
        assert run("--source", "photo.png", "-o", "a.png", "--alpha", alpha).exit_code == 0
        assert cv2.imread("a.png", cv2.IMREAD_COLOR_RGB)[32, 48].tolist() == pytest.approx(colour, abs=1)


def test_the_threshold_reaches_the_mask(folder: Path) -> None:
    rgb = np.full((64, 96, 3), 20, np.uint8)
    rgb[:, :48, 0], rgb[:, 48:72, 0] = 240, 160
    cv2.imwrite(str(folder / "photo.png"), rgb[..., ::-1])
    areas = []
    for threshold in ("0.3", "0.8"):
        assert run("--source", "photo.png", "-o", "a.jsonl", "--threshold", threshold).exit_code == 0
        areas.append(json.loads((folder / "a.jsonl").read_text(encoding="utf-8"))["mask_area"])
    assert areas == pytest.approx([64 * 72, 64 * 48], rel=0.05)


@pytest.mark.parametrize("policy", ["all", "latest"])
def test_both_policies_run(folder: Path, policy: str) -> None:
    result = run("--video", "clip.mp4", "-o", "null://", "--policy", policy, "--json")
    document = json.loads(result.stdout)
    assert document["frames"] + document["dropped"] == 12
    assert policy == "latest" or document["dropped"] == 0


def test_an_unknown_policy_is_refused(folder: Path) -> None:
    result = run("--video", "clip.mp4", "--policy", "some")
    assert result.exit_code == 2
    assert "'all', 'latest'" in result.stderr


def test_a_name_with_brackets_is_printed_as_it_is(folder: Path) -> None:
    """rich would take [red] for a colour."""
    result = run("--video", "clip.mp4", "-o", "a[red].jsonl")
    assert "written: a[red].jsonl" in result.stdout
    assert (folder / "a[red].jsonl").exists()


def test_a_long_name_is_not_cut_short(folder: Path) -> None:
    name = "a-rather-long-name-of-a-folder-" * 6
    (folder / name).mkdir()
    result = run("--video", "clip.mp4", "-o", f"{name}/a.jsonl")
    assert f"written: {name}/a.jsonl" in result.stdout.splitlines()[0]


def test_a_package_that_is_not_installed_names_its_extra(folder: Path) -> None:
    program = "import sys; sys.modules['torch'] = None; from qtseg_edge.cli import main; main()"
    command = [sys.executable, "-c", program, "train", "--data", "."]
    done = subprocess.run(command, env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=60)
    assert done.returncode == 3
    assert done.stderr == "qtseg-edge: torch is not installed; get it with: pip install 'qtseg-edge[train]'\n"


def test_progress_off_a_terminal_is_a_line_now_and_then(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    now = [100.0]
    monkeypatch.setattr("qtseg_edge.console.time.perf_counter", lambda: now[0])
    with progress("run", "frames", 300) as advance:
        for done in range(1, 301):
            now[0] += 0.125
            advance(done)
    assert capsys.readouterr().err.splitlines() == [
        "run: 80/300 frames, 8.0 frames/s",
        "run: 160/300 frames, 8.0 frames/s",
        "run: 240/300 frames, 8.0 frames/s",
    ]


def test_a_table_prints_texts_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(["what", "[x]"], [["[/]", ":smile:"], ["x" * 150, "1"]], "[bold]title[/bold]")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "[bold]title[/bold]"
    assert lines[1].split() == ["what", "[x]"]
    assert lines[2].split() == ["[/]", ":smile:"]
    assert lines[3].startswith("x" * 150)


@pytest.mark.parametrize(
    "arguments",
    [
        ["run", "--source", "testsrc://", "-o", "null://", "--stall-timeout", "nan"],
        ["build-engine", "model.onnx", "--precision", "fp16", "--min-mask-iou", "nan"],
        ["train", "--data", ".", "--lr", "nan"],
    ],
)
def test_no_option_takes_what_is_no_number(folder: Path, arguments: list[str]) -> None:
    """A gate that compares with nan would let everything pass."""
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 2, result.output
    words = " ".join(result.stderr.split())
    # A newer Typer refuses it where an option has a range, in its own words.
    assert f"{arguments[-2]}: wanted a number, got nan" in words or f"Invalid value for '{arguments[-2]}'" in words
    assert names_in(folder) == ["clip.mp4"]
