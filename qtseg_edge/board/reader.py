"""Which sensors this machine has."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from qtseg_edge.board.nvidia_smi import GpuReading
from qtseg_edge.board.pc import PcSensors
from qtseg_edge.board.reading import BoardReader
from qtseg_edge.jetson.clocks import gpu_clock_folders
from qtseg_edge.jetson.release import l4t_release
from qtseg_edge.jetson.sensors import JetsonSensors


def is_jetson(root: Path = Path("/")) -> bool:
    """By its Linux or, in a container that lacks the file, by its GPU."""
    return bool(l4t_release(root) or gpu_clock_folders(root))


def board_reader(root: Path = Path("/"), gpu: Callable[[], GpuReading | None] | None = None) -> BoardReader | None:
    """None where nothing tells anything, as in most virtual machines. gpu: of a PC; a Jetson's own sensors tell of its GPU."""
    sensors = JetsonSensors(root) if is_jetson(root) else PcSensors(root, gpu)
    return sensors if sensors.tells_anything else None
