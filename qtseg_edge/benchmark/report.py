"""A benchmark as a document for machines, as tables for a terminal and for Markdown, and as files."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from statistics import fmean, median
from typing import Any

from qtseg_edge.benchmark.limits import Limit
from qtseg_edge.benchmark.plot import plot
from qtseg_edge.benchmark.rates import BYTES
from qtseg_edge.benchmark.results import WAYS, Benchmark, Figures, Ratio, Result
from qtseg_edge.files import replacing
from qtseg_edge.report import Table

_TITLES = {
    "device_only": "Device only: the network's input to its masks, ms of a call",
    "end_to_end": "End to end: a frame of 1280x720 to its mask of 1280x720, ms of a call",
}
_DIGITS = 5


def benchmark_document(done: Benchmark) -> dict[str, Any]:
    """JSON values only: milliseconds of a call (of `batch` images), shares 0..1, bytes, null where not known."""
    settings = done.settings
    return {
        "machine": asdict(done.machine),
        "settings": {"rounds": settings.rounds, "seconds": settings.seconds, "data": settings.data and str(settings.data)},
        "compared_on_images": done.images,
        "rates": [asdict(rate) for rate in done.rates],
        "power_of": done.meter or None,
        "candidates": [_candidate_document(done, number) for number in range(len(done.results))],
        "skipped": [{"what": one.what, "reason": one.reason} for one in done.skipped],
        "interrupted": done.interrupted,
    }


def _candidate_document(done: Benchmark, number: int) -> dict[str, Any]:
    result, first = done.results[number], done.results[0]
    candidate, limit = result.candidate, result.limit(done.rates)
    known = limit if isinstance(limit, Limit) else None
    cost = None if isinstance(candidate.cost, str) else candidate.cost
    return {
        "number": number + 1,
        "model": str(candidate.model),
        "device": candidate.device,
        "engine": result.engine,
        "size_hw": list(candidate.size_hw),
        "batch": candidate.batch,
        "precision": candidate.precision,
        "error": None if result.error is None else str(result.error),
        **{f"{way}_ms": _fields(result.figures(way)) for way in WAYS},
        "limit_ms": None if known is None else _number(known.ms),
        "limit_of": _fields(known),
        "limit_unknown": limit if isinstance(limit, str) else None,
        "macs": cost and cost.macs,
        "times_limit": {way: _times_limit(result.figures(way), known) for way in WAYS},
        "times_as_fast_as_first": {way: _fields(result.times_as_fast_as(first, way)) for way in WAYS},
        "open_seconds": _number(result.open_seconds),
        "file_bytes": candidate.model.stat().st_size,
        "memory_bytes": result.memory_bytes,
        "gpu_bytes": result.gpu_bytes,
        "watts": _number(fmean(result.watts)) if result.watts else None,
        "frames_per_joule": _number(result.frames_per_joule),
        "hottest_celsius": _number(max(result.celsius, default=None)),
        "gpu_mhz": _number(median(result.gpu_mhz)) if result.gpu_mhz else None,
        "throttled": result.throttled,
        "reference": result.reference and result.reference.label,
        "pixels_equal": _number(result.pixels_equal),
        "mask_iou": _number(result.mask_iou),
        "dice": _number(result.dice),
    }


def benchmark_tables(done: Benchmark) -> list[Table]:
    """Both ways of timing, what else differs, and the machine's rates."""
    labels = _labels(done.results)
    head = f"{done.machine.line()}; {done.settings.rounds} rounds of {done.settings.seconds:g} s; {_in_common(done.results)}\n"
    tables = [_times_table(done, labels, way, head if way == WAYS[0] else "") for way in WAYS]
    return [*tables, _quality_table(done, labels), _rates_table(done)]


def benchmark_notes(done: Benchmark) -> list[str]:
    """What was not measured, and why."""
    failed = [f"{result.candidate.label}: {result.error}" for result in done.results if result.error]
    skipped = [f"{one.what}: {one.reason}" for one in done.skipped]
    limits = [(result.candidate.label, result.limit(done.rates)) for result in done.results if not result.error]
    return [*failed, *skipped, *(f"{label}: no limit, {limit}" for label, limit in limits if isinstance(limit, str))]


def benchmark_warnings(done: Benchmark) -> list[str]:
    """Whose times are longer because the machine was throttled while they were taken."""
    return [f"{result.candidate.label}: {', '.join(result.throttled)}" for result in done.results if result.throttled]


def benchmark_markdown(done: Benchmark) -> str:
    """The same tables, and the machine."""
    machine = [f"- {name}: {text}" for name, text in done.machine.rows()]
    notes, warnings = _listed("Not measured:", benchmark_notes(done)), _listed("Throttled while measured:", benchmark_warnings(done))
    return "\n".join(["# Benchmark", "", *machine, "", *(_markdown(*table) for table in benchmark_tables(done)), *notes, *warnings])


def write_benchmark(done: Benchmark, folder: Path) -> None:
    """benchmark.json, benchmark.md and benchmark.png into `folder`, each of them whole or not at all. Needs matplotlib."""
    contents = {
        "benchmark.json": json.dumps(benchmark_document(done), indent=1, allow_nan=False).encode(),
        "benchmark.md": benchmark_markdown(done).encode(),
        "benchmark.png": plot(done),
    }
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in contents.items():
        with replacing(folder / name) as path:
            path.write_bytes(content)


def _times_table(done: Benchmark, labels: list[str], way: str, head: str) -> Table:
    columns = ["", "x first", "in rounds", "p10", "p50", "p95", "p99", "mean", "fps", "limit", "p10/limit"]
    rows = [[label, *_times_cells(done, result, way)] for label, result in zip(labels, done.results, strict=True)]
    return columns, rows, head + _TITLES[way]


def _times_cells(done: Benchmark, result: Result, way: str) -> list[str]:
    figures, ratio, limit = result.figures(way), result.times_as_fast_as(done.results[0], way), result.limit(done.rates)
    if figures is None:
        return ["-"] * 10
    speed = ["-", "-"] if ratio is None else [f"{ratio.median:.2f}", f"{ratio.low:.2f}-{ratio.high:.2f}"]
    times = [f"{value:.2f}" for value in (figures.p10, figures.p50, figures.p95, figures.p99, figures.mean)]
    if isinstance(limit, str):
        return [*speed, *times, f"{figures.fps:.1f}", "-", "-"]
    return [*speed, *times, f"{figures.fps:.1f}", f"{limit.ms:.2f}", f"{figures.p10 / limit.ms:.2f}"]


def _quality_table(done: Benchmark, labels: list[str]) -> Table:
    """Columns that nobody has a value for are left out."""
    cells = {
        "Dice": [_percent(result.dice, 2) for result in done.results],
        "pixels as FP32, %": [_percent(result.pixels_equal, 4) for result in done.results],
        "mask IoU with FP32": [_text(result.mask_iou, ".4f") for result in done.results],
        "file, MB": [f"{result.candidate.model.stat().st_size / 1e6:.1f}" for result in done.results],
        "memory, MB": [_text(result.memory_bytes and result.memory_bytes / 1e6, ".0f") for result in done.results],
        "GPU memory, MB": [_text(result.gpu_bytes and result.gpu_bytes / 1e6, ".0f") for result in done.results],
        "opened in, s": [_text(result.open_seconds, ".2f") for result in done.results],
        "frames/s per W": [_text(result.frames_per_joule, ".2f") for result in done.results],
        "hottest, \N{DEGREE SIGN}C": [_text(max(result.celsius, default=None), ".1f") for result in done.results],
        "GPU, MHz": [_text(median(result.gpu_mhz) if result.gpu_mhz else None, ".0f") for result in done.results],
    }
    shown = {name: values for name, values in cells.items() if any(value != "-" for value in values)}
    rows = [[label, *(values[number] for values in shown.values())] for number, label in enumerate(labels)]
    source = "the labelled images" if done.settings.data else "the example frames"
    power = f"; power of the {done.meter}" if done.meter else ""
    return ["", *shown], rows, f"Masks on {done.images} images ({source}), memory beyond what the process had before{power}"


def _rates_table(done: Benchmark) -> Table:
    rows = [
        [f"{rate.what} on the {rate.place.upper()}", rate.by, f"{rate.per_second / 1e9:.1f} {'GB/s' if rate.what == BYTES else 'GFLOP/s'}"]
        for rate in done.rates
    ]
    return ["", "by", "p10"], rows, "What the limits are made of: a large matrix product in each precision, a large copy"


def _listed(head: str, lines: list[str]) -> list[str]:
    """Nothing of no lines."""
    return [head, "", *(f"- {line}" for line in lines), ""] if lines else []


def _labels(results: list[Result]) -> list[str]:
    """Numbers, and the parts in which the candidates differ: a table with whole labels is too wide for a terminal."""
    parts = [result.candidate.parts for result in results]
    differing = [index for index in range(len(parts[0])) if len({part[index] for part in parts}) > 1] or range(len(parts[0]))
    return [" ".join([str(number), *(part[index] for index in differing if part[index])]) for number, part in enumerate(parts, 1)]


def _in_common(results: list[Result]) -> str:
    parts = [result.candidate.parts for result in results]
    return " ".join(part for index, part in enumerate(parts[0]) if part and len({each[index] for each in parts}) == 1)


def _times_limit(figures: Figures | None, limit: Limit | None) -> dict[str, float] | None:
    if figures is None or limit is None:
        return None
    return {name: round(getattr(figures, name) / limit.ms, _DIGITS) for name in ("mean", "p10", "p50", "p95", "p99")}


def _markdown(columns: list[str], rows: list[list[str]], title: str) -> str:
    """A table whose columns stand below each other as plain text too, its title before it."""
    cells = [[cell.replace("|", "\\|") for cell in row] for row in (columns, *rows)]
    widths = [max(3, *(len(row[index]) for row in cells)) for index in range(len(columns))]
    lines = [" | ".join(_padded(cell, width, index) for index, (cell, width) in enumerate(zip(row, widths, strict=True))) for row in cells]
    rule = " | ".join("-" * width if index == 0 else "-" * (width - 1) + ":" for index, width in enumerate(widths))
    table = "\n".join(f"| {line} |" for line in (lines[0], rule, *lines[1:]))
    return f"{title}\n\n{table}\n" if title else f"{table}\n"


def _padded(cell: str, width: int, index: int) -> str:
    return cell.ljust(width) if index == 0 else cell.rjust(width)


def _percent(share: float | None, digits: int) -> str:
    return "-" if share is None else f"{100 * share:.{digits}f}"


def _text(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def _number(value: float | None) -> float | None:
    return None if value is None else round(value, _DIGITS)


def _fields(found: Figures | Limit | Ratio | None) -> dict[str, Any] | None:
    if found is None:
        return None
    return {name: round(value, _DIGITS) if isinstance(value, float) else value for name, value in asdict(found).items()}
