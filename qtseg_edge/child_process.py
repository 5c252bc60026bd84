"""A module of this program in a process of its own: questions and answers are lines of JSON on its standard input and output.

For work that native code can crash, hang or disturb. Nothing is pickled. What the child's libraries print goes to standard error.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import IO, Any

Report = Callable[[dict[str, Any]], None]
_LAST_LINES, _LAST_CHARACTERS = 3, 400


# The parent's side


def started(module: str, said: IO[bytes]) -> subprocess.Popen[bytes]:
    """`python -m module`, whose standard input and output are unbuffered pipes. said: a file that takes its standard error.

    A session of its own keeps Ctrl-C in the terminal from it: this process decides. It finds modules where this one does.
    """
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "PYTHONSAFEPATH": "1"}
    return subprocess.Popen(
        [sys.executable, "-m", module],
        bufsize=0,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=said,
        env=environment,
        start_new_session=True,
    )


def how_it_ended(code: int) -> str:
    """code: of Popen. A verb and its reason, such as "crashed (SIGSEGV)"."""
    if code >= 0:
        return f"ended with exit code {code}"
    name = signal.Signals(-code).name
    if -code == signal.SIGKILL:
        return f"was killed ({name}), most likely because memory ran out"
    return f"crashed ({name})"


def last_lines(said: IO[bytes]) -> str:
    """What it said last, on one line."""
    said.seek(0)
    lines = [" ".join(line.split()) for line in said.read().decode(errors="replace").splitlines() if line.strip()]
    return " | ".join(lines[-_LAST_LINES:])[-_LAST_CHARACTERS:] or "it said nothing"


# The child's side


def own_output() -> Report:
    """Keep standard output for answers: what libraries print there goes to standard error."""
    own = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())

    def report(event: dict[str, Any]) -> None:
        print(json.dumps(event) + "\n", end="", file=own, flush=True)  # one piece, whichever thread it comes from

    return report


def each_question(take: Callable[[dict[str, Any]], None]) -> None:
    """Hand every line of standard input to `take`, in a thread; this process ends when the parent's end is closed, whatever it does."""

    def read() -> None:
        # Without a buffer, whose lock would make Python abort where it ends while this thread waits.
        with open(sys.stdin.fileno(), "rb", buffering=0, closefd=False) as questions:
            for line in questions:
                take(json.loads(line))
        os._exit(1)

    threading.Thread(target=read, daemon=True).start()
