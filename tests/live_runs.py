"""`qtseg-edge run` as a process of its own, watched through what it writes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
PATIENCE = 40.0  # seconds that a busy machine may take


class LiveRun:
    """Started in `folder`; its frames go to `out.jsonl` there."""

    def __init__(self, folder: Path, *arguments: str, device: str = "fake", environment: dict[str, str] | None = None) -> None:
        self.folder = folder
        command = [sys.executable, "-m", "qtseg_edge.cli", "run", "--device", device, "-o", "out.jsonl", *arguments]
        self.started = time.monotonic()
        with (folder / "stdout").open("w") as out, (folder / "stderr").open("w") as err:
            self.process = subprocess.Popen(
                command,
                cwd=folder,
                env={**os.environ, "PYTHONPATH": str(ROOT), **(environment or {})},
                stdout=out,
                stderr=err,
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # a background job would ignore it
            )

    def lines(self) -> list[dict[str, Any]]:
        """Of the frames so far, as they are on the disk."""
        paths = [path for name in ("out.recording.jsonl", "out.jsonl") if (path := self.folder / name).exists()]
        return [json.loads(line) for path in paths[:1] for line in path.read_text(encoding="utf-8").splitlines() if line.endswith("}")]

    @property
    def out(self) -> str:
        return (self.folder / "stdout").read_text(encoding="utf-8")

    @property
    def err(self) -> str:
        return (self.folder / "stderr").read_text(encoding="utf-8")

    def wait(self, until: Callable[[list[dict[str, Any]]], object]) -> float:
        """Until something holds of its lines. How many seconds that took."""
        started = time.monotonic()
        while not until(self.lines()):
            assert self.process.poll() is None, self.err
            assert time.monotonic() - started < PATIENCE, f"it did not happen: {self.err}"
            time.sleep(0.02)
        return time.monotonic() - started

    def end(self, number: signal.Signals = signal.SIGINT) -> tuple[int, float]:
        """Exit code, and the seconds from the signal to it."""
        started = time.monotonic()
        self.process.send_signal(number)
        return self.process.wait(PATIENCE), time.monotonic() - started

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(PATIENCE)

    def __enter__(self) -> LiveRun:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()


def pictures(count: int, after: int = 0) -> Callable[[list[dict[str, Any]]], bool]:
    """At least so many frames with a signal, behind the first `after` lines."""
    return lambda lines: sum(line["signal"] for line in lines[after:]) >= count


def no_signal(after: int = 0) -> Callable[[list[dict[str, Any]]], bool]:
    return lambda lines: any(not line["signal"] for line in lines[after:])
