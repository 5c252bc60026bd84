"""Whatever is wrong with the input: one line that says so, the documented exit code, and nothing half-written."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from qtseg_edge.cli import app
from tests.media import blanked, cut_off, decoded, number_of, numbered_frame, numbered_frames, require_forbidden, write_sound, write_video

ROOT = Path(__file__).parents[1]
FASTSTART = {"movflags": "+faststart"}
BANNER = "fake on fake. Research use only. Not a medical device."


class Outcome:
    """What a command left behind: exit code, the lines on both outputs, and the files that were not there before.

    alone: run in a process of its own, where what C libraries print is seen too. prepare: done in that process before. hidden: packages
    that it has not got.
    """

    def __init__(
        self, folder: Path, arguments: list[str], *, alone: bool = False, prepare: Callable[[], None] | None = None, hidden: str = ""
    ) -> None:
        before = set(folder.rglob("*"))
        if alone or prepare or hidden:
            self.code, out, err = in_its_own_process(folder, arguments, prepare, hidden)
        else:
            result = CliRunner().invoke(app, arguments, env={"COLUMNS": "300"})
            self.code, out, err = result.exit_code, result.stdout, result.stderr
        self.out = out.splitlines()
        self.err = [line for line in err.splitlines() if not line.startswith("libpng error")]  # the library prints that by itself
        self.left = sorted(str(path.relative_to(folder)) for path in set(folder.rglob("*")) - before if path.is_file())

    def require_refused(self, code: int, *parts: str) -> None:
        """Nothing but one line, and nothing left."""
        assert (self.code, len(self.err), self.left) == (code, 1, []), self.err
        assert self.err[0].startswith("qtseg-edge: ")
        assert all(part in self.err[0] for part in parts), self.err[0]


def in_its_own_process(folder: Path, arguments: list[str], prepare: Callable[[], None] | None, hidden: str) -> tuple[int, str, str]:
    program = f"import sys; sys.modules.update(dict.fromkeys({hidden.split()!r})); from qtseg_edge.cli import main; main()"
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "300"}
    command = [sys.executable, "-W", "error", "-c", program, *arguments]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=60, preexec_fn=prepare)
    return done.returncode, done.stdout, done.stderr


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Commands run in the test's folder; what `run` does to Ctrl-C and SIGTERM is undone."""
    monkeypatch.chdir(tmp_path)
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in handlers.items():
        signal.signal(number, handler)


def run_on(source: Path | str, *options: str, folder: Path, alone: bool = False, prepare: Callable[[], None] | None = None) -> Outcome:
    outputs = ["-o", "a.mp4", "-o", "a.jsonl", "-o", "masks/"]
    return Outcome(folder, ["run", "--source", str(source), "--device", "fake", *outputs, *options], alone=alone, prepare=prepare)


def text_file(path: Path) -> Path:
    path.write_text("this is no video\n" * 100, encoding="utf-8")
    return path


def truncated_before_its_index(path: Path) -> Path:
    """An mp4 as a camera leaves it when its power goes: the pictures are there, the index at the end is not."""
    return cut_off(write_video(path, numbered_frames(50)), 0.7)


def empty_file(path: Path) -> Path:
    path.touch()
    return path


def empty_folder(path: Path) -> Path:
    path.mkdir()
    return path


def broken_image(path: Path) -> Path:
    cv2.imwrite(str(path), numbered_frame(0))
    return cut_off(path, 0.05)


REFUSED: dict[str, tuple[Callable[[Path], object], str, int, str]] = {
    "missing": (lambda path: None, "clip.mp4", 2, "clip.mp4: no such file or directory"),
    "missing pattern": (lambda path: None, "*.mp4", 2, "matches no file"),
    "name too long": (lambda path: None, "a" * 300 + ".mp4", 2, "no such file or directory"),
    "empty": (empty_file, "clip.mp4", 1, "clip.mp4: is empty"),
    "empty image": (empty_file, "frame.png", 1, "frame.png: is empty"),
    "no index": (truncated_before_its_index, "clip.mp4", 1, "clip.mp4: not a video that can be opened (Invalid data"),
    "text": (text_file, "clip.mp4", 1, "clip.mp4: not a video that can be opened (Invalid data"),
    "plain text": (text_file, "notes.txt", 1, "notes.txt: holds no video stream"),
    "sound only": (write_sound, "clip.mp4", 1, "clip.mp4: holds no video stream"),
    "no images": (empty_folder, "frames", 2, "frames: no images (.bmp, .jpeg"),
    "folder named as a video": (empty_folder, "clip.mp4", 2, "clip.mp4: no images"),
    "special file": (lambda path: os.mkfifo(path), "clip.mp4", 1, "clip.mp4: is empty"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_opened_is_refused_before_anything_is_written(tmp_path: Path, case: str) -> None:
    make, name, code, part = REFUSED[case]
    make(tmp_path / name) if "*" not in name else None
    run_on(name, folder=tmp_path).require_refused(code, part)


@pytest.mark.parametrize("name", ["frame.png", "clip.mp4"])
def test_what_turns_out_broken_at_its_first_frame_leaves_nothing(tmp_path: Path, name: str) -> None:
    if name == "frame.png":
        broken_image(tmp_path / name)
    else:
        path = write_video(tmp_path / name, numbered_frames(30), container=FASTSTART)
        blanked(path, (path.read_bytes().index(b"mdat") + 8) / path.stat().st_size, 1.0)
    outcome = run_on(name, folder=tmp_path, alone=True)
    assert (outcome.code, outcome.left) == (1, [])
    assert not any("Traceback" in line for line in outcome.err)
    assert outcome.err[-1].startswith(f"qtseg-edge: {name}: ")


def test_a_broken_image_among_good_ones_keeps_what_came_before(tmp_path: Path) -> None:
    for name in ("1.png", "3.png"):
        cv2.imwrite(str(tmp_path / name), numbered_frame(1))
    broken_image(tmp_path / "2.png")
    outcome = run_on(".", folder=tmp_path, alone=True)
    assert outcome.code == 1
    assert outcome.err[0] == BANNER
    assert outcome.err[1].startswith("qtseg-edge: 2.png: wanted an image, but it does not decode")
    assert outcome.left == ["a.jsonl", "a.mp4", "masks/1.png"]


def assert_good_part(folder: Path, outcome: Outcome, frames: int) -> int:
    """Exit 6, one line that says where, and the same good part in every output."""
    pictures = decoded(folder / "a.mp4")
    count = len(pictures)
    assert outcome.code == 6
    assert outcome.err[0] == BANNER
    assert len(outcome.err) == 2
    assert f"broke after frame {count - 1} at {(count - 1) / 25:.2f} s" in outcome.err[1]
    assert "everything before is written" in outcome.err[1]
    assert 0 < count < frames
    assert [number_of(picture) for picture in pictures] == list(range(count))
    assert len((folder / "a.jsonl").read_text(encoding="utf-8").splitlines()) == count
    masks = [f"masks/clip_{index:06d}.png" for index in range(count)]
    assert outcome.left == ["a.jsonl", "a.mp4", *masks]
    return count


def test_a_video_cut_in_the_middle_gives_its_good_part_and_exit_code_6(tmp_path: Path) -> None:
    path = cut_off(write_video(tmp_path / "clip.mp4", numbered_frames(150), container=FASTSTART), 0.6)
    count = assert_good_part(tmp_path, run_on(path.name, folder=tmp_path, alone=True), 150)
    assert count > 50


DAMAGED = {
    "clip.mp4": {"options": {"preset": "fast", "bf": "3", "g": "50"}, "container": FASTSTART},
    "clip.ts": {"options": {"preset": "fast", "g": "50"}},
    "clip.avi": {"codec": "mpeg4", "options": {"b": "2000000"}},
}


@pytest.mark.parametrize("name", DAMAGED)
def test_a_video_damaged_in_the_middle_gives_its_good_part_and_exit_code_6(tmp_path: Path, name: str) -> None:
    """A stretch of zeros is found in these; single bytes, and damage to HEVC and VP9, may decode to wrong pictures unnoticed."""
    texture = np.random.default_rng(3).integers(0, 60, (48, 464, 3), dtype=np.uint8)
    frames = [numbered_frame(n) // 4 * 3 + texture[:, 2 * n : 2 * n + 64] for n in range(150)]
    path = blanked(write_video(tmp_path / name, frames, **DAMAGED[name]), 0.5, 0.6)  # type: ignore[arg-type]
    count = assert_good_part(tmp_path, run_on(path.name, folder=tmp_path, alone=True), 150)
    assert count > 20


def test_damage_that_hits_no_picture_changes_nothing(tmp_path: Path) -> None:
    path = write_video(tmp_path / "clip.mp4", numbered_frames(30), sound=True)
    data = path.read_bytes()
    at = data.index(b"SoundHandler")
    path.write_bytes(data[:at] + b"XXXXXHandler" + data[at + 12 :])
    outcome = run_on("clip.mp4", folder=tmp_path)
    assert outcome.code == 0
    assert len(decoded(tmp_path / "a.mp4")) == 30


def test_a_file_that_may_not_be_read_is_one_line(tmp_path: Path) -> None:
    clip = write_video(tmp_path / "clip.mp4", numbered_frames(3))
    clip.chmod(0)
    require_forbidden(clip, os.R_OK)
    run_on("clip.mp4", folder=tmp_path).require_refused(1, "clip.mp4: not a video that can be opened (Permission denied)")


def test_a_file_in_a_folder_that_may_not_be_entered_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "closed").mkdir()
    write_video(tmp_path / "closed" / "clip.mp4", numbered_frames(3))
    (tmp_path / "closed").chmod(0)
    try:
        require_forbidden(tmp_path / "closed", os.R_OK)
        run_on("closed/clip.mp4", folder=tmp_path).require_refused(1, "closed/clip.mp4: Permission denied")
    finally:
        (tmp_path / "closed").chmod(0o700)


def test_a_folder_that_may_not_be_written_is_one_line(tmp_path: Path) -> None:
    write_video(tmp_path / "clip.mp4", numbered_frames(30))
    (tmp_path / "out").mkdir(mode=0o500)
    require_forbidden(tmp_path / "out", os.W_OK)
    for output in ("out/a.mp4", "out/a.jsonl", "out/masks/", "out/"):
        outcome = Outcome(tmp_path, ["run", "--video", "clip.mp4", "--device", "fake", "-o", output])
        assert (outcome.code, outcome.left) == (1, [])
        assert outcome.err[-1].startswith(f"qtseg-edge: {output.rstrip('/')}: cannot be written")


@pytest.mark.parametrize("output", ["missing/a.mp4", "missing/a.jsonl"])
def test_a_folder_for_the_output_that_does_not_exist_is_refused(tmp_path: Path, output: str) -> None:
    write_video(tmp_path / "clip.mp4", numbered_frames(3))
    outcome = Outcome(tmp_path, ["run", "--video", "clip.mp4", "--device", "fake", "-o", output])
    outcome.require_refused(2, f"--output {output}: no such folder; create it with: mkdir -p missing")


def test_a_file_where_a_folder_should_be_is_one_line(tmp_path: Path) -> None:
    write_video(tmp_path / "clip.mp4", numbered_frames(3))
    text_file(tmp_path / "file")
    outcome = Outcome(tmp_path, ["run", "--video", "clip.mp4", "--device", "fake", "-o", "file/masks/"])
    outcome.require_refused(1, "file/masks: cannot be written (Not a directory)")


def test_an_output_whose_name_is_too_long_is_one_line(tmp_path: Path) -> None:
    write_video(tmp_path / "clip.mp4", numbered_frames(3))
    for name in ("a" * 300 + ".mp4", "a" * 300 + ".jsonl", "a" * 300 + "/"):
        outcome = Outcome(tmp_path, ["run", "--video", "clip.mp4", "--device", "fake", "-o", "b.jsonl", "-o", name])
        outcome.require_refused(1, "File name too long")


def small_files() -> None:
    """A disk that is full after 20 kB of each file."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))


@pytest.mark.parametrize("output", ["a.mp4", "a.mkv", "a.jsonl", "masks/", "a.png"])
def test_a_full_disk_is_one_line_and_leaves_nothing_half_written(tmp_path: Path, output: str) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (8, 400, 400, 3), dtype=np.uint8)
    if output == "a.png":
        cv2.imwrite(str(tmp_path / "clip.png"), noise[0])
        source = "clip.png"
    else:
        source = write_video(tmp_path / "clip.avi", noise, codec="mjpeg", pix_fmt="yuvj420p").name
    options = ["--device", "fake", "--temporal", "none", "-o", output]  # the filter would let two frames through that compress well
    outcome = Outcome(tmp_path, ["run", "--source", source, *options], prepare=small_files)
    assert (outcome.code, outcome.left, len(outcome.err)) == (1, [], 2), outcome.err
    assert outcome.err[1].startswith("qtseg-edge: ")
    assert outcome.err[1].endswith("cannot be written (File too large); nothing is left of it, give another --output")
    assert not any("written" in line for line in outcome.out)


def test_a_full_disk_keeps_what_was_recorded_until_then(tmp_path: Path) -> None:
    write_video(tmp_path / "clip.mp4", numbered_frames(500))
    outcome = Outcome(tmp_path, ["run", "--video", "clip.mp4", "--device", "fake", "-o", "a.mp4"], prepare=small_files)
    assert (outcome.code, outcome.left, len(outcome.err)) == (1, ["a.mp4"], 2), outcome.err
    pictures = decoded(tmp_path / "a.mp4")
    assert 50 <= len(pictures) < 500
    assert [number_of(picture) for picture in pictures] == [index % 256 for index in range(len(pictures))]
    assert f"a.mp4: recording stopped after {len(pictures)} frames, {len(pictures) / 25:.1f} s (File too large)" in outcome.err[1]


def test_a_full_disk_keeps_the_other_outputs(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (8, 400, 400, 3), dtype=np.uint8)
    for frame in noise:
        frame[..., 0] = 20  # empty masks, which are small
    write_video(tmp_path / "clip.avi", noise, codec="mjpeg", pix_fmt="yuvj444p", options={"qmin": "2", "qmax": "2"})
    outcome = run_on("clip.avi", folder=tmp_path, prepare=small_files)
    assert outcome.code == 1
    assert "a.mp4: cannot be written (File too large)" in outcome.err[1]
    masks = [name for name in outcome.left if name.startswith("masks/")]
    assert outcome.left == ["a.jsonl", *masks]
    assert len((tmp_path / "a.jsonl").read_text(encoding="utf-8").splitlines()) == len(masks)


NO_MODEL = {
    "not onnx": ("model.onnx", b"this is no model", 4, "not a whole ONNX file"),
    "cut off": ("model.onnx", b"\x08\x0a\x3a\xff\x07" + b"x" * 100, 4, "not a whole ONNX file (ends 923 bytes early)"),
    "without a description": ("model.onnx", b"\x08\x0a", 4, "no qtseg_edge.spec in its metadata"),
    "empty": ("model.onnx", b"", 4, "not a whole ONNX file (empty)"),
    "garbage checkpoint": ("model.safetensors", b"garbage" * 100, 4, "not a safetensors checkpoint"),
    "garbage pickle": ("model.pt", b"garbage" * 100, 4, "not a checkpoint that can be read safely"),
}


@pytest.mark.parametrize("case", NO_MODEL)
def test_a_file_that_is_no_model_is_exit_code_4(tmp_path: Path, case: str) -> None:
    name, content, code, part = NO_MODEL[case]
    pytest.importorskip("openvino" if name.endswith(".onnx") else "torch", reason="an engine must be there to open it")
    (tmp_path / name).write_bytes(content)
    write_video(tmp_path / "clip.mp4", numbered_frames(3))
    outcome = Outcome(tmp_path, ["run", "--video", "clip.mp4", "--model", name, "-o", "a.mp4"])
    outcome.require_refused(code, f"{name}: {part}")


def test_a_missing_model_is_exit_code_2(tmp_path: Path) -> None:
    write_video(tmp_path / "clip.mp4", numbered_frames(3))
    outcome = Outcome(tmp_path, ["run", "--video", "clip.mp4", "--model", "no.onnx", "-o", "a.mp4"])
    outcome.require_refused(2, "no.onnx: no such model; make one with: qtseg-edge export")


def test_a_device_that_is_not_there_is_exit_code_3(tmp_path: Path) -> None:
    write_video(tmp_path / "clip.mp4", numbered_frames(3))
    (tmp_path / "model.onnx").write_bytes(b"\x08\x0a")
    arguments = ["run", "--video", "clip.mp4", "--model", "model.onnx", "--device", "openvino", "-o", "a.mp4"]
    Outcome(tmp_path, arguments, hidden="openvino").require_refused(3, "openvino is not installed", "pip install 'qtseg-edge[cpu]'")


def test_a_video_without_a_video_library_is_exit_code_3(tmp_path: Path) -> None:
    write_video(tmp_path / "clip.mp4", numbered_frames(3))
    outcome = Outcome(tmp_path, ["run", "--video", "clip.mp4", "--device", "fake"], hidden="av")
    outcome.require_refused(3, "reading video needs PyAV", "pip install 'qtseg-edge[cpu]'")


def test_an_unknown_device_is_exit_code_2(tmp_path: Path) -> None:
    write_video(tmp_path / "clip.mp4", numbered_frames(3))
    outcome = Outcome(tmp_path, ["run", "--video", "clip.mp4", "--device", "gpu", "-o", "a.mp4"])
    outcome.require_refused(2, "--device: wanted one of auto, tensorrt, openvino", "got 'gpu'")


@pytest.mark.parametrize("threshold", ["0", "1", "1.5", "-0.2"])
def test_a_threshold_that_is_no_probability_is_exit_code_2(tmp_path: Path, threshold: str) -> None:
    write_video(tmp_path / "clip.mp4", numbered_frames(3))
    outcome = Outcome(tmp_path, ["run", "--video", "clip.mp4", "--device", "fake", "--threshold", threshold, "-o", "a.mp4"])
    outcome.require_refused(2, "--threshold: wanted a probability between 0 and 1")


def test_a_size_that_the_network_cannot_take_names_the_nearest(tmp_path: Path) -> None:
    pytest.importorskip("onnx", reason="that it is there is asked first")
    (tmp_path / "model.safetensors").write_bytes(b"x")
    outcome = Outcome(tmp_path, ["export", "model.safetensors", "-o", "model.onnx", "--imgsz", "350x200"])
    outcome.require_refused(2, "--imgsz: sides must be multiples of 32, got 350x200; try 352x192")


@pytest.mark.parametrize("option", ["--imgsz=big", "--imgsz=1x2x3", "--imgsz=-32", "--imgsz=3.5", "--imgsz=", "--batch=0", "--batch=x"])
def test_a_size_or_batch_that_is_none_is_exit_code_2_before_anything_is_loaded(tmp_path: Path, option: str) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"x")
    outcome = Outcome(tmp_path, ["export", "model.safetensors", "-o", "model.onnx", option], hidden="torch onnx")
    outcome.require_refused(2, f"{option.split('=')[0]}: wanted ")


def test_single_images_are_not_filtered_as_if_they_were_video(tmp_path: Path) -> None:
    """The filter would hide all that is found in them, and an empty mask says that nothing was."""
    cv2.imwrite(str(tmp_path / "frame.png"), numbered_frame(0))
    run_on("frame.png", "--temporal", "hysteresis", folder=tmp_path).require_refused(
        2, "--temporal hysteresis", "frame.png", "leave it out"
    )
