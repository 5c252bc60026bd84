"""Looks at the machine during a run, in a thread of its own: whoever asks gets the newest look and waits for no sensor."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from qtseg_edge.board.nvidia_smi import GpuReading, GpuStream, gpu_stream_command
from qtseg_edge.board.reader import board_reader, is_jetson
from qtseg_edge.board.reading import BoardReader, BoardReading
from qtseg_edge.board.throttle_log import ThrottleLog

EVERY_SECONDS = 2.0
_JOIN_SECONDS = 0.5  # a sensor that hangs holds up nobody


@dataclass(frozen=True)
class BoardState:
    """reading: the newest; None before the first, and where that is too old to be believed. hottest_celsius: by zone, of the run so far.
    throttled: why it is, or lately was. throttled_by: every reason of the run. throttled_seconds: of the run.
    """

    reading: BoardReading | None
    hottest_celsius: dict[str, float]
    throttled: tuple[str, ...]
    throttled_by: tuple[str, ...]
    throttled_seconds: float


class BoardWatch:
    """told: gets one line where throttling begins, and one where it has ended, in the watch's thread. Entered once."""

    def __init__(self, reader: BoardReader, told: Callable[[str], None], every_s: float = EVERY_SECONDS) -> None:
        self._reader, self._told, self._every_s = reader, told, every_s
        self._log = ThrottleLog()
        self._hottest: dict[str, float] = {}
        self._lock = threading.Lock()
        self._newest: tuple[float, BoardReading] | None = None
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="board watch", daemon=True)

    def state(self) -> BoardState:
        """May be called from any thread."""
        now = time.monotonic()
        with self._lock:
            newest = self._newest
            is_young = newest is not None and now - newest[0] <= 3 * self._every_s
            reading = newest[1] if newest is not None and is_young else None
            return BoardState(reading, dict(self._hottest), self._log.now, self._log.seen, self._log.seconds())

    def __enter__(self) -> BoardWatch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join(_JOIN_SECONDS)

    def _run(self) -> None:
        while True:
            self._look()
            if self._over.wait(self._every_s):
                return

    def _look(self) -> None:
        reading = self._reader.read()
        now = time.monotonic()
        with self._lock:
            self._newest = now, reading
            for zone, celsius in reading.temperature_celsius.items():
                self._hottest[zone] = max(celsius, self._hottest.get(zone, celsius))
            line = self._log.update(reading, now)
        if line is not None:
            self._told(line)


@contextmanager
def watching(told: Callable[[str], None], root: Path = Path("/")) -> Iterator[Callable[[], BoardState | None]]:
    """Gives what to ask for the state while the block runs; None where this machine tells nothing."""
    with ExitStack() as stack:
        gpu: Callable[[], GpuReading | None] | None = None
        if not is_jetson(root) and (command := gpu_stream_command(round(EVERY_SECONDS * 1e3))):
            gpu = stack.enter_context(GpuStream(command, EVERY_SECONDS)).latest
        reader = board_reader(root, gpu)
        if reader is None:
            yield lambda: None
            return
        yield stack.enter_context(BoardWatch(reader, told)).state
