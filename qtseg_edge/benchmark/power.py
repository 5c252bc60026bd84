"""What the machine draws, how warm it gets and what its GPU's clock is while a block runs, by the program that tells it: tegrastats on a
Jetson, else nvidia-smi for the GPU alone.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from qtseg_edge.board.nvidia_smi import follow, gpu_stream_command, parse_gpu
from qtseg_edge.jetson.tegrastats import parse_tegrastats, watts_of_rails

_EVERY_MS = 100


@dataclass(frozen=True)
class Sample:
    """celsius: of the hottest zone. gpu_mhz: 0 while it is powered off. throttled: by the same line. None and () where it tells nothing."""

    watts: float | None = None
    celsius: float | None = None
    gpu_mhz: float | None = None
    throttled: tuple[str, ...] = ()


class PowerMeter:
    """by: what draws, and who says so. sample_of: what one line of what `command` prints says, None for a line that says nothing."""

    def __init__(self, by: str, command: list[str], sample_of: Callable[[str], Sample | None]) -> None:
        self.by = by
        self._command, self._sample_of = command, sample_of

    @contextmanager
    def measuring(self) -> Iterator[list[Sample]]:
        """The list gets a sample about every 100 ms until the block ends."""
        samples: list[Sample] = []

        def take(line: str) -> None:
            sample = self._sample_of(line)
            if sample is not None:
                samples.append(sample)

        with subprocess.Popen(self._command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
            assert process.stdout is not None
            reader = follow(process.stdout, take)
            try:
                yield samples
            finally:
                process.kill()
                reader.join()


def power_meter(uses_gpu: bool) -> PowerMeter | None:
    """None where nothing tells what a candidate draws: nvidia-smi knows of one that does not use the GPU nothing."""
    if tegrastats := shutil.which("tegrastats"):
        return PowerMeter("board, by tegrastats", [tegrastats, "--interval", str(_EVERY_MS)], _of_tegrastats)
    if uses_gpu and (command := gpu_stream_command(_EVERY_MS)):
        return PowerMeter("GPU, by nvidia-smi", command, _of_nvidia_smi)
    return None


def _of_tegrastats(line: str) -> Sample | None:
    stats = parse_tegrastats(line)
    celsius = max(stats.temperature_celsius.values(), default=None)
    sample = Sample(watts_of_rails(stats.rails_mw), celsius, max(stats.gpu_mhz, default=None))
    return None if sample == Sample() else sample


def _of_nvidia_smi(line: str) -> Sample | None:
    gpu = parse_gpu(line)
    return None if gpu is None else Sample(gpu.watts, gpu.celsius, gpu.sm_mhz, gpu.throttled or ())
