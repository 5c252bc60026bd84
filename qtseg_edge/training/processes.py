"""One process or several: torchrun's environment, torch's own process group."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import distributed

from qtseg_edge.errors import MissingError, UsageError

T = TypeVar("T")


@dataclass(frozen=True)
class Processes:
    """rank: this process, 0 writes the files. world: how many there are."""

    rank: int
    world: int
    device: torch.device

    @property
    def writes(self) -> bool:
        return self.rank == 0

    def gathered(self, values: list[T]) -> list[T]:
        """The lists of all processes, one after the other, on each of them."""
        if self.world == 1:
            return values
        parts: list[Any] = [None] * self.world
        distributed.all_gather_object(parts, values)
        return [value for part in parts for value in part]


@contextmanager
def processes(device: str) -> Iterator[Processes]:
    """Join the others that torchrun has started, if any. device: auto, cpu or cuda."""
    world, rank = int(os.environ.get("WORLD_SIZE", "1")), int(os.environ.get("RANK", "0"))
    chosen = _device(device, int(os.environ.get("LOCAL_RANK", "0")))
    if world == 1:
        yield Processes(0, 1, chosen)
        return
    distributed.init_process_group("nccl" if chosen.type == "cuda" else "gloo", rank=rank, world_size=world)
    try:
        yield Processes(rank, world, chosen)
    finally:
        distributed.destroy_process_group()


def _device(name: str, local_rank: int) -> torch.device:
    if name not in ("auto", "cpu", "cuda"):
        raise UsageError(f"--device: wanted auto, cpu or cuda, got {name!r}")
    there = torch.cuda.is_available()
    if name == "cuda" and not there:
        raise MissingError("--device cuda: torch finds no CUDA device here; its CPU build never does: see https://pytorch.org/get-started")
    if name == "cpu" or not there:
        return torch.device("cpu")
    if local_rank >= torch.cuda.device_count():
        raise UsageError(
            f"--nproc-per-node: wanted at most the {torch.cuda.device_count()} GPUs of this machine, got {local_rank + 1} or more"
        )
    torch.cuda.set_device(local_rank)
    return torch.device("cuda", local_rank)
