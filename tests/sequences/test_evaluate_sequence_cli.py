"""`qtseg-edge evaluate --sequence`: what is printed, what is written, and what is refused before any work."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from qtseg_edge.cli import app
from tests.media import write_video
from tests.sequences.scenes import FLASH, LESION, Scene, story

SIZE_HW = (256, 256)  # the network size of the fake backend


def call(*arguments: object) -> Any:
    return CliRunner().invoke(app, ["evaluate", *(str(argument) for argument in arguments)], env={"COLUMNS": "200"})


def fake(*arguments: object) -> Any:
    return call("--device", "fake", *arguments)


def refused(*arguments: object) -> str:
    result = fake(*arguments)
    assert result.exit_code == 2, result.output
    return str(result.stderr)


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    return story(SIZE_HW).write(tmp_path / "story")


def rows(printed: str) -> dict[str, list[str]]:
    """Cells of every line, by its first."""
    cells = ([cell.strip() for cell in line.split("  ") if cell.strip()] for line in printed.splitlines())
    return {first: rest for first, *rest in filter(None, cells)}


def test_the_table_says_what_was_found_without_and_with_the_filter(folders: tuple[Path, Path]) -> None:
    frames, masks = folders
    result = fake("--sequence", frames, "--masks", masks, "--fps", 10)
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines()[0] == f"{frames}: 30 frames, 3.0 s; fake on fake"
    assert {name: cells for name, cells in rows(result.stdout).items() if name != "longest"} == {
        f"{frames}: 30 frames, 3.0 s; fake on fake": [],
        "without filter": ["with filter"],
        "lesions detected": ["1 of 2 (50.0 %)", "1 of 2 (50.0 %)"],
        "time to first detection, median": ["0.20 s, 2 frames", "0.40 s, 4 frames"],
        "lesion frames detected": ["7 of 16 (43.8 %)", "5 of 16 (31.2 %)"],
        "flicker: between detected and not": ["2 of 7 (28.6 %)", "2 of 5 (40.0 %)"],
        "mask change where the label is steady": ["0.3000 (n 14)", "0.2857 (n 14)"],
        "of the label itself": ["0.0000", "0.0000"],
        "false-positive events per minute": ["80.0", "20.0"],
        "of all events": ["4 of 5 (80.0 %)", "1 of 2 (50.0 %)"],
        "duration, median": ["0.10 s, 1 frame", "0.30 s, 3 frames"],
        "mean Dice, frames with a lesion": ["0.4306 (n 16)", "0.3125 (n 16)"],
        "touched": ["7 of 16 (43.8 %)", "5 of 16 (31.2 %)"],
        "frames without one, marked": ["4 of 14 (28.6 %)", "0 of 14 (0.0 %)"],
        "lesion": ["from", "frames", "detected after, without filter", "detected after, with filter"],
        "1 bright red": ["0.50 s", "10", "0.20 s, 2 frames", "0.40 s, 4 frames"],
        "2 bright red": ["2.40 s", "6", "never", "never"],
    }


def test_json_is_the_whole_of_standard_output_and_the_same_as_the_report(folders: tuple[Path, Path], tmp_path: Path) -> None:
    frames, masks = folders
    result = fake("--sequence", frames, "--masks", masks, "--fps", 10, "--json", "-o", tmp_path / "report")
    document = json.loads(result.stdout)
    assert document == json.loads((tmp_path / "report" / "report.json").read_text(encoding="utf-8"))
    assert document["filter"] == {"confirm": 3, "window": 6}
    assert (document["model"]["name"], document["model"]["threshold"], document["hit_iou"]) == ("fake", 0.5, 0.1)
    (one,) = document["sequences"]
    assert one["without_filter"] == document["total"]["without_filter"]
    assert one["with_filter"] == {
        "seconds": 3.0,
        "lesions": 2,
        "lesions_detected": 1,
        "lesion_sensitivity": 0.5,
        "to_detection_median_s": 0.4,
        "to_detection_median_frames": 4.0,
        "to_detection_max_s": 0.4,
        "to_detection_max_frames": 4,
        "lesion_frames": 16,
        "lesion_frames_hit": 5,
        "flicker": 0.4,
        "flips": 2,
        "flip_chances": 5,
        "mask_change_where_steady": 0.285714,
        "label_change_where_steady": 0.0,
        "steady_frames": 14,
        "events": 2,
        "false_events": 1,
        "false_events_per_minute": 20.0,
        "false_event_median_s": 0.3,
        "false_event_max_s": 0.3,
        "dice": 0.3125,
        "labelled_frames": 16,
        "labelled_frames_touched": 5,
        "empty_frames": 14,
        "empty_frames_marked": 0,
    }
    assert one["lesions"] == [
        {
            "lesion": 1,
            "class": "bright red",
            "first_frame": 5,
            "frames": 10,
            "started_s": 0.5,
            "ended_s": 1.4,
            "to_detection": {"without_filter": {"seconds": 0.2, "frames": 2}, "with_filter": {"seconds": 0.4, "frames": 4}},
        },
        {
            "lesion": 2,
            "class": "bright red",
            "first_frame": 24,
            "frames": 6,
            "started_s": 2.4,
            "ended_s": 2.9,
            "to_detection": {"without_filter": None, "with_filter": None},
        },
    ]
    assert one["events"]["with_filter"] == [
        {"class": "bright red", "started_s": 0.9, "ended_s": 1.4, "frames": 5, "on_a_lesion": True},
        {"class": "bright red", "started_s": 2.4, "ended_s": 2.6, "frames": 3, "on_a_lesion": False},
    ]
    assert len(one["events"]["without_filter"]) == 5


def test_what_is_not_defined_is_null_not_0_and_not_nan(tmp_path: Path) -> None:
    frames, masks = Scene(5, SIZE_HW).write(tmp_path)
    result = fake("--sequence", frames, "--masks", masks, "--fps", 10, "--json")
    for found in json.loads(result.stdout, parse_constant=pytest.fail)["total"].values():
        undefined = {name for name, value in found.items() if value is None}
        assert undefined == {
            "lesion_sensitivity",
            "to_detection_median_s",
            "to_detection_median_frames",
            "to_detection_max_s",
            "to_detection_max_frames",
            "flicker",
            "mask_change_where_steady",
            "label_change_where_steady",
            "false_event_median_s",
            "false_event_max_s",
            "dice",
        }
        assert found["false_events_per_minute"] == 0
    printed = fake("--sequence", frames, "--masks", masks, "--fps", 10).stdout
    assert rows(printed)["lesions detected"] == ["-", "-"]
    assert rows(printed)["false-positive events per minute"] == ["0.0", "0.0"]
    assert "lesion " not in printed.splitlines()[-1]  # no table of lesions


def test_several_sequences_end_in_a_table_of_all(folders: tuple[Path, Path], tmp_path: Path) -> None:
    """A video among folders: the rate is that of the folders."""
    scene = Scene(20, SIZE_HW).label(LESION, *range(20)).see(LESION, *range(4, 20)).see(FLASH, 15)
    video = write_video(tmp_path / "clip.mkv", scene.rgb(), codec="ffv1", pix_fmt="bgr0", rate=5, options={})
    frames, masks = folders
    both = ["--sequence", frames, "--masks", masks, "--sequence", video, "--masks", scene.write(tmp_path / "data")[1], "--fps", 10]
    result = fake(*both, "-o", tmp_path / "report")
    assert result.exit_code == 0, result.output
    titles = [line for line in result.stdout.splitlines() if line.endswith("s; fake on fake") or line.startswith("all ")]
    assert titles == [f"{frames}: 30 frames, 3.0 s; fake on fake", f"{video}: 20 frames, 4.0 s; fake on fake", "all 2 sequences, 7.0 s"]
    total = rows(result.stdout)  # the last table's
    assert total["lesions detected"] == ["2 of 3 (66.7 %)", "2 of 3 (66.7 %)"]
    assert total["time to first detection, median"] == ["0.50 s, 3 frames", "0.80 s, 5 frames"]  # of 0.2 and 0.8 s, of 0.4 and 1.2 s
    assert total["false-positive events per minute"] == [f"{60 * 5 / 7:.1f}", f"{60 / 7:.1f}"]
    document = json.loads((tmp_path / "report" / "report.json").read_text(encoding="utf-8"))
    assert [one["frames"] for one in document["sequences"]] == [30, 20]
    assert document["total"]["without_filter"]["to_detection_max_s"] == pytest.approx(0.8)
    assert sorted(path.name for path in (tmp_path / "report").iterdir()) == ["report.json", "timeline-1.png", "timeline-2.png"]


def bars(picture: np.ndarray, colour: tuple[int, int, int]) -> list[list[int]]:
    """Lengths in pixels of the bars of a colour (RGB), row by row from the top; without the legend."""
    where = np.abs(picture[: int(0.8 * len(picture)), :, ::-1].astype(int) - colour).max(axis=2) < 12
    lines = np.flatnonzero(where.any(axis=1))
    found = []
    for row in np.split(lines, np.flatnonzero(np.diff(lines) > 3) + 1):
        columns = np.flatnonzero(where[row].any(axis=0))
        found.append([len(bar) for bar in np.split(columns, np.flatnonzero(np.diff(columns) > 1) + 1)])
    return found


def test_the_timeline_shows_right_and_false_events_at_their_length(folders: tuple[Path, Path], tmp_path: Path) -> None:
    frames, masks = folders
    fake("--sequence", frames, "--masks", masks, "--fps", 10, "-o", tmp_path)
    picture = cv2.imread(str(tmp_path / "timeline-1.png"))
    assert picture is not None
    right, false = bars(picture, (0x2A, 0x9D, 0x6F)), bars(picture, (0xD1, 0x49, 0x5B))
    frame = right[0][0] / 4
    for found, wanted in ((right, [[4, 3], [2, 3]]), (false, [[1, 1, 1, 5], [3]])):  # frames, without and with the filter
        assert [[round(length / frame) for length in row] for row in found] == wanted


def test_a_sequence_needs_masks_each_its_own(folders: tuple[Path, Path]) -> None:
    frames, masks = folders
    said = "qtseg-edge: evaluate: wanted one --masks DIR for each --sequence, got {} sequences and {} folders\n"
    assert refused("--sequence", frames, "--fps", 10) == said.format(1, 0)
    assert refused("--sequence", frames, "--sequence", frames, "--masks", masks, "--fps", 10) == said.format(2, 1)
    assert "no such folder" in refused("--sequence", frames, "--masks", "nowhere", "--fps", 10)


@pytest.mark.parametrize("arguments", [["--data", "val"], ["--compare", "other.onnx"], ["--authors-metric"]])
def test_what_is_for_images_does_not_go_with_a_sequence(folders: tuple[Path, Path], arguments: list[str]) -> None:
    frames, masks = folders
    said = refused("--sequence", frames, "--masks", masks, "--fps", 10, *arguments)
    assert said == f"qtseg-edge: {arguments[0]}: is for labelled images, --sequence for labelled video; leave one of them out\n"


@pytest.mark.parametrize(("arguments", "option"), [(["--masks", "masks"], "--masks"), (["--fps", "25"], "--fps")])
def test_what_is_for_a_sequence_does_not_go_with_images(arguments: list[str], option: str) -> None:
    assert refused("--data", "val", *arguments) == f"qtseg-edge: {option}: goes with --sequence; of --data the masks are in val/masks\n"


def test_one_of_both_is_wanted() -> None:
    assert refused() == "qtseg-edge: evaluate: wanted --data DIR, or --sequence VIDEO --masks DIR\n"


def test_a_folder_wants_its_rate_and_a_video_none(folders: tuple[Path, Path], tmp_path: Path) -> None:
    frames, masks = folders
    assert "tells no time; give its frames per second, such as --fps 25" in refused("--sequence", frames, "--masks", masks)
    video = write_video(tmp_path / "clip.mp4", story(SIZE_HW).rgb())
    said = refused("--sequence", video, "--masks", masks, "--fps", 10)
    assert said == f"qtseg-edge: --fps: is for folders of frames, {video} carries its own times; leave it out\n"


def test_a_wrong_mask_is_told_before_the_model_is_opened(folders: tuple[Path, Path]) -> None:
    frames, masks = folders
    (masks / "7.png").unlink()
    result = call("no-such-model.onnx", "--sequence", frames, "--masks", masks, "--fps", 10)
    assert result.exit_code == 2
    assert "no mask for 1 of 30 frames, first 7.png" in result.stderr


def test_a_mask_of_another_size_ends_it_and_nothing_is_written(folders: tuple[Path, Path], tmp_path: Path) -> None:
    frames, masks = folders
    cv2.imwrite(str(masks / "7.png"), np.zeros((9, 9), np.uint8))
    result = fake("--sequence", frames, "--masks", masks, "--fps", 10, "-o", tmp_path / "report")
    assert result.exit_code == 1
    assert result.stderr == f"qtseg-edge: {masks}/7.png: mask of 9x9 for a frame of 256x256\n"
    assert not (tmp_path / "report").exists()


def test_nothing_is_written_among_the_data_or_over_a_file(folders: tuple[Path, Path], tmp_path: Path) -> None:
    frames, masks = folders
    for output in (frames, masks):
        said = refused("--sequence", frames, "--masks", masks, "--fps", 10, "-o", output)
        assert said == f"qtseg-edge: --output {output}: is part of the data; give another folder\n"
    (tmp_path / "taken").write_text("mine")
    assert "wanted a folder, found a file" in refused("--sequence", frames, "--masks", masks, "--fps", 10, "-o", tmp_path / "taken")
