"""What a Jetson tells of itself: its release, its power mode and clocks, what it draws and whether it is throttled."""

from qtseg_edge.jetson.release import board, has_tensorrt_10, jetpack_of, l4t_release
from qtseg_edge.jetson.tegrastats import parse_tegrastats, watts_of_tegrastats

__all__ = ["board", "has_tensorrt_10", "jetpack_of", "l4t_release", "parse_tegrastats", "watts_of_tegrastats"]
