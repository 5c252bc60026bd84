"""What nvidia-smi tells of a PC's GPU: once, or as a stream of lines."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from typing_extensions import Self

_SECONDS = 20.0
_END_SECONDS = 0.5
_READING = ("temperature.gpu", "power.draw", "clocks.sm")
# By drivers from R535 on, and before.
_REASONS = ("clocks_event_reasons.active", "clocks_throttle_reasons.active")
# NVML API Reference, "NvmlClocksEventReasons". Not 0x4: a GPU at the power limit that was set for it does what it was told, as a Jetson
# in its power mode does. Not idle (0x1), clocks that a user set (0x2, 0x100), nor GPUs that wait for each other (0x10).
_BITS = {
    0x08: "hardware slowdown",
    0x20: "over temperature",
    0x40: "over temperature (hardware)",
    0x80: "power brake",
}
_HARDWARE, _ITS_CAUSES = 0x08, 0x40 | 0x80


@dataclass(frozen=True)
class GpuReading:
    """What a GPU does not tell is None."""

    celsius: float | None
    watts: float | None
    sm_mhz: float | None
    throttled: tuple[str, ...] | None


def ask_nvidia_smi(fields: tuple[str, ...], gpu: str = "") -> str:
    """A line for each GPU, its values separated by commas and without units; "" where there is no nvidia-smi, or none that answers."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return ""
    which = ["-i", gpu] if gpu else []
    command = [program, *which, f"--query-gpu={','.join(fields)}", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout if done.returncode == 0 else ""


def used_gpu() -> str:
    """The one that backends use."""
    return os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")[0] or "0"


def read_gpu() -> GpuReading | None:
    """Once, which takes a part of a second; None where there is no nvidia-smi."""
    for reasons in _REASONS:
        if lines := ask_nvidia_smi((*_READING, reasons), used_gpu()).splitlines():
            return parse_gpu(lines[0])
    return None


def gpu_stream_command(every_ms: int) -> list[str] | None:
    """Prints lines for `parse_gpu` until it is ended; None where no nvidia-smi answers."""
    program = shutil.which("nvidia-smi")
    for reasons in _REASONS:
        fields = (*_READING, reasons)
        if program is not None and ask_nvidia_smi(fields, used_gpu()):
            return [program, "-i", used_gpu(), f"--query-gpu={','.join(fields)}", "--format=csv,noheader,nounits", "-lms", str(every_ms)]
    return None


def parse_gpu(line: str) -> GpuReading | None:
    """line: temperature, power, SM clock and the mask of reasons, such as "61, 312.50, 1980, 0x0000000000000000"; None for any other."""
    values = [value.strip() for value in line.split(",")]
    if len(values) != len(_READING) + 1:
        return None
    celsius, watts, mhz = (float(value) if re.fullmatch(r"-?\d+(\.\d+)?", value) else None for value in values[:3])
    known = re.fullmatch(r"0x[0-9a-fA-F]{1,16}", values[3])
    reading = GpuReading(celsius, watts, mhz, _throttled(int(values[3], 16)) if known else None)
    return None if reading == GpuReading(None, None, None, None) else reading


def _throttled(mask: int) -> tuple[str, ...]:
    if mask & _ITS_CAUSES:
        mask &= ~_HARDWARE  # it is told as well, and says less
    return tuple(f"GPU {text}" for bit, text in _BITS.items() if mask & bit)


class GpuStream:
    """Reads a GPU in the background while it is entered, by one child process: starting one for each look costs more than the look."""

    def __init__(self, command: list[str], every_s: float) -> None:
        self._command, self._kept_s = command, 3 * every_s
        self._latest: tuple[float, GpuReading] | None = None

    def latest(self) -> GpuReading | None:
        """None where nothing was told lately."""
        latest = self._latest
        return latest[1] if latest is not None and time.monotonic() - latest[0] <= self._kept_s else None

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(self._command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        assert self._process.stdout is not None
        self._thread = follow(self._process.stdout, self._take)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Waits for a moment only: a child in a driver that hangs cannot be ended, nor what a wrapper has started."""
        self._process.kill()
        self._thread.join(_END_SECONDS)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_END_SECONDS)

    def _take(self, line: str) -> None:
        reading = parse_gpu(line)
        if reading is not None:
            self._latest = time.monotonic(), reading


def follow(lines: IO[bytes], take: Callable[[str], None]) -> threading.Thread:
    """Hand every line to `take` in a thread, which ends with them."""

    def read() -> None:
        with lines:
            for line in lines:
                take(line.decode(errors="replace"))

    thread = threading.Thread(target=read, name="board", daemon=True)
    thread.start()
    return thread
