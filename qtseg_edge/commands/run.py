"""`qtseg-edge run`."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from qtseg_edge.commands.interrupt import interrupt_once
from qtseg_edge.commands.options import CudaDriver, Device, Json, Model, PowerMode, Trust
from qtseg_edge.commands.power_mode import change_power_mode
from qtseg_edge.console import OnProgress, notice, print_json, print_tables, progress
from qtseg_edge.errors import INTERRUPTED, UsageError
from qtseg_edge.spec import NOTICE

if TYPE_CHECKING:
    from qtseg_edge.runtime.frames import Source
    from qtseg_edge.runtime.monitor import Monitor
    from qtseg_edge.runtime.systemd import Notifier

_NOTE_EVERY_SECONDS = 0.5
_SOURCES = (
    "A path, a directory of images, a quoted pattern, 0, v4l2://, csi://, gst://, rtsp://, http(s):// or testsrc://; "
    "@FILE for the lines of FILE; repeatable."
)
_OUTPUTS = (
    "out.mp4, recordings/?segment=10min&keep=50GB&days=30, masks/, out.jsonl, out.events.jsonl, out.coco.json, web://127.0.0.1:8080, "
    "display://, rtsp:// or null://; {start} in a name is the time, @FILE the lines of FILE; repeatable."
)


def run(
    video: Annotated[str | None, typer.Option(metavar="FILE", help="A video file.", show_default=False)] = None,
    camera: Annotated[int | None, typer.Option(min=0, metavar="N", help="The camera /dev/videoN.", show_default=False)] = None,
    source: Annotated[list[str] | None, typer.Option(metavar="URI", help=_SOURCES, show_default=False)] = None,
    model: Model = None,
    device: Device = "auto",
    output: Annotated[list[str] | None, typer.Option("--output", "-o", metavar="URI", help=_OUTPUTS, show_default=False)] = None,
    alpha: Annotated[float, typer.Option(min=0.0, max=1.0, help="Opacity of the tint.")] = 0.4,
    threshold: Annotated[
        float | None,
        typer.Option(help="Foreground probability from which a pixel counts; the model's own when left out.", show_default=False),
    ] = None,
    temporal: Annotated[
        Literal["hysteresis", "none"] | None,
        typer.Option(help="Hold back what shows in single frames only; the default for video.", show_default=False),
    ] = None,
    roi: Annotated[str, typer.Option(metavar="auto|none|x,y,w,h", help="The part of the picture that the network is shown.")] = "none",
    policy: Annotated[
        Literal["all", "latest"] | None,
        typer.Option(help="Segment every frame (default of files), or the newest and drop the rest (live).", show_default=False),
    ] = None,
    realtime: Annotated[bool, typer.Option("--realtime", help="Play files as if they were live.")] = False,
    max_frames: Annotated[int | None, typer.Option(min=1, help="End after so many frames of every source.", show_default=False)] = None,
    stall_timeout: Annotated[float, typer.Option(help="Seconds without a picture after which a live source is opened again.")] = 5.0,
    restarts: Annotated[
        int, typer.Option(min=-1, help="How often in a row it is opened again before it counts as lost; -1 for ever.")
    ] = 30,
    rtsp_transport: Annotated[Literal["tcp", "udp"], typer.Option(help="How an RTSP source sends its pictures.")] = "tcp",
    decoder: Annotated[
        Literal["software", "hardware"], typer.Option(help="What decodes video; a Jetson's hardware does not tell what is damaged.")
    ] = "software",
    trust: Trust = False,
    cuda_driver: CudaDriver = "auto",
    power_mode: PowerMode = None,
    as_json: Json = False,
) -> None:
    """Put the mask on video, live or from files, on an image or a folder of images.

    Without --output the overlay of a file is written to NAME-overlay.mp4 (or .png, of a single image) in the current folder. Several
    sources share one engine; their files are numbered: out-1.mp4, out-2.mp4.
    """
    from qtseg_edge.board.watch import watching
    from qtseg_edge.report import run_document, run_tables
    from qtseg_edge.runtime import Pipeline, open_backend, open_source
    from qtseg_edge.runtime.monitor import Monitor
    from qtseg_edge.runtime.roi.area import parse_roi
    from qtseg_edge.runtime.sources import LiveOptions
    from qtseg_edge.runtime.streams import StreamOptions, open_streams
    from qtseg_edge.runtime.systemd import Notifier
    from qtseg_edge.runtime.web import web_server

    texts, outputs = _sources(video, camera, _from_files(source, "--source")), _from_files(output, "--output")
    live = LiveOptions(realtime, stall_timeout, restarts, rtsp_transport, every=policy == "all", decoder=decoder)
    options = StreamOptions(threshold, policy, temporal, parse_roi(roi))
    interrupt_once()
    with ExitStack() as stack:
        sources = [stack.enter_context(open_source(text, live, notice)) for text in texts]
        _require_one_pace(sources, realtime)
        change_power_mode(power_mode)  # when nothing that the user typed can be wrong any more
        backend = stack.enter_context(open_backend(model, device, trust=trust, cuda_driver=cuda_driver))
        board = stack.enter_context(watching(lambda line: notice(f"qtseg-edge: {line}")))
        monitor, notifier = Monitor(backend.name, backend.spec.card.name, board), Notifier()
        web = stack.enter_context(web_server(outputs, monitor) or nullcontext())
        with progress("run", "frames", _total(sources, max_frames)) as advance:
            streams = open_streams(sources, backend, outputs, options, web, notice)  # last, because it is the pipeline that ends them
            notice(f"{backend.spec.card.name} on {backend.name}. {NOTICE}{'' if web is None else f' Look at http://{web.address}'}")
            pipeline = Pipeline(
                streams,
                alpha,
                monitor=monitor,
                on_frame=_told(advance, monitor, notifier),
                on_failure=lambda error: notice(f"qtseg-edge: {error}; the rest of the run goes on"),
                max_frames=max_frames,
            )
            notifier.ready()
            report = pipeline.run()
            notifier.stopping()
        if as_json:
            print_json(run_document(report, backend.spec))
        elif report.frames:
            print_tables(run_tables(report))
    if report.error is not None:
        raise report.error
    if report.interrupted:
        notice(f"qtseg-edge: interrupted; {'the outputs hold every frame up to here' if report.frames else 'nothing was written'}")
        raise typer.Exit(INTERRUPTED)


def _sources(video: str | None, camera: int | None, sources: list[str]) -> list[str]:
    texts = [*([] if video is None else [video]), *([] if camera is None else [f"v4l2:///dev/video{camera}"]), *sources]
    if not texts:
        raise UsageError("run: wanted --video FILE, --camera N or --source URI; try it with: qtseg-edge run --source testsrc:// -o null://")
    return texts


def _from_files(texts: list[str] | None, option: str) -> list[str]:
    """`@FILE` stands for the lines of FILE: a password in an address is then on no command line, which every user may read."""
    return [line for text in texts or [] for line in (_lines(Path(text[1:]), option) if text.startswith("@") else [text])]


def _lines(path: Path, option: str) -> list[str]:
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "is not text"
        raise UsageError(f"{option} @{path}: cannot be read ({reason}); wanted a file of addresses, one in each line") from error
    found = [line for line in lines if line and not line.startswith("#")]
    if not found:
        raise UsageError(f"{option} @{path}: holds no address; wanted one in each line")
    return found


def _total(sources: Sequence[Source], most: int | None) -> int | None:
    counts = [most if source.info.frames is None else min(source.info.frames, most or source.info.frames) for source in sources]
    return None if None in counts else sum(count or 0 for count in counts)


def _require_one_pace(sources: Sequence[Source], realtime: bool) -> None:
    """A file that is read as fast as it goes takes the engine, and its outputs make a live source wait."""
    from qtseg_edge.runtime.sources.realtime import Realtime

    if realtime and not any(isinstance(source, Realtime) for source in sources):
        raise UsageError(f"--realtime: is for files, and {sources[0].info.name} is live already; leave it out")
    files = [source.info.name for source in sources if not source.info.live]
    if 0 < len(files) < len(sources):
        raise UsageError(
            f"run: {files[0]} is a file, beside something live; play it as if it were live, with --realtime, or in a run of its own"
        )


def _told(advance: OnProgress, monitor: Monitor, notifier: Notifier) -> Callable[[int], None]:
    """Tells the user and systemd how the run is doing, at every result."""
    note, due = "", 0.0

    def on_frame(frames: int) -> None:
        nonlocal note, due
        notifier.alive()
        now = time.monotonic()
        if now >= due:
            due = now + _NOTE_EVERY_SECONDS
            note = monitor.snapshot().note()
            notifier.status(f"{frames} frames; {note}")
        advance(frames, note=note)

    return on_frame
