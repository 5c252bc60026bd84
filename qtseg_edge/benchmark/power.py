"""What the machine draws while a block runs, by the program that tells it: tegrastats on a Jetson, else nvidia-smi for the GPU alone."""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import IO

from qtseg_edge.jetson import watts_of_tegrastats

_EVERY_MS = "100"


class PowerMeter:
    """by: what draws, and who says so. watts_of: the watts of one line of what `command` prints, None for a line without."""

    def __init__(self, by: str, command: list[str], watts_of: Callable[[str], float | None]) -> None:
        self.by = by
        self._command, self._watts_of = command, watts_of

    @contextmanager
    def measuring(self) -> Iterator[list[float]]:
        """The list gets a value about every 100 ms until the block ends."""
        watts: list[float] = []
        with subprocess.Popen(self._command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
            assert process.stdout is not None
            reader = threading.Thread(target=self._read, args=(process.stdout, watts), daemon=True)
            reader.start()
            try:
                yield watts
            finally:
                process.kill()
                reader.join()

    def _read(self, lines: IO[bytes], watts: list[float]) -> None:
        for line in lines:
            value = self._watts_of(line.decode(errors="replace"))
            if value is not None:
                watts.append(value)


def power_meter(uses_gpu: bool) -> PowerMeter | None:
    """None where nothing tells what a candidate draws: nvidia-smi knows of one that does not use the GPU nothing."""
    if tegrastats := shutil.which("tegrastats"):
        return PowerMeter("board, by tegrastats", [tegrastats, "--interval", _EVERY_MS], watts_of_tegrastats)
    if uses_gpu and (nvidia_smi := shutil.which("nvidia-smi")):
        first = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")[0] or "0"  # the one that backends use
        command = [nvidia_smi, "-i", first, "--query-gpu=power.draw", "--format=csv,noheader,nounits", "-lms", _EVERY_MS]
        return PowerMeter("GPU, by nvidia-smi", command, _watts_of_nvidia_smi)
    return None


def _watts_of_nvidia_smi(line: str) -> float | None:
    try:
        return float(line)
    except ValueError:  # "[N/A]"
        return None
