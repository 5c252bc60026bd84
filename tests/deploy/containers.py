"""The files of `deploy/`, and its entry script started as a container would start it."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

DEPLOY = Path(__file__).parents[2] / "deploy"
ENTRYPOINT, HEALTHCHECK = DEPLOY / "entrypoint.py", DEPLOY / "healthcheck.py"
PATIENCE = 60.0  # seconds that a busy machine may take

# In the place of `qtseg-edge`: notes how it was called; of a build it writes the engine, fails with CODE, or waits for a signal.
_STAND_IN = """
import json, os, signal, sys, time
from pathlib import Path
from typing import Any
with open(os.environ["CALLS"], "a") as file:
    print(json.dumps({"arguments": sys.argv[1:], "pid": os.getpid()}), file=file)
if sys.argv[1] == "build-engine":
    engine = Path(sys.argv[sys.argv.index("-o") + 1])
    half = engine.with_name("half")
    half.touch()
    def stopped(*_):
        half.unlink()
        sys.exit(130)
    signal.signal(signal.SIGTERM, stopped)
    if os.environ.get("WAITS"):
        Path(os.environ["WAITS"]).touch()
        time.sleep(60)
    half.unlink()
    if code := int(os.environ.get("CODE", "0")):
        sys.exit(code)
    engine.write_text("engine")
else:
    sys.exit(int(os.environ.get("RUN_CODE", "0")))
"""


class Container:
    """environment: besides what the image sets. stand_in: `qtseg-edge` is a stand-in, whose calls are kept."""

    def __init__(self, folder: Path, *, stand_in: bool = True, **environment: str) -> None:
        self.folder, self.calls_file, self.engines = folder, folder / "calls", folder / "engines"
        programs = folder / "bin" if stand_in else Path(sys.executable).parent
        if stand_in:
            programs.mkdir(exist_ok=True)
            program = programs / "qtseg-edge"
            program.write_text(f"#!{sys.executable}\n{_STAND_IN}", encoding="utf-8")
            program.chmod(program.stat().st_mode | stat.S_IXUSR)
        ours = {name: text for name, text in os.environ.items() if not name.startswith("QTSEG_EDGE_")}
        self.environment = {
            **ours,
            "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
            "CALLS": str(self.calls_file),
            "HOME": str(folder),
            "XDG_DATA_HOME": str(folder / "data"),
            "XDG_CACHE_HOME": str(folder / "cache"),
            "QTSEG_EDGE_ENGINES": str(self.engines),
            **environment,
        }

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, str(ENTRYPOINT), *arguments],
            cwd=self.folder,
            env=self.environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )

    def done(self, *arguments: str) -> tuple[int, str]:
        """Exit code and what was said on standard error."""
        with self.start(*arguments) as process:
            err = process.communicate(timeout=PATIENCE)[1]
        return process.returncode, err

    @property
    def calls(self) -> list[list[str]]:
        return [call["arguments"] for call in self._calls()]

    @property
    def pids(self) -> list[int]:
        return [call["pid"] for call in self._calls()]

    def _calls(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.calls_file.read_text().splitlines()] if self.calls_file.exists() else []


def wait_for(path: Path, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not path.exists():
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline, f"{path.name} did not come"
        time.sleep(0.02)
