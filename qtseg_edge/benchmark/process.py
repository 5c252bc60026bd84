"""The parent's end of a worker: one question at a time, with a limit on how long its answer may take."""

from __future__ import annotations

import contextlib
import io
import json
import tempfile
import threading
from typing import Any

from qtseg_edge.child_process import how_it_ended, last_lines, started
from qtseg_edge.errors import IncompatibleError, MissingError, QtsegError, UsageError

_MODULE = "qtseg_edge.benchmark.worker"
_ERRORS: dict[str, type[QtsegError]] = {kind.__name__: kind for kind in (UsageError, MissingError, IncompatibleError)}


class Worker:
    """A process that waits for questions. Use it in a `with` block: it is gone when that ends, and when this process does."""

    def __init__(self) -> None:
        self._said = tempfile.TemporaryFile()  # noqa: SIM115 (closed by `close`)
        self._process = started(_MODULE, self._said)
        assert self._process.stdin is not None and isinstance(self._process.stdout, io.FileIO)
        self._questions, self._answers = self._process.stdin, io.BufferedReader(self._process.stdout)

    def ask(self, do: str, within: float, **question: Any) -> Any:
        """Raises what the question raised there; QtsegError where the process ends, or does not answer for `within` seconds."""
        hung = threading.Event()
        timer = threading.Timer(within, self._give_up, (hung,))
        timer.daemon = True
        timer.start()
        try:
            with contextlib.suppress(BrokenPipeError):  # it died already; what it said on the way tells why
                self._questions.write(json.dumps({"do": do, **question}, default=str).encode() + b"\n")
            line = self._answers.readline()
        finally:
            timer.cancel()
        if hung.is_set():
            raise QtsegError(f"it did not answer within {within:g} s and was ended")
        if not line:
            raise QtsegError(f"its process {how_it_ended(self._process.wait())}: {last_lines(self._said)}")
        said = json.loads(line)
        if "failed" in said:
            kind, text = said["failed"]
            raise _ERRORS.get(kind, QtsegError)(text)
        return said["answer"]

    def _give_up(self, hung: threading.Event) -> None:
        hung.set()
        self._process.kill()

    def close(self) -> None:
        """Calling it twice is allowed."""
        self._process.kill()
        self._process.wait()
        self._questions.close()
        self._answers.close()
        self._said.close()

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
