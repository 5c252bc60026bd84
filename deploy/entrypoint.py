#!/usr/bin/env python3
"""What a container starts: build the engine that is wanted if it is not there yet, then become `qtseg-edge run`.

Arguments are those of `qtseg-edge run`; or a whole command, such as `doctor`, which is run as it is. The environment says the rest:

QTSEG_EDGE_DEVICE         of `run`; an engine is built for `tensorrt` alone
QTSEG_EDGE_SOURCE         --source
QTSEG_EDGE_OUTPUT         --output, several as in a shell: "a.mp4 'b c.jsonl'"
QTSEG_EDGE_MODEL          a file; "{precision}" in it is replaced; empty is the built-in model
QTSEG_EDGE_PRECISION      fp32, fp16 or int8
QTSEG_EDGE_ENGINES        the folder that engines are kept in, on a volume
QTSEG_EDGE_BUILD_OPTIONS  of `build-engine`, as in a shell: "--workspace 2"

No part of the package, and nothing but Python's own library: `qtseg-edge build-engine --if-needed` knows which engine fits.
"""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path

PROGRAM = "qtseg-edge"
STOPPED = 130  # as `qtseg-edge` ends after a signal
SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Child:
    """A command that gets the signals which this process gets, and is waited for: it takes its half-written files away."""

    def __init__(self) -> None:
        self.received: int | None = None
        self._process: subprocess.Popen[bytes] | None = None
        for number in SIGNALS:
            signal.signal(number, self._pass_on)

    def run(self, command: list[str]) -> int:
        """Its exit code; 128 + the signal that ended it."""
        if self.received is not None:
            return STOPPED
        self._process = subprocess.Popen(command)
        if self.received is not None:  # while it was being started
            self._process.send_signal(self.received)
        code = self._process.wait()
        return 128 - code if code < 0 else code

    def release_signals(self) -> None:
        """From here on a signal ends this process, as it ends what this becomes; not as process 1, which is why compose.yaml has `init`."""
        for number in SIGNALS:
            signal.signal(number, signal.SIG_DFL)

    def _pass_on(self, number: int, _: object) -> None:
        self.received = number
        if self._process is not None:
            self._process.send_signal(number)


def setting(name: str, otherwise: str = "") -> str:
    return os.environ.get(f"QTSEG_EDGE_{name}") or otherwise


def engine_path(model: str, precision: str) -> Path:
    """One per model and precision; that it is for this device, its sidecar tells."""
    stem = Path(model).stem if model else "built-in"
    name = stem if stem.endswith(f"-{precision}") else f"{stem}-{precision}"
    return Path(setting("ENGINES", "engines")) / f"{name}.engine"


def build_command(model: str, precision: str, engine: Path) -> list[str]:
    options = shlex.split(setting("BUILD_OPTIONS"))
    return [PROGRAM, "build-engine", *([model] if model else []), "--precision", precision, "-o", str(engine), "--if-needed", *options]


def run_command(model: str, device: str, arguments: list[str]) -> list[str]:
    source = setting("SOURCE")
    chosen = ["--device", device, *(["--model", model] if model else []), *(["--source", source] if source else [])]
    outputs = [part for output in shlex.split(setting("OUTPUT")) for part in ("-o", output)]
    return [PROGRAM, "run", *chosen, *outputs, *arguments]


def main(arguments: list[str]) -> int:
    """Returns only where there is nothing to run."""
    if arguments and not arguments[0].startswith("-") and arguments[0] != "run":
        os.execvp(PROGRAM, [PROGRAM, *arguments])
    arguments = arguments[1:] if arguments[:1] == ["run"] else arguments
    device, precision = setting("DEVICE", "auto"), setting("PRECISION", "fp16")
    model = setting("MODEL").replace("{precision}", precision)
    if device == "tensorrt" and Path(model).suffix.lower() != ".engine":
        engine = engine_path(model, precision)
        engine.parent.mkdir(parents=True, exist_ok=True)
        child = Child()
        code = child.run(build_command(model, precision, engine))
        child.release_signals()
        if code or child.received is not None:
            return code or STOPPED
        model = str(engine)
    os.execvp(PROGRAM, run_command(model, device, arguments))


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except OSError as error:
        sys.exit(f"{Path(sys.argv[0]).name}: {error.filename or PROGRAM}: {error.strerror}")
