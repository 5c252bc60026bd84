"""Bugs that a review found, each by what a user would have seen."""

from __future__ import annotations

import json
import struct
import zlib
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from qtseg_edge.cli import app
from qtseg_edge.errors import IncompatibleError, QtsegError, SourceLostError, UsageError
from qtseg_edge.model.checkpoint import load_checkpoint
from qtseg_edge.runtime import Pipeline, open_source
from qtseg_edge.training.config import config_from
from tests.media import decoded, numbered_frames, write_video
from tests.model.authors_format import Size, write_checkpoint
from tests.runtime.stand_ins import ListSink, ListSource, stream


def cli(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    return result.exit_code, result.output


def test_an_output_that_fails_after_the_source_broke_is_told() -> None:
    source = ListSource(5, fail_at=3, error=SourceLostError("clip.mp4: broke; everything before is written"))
    sink = ListSink(error=QtsegError("disk full"), fail_to_close=True)
    report = Pipeline([stream(source, sink)]).run()
    assert str(report.error) == "disk full"


def test_a_pattern_of_images_and_videos_is_refused(tmp_path: Path) -> None:
    write_video(tmp_path / "b.mp4", numbered_frames(3))
    cv2.imwrite(str(tmp_path / "a.png"), numbered_frames(1)[0])
    code, output = cli("run", "--source", tmp_path / "*", "--device", "fake", "-o", f"{tmp_path}/masks/")
    assert code == 2 and "matches images and videos" in output
    assert not (tmp_path / "masks").exists()


def test_videos_of_two_rates_keep_their_times_in_one_output(tmp_path: Path) -> None:
    write_video(tmp_path / "a.avi", numbered_frames(10), codec="mpeg4", rate=25)
    write_video(tmp_path / "b.avi", numbered_frames(20), codec="mpeg4", rate=50)
    target = tmp_path / "out.mp4"
    assert cli("run", "--source", tmp_path / "*.avi", "--device", "fake", "-o", target)[0] == 0
    with open_source(str(target)) as source:
        times = [frame.time for frame in source]
    wanted = [Fraction(n, 25) for n in range(10)] + [Fraction(10, 25) + Fraction(n, 50) for n in range(20)]
    assert times == wanted
    assert len(decoded(target)) == 30


def test_an_image_of_an_absurd_size_is_one_line(tmp_path: Path) -> None:
    header = struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0)
    chunk = b"IHDR" + header
    (tmp_path / "huge.png").write_bytes(b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk)))
    code, output = cli("run", "--source", tmp_path / "huge.png", "--device", "fake", "-o", tmp_path / "out.png")
    assert code == 1 and "Traceback" not in output and "huge.png" in output


def test_masks_of_an_earlier_run_are_not_mixed_with_new_ones(tmp_path: Path) -> None:
    video = write_video(tmp_path / "clip.mp4", numbered_frames(3))
    arguments = ("run", "--video", video, "--device", "fake", "-o", f"{tmp_path}/masks/")
    assert cli(*arguments)[0] == 0
    code, output = cli(*arguments)
    assert code == 2 and "holds 3 PNG files already" in output


def test_a_frame_without_content_does_not_count_as_inference(tmp_path: Path) -> None:
    video = write_video(tmp_path / "black.mp4", [np.zeros((48, 64, 3), np.uint8)] * 4)
    arguments = ["run", "--video", str(video), "--device", "fake", "-o", str(tmp_path / "out.jsonl"), "--json"]
    report = json.loads(CliRunner().invoke(app, arguments).stdout)
    assert (report["frames"], report["latency_ms"]["infer"]["count"]) == (4, 0)
    records = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [record["latency_ms"]["infer"] for record in records] == [None] * 4


def test_an_empty_output_is_refused(tmp_path: Path) -> None:
    video = write_video(tmp_path / "clip.mp4", numbered_frames(2))
    code, output = cli("run", "--video", video, "--device", "fake", "-o", "")
    assert code == 2 and "--output: is empty" in output


@pytest.mark.parametrize("wrong", [{"imgsz": 100}, {"lr": -1.0}, {"lr": float("nan")}, {"epochs": 0}, {"batch": 1}], ids=str)
def test_a_run_that_cannot_be_trained_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(UsageError, match=f"train: {next(iter(wrong))}: input should be "):
        config_from(None, wrong)


def test_a_width_that_fits_no_memory_is_found_out_before_it_is_asked_for(tmp_path: Path) -> None:
    path = write_checkpoint(tmp_path, Size(width=4, classes=2, depths=(1, 1, 1), heads=2, mlp_width=8))
    cfg = json.loads((tmp_path / "cfg.json").read_text())
    cfg |= {"n_channel": 16384, "encoder_out_features": [4 * 16384, 8 * 16384, 16 * 16384]}
    (tmp_path / "cfg.json").write_text(json.dumps(cfg))
    with pytest.raises(IncompatibleError, match="wrong shape"):
        load_checkpoint(path)
