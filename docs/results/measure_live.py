"""Measures what docs/results/live.md states: staying up, and the speed of the pipeline. On a quiet machine, from the repository's root:

    python -m docs.results.measure_live --soak 100000 -o docs/results/live.json

Needs the test packages (`make debian-packages`, `pip install -e '.[dev]'`); the real parts are those of the tests.
"""

from __future__ import annotations

import atexit
import functools
import json
import random
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import urllib.request
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
from qtseg_edge.runtime.frames import Source
from qtseg_edge.runtime.lane import Stream
from qtseg_edge.runtime.overlay import Overlay
from qtseg_edge.runtime.results import Result
from qtseg_edge.runtime.sinks.base import NullSink, Sink
from qtseg_edge.runtime.temporal.filter import TemporalFilter
from tests.disks import slow_disk
from tests.live_runs import LiveRun, no_signal, pictures
from tests.runtime.soak import soak
from tests.runtime.stand_ins import ListSource
from tests.servers import RtspServer
from tests.servers.http_video import TransportStream
from tests.servers.sockets import listening

CAMERA = "testsrc://1280x720@{}"
CLIP = "samples/colonoscopy.mp4"
ROUNDS = 3
SECRET = "s3cret-of-the-theatre"


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
        for number, part in enumerate(STAYING_UP):
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
    server = RtspServer(port, "theatre", SECRET)
    outputs = ["-o", "out.mp4", "-o", "out.events.jsonl", "-o", "web://127.0.0.1:0", "--json"]
    with LiveRun(folder, "--source", f"rtsp://theatre:{SECRET}@{server.address}", *outputs) as run:
        run.wait(pictures(50))
        server.kill()
        lost_at = len(run.lines())
        until_blank = run.wait(no_signal(after=lost_at))
        time.sleep(3)
        before = len(run.lines())
        server = RtspServer(port, "theatre", SECRET)
        until_back = run.wait(pictures(1, after=before))
        address = run.err.split("Look at ")[1].split()[0]
        told = [urllib.request.urlopen(f"{address}/{path}", timeout=10).read() for path in ("metrics", "streams", "readyz")]
        run.end()
        server.kill()
    told += [path.read_bytes() for path in folder.rglob("*") if path.is_file()]
    secrets = sum(SECRET.encode() in text for text in told)
    return [
        Line("RTSP server killed: until NO SIGNAL", "<= 1 s", f"{until_blank:.2f} s", until_blank <= 1),
        Line("  server back after 3 s: until pictures again", "back-off <= 10 s", f"{until_back:.2f} s", until_back <= 10),
        Line(f"  files, logs, metrics and pages, {len(told)} in all, that show the password", "0", str(secrets), secrets == 0),
    ]


def frozen(folder: Path) -> list[Line]:
    with RtspServer() as server, LiveRun(folder, "--source", f"rtsp://{server.address}", "--stall-timeout", "2", "-o", "out.mp4") as run:
        run.wait(pictures(50))
        server.freeze()
        lost_at = len(run.lines())
        until_blank = run.wait(no_signal(after=lost_at))
        until_reopened = until_blank + run.wait(lambda _: "opening again" in run.err)
        server.thaw()
        before = len(run.lines())
        until_back = run.wait(pictures(1, after=before))
        run.end()
        oldest = max(line["age_ms"] for line in run.lines() if line["signal"])
    return [
        Line("RTSP server frozen (SIGSTOP), the read hangs: until NO SIGNAL", "<= 1.5 s", f"{until_blank:.2f} s", until_blank <= 1.5),
        Line("  until it is opened again, --stall-timeout 2", "<= 3 s", f"{until_reopened:.2f} s", until_reopened <= 3),
        Line("  thawed: until pictures again", "back-off <= 10 s", f"{until_back:.2f} s", until_back <= 10),
        Line("  oldest picture that got a mask", "<= 1 s", f"{oldest:.0f} ms", oldest <= 1000),
    ]


def given_up(folder: Path) -> list[Line]:
    with RtspServer() as server, LiveRun(folder, "--source", f"rtsp://{server.address}", "--restarts", "3", "-o", "out.mp4") as run:
        run.wait(pictures(25))
        server.kill()
        started = time.monotonic()
        code = run.process.wait(60)
        seconds, written = time.monotonic() - started, len(run.lines())
    frames, complaints = probed(folder / "out.mp4")
    ends = f"exit {code} after {seconds:.1f} s, {frames} of {written} frames play"
    return [Line("server gone for good, --restarts 3", "exit 6, files whole", ends, code == 6 and frames == written and not complaints)]


def damaged(folder: Path) -> list[Line]:
    """Packets of the transport stream left out at random, of every picture that was made."""
    rng = random.Random(0)

    def holes(data: bytes) -> bytes:
        packets = [data[start : start + 188] for start in range(0, len(data), 188)]
        return b"".join(packet for packet in packets if rng.random() > 0.02)

    with listening(TransportStream(holes)) as server:
        run = LiveRun(folder, "--source", f"http://127.0.0.1:{server.port}/live.ts", "--json")
        run.wait(lambda lines: len(lines) >= 200)
        run.end()
    (source,) = json.loads(run.out)["sources"]
    thrown = source["dropped"].get("damaged", 0)
    text = f"{thrown} pictures thrown away, {source['frames']} shown, opened again {source['reopened']} times"
    return [Line("2 % of a stream's packets lost, over HTTP", "damage thrown away, the run goes on", text, thrown > 0)]


def full_disk(folder: Path) -> list[Line]:
    disk = folder / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", str(disk)], check=True)
    try:
        with LiveRun(folder, "--source", CAMERA.format(25), "-o", "disk/out.mp4") as run:
            run.wait(lambda _: "the rest of the run goes on" in run.err)
            before = len(run.lines())
            run.wait(pictures(50, after=before))
            run.end()
            after = len(run.lines()) - before
        kept = re.search(r"stopped after (\d+) frames", run.err)
        assert kept, run.err
        frames, complaints = probed(disk / "out.mp4")
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)
    text = f"{frames} of {kept[1]} frames play" + (f", ffprobe: {complaints}" if complaints else "")
    return [
        Line("disk of 200 kB full: the recording", "what was written plays", text, frames == int(kept[1]) and not complaints),
        Line("  frames that the other output got from then on", ">= 50", str(after), after >= 50),
    ]


def slow_disk_beside(folder: Path) -> list[Line]:
    with slow_disk(folder, 20_000) as disk:
        with LiveRun(folder, "--source", CAMERA.format(25), "-o", "slow/out.mp4", "--json") as run:
            run.wait(pictures(250))
            run.end()
        frames, complaints = probed(next(iter(disk.glob("out*.mp4"))))
    (source,) = json.loads(run.out)["sources"]
    ages = [line["age_ms"] for line in run.lines()]
    left_out, age = source["dropped"].get("slow output", 0), float(np.percentile(ages, 99))
    text = f"{left_out} of {source['frames']} frames left out of the recording, {frames} play; age p99 {age:.0f} ms"
    return [Line("disk of 20 kB/s beside another output", "slows nobody", text, age < 100 and not complaints)]


def probed(path: Path) -> tuple[int, str]:
    """Frames that ffprobe decodes, and what it says."""
    command = ["ffprobe", "-v", "error", "-count_frames", "-show_entries", "stream=nb_read_frames", "-of", "csv=p=0", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return int(done.stdout), done.stderr.strip()


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
            ready, alive = time.monotonic() - run.started, list[float]()
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
    what = f"memory over {frames} frames, {seen.losses} reopenings, four outputs: growth after the first fifth"
    return [
        Line(what, "flat", f"{growth:.1f} MiB of {seen.memory[0] / 2**20:.0f}", growth < 12),
        Line("  open files, threads at each fifth", "flat", f"{list(seen.files)}, {list(seen.threads)}", seen.is_flat),
    ]


# Speed


def run_of(backend: Backend, source: str, sink: Sink, max_frames: int | None = None) -> RunReport:
    with open_source(source) as opened:
        return Pipeline([stream_of(backend, opened, sink)], max_frames=max_frames).run()


def stream_of(backend: Backend, source: Source, sink: Sink) -> Stream:
    segmenter = Segmenter(backend)
    return Stream(source, segmenter, TemporalFilter(backend.spec.classes, segmenter.cut), [sink])


class Drawn(NullSink):
    needs_picture = True


class Ages(NullSink):
    def __init__(self) -> None:
        self.ages: list[float] = []

    def write(self, result: Result) -> None:
        self.ages.append((result.segmented_at - result.frame.captured_at) * 1e3)


def overhead() -> list[Line]:
    """Of each stage alone, one after the other, as a run does them for a picture with a lesion."""
    stages: dict[str, list[float]] = {"prepare": [], "filter and restore": [], "draw": []}
    with open_backend(default_model(), "fake") as backend, open_source(CAMERA.format(240)) as source:
        segmenter = Segmenter(backend)
        temporal = TemporalFilter(backend.spec.classes, segmenter.cut)
        overlay = Overlay(backend.spec.card.colours_rgb, 0.4)
        for frame in source:
            started = time.perf_counter()
            prepared = segmenter.prepare(frame.rgb, float(frame.time))
            ready = time.perf_counter()
            masks = backend.infer(prepared.image)
            inferred = time.perf_counter()
            mask, _ = segmenter.restore(prepared, temporal.update(masks, prepared, frame).masks)
            restored = time.perf_counter()
            overlay.draw(frame.rgb, mask, "a line of text")
            for stage, begun, done in zip(stages, (started, inferred, restored), (ready, restored, time.perf_counter()), strict=True):
                stages[stage].append(done - begun)
            if frame.index == 500:
                break
    each = {stage: float(np.median(seconds)) * 1e3 for stage, seconds in stages.items()}
    told = ", ".join(f"{stage} {ms:.2f}" for stage, ms in each.items())
    outside = each["prepare"] + each["filter and restore"]
    lines = [Line("720p, medians: a frame outside inference, not drawn", "<= 3 ms", f"{outside:.2f} ms ({told})", outside <= 3)]
    with open_source(CAMERA.format(240)) as source:
        frames = [
            frame.rgb for frame, _ in zip(source, range(250), strict=False)
        ]  # with one lesion: FakeBackend marks half of a real picture
    for infer_ms in (5, 20):
        fake = FakeBackend(backend.spec, seconds=infer_ms / 1e3)
        report = Pipeline([stream_of(fake, ListSource(frames), Drawn())]).run()
        added = report.seconds / report.frames * 1e3 - report.stages["infer"].mean
        what = f"  what a run adds, without decoding, to an inference of {infer_ms} ms, drawn"
        lines.append(Line(what, "<= 3 ms", f"{added:.2f} ms a frame", added <= 3))
    return lines


@functools.cache
def clip_720p() -> str:
    """250 frames of the sample video, enlarged."""
    path = Path(tempfile.mkdtemp()) / "720p.mp4"
    atexit.register(shutil.rmtree, path.parent)
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
        sink = Ages()
        report = run_of(backend, CAMERA.format(rate), sink, max_frames=rate * 30)
        age, stages = report.stages["frame age"], report.stages
        limit = 2 * (stages["infer"].mean + stages["prepare"].mean)
        text = f"p50 {age.p50:.0f}, p99 {age.p99:.0f} ms, {report.dropped} of {report.frames + report.dropped} dropped"
        what = f"frame age at {rate} fps, {kind} ({backend.name})"
        if rate == 15:
            lines.append(Line(what, f"p99 <= 2 x (infer + prepare) = {limit:.0f} ms", text, age.p99 <= limit))
        else:
            third = len(sink.ages) // 3
            first, last = (float(np.median(part)) for part in (sink.ages[:third], sink.ages[-third:]))
            text += f"; p50 of the first third {first:.0f}, of the last {last:.0f}"
            lines.append(Line(what, "does not grow: p50 of the last third <= 1.2 x first", text, last <= 1.2 * first))
    return lines


STAYING_UP = (killed, frozen, given_up, damaged, full_disk, slow_disk_beside, interrupted, watched)

if __name__ == "__main__":
    typer.run(main)
