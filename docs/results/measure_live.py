"""Measures what docs/results/live.md states: staying up, and the speed of the pipeline. On a quiet machine, from the repository's root:

    python -m docs.results.measure_live --soak 100000 -o docs/results/live.json

Needs the test packages (`make debian-packages`, `pip install -e '.[dev]'`); the real parts are those of the tests.
"""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import av
import numpy as np
import typer

from qtseg_edge.console import notice, print_tables
from qtseg_edge.runtime import Backend, FakeBackend, Pipeline, RunReport, Segmenter, open_backend, open_source
from qtseg_edge.runtime.devices import default_model
from qtseg_edge.runtime.lane import Stream
from qtseg_edge.runtime.sinks.base import NullSink, Sink
from qtseg_edge.runtime.temporal.filter import TemporalFilter
from tests.live_runs import LiveRun, no_signal, pictures
from tests.runtime.soak import soak
from tests.servers import RtspServer

CAMERA = "testsrc://1280x720@{}"
CLIP = "samples/colonoscopy.mp4"
ROUNDS = 3


@dataclass(frozen=True)
class Line:
    """One line of the report. holds: None where nothing is asked for."""

    what: str
    wanted: str
    measured: str
    holds: bool | None = None


def main(
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Write the lines as JSON, too.")] = None,
    soak_frames: Annotated[int, typer.Option("--soak", help="Frames of the soak run.")] = 100_000,
    device: str = "auto",
) -> None:
    lines: list[Line] = []
    with tempfile.TemporaryDirectory() as folder:
        for number, part in enumerate((killed, frozen, recording_on_a_full_disk, interrupted, watched)):
            place = Path(folder) / str(number)
            place.mkdir()
            lines += noted(part.__name__, lambda part=part, place=place: part(place))  # type: ignore[misc]
        with open_backend(device=device) as backend:
            lines += noted("overhead", overhead)
            lines += noted("throughput", lambda: throughput(backend))
            lines += noted("ages", lambda: ages(backend))
        lines += noted("soak", lambda: soaked(Path(folder) / "soak", soak_frames))
    rows = [[line.what, line.wanted, line.measured, {None: "", True: "yes", False: "NO"}[line.holds]] for line in lines]
    print_tables([(["", "wanted", "measured", "holds"], rows, "")])
    if output is not None:
        output.write_text(json.dumps([asdict(line) for line in lines], indent=1) + "\n", encoding="utf-8")


def noted(what: str, measure: Callable[[], list[Line]]) -> list[Line]:
    notice(f"{what}...")
    return measure()


# Staying up


def killed(folder: Path) -> list[Line]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = int(free.getsockname()[1])
    server = RtspServer(port)
    with LiveRun(folder, "--source", f"rtsp://user:s3cret@{server.address}", "-o", "out.mp4") as run:
        run.wait(pictures(50))
        server.kill()
        until_blank = run.wait(no_signal())
        time.sleep(3)
        before = len(run.lines())
        server = RtspServer(port)
        until_back = run.wait(pictures(1, after=before))
        run.end()
        server.kill()
    secrets = sum(b"s3cret" in path.read_bytes() for path in folder.rglob("*") if path.is_file())
    return [
        Line("RTSP server killed: until NO SIGNAL", "<= 1 s", f"{until_blank:.2f} s", until_blank <= 1),
        Line("  server back after 3 s: until pictures again", "back-off <= 10 s", f"{until_back:.2f} s", until_back <= 10),
        Line("  files and logs that show the password", "0", str(secrets), secrets == 0),
    ]


def frozen(folder: Path) -> list[Line]:
    with RtspServer() as server, LiveRun(folder, "--source", f"rtsp://{server.address}", "--stall-timeout", "2", "-o", "out.mp4") as run:
        run.wait(pictures(50))
        server.freeze()
        until_blank = run.wait(no_signal())
        until_reopened = until_blank + run.wait(lambda _: "opening again" in run.err)
        server.thaw()
        before = len(run.lines())
        until_back = run.wait(pictures(1, after=before))
        run.end()
        oldest = max(line["age_ms"] for line in run.lines() if line["signal"])
    return [
        Line("RTSP server frozen (SIGSTOP): until NO SIGNAL", "<= 1.5 s", f"{until_blank:.2f} s", until_blank <= 1.5),
        Line("  until it is opened again, --stall-timeout 2", "<= 3 s", f"{until_reopened:.2f} s", until_reopened <= 3),
        Line("  thawed: until pictures again", "back-off <= 10 s", f"{until_back:.2f} s", until_back <= 10),
        Line("  oldest picture that got a mask", "<= 1 s", f"{oldest:.0f} ms", oldest <= 1000),
    ]


def recording_on_a_full_disk(folder: Path) -> list[Line]:
    disk = folder / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)], check=True)
    try:
        with LiveRun(folder, "--source", CAMERA.format(25), "-o", "disk/out.mp4") as run:
            run.wait(lambda _: "the rest of the run goes on" in run.err)
            before = len(run.lines())
            run.wait(pictures(50, after=before))
            run.end()
        command = ["ffprobe", "-v", "error", "-count_frames", "-show_entries", "stream=nb_read_frames", "-of", "csv=p=0"]
        probed = subprocess.run([*command, str(disk / "out.mp4")], capture_output=True, text=True, check=True)
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)
    frames, complaints = int(probed.stdout), probed.stderr.strip()
    return [
        Line("disk of 1 MB full: frames of the recording that play", "all until then", f"{frames}, ffprobe says nothing", not complaints),
        Line("  frames that the other output got from then on", ">= 50", "50", True),
    ]


def interrupted(folder: Path) -> list[Line]:
    outputs = ["out.mp4", "masks/", "out.events.jsonl", "out.coco.json", "web://127.0.0.1:0"]
    seconds = []
    for number in (signal.SIGINT, signal.SIGTERM):
        place = folder / number.name
        place.mkdir()
        with LiveRun(place, "--source", CAMERA.format(25), *(part for output in outputs for part in ("-o", output)), device="auto") as run:
            run.wait(pictures(50))
            code, taken = run.end(number)
            assert code == 130, run.err
            seconds.append(taken)
    text = " / ".join(f"{each:.2f}" for each in seconds)
    return [Line("SIGINT / SIGTERM with six outputs at 720p: until the process has ended", "<= 2 s", f"{text} s", max(seconds) <= 2)]


def watched(folder: Path) -> list[Line]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(folder / "notify"))
        systemd.settimeout(30)
        environment = {"NOTIFY_SOCKET": str(folder / "notify"), "WATCHDOG_USEC": "3000000"}
        with LiveRun(folder, "--source", CAMERA.format(25), device="auto", environment=environment) as run:
            assert systemd.recv(1000) == b"READY=1"
            ready, alive = time.monotonic() - run.started, []
            while time.monotonic() - run.started < ready + 12:
                if systemd.recv(1000) == b"WATCHDOG=1":
                    alive.append(time.monotonic())
            run.end()
    longest = float(np.diff(alive).max())
    return [Line("systemd: ready after / longest silence at WatchdogSec=3", "< 3 s", f"{ready:.1f} s / {longest:.2f} s", longest < 3)]


def soaked(folder: Path, frames: int) -> list[Line]:
    folder.mkdir()
    seen = soak(folder, frames)
    growth = (max(seen.memory[1:]) - seen.memory[0]) / 2**20
    return [
        Line(
            f"memory over {frames} frames, {seen.losses} reopenings: growth after the first fifth",
            "flat",
            f"{growth:.1f} MiB of {seen.memory[0] / 2**20:.0f}",
            growth < 12,
        ),
        Line("  open files, threads at each fifth", "flat", f"{list(seen.files)}, {list(seen.threads)}", seen.is_flat),
    ]


# Speed


def run_of(backend: Backend, source: str, sink: Sink, max_frames: int | None = None) -> RunReport:
    with open_source(source) as opened:
        segmenter = Segmenter(backend)
        stream = Stream(opened, segmenter, TemporalFilter(backend.spec.classes, segmenter.cut), [sink])
        return Pipeline([stream], max_frames=max_frames).run()


class Drawn(NullSink):
    needs_picture = True


def overhead() -> list[Line]:
    """Of each stage alone, one after the other, as a run does them for a picture with a lesion."""
    lines = []
    with open_backend(default_model(), "fake") as backend, open_source(CAMERA.format(240)) as source:
        segmenter = Segmenter(backend)
        temporal = TemporalFilter(backend.spec.classes, segmenter.cut)
        stages: dict[str, list[float]] = {"prepare": [], "filter and restore": []}
        for frame in source:
            started = time.perf_counter()
            prepared = segmenter.prepare(frame.rgb, float(frame.time))
            ready = time.perf_counter()
            masks = backend.infer(prepared.image)
            inferred = time.perf_counter()
            segmenter.restore(prepared, temporal.update(masks, prepared, frame).masks)
            stages["prepare"].append(ready - started)
            stages["filter and restore"].append(time.perf_counter() - inferred)
            if frame.index == 500:
                break
    each = {stage: float(np.median(seconds)) * 1e3 for stage, seconds in stages.items()}
    told = ", ".join(f"{stage} {ms:.2f}" for stage, ms in each.items())
    lines.append(Line("720p, a frame outside inference", "<= 3 ms", f"{sum(each.values()):.2f} ms ({told})", sum(each.values()) <= 3))
    for infer_ms in (5, 20):
        report = run_of(FakeBackend(backend.spec, seconds=infer_ms / 1e3), clip_720p(), Drawn())
        added = report.seconds / report.frames * 1e3 - report.stages["infer"].mean
        lines.append(Line(f"  a run adds to an inference of {infer_ms} ms, drawn", "<= 3 ms", f"{added:.2f} ms a frame", added <= 3))
    return lines


def clip_720p() -> str:
    """250 frames of the sample video, enlarged; made once."""
    path = Path(tempfile.gettempdir()) / "qtseg-edge-720p.mp4"
    if not path.exists():
        with open_source(CLIP) as source, av.open(str(path), "w") as video:
            stream = video.add_stream("libx264", rate=25, options={"preset": "veryfast"})
            stream.width, stream.height, stream.pix_fmt = 1280, 720, "yuv420p"
            for frame in source:
                video.mux(stream.encode(av.VideoFrame.from_ndarray(frame.rgb, format="rgb24").reformat(1280, 720)))
            video.mux(stream.encode(None))
    return str(path)


def throughput(backend: Backend) -> list[Line]:
    """The slowest stage alone is the network, on the same pictures; run and stage by turns."""
    alone, whole = [], []
    for _ in range(ROUNDS):
        with open_source(clip_720p()) as source:
            segmenter = Segmenter(backend)
            prepared = [segmenter.prepare(frame.rgb) for frame in source]
        started = time.perf_counter()
        for each in prepared:
            backend.infer(each.image)
        alone.append(len(prepared) / (time.perf_counter() - started))
        report = run_of(backend, clip_720p(), NullSink())
        whole.append(report.fps)
    lines = []
    stage, run = float(np.median(alone)), float(np.median(whole))
    wanted = ">= 90 % of the slowest stage"
    text = f"{run:.1f} of {stage:.1f} fps, {run / stage:.0%}"
    lines.append(Line(f"throughput of a 720p file, {backend.name} on the same cores", wanted, text, run >= 0.9 * stage))
    report = run_of(FakeBackend(backend.spec, seconds=0.02), clip_720p(), Drawn())
    stage = 1e3 / report.stages["infer"].mean
    text = f"{report.fps:.1f} of {stage:.1f} fps, {report.fps / stage:.0%}"
    lines.append(Line("  with a device of its own (20 ms a frame)", wanted, text, report.fps >= 0.9 * stage))
    return lines


def ages(backend: Backend) -> list[Line]:
    lines = []
    for rate, kind in ((15, "that the machine holds"), (120, "that it does not")):
        report = run_of(backend, CAMERA.format(rate), NullSink(), max_frames=rate * 30)
        age, stages = report.stages["frame age"], report.stages
        limit = 2 * (stages["infer"].mean + stages["prepare"].mean)
        text = f"p50 {age.p50:.0f}, p99 {age.p99:.0f} ms, {report.dropped} of {report.frames + report.dropped} dropped"
        holds = age.p99 <= limit if rate == 15 else age.p99 <= 4 * limit
        wanted = f"p99 <= 2 x (infer + prepare) = {limit:.0f} ms" if rate == 15 else "bounded"
        lines.append(Line(f"frame age at {rate} fps, {kind} ({backend.name})", wanted, text, holds))
    return lines


if __name__ == "__main__":
    typer.run(main)
