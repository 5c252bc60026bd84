"""What stops a run: before its first step, or in the middle."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from qtseg_edge.errors import IncompatibleError, QtsegError, UsageError
from qtseg_edge.training.loop import Request, train
from qtseg_edge.training.processes import Processes
from tests.disks import small_disk
from tests.model import authors_format
from tests.training.discs import DISC, QUICK, Interrupted, Run, contents, copied, go, interrupting, quietly, write_image, write_pair

# --- the data -----------------------------------------------------------------------------------------------------------------------


def test_everything_that_is_wrong_with_the_data_is_listed_before_anything_is_written(tmp_path: Path, start: Path) -> None:
    for split, names in (("train", ["a", "b", "c"]), ("val", ["v", "w"])):
        for number, name in enumerate(names):
            write_pair(tmp_path / split, name, (20 + number, 20 + len(split)))
    write_image(tmp_path / "train" / "masks" / "b.png", np.zeros((32, 48)))
    (tmp_path / "train" / "images" / "c.png").write_bytes(b"text")
    (tmp_path / "val" / "images" / "w.png").write_bytes((tmp_path / "train" / "images" / "a.png").read_bytes())
    (tmp_path / "val" / "masks" / "v.png").unlink()
    with pytest.raises(UsageError) as caught:
        go(tmp_path, tmp_path / "run", checkpoint=start)
    first, *lines = str(caught.value).split("\n  ")
    assert first == "the training data has 5 problems:"
    for part in ("b.png: mask of 48x32", "b.png: empty", "c.png: wanted an image", "v.png: no mask", "w.png: the same image as"):
        assert sum(part in line for line in lines) == 1, part
    assert not (tmp_path / "run").exists()


def test_an_image_of_sixteen_bits_is_refused(tmp_path: Path, start: Path) -> None:
    for name in ("train", "val"):
        write_pair(tmp_path / name, "a", (20 + len(name), 20))
        write_pair(tmp_path / name, "b", (20, 20 + len(name)))
    write_image(tmp_path / "train" / "images" / "b.png", np.full((64, 64, 3), 40_000, np.uint16))
    with pytest.raises(UsageError, match=r"b\.png: wanted 8 bits per channel, got uint16"):
        go(tmp_path, tmp_path / "run", checkpoint=start)


def test_grey_values_in_a_mask_of_two_classes_are_refused(tmp_path: Path, data: Path, start: Path) -> None:
    soft = copied(data, tmp_path / "soft")
    write_image(soft / "train" / "masks" / "t1.png", np.eye(64) * 255 + np.eye(64, k=1) * 90)
    with pytest.raises(UsageError, match=r"t1\.png: wanted a mask of two levels, got 3 from 0 to 255"):
        go(soft, tmp_path / "run", checkpoint=start)


def test_grey_values_in_masks_of_several_classes_are_refused(tmp_path: Path, data: Path) -> None:
    card = replace(DISC, classes=("background", "disc", "tool"), colours_rgb=((0, 0, 0), (1, 1, 1), (2, 2, 2)))
    with pytest.raises(UsageError, match=r"t0\.png: wanted class indices below 3, got 255"):
        go(data, tmp_path / "run", card=card)


def test_a_folder_without_splits_is_named(tmp_path: Path, start: Path) -> None:
    with pytest.raises(UsageError, match=r"train/images: no such folder"):
        go(tmp_path, tmp_path / "run", checkpoint=start)
    write_pair(tmp_path / "train", "a", (20, 20))
    with pytest.raises(UsageError, match=r"val/images: no such folder"):
        go(tmp_path, tmp_path / "run", checkpoint=start)


@pytest.mark.parametrize(("asked", "wanted"), [({"batch": 8}, 8), ({"accumulate": 3}, 6)])
def test_fewer_images_than_a_step_takes_are_refused(tmp_path: Path, data: Path, start: Path, asked: dict[str, int], wanted: int) -> None:
    with pytest.raises(UsageError, match=rf"train: 4 images, fewer than one step takes \({wanted}\); give a smaller --batch or --acc"):
        go(data, tmp_path / "run", replace(QUICK, **asked), checkpoint=start)  # type: ignore[arg-type]
    assert not (tmp_path / "run").exists()


# --- what was asked -----------------------------------------------------------------------------------------------------------------


def test_as_many_class_weights_as_classes_are_wanted(tmp_path: Path, data: Path, start: Path) -> None:
    with pytest.raises(UsageError, match="class_weights: wanted 2 numbers, background first, got 3"):
        go(data, tmp_path / "run", replace(QUICK, class_weights=(1.0, 2.0, 3.0)), checkpoint=start)


def test_a_checkpoint_of_other_classes_is_refused(tmp_path: Path, data: Path) -> None:
    start = authors_format.write_checkpoint(tmp_path, replace(authors_format.TWO_CLASSES, classes=3))
    with pytest.raises(IncompatibleError, match=r"\.pt: has 3 classes, this run trains 2"):
        go(data, tmp_path / "run", checkpoint=start)


@pytest.mark.parametrize("asked", [{"encoder": "pvt_v2_b0"}, {"encoder_weights": "other.safetensors"}], ids=str)
def test_a_checkpoint_and_an_encoder_contradict_each_other(tmp_path: Path, data: Path, start: Path, asked: dict[str, str]) -> None:
    with pytest.raises(UsageError, match=r"\.pt: brings its own encoder; leave out --encoder and --encoder-weights, or --checkpoint"):
        go(data, tmp_path / "run", replace(QUICK, **asked), checkpoint=start)  # type: ignore[arg-type]


def test_every_process_needs_a_pass_of_each_step(tmp_path: Path, data: Path, start: Path) -> None:
    with pytest.raises(UsageError, match="accumulate: wanted a multiple of the 2 processes, got 1; try --accumulate 2"):
        train(Request(data, tmp_path / "run", DISC, start), QUICK, Processes(1, 2, torch.device("cpu")), quietly)


# --- the folder of the run ----------------------------------------------------------------------------------------------------------


def test_a_run_that_is_there_is_not_overwritten(finished: Run, data: Path, start: Path) -> None:
    before = contents(finished.folder)
    with pytest.raises(UsageError, match=r"run: a run is there already; go on with it by --resume, or give another --name"):
        go(data, finished.folder, checkpoint=start)
    assert contents(finished.folder) == before


def test_nothing_can_be_resumed_where_nothing_is(tmp_path: Path, data: Path, start: Path) -> None:
    with pytest.raises(UsageError, match=r"run: nothing to resume: it has no state\.pt; start it without --resume"):
        go(data, tmp_path / "run", checkpoint=start, resume=True)
    assert not (tmp_path / "run").exists()


def test_a_run_goes_on_with_the_options_it_was_started_with(finished: Run, data: Path) -> None:
    changed = replace(QUICK, lr=0.5, epochs=4)
    wanted = r"--resume: this run was started with another epochs \(3 then, 4 now\), lr \(0\.001 then, 0\.5 now\); leave that out"
    with pytest.raises(UsageError, match=wanted):
        go(data, finished.folder, changed, resume=True)


def test_a_run_goes_on_with_the_data_it_was_started_with(tmp_path: Path, finished: Run, data: Path) -> None:
    run, other = copied(finished.folder, tmp_path / "run"), copied(data, tmp_path / "data")
    mask = cv2.imread(str(other / "val" / "masks" / "v0.png"), cv2.IMREAD_UNCHANGED)
    assert mask is not None
    mask[0, 0] = 255
    write_image(other / "val" / "masks" / "v0.png", mask)
    with pytest.raises(UsageError, match=r"data: not the data that .*run was trained on; give another --name"):
        go(other, run, resume=True)
    assert contents(run) == contents(finished.folder)


def test_data_that_was_moved_is_the_same_data(tmp_path: Path, finished: Run, data: Path) -> None:
    run = copied(finished.folder, tmp_path / "run")
    assert go(copied(data, tmp_path / "data"), run, resume=True) == run / "weights" / "best.safetensors"


# --- the state ----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("content", [b"", b"junk", b"hello", b"PK\x03\x04" + bytes(100)], ids=repr)
def test_a_broken_state_is_refused(tmp_path: Path, finished: Run, data: Path, content: bytes) -> None:
    run = copied(finished.folder, tmp_path / "run")
    (run / "state.pt").write_bytes(content)
    with pytest.raises(IncompatibleError, match=r"state\.pt: cannot be resumed \(.+\); give another --name"):
        go(data, run, resume=True)


@pytest.mark.parametrize(("state", "reason"), [({"results": []}, "'network'"), ([1, 2], "list indices"), ({}, "'network'")])
def test_a_state_without_its_parts_is_refused(tmp_path: Path, finished: Run, data: Path, state: object, reason: str) -> None:
    run = copied(finished.folder, tmp_path / "run")
    torch.save(state, run / "state.pt")
    with pytest.raises(IncompatibleError, match=rf"state\.pt: cannot be resumed \({reason}"):
        go(data, run, resume=True)


class Bomb:
    """Unpickled, it would write a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.path,)


def test_a_state_that_holds_code_is_refused_and_the_code_not_run(tmp_path: Path, finished: Run, data: Path) -> None:
    run = copied(finished.folder, tmp_path / "run")
    state = torch.load(run / "state.pt", weights_only=True)
    torch.save({**state, "results": Bomb(tmp_path / "ran")}, run / "state.pt")
    with pytest.raises(IncompatibleError, match=r"state\.pt: cannot be resumed \(Weights only load failed"):
        go(data, run, resume=True)
    assert not (tmp_path / "ran").exists()
    torch.load(run / "state.pt", weights_only=False)
    assert (tmp_path / "ran").exists(), "the code was no code: this test could not fail"


def test_the_state_of_another_network_is_refused(tmp_path: Path, finished: Run, data: Path) -> None:
    other = authors_format.write_checkpoint(tmp_path / "other", replace(authors_format.TWO_CLASSES, mlp_width=16))
    go(data, tmp_path / "run", replace(QUICK, epochs=1), checkpoint=other)
    run = copied(finished.folder, tmp_path / "mixed")
    (run / "state.pt").write_bytes((tmp_path / "run" / "state.pt").read_bytes())
    with pytest.raises(IncompatibleError, match=r"state\.pt: cannot be resumed \(Error\(s\) in loading state_dict"):
        go(data, run, resume=True)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"network": {}}'], ids=repr)
def test_a_run_whose_facts_are_lost_is_refused(tmp_path: Path, finished: Run, data: Path, text: str) -> None:
    run = copied(finished.folder, tmp_path / "run")
    (run / "run.json").write_text(text, encoding="utf-8")
    with pytest.raises(IncompatibleError, match=r"run\.json: cannot be resumed \(.+\); give another --name"):
        go(data, run, resume=True)


# --- in the middle ------------------------------------------------------------------------------------------------------------------


def interrupted_copy(data: Path, start: Path, folder: Path) -> Path:
    """One epoch of three is done, and the next is not to be scored."""
    with pytest.raises(Interrupted):
        go(data, folder, replace(QUICK, val_every=3), checkpoint=start, advance=interrupting(3))
    return folder


def test_a_full_disk_stops_the_run_and_keeps_the_last_state(tmp_path: Path, data: Path, start: Path) -> None:
    run = interrupted_copy(data, start, tmp_path / "run")
    before = contents(run)
    with (
        small_disk(),
        pytest.raises(QtsegError, match=r"state\.pt: cannot be written, what was there is kept; make room, then go on with --resume"),
    ):
        go(data, run, replace(QUICK, val_every=3), resume=True)
    assert contents(run) == before


def test_a_full_disk_keeps_the_weights_that_were_there(tmp_path: Path, data: Path, start: Path) -> None:
    run = tmp_path / "run"
    with pytest.raises(Interrupted):
        go(data, run, checkpoint=start, advance=interrupting(3))
    before = contents(run)
    assert {"weights/best.safetensors", "weights/last.safetensors", "state.pt"} < set(before)
    with (
        small_disk(),
        pytest.raises(QtsegError, match=r"(best|last)\.safetensors: cannot be written \(.*File too large.*\); what was there is kept"),
    ):
        go(data, run, resume=True)
    assert contents(run) == before


def test_a_loss_that_is_not_finite_stops_the_run_and_names_the_batch(tmp_path: Path, data: Path, start: Path) -> None:
    with pytest.raises(QtsegError, match=r"the loss became (nan|inf) in epoch 0, batch 1 \(\w+\.png, \w+\.png\): look at these images"):
        go(data, tmp_path / "run", replace(QUICK, lr=1e30), checkpoint=start)
    assert not list((tmp_path / "run" / "weights").iterdir())


def test_weights_that_are_no_numbers_are_not_kept(tmp_path: Path, data: Path, start: Path) -> None:
    """The only step of the epoch ruins the weights, and the loss of the next would tell: the score must tell before."""
    with pytest.raises(QtsegError, match=r"the loss became (nan|inf) on \w+\.png of the validation images: lower --lr"):
        go(data, tmp_path / "run", replace(QUICK, lr=1e30, batch=4), checkpoint=start)
    assert not list((tmp_path / "run" / "weights").iterdir())
