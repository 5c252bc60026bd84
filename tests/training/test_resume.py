"""Runs that are cut short and go on."""

from __future__ import annotations

import signal
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import pytest

from qtseg_edge.model.checkpoint import load_checkpoint
from tests.training.commands import Whole, arguments, environment
from tests.training.discs import (
    DISC,
    QUICK,
    Interrupted,
    Run,
    Step,
    collecting,
    contents,
    copied,
    different_weights,
    go,
    interrupting,
    rows,
    rows_but_seconds,
)


@pytest.mark.parametrize("step", [1, 4], ids=["in the first epoch", "in the last step of the second"])
def test_an_interrupted_run_ends_as_if_it_had_not_been(tmp_path: Path, finished: Run, data: Path, start: Path, step: int) -> None:
    with pytest.raises(Interrupted):
        go(data, tmp_path / "run", checkpoint=start, advance=interrupting(step))
    done = (step - 1) // 2  # epochs
    assert (tmp_path / "run" / "results.csv").exists() == (done > 0)
    before = rows(tmp_path / "run") if done else []
    steps: list[Step] = []
    go(data, tmp_path / "run", resume=True, advance=collecting(steps))
    assert [taken for taken, _, note in steps if note.startswith("epoch")] == list(range(2 * done + 1, 7))
    assert set(contents(tmp_path / "run")) == set(contents(finished.folder))
    for name in ("best", "last"):
        weights = Path("weights") / f"{name}.safetensors"
        assert different_weights(tmp_path / "run" / weights, finished.folder / weights) == []
    assert rows_but_seconds(tmp_path / "run") == rows_but_seconds(finished.folder)
    seconds = [row["seconds"] for row in rows(tmp_path / "run")]
    assert seconds == sorted(seconds) and seconds[:done] == [row["seconds"] for row in before], "its clock goes on"


def test_everything_drawn_and_grown_goes_on_where_it_was(tmp_path: Path, data: Path, start: Path) -> None:
    """Half of the images emptied, images that grow, a frozen encoder, accumulation, float16's scale."""
    config = replace(
        QUICK, epochs=4, imgsz=64, start_imgsz=32, empty_share=0.5, freeze_epochs=1, accumulate=2, val_every=4, precision="fp16"
    )
    go(data, tmp_path / "whole", config, checkpoint=start)
    with pytest.raises(Interrupted):
        go(data, tmp_path / "halves", config, checkpoint=start, advance=interrupting(3))
    go(data, tmp_path / "halves", config, resume=True)
    assert rows_but_seconds(tmp_path / "halves") == rows_but_seconds(tmp_path / "whole")
    weights = Path("weights") / "last.safetensors"
    assert different_weights(tmp_path / "halves" / weights, tmp_path / "whole" / weights) == []


def test_what_a_killed_process_left_half_written_goes_away(tmp_path: Path, finished: Run, data: Path) -> None:
    run = copied(finished.folder, tmp_path / "run")
    for name in (".state.123.part.pt", "weights/.best.123.part.safetensors"):
        (run / name).write_bytes(b"half")
    go(data, run, resume=True)
    assert contents(run) == contents(finished.folder)


def test_a_finished_run_is_not_trained_again(tmp_path: Path, finished: Run, data: Path) -> None:
    run, steps = copied(finished.folder, tmp_path / "run"), list[Step]()
    assert go(data, run, resume=True, advance=collecting(steps)) == run / "weights" / "best.safetensors"
    assert not any(note.startswith("epoch") for _, _, note in steps)
    assert contents(run) == contents(finished.folder)


def test_a_run_goes_on_under_the_card_it_was_started_with(tmp_path: Path, data: Path, start: Path) -> None:
    """`--resume` without the `--classes` of the start must not give the same weights other names."""
    with pytest.raises(Interrupted):
        go(data, tmp_path / "run", checkpoint=start, advance=interrupting(3))
    other = replace(DISC, classes=("background", "lesion"), licence="not stated")
    card = load_checkpoint(go(data, tmp_path / "run", card=other, resume=True)).card
    assert (card.classes, card.licence) == (DISC.classes, DISC.licence)


@pytest.mark.timeout(900)
def test_a_run_that_is_killed_ends_as_if_it_had_not_been(tmp_path: Path, whole: Whole) -> None:
    """kill -9 in the middle of the third of four epochs, by the command line as a user has it."""
    run = tmp_path / "runs" / "train" / "killed"
    process = subprocess.Popen(arguments(whole.data, whole.start, "killed"), cwd=tmp_path, env=environment(), stderr=subprocess.DEVNULL)
    try:
        wait_for_the_state_after_the_first_row(run, process)
        process.send_signal(signal.SIGKILL)
        assert process.wait(timeout=30) == -signal.SIGKILL
    finally:
        process.kill()
    assert (len(rows(run)), len(rows(whole.run))) == (1, 2), "it was to be killed in the middle"
    command = [*arguments(whole.data, None, "killed"), "--resume"]
    done = subprocess.run(command, cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stderr
    for name in ("best", "last"):
        weights = Path("weights") / f"{name}.safetensors"
        assert different_weights(run / weights, whole.run / weights) == []
    assert rows_but_seconds(run) == rows_but_seconds(whole.run)


def wait_for_the_state_after_the_first_row(run: Path, process: subprocess.Popen[bytes]) -> None:
    state, results = run / "state.pt", run / "results.csv"
    for _ in range(20_000):
        if results.exists() and state.stat().st_mtime_ns > results.stat().st_mtime_ns:
            return
        assert process.poll() is None, "the run ended before it could be killed"
        time.sleep(0.02)
    raise TimeoutError(state)
