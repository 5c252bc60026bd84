"""What a look at the board costs a run: `python docs/decisions/measure_board.py`, on files laid out as an Orin Nano's and a Thor's.

Of the program's own work only: the kernel answers these files at once, a real sensor behind I2C or the power firmware makes the look wait,
in a thread that holds nothing meanwhile.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from qtseg_edge.board.watch import EVERY_SECONDS, BoardWatch
from qtseg_edge.jetson.sensors import JetsonSensors
from qtseg_edge.runtime.monitor import Monitor
from qtseg_edge.runtime.web.metrics import Metrics
from tests.jetson.boards import orin_nano, thor

LOOKS = 300


def milliseconds(call: Callable[[], object]) -> float:
    """Median of the CPU time of one call, all threads of this process."""
    times = []
    for _ in range(LOOKS):
        started = time.process_time_ns()
        call()
        times.append(time.process_time_ns() - started)
    return statistics.median(times) / 1e6


def main() -> None:
    for name, board in (("Orin Nano", orin_nano), ("Thor", thor)):
        with tempfile.TemporaryDirectory() as folder:
            sensors = JetsonSensors(board(Path(folder)))
            look = milliseconds(sensors.read)
            with BoardWatch(sensors, print) as watch:
                time.sleep(0.2)
                scrape = milliseconds(Metrics(Monitor("fake", "fake", watch.state)).text)
            plain = milliseconds(Metrics(Monitor("fake", "fake")).text)
        share = look / EVERY_SECONDS / 1e3
        print(f"{name}: {look:.2f} ms a look, {share:.3%} of a core; /metrics {scrape:.2f} ms, {plain:.2f} ms without the board")


if __name__ == "__main__":
    main()
