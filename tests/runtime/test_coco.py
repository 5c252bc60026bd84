"""Run lengths and COCO files, read by COCO's own tools."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from numpy.typing import NDArray

from qtseg_edge.errors import QtsegError
from qtseg_edge.runtime.results import Result
from qtseg_edge.runtime.sinks.coco import CocoFile
from qtseg_edge.runtime.sinks.rle import run_lengths
from qtseg_edge.runtime.temporal.events import Track
from qtseg_edge.spec import NOTICE
from tests.disks import small_disk
from tests.runtime.stand_ins import info, result_of

mask_tools = pytest.importorskip("pycocotools.mask", reason="COCO's own tools are not installed; get them with: pip install pycocotools")

# COCO's tools are older than NumPy 2.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning")

Uint8 = NDArray[np.uint8]


def decoded(lengths: dict[str, Any]) -> Uint8:
    height, width = lengths["size"]
    return mask_tools.decode(mask_tools.frPyObjects(lengths, height, width))  # type: ignore[no-any-return]


@given(arrays(np.uint8, array_shapes(min_dims=2, max_dims=2, max_side=12), elements=st.integers(0, 1)))
def test_run_lengths_are_those_of_coco(mask: Uint8) -> None:
    lengths = run_lengths(mask)
    assert sum(lengths["counts"]) == mask.size
    assert all(count > 0 for count in lengths["counts"][1:])
    assert np.array_equal(decoded(lengths), mask)


@pytest.mark.timing
def test_run_lengths_of_720p_take_less_than_two_milliseconds() -> None:
    mask = np.zeros((720, 1280), np.uint8)
    cv2.circle(mask, (600, 300), 250, 1, -1)
    seconds = []
    for _ in range(20):
        started = time.perf_counter()
        run_lengths(mask)
        seconds.append(time.perf_counter() - started)
    assert min(seconds) < 0.002


def marked(index: int = 0, **frame: Any) -> Result:
    """A ring with an island in its hole, and a square of another class."""
    mask = np.zeros((60, 80), np.uint8)
    cv2.circle(mask, (25, 30), 20, 1, -1)
    cv2.circle(mask, (25, 30), 12, 0, -1)
    cv2.circle(mask, (25, 30), 4, 1, -1)
    mask[10:20, 60:70] = 2
    return result_of(np.zeros((60, 80, 3), np.uint8), mask, index, classes=3, confidence=204, **frame)


@pytest.fixture
def quiet(capsys: pytest.CaptureFixture[str]) -> Iterator[None]:
    """COCO's tools print."""
    yield
    capsys.readouterr()


def read(path: Path) -> Any:
    from pycocotools.coco import COCO

    return COCO(str(path))


@pytest.mark.usefixtures("quiet")
def test_every_region_is_an_annotation_of_its_frame(tmp_path: Path) -> None:
    sink = CocoFile(tmp_path / "a.coco.json", info())
    results = [marked(0), result_of(np.zeros((60, 80, 3), np.uint8), index=1, classes=3), marked(2)]
    for result in results:
        sink.write(result)
    sink.close()
    coco = read(tmp_path / "a.coco.json")
    assert NOTICE in coco.dataset["info"]["description"]
    assert coco.loadCats(coco.getCatIds()) == [{"id": 1, "name": "polyp"}, {"id": 2, "name": "instrument"}]
    images = coco.loadImgs(coco.getImgIds())
    assert [(image["file_name"], image["frame"], image["time_s"]) for image in images] == [
        ("clip_000000.png", 0, 0.0),
        ("clip_000001.png", 1, 0.04),
        ("clip_000002.png", 2, 0.08),
    ]
    assert all((image["width"], image["height"]) == (80, 60) for image in images)
    for image, result in zip(images, results, strict=True):
        annotations = coco.loadAnns(coco.getAnnIds(imgIds=image["id"]))
        assert len(annotations) == len(result.regions)
        drawn = np.zeros((60, 80), np.uint8)
        for annotation in annotations:
            inside = coco.annToMask(annotation)
            assert not np.any(drawn[inside > 0])
            drawn[inside > 0] = annotation["category_id"]
            assert annotation["area"] == np.count_nonzero(inside)
            assert tuple(annotation["bbox"]) == cv2.boundingRect(inside)
            assert (annotation["iscrowd"], annotation["score"]) == (0, 0.8)
        assert np.array_equal(drawn, result.segmentation.mask)
    assert [path.name for path in tmp_path.iterdir()] == ["a.coco.json"]


@pytest.mark.usefixtures("quiet")
def test_a_region_has_the_id_of_the_track_that_follows_it(tmp_path: Path) -> None:
    ring, island, square = Track(4, 1, (6, 11, 40, 40), 1, 1.0), Track(5, 1, (22, 26, 8, 8), 1, 1.0), Track(6, 1, (60, 10, 10, 10), 1, 1.0)
    sink = CocoFile(tmp_path / "a.coco.json", info())
    sink.write(replace(marked(), tracks=(ring, island, square)))
    sink.close()
    annotations = read(tmp_path / "a.coco.json").dataset["annotations"]
    assert [annotation.get("track_id") for annotation in annotations] == [4, None, 5]  # the square's track is of another class


def test_a_track_is_that_of_one_region(tmp_path: Path) -> None:
    """An angle and a square in it: the square lies in the angle's box too."""
    mask = np.zeros((60, 80), np.uint8)
    mask[:31, :5], mask[26:31, :31], mask[:23, 8:31] = 1, 1, 1
    sink = CocoFile(tmp_path / "a.coco.json", info())
    sink.write(replace(result_of(np.zeros((60, 80, 3), np.uint8), mask), tracks=(Track(9, 1, (0, 0, 31, 31), 1, 1.0),)))
    sink.close()
    annotations = json.loads((tmp_path / "a.coco.json").read_text(encoding="utf-8"))["annotations"]
    assert {annotation["area"]: annotation.get("track_id") for annotation in annotations} == {23 * 23: None, 31 * 5 + 26 * 5: 9}


@pytest.mark.usefixtures("quiet")
def test_images_keep_their_names(tmp_path: Path) -> None:
    sink = CocoFile(tmp_path / "a.coco.json", info(images=True))
    sink.write(marked(source="photos/1.jpg"))
    sink.close()
    assert read(tmp_path / "a.coco.json").loadImgs(1)[0]["file_name"] == "photos/1.jpg"


@pytest.mark.usefixtures("quiet")
def test_a_frame_without_signal_is_no_image(tmp_path: Path) -> None:
    sink = CocoFile(tmp_path / "a.coco.json", info())
    lost = marked(1)
    for result in (marked(0), replace(lost, frame=replace(lost.frame, has_signal=False)), marked(2)):
        sink.write(result)
    sink.close()
    assert [image["frame"] for image in read(tmp_path / "a.coco.json").dataset["images"]] == [0, 2]


@pytest.mark.parametrize("ending", ["close", "abandon"])
def test_without_a_frame_nothing_is_left(tmp_path: Path, ending: str) -> None:
    getattr(CocoFile(tmp_path / "a.coco.json", info()), ending)()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("quiet")
def test_a_full_disk_leaves_a_data_set_of_what_was_written(tmp_path: Path) -> None:
    sink = CocoFile(tmp_path / "a.coco.json", info())
    with small_disk():
        with pytest.raises(QtsegError) as caught:
            for index in range(1000):
                sink.write(marked(index))
        sink.abandon()
    coco = read(tmp_path / "a.coco.json")
    frames = [image["frame"] for image in coco.dataset["images"]]
    assert len(frames) > 5
    assert frames == list(range(len(frames)))
    assert all(len(coco.getAnnIds(imgIds=image)) == 3 for image in coco.getImgIds())
    assert f"recording stopped after {len(frames)} frames" in str(caught.value)
    assert (tmp_path / "a.coco.json").stat().st_size > 16_384 - 1000
    assert [path.name for path in tmp_path.iterdir()] == ["a.coco.json"]


def test_it_is_json_line_by_line(tmp_path: Path) -> None:
    """An all-day file is read with grep and jq as well."""
    sink = CocoFile(tmp_path / "a.coco.json", info())
    for index in range(3):
        sink.write(marked(index))
    sink.abandon()
    lines = (tmp_path / "a.coco.json").read_text(encoding="utf-8").splitlines()
    images = [json.loads(line.rstrip(",")) for line in lines if line.startswith('{"id"') and "file_name" in line]
    assert [image["id"] for image in images] == [1, 2, 3]
