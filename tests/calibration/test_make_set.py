from __future__ import annotations

import json
import os
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from qtseg_edge.calibration.calibration_set import load_calibration_set
from qtseg_edge.calibration.make_set import make_calibration_set
from qtseg_edge.commands.calibrate import calibrate
from qtseg_edge.data import read_image
from qtseg_edge.errors import QtsegError, SourceLostError, UsageError
from tests.calibration.pictures import in_circle, labelled, noisy, scene, write, write_scenes
from tests.media import blanked, write_video

LOSSLESS = {"preset": "ultrafast", "qp": "0"}


def silent(done: int, total: int | None = None, note: str = "") -> None:
    pass


def make(out: Path, *sources: Path | str, count: int = 32) -> dict[str, Any]:
    return make_calibration_set([str(source) for source in sources], count, out, silent).manifest


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


# --- the choice ---------------------------------------------------------------------------------------------------------------------


def test_the_same_sources_give_the_same_bytes(tmp_path: Path) -> None:
    write_scenes(tmp_path / "frames", range(40))
    for name in ("one", "two"):
        make(tmp_path / name, tmp_path / "frames")
    assert content(tmp_path / "one") == content(tmp_path / "two")


def test_every_run_of_like_frames_is_shown_and_no_neighbours_are_taken(tmp_path: Path) -> None:
    """40 scenes of 10 frames each, in which only the noise changes: of 64 wanted, 40 is all there is."""
    frames = (noisy(scene(number // 10), number) for number in range(400))
    video = write_video(tmp_path / "runs.mp4", frames, options=LOSSLESS)
    made = make_calibration_set([str(video)], 64, tmp_path / "set", silent)
    numbers = [image["frame"] for image in made.manifest["images"]]
    assert [number // 10 for number in numbers] == list(range(40))
    assert made.notices == ["64 images were wanted, 40 frames differ enough; more sources give more"]
    assert made.manifest["coverage"]["covered"] == 1.0


def test_frames_are_those_of_the_video_with_their_times(tmp_path: Path) -> None:
    frames = [scene(number // 5) for number in range(200)]
    video = write_video(tmp_path / "scenes.mp4", frames, options=LOSSLESS, pix_fmt="yuv444p")
    manifest = make(tmp_path / "set", video)
    for image in manifest["images"]:
        stored = read_image(tmp_path / "set" / image["file"]).astype(int)
        assert np.abs(stored - frames[image["frame"]]).mean() < 2
        assert image["time_s"] == pytest.approx(image["frame"] / 25, abs=1e-3)
        assert image["source"] == "scenes.mp4"


def test_a_long_video_is_looked_at_evenly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("qtseg_edge.calibration.make_set._CANDIDATES_PER_IMAGE", 1)
    monkeypatch.setattr("qtseg_edge.calibration.make_set._LEAST_CANDIDATES", 1)
    video = write_video(tmp_path / "long.mp4", (scene(number) for number in range(200)), rate=4, options=LOSSLESS)
    manifest = make(tmp_path / "set", video, count=64)
    numbers = [image["frame"] for image in manifest["images"]]
    assert manifest["candidates"] <= 64
    assert set(np.diff(numbers)) == {4}
    assert numbers[-1] >= 196


def test_sources_share_fairly_and_a_poor_one_leaves_its_part_to_the_others(tmp_path: Path) -> None:
    rich, other = write_scenes(tmp_path / "rich", range(60)), write_scenes(tmp_path / "other", range(100, 160))
    poor = write_scenes(tmp_path / "poor", range(200, 204))
    manifest = make(tmp_path / "set", rich, other, poor, count=40)
    assert {source["name"]: source["chosen"] for source in manifest["sources"]} == {"rich": 18, "other": 18, "poor": 4}


def test_a_folder_of_images_and_videos_gives_both(tmp_path: Path) -> None:
    folder = write_scenes(tmp_path / "mixed", range(40))
    write_video(folder / "clip.mp4", (scene(300 + number // 5) for number in range(100)), options=LOSSLESS)
    sources = Counter(image["source"] == "clip.mp4" for image in make(tmp_path / "set", folder)["images"])
    assert sources == {True: 16, False: 16}


def test_frames_with_writing_are_taken_only_where_others_do_not_suffice(tmp_path: Path) -> None:
    for number in range(60):
        frame = in_circle(scene(number, (192, 224)))
        write(tmp_path / "frames" / f"{number:02}.png", labelled(frame, "12/03/2013", (2, 14)) if number % 2 else frame)
    write_scenes(tmp_path / "clean", range(500, 510))
    made = make_calibration_set([str(tmp_path / "frames"), str(tmp_path / "clean")], 40, tmp_path / "enough", silent)
    assert made.manifest["burnt_in"] == {"candidates": 30, "chosen": 0}
    assert made.notices == []
    made = make_calibration_set([str(tmp_path / "frames")], 34, tmp_path / "few", silent)
    assert made.manifest["burnt_in"] == {"candidates": 30, "chosen": 4}
    assert made.notices == ["4 chosen images may show burnt-in text or a position box: nothing else was left"]


def test_useless_frames_are_left_out_and_counted(tmp_path: Path) -> None:
    folder = write_scenes(tmp_path / "frames", range(32))
    write(folder / "black.png", np.zeros((96, 128, 3), np.uint8))
    write(folder / "grey.png", np.full((96, 128, 3), 128, np.uint8))
    write(folder / "snow.png", np.random.default_rng(1).integers(0, 256, (96, 128, 3), np.uint8))
    write(folder / "night.png", scene(900) // 12)
    manifest = make(tmp_path / "set", folder)
    assert manifest["candidates"] == 36
    assert manifest["left_out"] == {"flat": 2, "noise": 1, "dark": 1, "overexposed": 0, "blurred": 0}
    assert not {"black.png", "grey.png", "snow.png", "night.png"} & {image["source"] for image in manifest["images"]}


# --- the files ----------------------------------------------------------------------------------------------------------------------


def test_every_fourth_image_is_held_out_and_no_path_is_told(tmp_path: Path) -> None:
    manifest = make(tmp_path / "set", write_scenes(tmp_path / "frames", range(40)), count=36)
    assert [image["held_out"] for image in manifest["images"]] == [False, False, False, True] * 9
    assert str(tmp_path) not in (tmp_path / "set" / "manifest.json").read_text("utf-8")


def test_jpeg_files_are_copied_but_without_their_notes(tmp_path: Path) -> None:
    folder = write_scenes(tmp_path / "frames", range(32), ".jpg")
    named = folder / "scene000.jpg"
    name = b"Exif\x00\x00 JANE DOE"
    named.write_bytes(named.read_bytes()[:2] + b"\xff\xe1" + (len(name) + 2).to_bytes(2, "big") + name + named.read_bytes()[2:])
    manifest = make(tmp_path / "set", folder)
    assert [image["file"] for image in manifest["images"]] == ["0000.png"] + [f"{number:04}.jpg" for number in range(1, 32)]
    assert (tmp_path / "set" / "0001.jpg").read_bytes() == (folder / "scene001.jpg").read_bytes()
    assert not any(b"JANE DOE" in data for data in content(tmp_path / "set").values())
    assert np.array_equal(read_image(tmp_path / "set" / "0000.png"), read_image(named))


def test_an_older_set_is_replaced_as_a_whole(tmp_path: Path) -> None:
    out = tmp_path / "set"
    make(out, write_scenes(tmp_path / "many", range(50)), count=50)
    make(out, write_scenes(tmp_path / "frames", range(100, 132)))
    assert len(load_calibration_set(out).images) == 32
    assert sorted(path.name for path in tmp_path.iterdir()) == ["frames", "many", "set"]


# --- what is refused, and leaves everything as it was -------------------------------------------------------------------------------


def test_a_folder_with_other_files_is_left_alone(tmp_path: Path) -> None:
    frames = write_scenes(tmp_path / "frames", range(32))
    out = tmp_path / "set"
    make(out, frames)
    (out / "notes.txt").write_text("mine", encoding="utf-8")
    before = content(out)
    with pytest.raises(UsageError, match=r"set: holds other files than a calibration set; .*rm -r"):
        make(out, frames)
    assert content(out) == before
    with pytest.raises(UsageError, match=r"frames: holds the sources, and would be replaced"):
        make(frames, frames)


@pytest.mark.parametrize(
    ("out", "message"), [("file", "is a file; wanted the name of a new folder"), ("none/set", "no such folder; create it with: mkdir -p")]
)
def test_an_output_that_cannot_be_written_is_named(tmp_path: Path, out: str, message: str) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(UsageError, match=message):
        make(tmp_path / out, write_scenes(tmp_path / "frames", range(2)))


def test_too_few_frames_that_differ_are_refused_with_what_was_found(tmp_path: Path) -> None:
    folder = write_scenes(tmp_path / "frames", range(20))
    for number in range(30):  # one scene over and over
        write(folder / f"again{number}.png", noisy(scene(3), number))
    write(folder / "black.png", np.zeros((96, 128, 3), np.uint8))
    with pytest.raises(UsageError, match=r"wanted 32 or more frames that differ, found 20 among 51 candidates, 1 flat; give more"):
        make(tmp_path / "set", folder)
    assert [path.name for path in tmp_path.iterdir()] == ["frames"]


def test_a_file_that_does_not_decode_keeps_the_older_set(tmp_path: Path) -> None:
    folder = write_scenes(tmp_path / "frames", range(33))
    make(tmp_path / "set", folder)
    before = content(tmp_path / "set")
    (folder / "scene032.png").write_bytes(b"no picture")
    with pytest.raises(QtsegError, match=r"scene032\.png: wanted an image, but it does not decode"):
        make(tmp_path / "set", folder)
    assert content(tmp_path / "set") == before


def test_a_broken_video_is_refused_with_the_way_to_repair_it(tmp_path: Path) -> None:
    video = blanked(write_video(tmp_path / "broken.mp4", (scene(number // 5) for number in range(200))), 0.5, 0.6)
    with pytest.raises(SourceLostError, match=r"broken\.mp4: breaks after frame \d+; .*ffmpeg -i broken\.mp4"):
        make(tmp_path / "set", video)
    assert [path.name for path in tmp_path.iterdir()] == ["broken.mp4"]


@pytest.mark.parametrize("what", ["empty", "none"])
def test_a_source_without_pictures_is_named(tmp_path: Path, what: str) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match=f"{what}: (holds neither images nor videos|no such file or directory)"):
        make(tmp_path / "set", tmp_path / what)


def test_a_write_that_fails_keeps_the_older_set(tmp_path: Path) -> None:
    folder = write_scenes(tmp_path / "frames", range(32))
    make(tmp_path / "set", folder)
    before = content(tmp_path / "set")

    def interrupt(done: int, total: int | None = None, note: str = "") -> None:
        if note == "written" and done == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make_calibration_set([str(folder)], 32, tmp_path / "set", interrupt)
    assert content(tmp_path / "set") == before
    assert sorted(os.listdir(tmp_path)) == ["frames", "set"]


# --- the command --------------------------------------------------------------------------------------------------------------------


def test_the_command_prints_a_table_or_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_scenes(tmp_path / "frames", range(36))
    calibrate([str(folder)], tmp_path / "set", 32)
    shown = capsys.readouterr()
    assert "chosen from frames" in shown.out and "32 of 36" in shown.out and "32 (8 held out)" in shown.out
    assert shown.err.splitlines()[-1] == f"next: qtseg-edge build-engine MODEL --precision int8 --calibration {tmp_path / 'set'}"
    calibrate([str(folder)], tmp_path / "set", 32, as_json=True)
    document = json.loads(capsys.readouterr().out)
    assert document["candidates"] == 36 and 0 < document["coverage"]["covered"] <= 1
