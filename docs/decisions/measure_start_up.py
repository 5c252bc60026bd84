"""How long the commands take to start, and what OpenVINO's ways of keeping a compiled model save (0030).

python docs/decisions/measure_start_up.py --rounds 5
python docs/decisions/measure_start_up.py --rounds 3 --cold
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

ROOT = Path(__file__).parents[2]
RUN = ("run", "--video", str(ROOT / "samples" / "colonoscopy.mp4"), "--max-frames", "10", "-o", "out.jsonl", "--json")
PACKAGES = ("openvino", "numpy", "numpy.libs", "cv2", "opencv_python_headless.libs", "av", "av.libs", "typer", "rich")
COMMAND = """
import sys
from qtseg_edge import IMPORTED_AT
from qtseg_edge.cli import main
print(IMPORTED_AT, file=sys.stderr)
sys.argv[0] = "qtseg-edge"
main()
"""
# From the rest of a run loaded to the first answer of the engine. WAY: how it gets its compiled model.
ENGINE = """
import sys, time
import numpy as np
import qtseg_edge.runtime
way, folder, model = sys.argv[1:4]
started, used = time.perf_counter(), time.process_time()
if way == "import openvino":
    import openvino
else:
    from qtseg_edge.runtime.openvino_library import openvino
if way.startswith("import"):
    compiled = None
else:
    core, properties = openvino.Core(), {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
    if way == "compiled":
        compiled = core.compile_model(core.read_model(model), "CPU", properties)
    elif way == "CACHE_DIR, path":
        compiled = core.compile_model(model, "CPU", {**properties, "CACHE_DIR": folder})
    elif way == "CACHE_DIR, read_model":
        compiled = core.compile_model(core.read_model(model), "CPU", {**properties, "CACHE_DIR": folder})
    else:
        from pathlib import Path
        from qtseg_edge.runtime.openvino_compile import compiled_model
        compiled = compiled_model(core, Path(model), properties)
if compiled is not None:
    compiled.create_infer_request().infer({"image": np.zeros((1, *compiled.input(0).shape[1:]), np.uint8)})
print(time.perf_counter() - started, time.process_time() - used)
"""
WAYS = ("import openvino", "import, no converter", "compiled", "CACHE_DIR, path", "CACHE_DIR, read_model", "own cache")
Figures = dict[str, list[tuple[float, ...]]]


def started(arguments: tuple[str, ...], cache: Path, site: str) -> tuple[float, ...]:
    """Seconds: until the command had ended, of the processor, and, of `run`, until its first mask, all from before the process was made."""
    before, begun = os.times(), time.perf_counter()
    done = done_with([sys.executable, "-c", COMMAND, *arguments], cache, site)
    wall, after = time.perf_counter() - begun, os.times()
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    if arguments is not RUN:
        return wall, cpu
    imported_at = float(done.stderr.split()[0])  # by the same clock: on Linux it is the machine's
    return wall, cpu, imported_at - begun + json.loads(done.stdout)["first_result_seconds"]


def done_with(command: list[str], cache: Path, site: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "XDG_CACHE_HOME": str(cache), "PYTHONPATH": os.pathsep.join([str(ROOT), site])}
    return subprocess.run(command, capture_output=True, text=True, check=True, env=environment, cwd=cache)


def engine(way: str, cache: Path) -> tuple[float, ...]:
    model = str(ROOT / "qtseg_edge" / "assets" / "kvasir-seg-polyp.onnx")
    done = done_with([sys.executable, "-c", ENGINE, way, str(cache / way.replace(" ", "-")), model], cache, "")
    wall, cpu = map(float, done.stdout.split())
    return wall, cpu


def copied_packages(folder: Path) -> str:
    """A copy of what a run loads, which nobody else has in memory."""
    import numpy

    installed = Path(numpy.__file__).parents[1]
    for name in PACKAGES:
        if (installed / name).is_dir():
            shutil.copytree(installed / name, folder / name)
    return str(folder)


def forget(*folders: Path) -> None:
    """The kernel drops its copies of these files, so that the next reader waits for the disk."""
    os.sync()
    for folder in folders:
        for file in folder.rglob("*"):
            if file.is_file():
                descriptor = os.open(file, os.O_RDONLY)
                os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
                os.close(descriptor)


def printed(title: str, figures: Figures, columns: tuple[str, ...]) -> None:
    """Best and median of each column."""
    print(f"\n| {title} | {' | '.join(columns)} |\n|{'---|' * (len(columns) + 1)}")
    for name, rounds in figures.items():
        cells = [f"{min(values):.2f} ({statistics.median(values):.2f})" for values in zip(*rounds, strict=True)]
        print(f"| {name} | {' | '.join([*cells, *[''] * (len(columns) - len(cells))])} |")


def measure_commands(rounds: int, folder: Path, cold: bool) -> Figures:
    """`run` with a cache that holds its model, and with an empty one."""
    site, full = copied_packages(folder / "site") if cold else "", folder / "full"
    full.mkdir()
    started(RUN, full, site)
    starts: dict[str, Callable[[], tuple[float, ...]]] = {
        "`--version`": lambda: started(("--version",), full, site),
        "`--help`": lambda: started(("--help",), full, site),
        "`run --help`": lambda: started(("run", "--help"), full, site),
        "`run`, first start": lambda: started(RUN, Path(tempfile.mkdtemp(dir=folder)), site),
        "`run`, further starts": lambda: started(RUN, full, site),
    }
    figures: Figures = {name: [] for name in starts}
    for _ in range(rounds):
        for name, start in starts.items():
            if cold:
                forget(folder / "site", full, ROOT / "qtseg_edge")
            figures[name].append(start())
    return figures


def measure_engines(rounds: int, folder: Path) -> Figures:
    for way in WAYS:
        engine(way, folder)  # fills its cache
    figures: Figures = {way: [] for way in WAYS}
    for _ in range(rounds):
        for way in WAYS:
            figures[way].append(engine(way, folder))
    return figures


def main(
    rounds: Annotated[int, typer.Option(min=1, help="Best and median are shown; everything starts by turns.")] = 5,
    cold: Annotated[bool, typer.Option("--cold", help="Packages, model and cache are read from the disk. Commands only.")] = False,
    engines: Annotated[bool, typer.Option(help="OpenVINO's ways of keeping a model, too.")] = True,
    commands: Annotated[bool, typer.Option(help="The commands.")] = True,
) -> None:
    """Tables in Markdown, seconds."""
    with tempfile.TemporaryDirectory() as text:
        if commands:
            figures = measure_commands(rounds, Path(text), cold)
            printed("command", figures, ("until it ended", "processor", "first result"))
        if engines and not cold:
            printed("OpenVINO, until its first answer", measure_engines(rounds, Path(text)), ("clock", "processor"))


if __name__ == "__main__":
    typer.run(main)
