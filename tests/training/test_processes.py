from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
import torch

from qtseg_edge.errors import MissingError, UsageError
from qtseg_edge.model.checkpoint import load_checkpoint
from qtseg_edge.training.processes import Processes, processes
from tests.training.commands import Whole, arguments, environment
from tests.training.discs import contents, rows

TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")


def test_without_torchrun_one_process_does_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("WORLD_SIZE", "RANK", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    with processes("cpu") as alone:
        assert alone == Processes(0, 1, torch.device("cpu"))
        assert alone.writes
        assert alone.gathered([1, 2]) == [1, 2]


def test_a_device_that_is_none_is_refused() -> None:
    with pytest.raises(UsageError, match="--device: wanted auto, cpu or cuda, got 'tpu'"), processes("tpu"):
        pass


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_gpu_that_is_not_there_is_missing_and_auto_does_without() -> None:
    with pytest.raises(MissingError, match="--device cuda: torch finds no CUDA device here"), processes("cuda"):
        pass
    with processes("auto") as alone:
        assert alone.device == torch.device("cpu")


@pytest.mark.timeout(900)
def test_two_processes_learn_what_one_learns_at_the_same_global_batch(tmp_path: Path, whole: Whole) -> None:
    """Two passes of one step, by one process or by two, are two gradients that are halved and added.

    In float32 both are exact whatever their order, so the weights have come out equal bit by bit. The tolerance, a thousandth of the
    learning rate, leaves room for another exchange; a gradient that stayed with its process would be off by a whole rate.
    """
    command = arguments(whole.data, whole.start, "two", TORCHRUN)
    done = subprocess.run(command, cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("best weights:") == 1, "one of the two speaks"
    run = tmp_path / "runs" / "train" / "two"
    assert set(contents(run)) == set(contents(whole.run))
    assert json.loads((run / "run.json").read_text(encoding="utf-8"))["processes"] == 2
    for name in ("best", "last"):
        two, one = (load_checkpoint(folder / "weights" / f"{name}.safetensors").network.state_dict() for folder in (run, whole.run))
        for key, tensor in two.items():
            torch.testing.assert_close(tensor, one[key], rtol=0, atol=1e-6, msg=key)
    written, wanted = rows(run), rows(whole.run)
    assert len(written) == len(wanted) == 2
    for got, row in zip(written, wanted, strict=True):
        assert {key: got[key] for key in row if key != "seconds"} == pytest.approx(
            {key: row[key] for key in row if key != "seconds"}, rel=1e-4
        )
