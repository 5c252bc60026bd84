from __future__ import annotations

import json
import os
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from qtseg_edge.errors import QtsegError, UsageError
from qtseg_edge.runtime.frames import SourceInfo
from qtseg_edge.runtime.regions import where_class
from qtseg_edge.runtime.sinks import default_output, for_start, for_stream, open_sink, open_sinks
from qtseg_edge.runtime.sinks.base import NullSink, Sink
from qtseg_edge.runtime.sinks.json_lines import JsonLines
from qtseg_edge.runtime.sinks.pictures import MaskFolder
from qtseg_edge.runtime.sinks.rle import run_lengths
from qtseg_edge.runtime.temporal.events import Track
from tests.disks import small_disk
from tests.media import decoded, numbered_frame
from tests.runtime.stand_ins import info, result_of

Uint8 = NDArray[np.uint8]


def two_discs(size_hw: tuple[int, int] = (60, 80)) -> Uint8:
    mask = np.zeros(size_hw, np.uint8)
    cv2.circle(mask, (20, 20), 12, 1, -1)
    cv2.circle(mask, (60, 40), 6, 1, -1)
    cv2.circle(mask, (20, 20), 4, 0, -1)  # a hole
    return mask


def records_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def written_record(folder: Path, mask: Uint8, **result: Any) -> dict[str, Any]:
    sink = JsonLines(folder / "a.jsonl")
    sink.write(result_of(np.zeros((*mask.shape, 3), np.uint8), mask, **result))
    sink.close()
    (record,) = records_of(folder / "a.jsonl")
    return record


def test_json_has_one_line_per_frame_with_its_place_in_the_source(tmp_path: Path) -> None:
    sink = JsonLines(tmp_path / "a.jsonl")
    for index in range(5):
        sink.write(result_of(numbered_frame(index), index=index))
    sink.close()
    records = records_of(tmp_path / "a.jsonl")
    assert [(record["frame"], record["time_s"]) for record in records] == [(0, 0.0), (1, 0.04), (2, 0.08), (3, 0.12), (4, 0.16)]
    assert all((record["source"], record["width"], record["height"]) == ("clip.mp4", 64, 48) for record in records)
    assert all((record["mask_area"], record["regions"]) == (0, []) for record in records)
    assert set(records[0]["latency_ms"]) == {"decode", "prepare", "infer", "restore"}


def test_json_tells_regions_that_fit_the_mask(tmp_path: Path) -> None:
    mask = two_discs()
    record = written_record(tmp_path, mask, confidence=204)
    assert record["mask_area"] == np.count_nonzero(mask)
    assert record["mask_share"] == pytest.approx(np.count_nonzero(mask) / mask.size, abs=1e-6)
    assert sum(region["area"] for region in record["regions"]) == record["mask_area"]
    assert [region["class"] for region in record["regions"]] == ["polyp", "polyp"]
    assert all(region["confidence"] == 0.8 for region in record["regions"])
    for region in record["regions"]:
        x, y, width, height = region["box"]
        outline = np.array(region["contour"])
        assert outline.min(axis=0).tolist() == [x, y]
        assert outline.max(axis=0).tolist() == [x + width - 1, y + height - 1]
        filled = np.zeros_like(mask)
        cv2.fillPoly(filled, [outline.astype(np.int32)], 1)
        inside = mask[y : y + height, x : x + width]
        assert region["area"] == np.count_nonzero(inside)
        assert np.count_nonzero(filled) == region["area"] + (49 if x == 8 else 0)  # the outline goes round the hole of 49 pixels
        assert np.all(filled[mask > 0][: region["area"]] <= 1)


def test_json_names_the_class_of_every_region(tmp_path: Path) -> None:
    mask = np.zeros((48, 64), np.uint8)
    mask[5:10, 5:10], mask[20:40, 20:40] = 1, 2
    record = written_record(tmp_path, mask, classes=3)
    assert [(region["class"], region["area"]) for region in record["regions"]] == [("instrument", 400), ("polyp", 25)]


def test_json_takes_its_name_only_when_it_is_closed(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text("older", encoding="utf-8")
    sink = JsonLines(path)
    sink.write(result_of(numbered_frame(0)))
    assert path.read_text(encoding="utf-8") == "older"
    sink.close()
    assert len(records_of(path)) == 1
    assert list(tmp_path.iterdir()) == [path]


def test_abandoned_json_keeps_its_lines(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    sink = JsonLines(path)
    sink.write(result_of(numbered_frame(0)))
    sink.abandon()
    assert len(records_of(path)) == 1
    assert list(tmp_path.iterdir()) == [path]


def test_abandoned_json_without_a_line_leaves_the_older_file(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text("older", encoding="utf-8")
    JsonLines(path).abandon()
    assert path.read_text(encoding="utf-8") == "older"
    assert list(tmp_path.iterdir()) == [path]


def test_json_can_be_read_while_it_is_written(tmp_path: Path) -> None:
    sink = JsonLines(tmp_path / "a.jsonl")
    for index in range(3):
        sink.write(result_of(numbered_frame(index), index=index))
        assert len(records_of(tmp_path / "a.recording.jsonl")) == index + 1
    sink.close()


def test_json_on_a_full_disk_keeps_whole_lines(tmp_path: Path) -> None:
    sink = JsonLines(tmp_path / "a.jsonl")
    with small_disk(), pytest.raises(QtsegError) as caught:
        for index in range(1000):
            sink.write(result_of(numbered_frame(index % 256), two_discs((48, 64)), index))
    sink.abandon()
    records = records_of(tmp_path / "a.jsonl")
    assert [record["frame"] for record in records] == list(range(len(records)))
    assert f"recording stopped after {len(records)} frames, {(len(records) - 1) / 25:.1f} s (File too large)" in str(caught.value)


def test_json_tells_tracks_age_and_run_lengths(tmp_path: Path) -> None:
    mask = np.zeros((48, 64), np.uint8)
    mask[5:10, 5:10], mask[20:40, 20:40] = 1, 2
    result = result_of(np.zeros((48, 64, 3), np.uint8), mask, classes=3)
    sink = JsonLines(tmp_path / "a.jsonl")
    track = Track(7, 2, (20, 20, 20, 20), 400, 0.87654)
    sink.write(replace(result, tracks=(track,), segmented_at=result.frame.captured_at + 0.025))
    sink.close()
    (record,) = records_of(tmp_path / "a.jsonl")
    assert record["signal"] is True
    assert record["age_ms"] == 25.0
    assert record["tracks"] == [{"id": 7, "class": "instrument", "area": 400, "box": [20, 20, 20, 20], "confidence": 0.8765}]
    assert record["rle"] == {"polyp": run_lengths(where_class(mask, 1)), "instrument": run_lengths(where_class(mask, 2))}


def test_nothing_is_known_of_a_frame_without_signal(tmp_path: Path) -> None:
    """An area of 0, or an empty mask, would say that there is nothing."""
    result = result_of(np.zeros((48, 64, 3), np.uint8))
    result = replace(result, frame=replace(result.frame, has_signal=False))
    for sink in (JsonLines(tmp_path / "a.jsonl"), MaskFolder(tmp_path / "masks", info())):
        sink.write(result)
        sink.close()
    (record,) = records_of(tmp_path / "a.jsonl")
    assert (record["signal"], record["mask_area"], record["mask_share"], record["rle"]) == (False, None, None, {})
    assert list((tmp_path / "masks").iterdir()) == []


def test_masks_of_a_video_are_black_and_white_at_its_size_and_numbered(tmp_path: Path) -> None:
    sink = open_sink(f"{tmp_path / 'masks'}/", info())
    masks = [two_discs(), np.zeros((60, 80), np.uint8), np.ones((60, 80), np.uint8)]
    for index, mask in enumerate(masks):
        sink.write(result_of(np.zeros((60, 80, 3), np.uint8), mask, index))
    sink.close()
    assert sorted(path.name for path in (tmp_path / "masks").iterdir()) == ["clip_000000.png", "clip_000001.png", "clip_000002.png"]
    for index, mask in enumerate(masks):
        read = cv2.imread(str(tmp_path / "masks" / f"clip_{index:06d}.png"), cv2.IMREAD_UNCHANGED)
        assert np.array_equal(read, mask * 255)


def test_masks_of_images_take_their_names(tmp_path: Path) -> None:
    sink = MaskFolder(tmp_path, info(images=True))
    sink.write(result_of(np.zeros((60, 80, 3), np.uint8), two_discs(), source="photos/first.jpg"))
    sink.close()
    assert [path.name for path in tmp_path.iterdir()] == ["first.png"]


def test_masks_of_several_classes_hold_their_indices(tmp_path: Path) -> None:
    mask = np.zeros((48, 64), np.uint8)
    mask[5:10, 5:10], mask[20:40, 20:40] = 1, 2
    sink = MaskFolder(tmp_path, info())
    sink.write(result_of(np.zeros((48, 64, 3), np.uint8), mask, classes=3))
    assert np.array_equal(cv2.imread(str(tmp_path / "clip_000000.png"), cv2.IMREAD_UNCHANGED), mask)


@pytest.mark.parametrize("suffix", [".png", ".PNG", ".jpg"])
def test_the_overlay_of_a_single_image_is_a_picture(tmp_path: Path, suffix: str) -> None:
    mask = two_discs()
    result = result_of(np.full((60, 80, 3), (200, 90, 40), np.uint8), mask)
    sink = open_sink(str(tmp_path / f"a{suffix}"), info(1, images=True))
    assert sink.needs_picture
    sink.write(result)
    sink.close()
    assert [path.name for path in tmp_path.iterdir()] == [f"a{suffix}"]
    read = cv2.imread(str(tmp_path / f"a{suffix}"), cv2.IMREAD_COLOR_RGB)
    assert np.abs(read.astype(np.int16) - result.picture).mean() < (6 if suffix == ".jpg" else 0.001)


@pytest.mark.parametrize("about", [info(1), info(2, images=True), info(None, images=True)], ids=["video", "two images", "unknown"])
def test_a_picture_of_more_than_one_image_is_refused(tmp_path: Path, about: SourceInfo) -> None:
    with pytest.raises(UsageError, match=r"holds one picture, clip\.mp4 has more; wanted out\.mp4 or masks/"):
        open_sink(str(tmp_path / "a.png"), about)


@pytest.mark.parametrize("name", ["a.jsonl", "a.png", "masks/"])
def test_a_full_disk_is_reported_and_leaves_nothing_half_written(tmp_path: Path, name: str) -> None:
    about = info(1, images=True)
    rng = np.random.default_rng(0)
    rgb, mask = rng.integers(0, 256, (400, 400, 3), dtype=np.uint8), rng.integers(0, 2, (400, 400), dtype=np.uint8)
    sink = open_sink(f"{tmp_path}/{name}", about)
    with small_disk(), pytest.raises(QtsegError, match=r"cannot be written \(File too large\)"):
        sink.write(result_of(rgb, mask))
        sink.close()
    sink.abandon()
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == []


def test_a_folder_of_masks_that_goes_away_is_reported(tmp_path: Path) -> None:
    sink = MaskFolder(tmp_path / "masks", info())
    (tmp_path / "masks").rmdir()
    with pytest.raises(QtsegError, match=r"clip_000000\.png: cannot be written \(No such file or directory\)"):
        sink.write(result_of(numbered_frame(0)))


def test_only_the_video_wants_the_picture(tmp_path: Path) -> None:
    sinks = open_sinks([str(tmp_path / "a.mp4"), str(tmp_path / "a.jsonl"), f"{tmp_path}/masks/", "null://"], info())
    assert [sink.needs_picture for sink in sinks] == [True, False, False, False]
    for sink in sinks:
        sink.abandon()
    assert [path.name for path in tmp_path.iterdir()] == ["masks"]


def test_every_output_gets_every_frame(tmp_path: Path) -> None:
    sinks = open_sinks([str(tmp_path / "a.mp4"), str(tmp_path / "a.jsonl"), f"{tmp_path}/masks/", "null://"], info())
    for index in range(4):
        for sink in sinks:
            sink.write(result_of(numbered_frame(index), index=index))
    for sink in sinks:
        sink.close()
    assert len(decoded(tmp_path / "a.mp4")) == len(records_of(tmp_path / "a.jsonl")) == len(list((tmp_path / "masks").iterdir())) == 4


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("null://", "NullSink"),
        ("a.jsonl", "JsonLines"),
        ("a.JSONL", "JsonLines"),
        ("a.coco.json", "CocoFile"),
        ("a.events.jsonl", "EventLog"),
        ("a.mp4", "VideoFile"),
        ("a.MKV", "VideoFile"),
        ("m/", "MaskFolder"),
    ],
)
def test_the_text_names_the_kind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, kind: str) -> None:
    monkeypatch.chdir(tmp_path)
    sink: Sink = open_sink(text, info())
    assert type(sink).__name__ == kind
    sink.abandon()


def test_an_existing_folder_needs_no_slash(tmp_path: Path) -> None:
    assert isinstance(open_sink(str(tmp_path), info()), MaskFolder)


@pytest.mark.parametrize("text", ["rtsp:/user:secret@host/live", "rtsp:/user:secret@host/live.mp4", "user:secret@host/live.mp4"])
def test_an_address_that_looks_like_a_path_shows_no_password(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=r"--output .*\*\*\*@host/live") as caught:
        open_sink(text, info())
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("text", ["masks", "out.webm", "out", "a.txt", "http://somewhere", "udp://user:secret@host", "null://x"])
def test_an_unknown_kind_is_refused_with_what_there_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=r"wanted out\.mp4, .*masks/, out\.jsonl, .* or null://") as caught:
        open_sink(text, info())
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("name", ["a.mp4", "a.jsonl"])
def test_a_folder_that_does_not_exist_names_the_cure(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match=r"no such folder; create it with: mkdir -p .*missing"):
        open_sink(str(tmp_path / "missing" / name), info())


def test_a_file_in_the_place_of_the_folder_of_masks_is_reported(tmp_path: Path) -> None:
    (tmp_path / "masks").write_text("x", encoding="utf-8")
    with pytest.raises(QtsegError, match=r"masks: cannot be written"):
        open_sink(f"{tmp_path}/masks/", info())


def test_if_one_output_cannot_be_opened_none_is_left_behind(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"wanted out\.mp4"):
        open_sinks([str(tmp_path / "a.jsonl"), str(tmp_path / "a.mp4"), str(tmp_path / "what.xyz")], info())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("text", "second"),
    [
        ("out.mp4", "out-2.mp4"),
        ("folder/a.b.jsonl", "folder/a.b-2.jsonl"),
        ("x.events.jsonl", "x-2.events.jsonl"),
        ("X.COCO.json", "X-2.COCO.json"),
        ("masks/", "masks/2/"),
        ("rtsp://user:secret@host:8554/live", "rtsp://user:secret@host:8554/live-2"),
        ("rtsp://host/live/?a=b", "rtsp://host/live-2?a=b"),
        ("null://", "null://"),
        ("web://127.0.0.1:8080", "web://127.0.0.1:8080"),
    ],
)
def test_streams_have_outputs_of_their_own(text: str, second: str) -> None:
    assert for_stream(text, 0, 1) == text
    assert for_stream(text, 1, 3) == second


def test_an_existing_folder_gets_a_folder_for_every_stream(tmp_path: Path) -> None:
    assert for_stream(str(tmp_path), 0, 2) == f"{tmp_path}/1/"


def test_a_window_shows_one_stream() -> None:
    assert for_stream("display://", 0, 1) == "display://"
    with pytest.raises(UsageError, match="shows one source, here are 2; use web://"):
        for_stream("display://", 0, 2)


def test_a_live_source_has_no_default_output() -> None:
    assert default_output(info()) == "clip-overlay.mp4"
    with pytest.raises(UsageError, match=r"clip\.mp4: a live source needs --output: web://127\.0\.0\.1:8080"):
        default_output(replace(info(), live=True))


@pytest.mark.parametrize("second", ["a.mp4", "./a.mp4", "../{name}/a.mp4"])
def test_the_same_output_twice_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, second: str) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match="is given twice"):
        open_sinks(["a.mp4", second.format(name=tmp_path.name)], info())
    assert list(tmp_path.iterdir()) == []


def test_null_may_be_given_twice() -> None:
    assert [type(sink) for sink in open_sinks(["null://", "null://"], info())] == [NullSink, NullSink]


@pytest.mark.parametrize("as_link", [False, True])
def test_no_output_takes_the_place_of_any_input(tmp_path: Path, as_link: bool) -> None:
    files = [tmp_path / "1.mp4", tmp_path / "2.mp4"]
    for file in files:
        file.write_bytes(b"video")
    output = tmp_path / "other.mp4" if as_link else files[1]
    if as_link:
        os.symlink(files[1], output)
    with pytest.raises(UsageError, match="is the input itself"):
        open_sinks([str(output)], replace(info(), files=tuple(files)))
    assert [file.read_bytes() for file in files] == [b"video"] * 2


def test_masks_are_not_written_over_the_images_they_belong_to(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"image")
    with pytest.raises(UsageError, match=r"its masks would replace the input a\.png; give another folder"):
        open_sinks([str(tmp_path)], replace(info(images=True), files=(tmp_path / "a.png",)))
    assert (tmp_path / "a.png").read_bytes() == b"image"


def test_masks_may_lie_beside_images_of_another_kind(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"image")
    assert len(open_sinks([str(tmp_path)], replace(info(images=True), files=(tmp_path / "a.jpg",)))) == 1


def test_a_clock_that_starts_at_the_same_time_again_takes_no_place_twice(tmp_path: Path) -> None:
    """A board without a battery and a network; an events file that exists is refused, and a service would not be started again."""
    start = datetime(2026, 11, 25, 8, tzinfo=timezone.utc)
    text, opened = f"{tmp_path}/{{start}}.events.jsonl", []
    for _ in range(3):
        outputs = [for_start(for_stream(text, number, 2), start) for number in range(2)]
        for output in outputs:
            open_sink(output, info()).close()
        opened += [Path(output).name for output in outputs]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(set(opened)) and len(opened) == len(set(opened)) == 6
    assert opened[0] == "20261125T080000Z-1.events.jsonl" and opened[2] == "20261125T080000Z-2-1.events.jsonl"
