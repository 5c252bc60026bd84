"""Reports as documents for machines and as tables for people."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from qtseg_edge import __version__

if TYPE_CHECKING:
    from qtseg_edge.board.watch import BoardState
    from qtseg_edge.export import ExportReport
    from qtseg_edge.export.engine import EngineReport
    from qtseg_edge.export.gate import GateResult
    from qtseg_edge.export.sensitivity import LayerCost
    from qtseg_edge.runtime import RunReport
    from qtseg_edge.runtime.monitor import Snapshot
    from qtseg_edge.spec import ModelSpec

_COSTS_SHOWN = 15
Table = tuple[list[str], list[list[str]], str]  # columns, rows, title


def run_document(report: RunReport, spec: ModelSpec) -> dict[str, Any]:
    """JSON values only. `sources` and `outputs` in the order in which they were given, fit to be shown."""
    snapshot = report.snapshot
    return {
        "version": __version__,
        "model": spec.card.name,
        "checkpoint_sha256": spec.checkpoint_sha256,
        "device": snapshot.engine,
        "frames": report.frames,
        "foreground_frames": report.foreground_frames,
        "dropped": report.dropped,
        "seconds": round(report.seconds, 3),
        "fps": round(report.fps, 2),
        "first_result_seconds": snapshot.first_result_s and round(snapshot.first_result_s, 3),
        "sources": [
            {
                "source": stream.name,
                "frames": stream.frames,
                "foreground_frames": stream.foreground_frames,
                "dropped": stream.dropped,
                "reopened": stream.status.reopened,
                "frame_age_ms": _rounded(asdict(stream.ages.percentiles())),
            }
            for stream in snapshot.streams
        ],
        "outputs": [{"output": sink.name, "written": sink.written, "error": sink.error or None} for sink in snapshot.sinks],
        "latency_ms": {stage: _rounded(asdict(values)) for stage, values in report.stages.items()},
        "board": snapshot.board and _board_document(snapshot.board),
        "interrupted": report.interrupted,
        "error": None if report.error is None else str(report.error),
    }


def run_tables(report: RunReport) -> list[Table]:
    """Latencies of the stages and, where there is more than one source or something was dropped, what became of each."""
    snapshot = report.snapshot
    outputs = [sink.name for sink in snapshot.sinks if sink.written and not sink.error]  # of the others the error says what is left
    written = f"; written: {', '.join(outputs)}" if outputs else ""
    first = "" if snapshot.first_result_s is None else f" (first result after {snapshot.first_result_s:.1f} s)"
    frames = f"{report.frames} frames in {report.seconds:.1f} s{first}, {report.fps:.1f} fps"
    title = f"{frames}; foreground in {report.foreground_frames}{written}"
    if snapshot.board and snapshot.board.throttled_by:
        title += f"; throttled for {snapshot.board.throttled_seconds:.0f} s ({', '.join(snapshot.board.throttled_by)})"
    rows = [
        [stage, *(f"{value:.1f}" for value in (values.mean, values.p50, values.p95, values.p99, values.max))]
        for stage, values in report.stages.items()
        if values.count
    ]
    tables: list[Table] = [(["ms", "mean", "p50", "p95", "p99", "max"], rows, title)]
    if len(snapshot.streams) > 1 or report.dropped or any(stream.status.reopened for stream in snapshot.streams):
        tables.append(_sources_table(snapshot))
    return tables


def _board_document(board: BoardState) -> dict[str, Any]:
    """At the end of the run, and the highest of it; what the machine does not tell is null."""
    reading = board.reading
    return {
        "temperature_celsius": reading and _rounded(reading.temperature_celsius),
        "hottest_celsius": _rounded(board.hottest_celsius),
        "watts": reading and reading.watts,
        "watts_of": None if reading is None or reading.watts is None else reading.power_of,
        "throttled_seconds": None if reading is None or reading.throttled is None else round(board.throttled_seconds, 1),
        "throttled_by": list(board.throttled_by),
    }


def _sources_table(snapshot: Snapshot) -> Table:
    reasons = sorted({reason for stream in snapshot.streams for reason in stream.dropped})
    rows = []
    for stream in snapshot.streams:
        ages = stream.ages.percentiles()
        counts = [stream.frames, *(stream.dropped.get(reason, 0) for reason in reasons), stream.status.reopened]
        rows.append([stream.name, *map(str, counts), f"{ages.p50:.1f}", f"{ages.p99:.1f}"])
    dropped = [f"dropped: {reason}" for reason in reasons]
    return ["source", "segmented", *dropped, "opened again", "age p50, ms", "p99"], rows, ""


def export_document(report: ExportReport) -> dict[str, Any]:
    return {
        "onnx": str(report.onnx),
        "bytes": report.bytes,
        "nodes": report.nodes,
        "opset": report.opset,
        "batch": report.spec.batch or "dynamic",
        "size_hw": report.spec.size_hw,
        "parity": asdict(report.parity),
        "card": asdict(report.spec.card),
    }


def export_rows(report: ExportReport) -> Table:
    height, width = report.spec.size_hw
    rows = [
        ["input", f"{report.spec.batch or 'dynamic'} x {height} x {width} x 3, uint8 RGB"],
        ["size", f"{report.bytes / 1e6:.1f} MB, {report.nodes} nodes, opset {report.opset}"],
        ["masks equal to torch", f"{report.parity.mask_agreement:.4%} of pixels on {report.parity.images} images"],
        ["confidence off by", f"{report.parity.confidence_levels} of 255 levels at most"],
    ]
    return ["", str(report.onnx)], rows, ""


def engine_document(report: EngineReport) -> dict[str, Any]:
    return {
        "output": None if report.output is None else str(report.output),
        "bytes": report.bytes,
        "precision": report.precision,
        "layers": report.layers,
        "verified": report.verified,
        "gate": None if report.gate is None else report.gate.document(),
        "sensitivity": [_rounded(asdict(cost)) for cost in report.costs],
        "build": None if report.built is None else asdict(report.built),
    }


def engine_tables(report: EngineReport) -> list[Table]:
    seen = "counted by the engine's inspector" if report.verified == "inspector" else "counted in the graph: no GPU to ask the engine on"
    rows = [[precision, str(count)] for precision, count in sorted(report.layers.items())]
    tables: list[Table] = [(["layers", seen], rows, _engine_title(report))]
    if report.gate is not None and not report.gate.passed:
        tables.append(_worst_rows(report.gate))
    if report.costs:
        tables.append(_cost_rows(report.costs))
    return tables


def _engine_title(report: EngineReport) -> str:
    lines = {"engine": f"{report.output or 'not written'}, {report.precision}, {report.bytes / 1e6:.1f} MB"}
    if report.built is not None:
        made_for = report.built.gpu or "no particular GPU"
        lines["built"] = f"in {report.built.seconds:.1f} s by TensorRT {report.built.tensorrt}, for {made_for}"
    if report.gate is not None:
        lines["compared"] = f"{'passed' if report.gate.passed else 'FAILED'}: {report.gate.verdict()}; by {report.gate.judge}"
    return "\n".join(f"{label:<10}{text}" for label, text in lines.items()) + "\n"


def _worst_rows(gate: GateResult) -> Table:
    labelled = gate.measure == "dice"
    columns = ["worst images", "mask IoU", *(["Dice", "Dice of FP32"] if labelled else [])]
    rows = [
        [image.name, f"{image.mask_iou:.3f}", *([f"{100 * image.dice:.2f}", f"{100 * image.reference_dice:.2f}"] if labelled else [])]
        for image in gate.worst
    ]
    return columns, rows, ""


def _cost_rows(costs: tuple[LayerCost, ...]) -> Table:
    rows = [[cost.node, f"{100 * cost.pixels:.3f}", f"{100 * cost.confidence:.3f}"] for cost in costs[:_COSTS_SHOWN]]
    title = "What each layer costs when it alone is INT8. Leave one out with --exclude NAME."
    return ["layer", "pixels changed, %", "probability moved, %"], rows, title


def _rounded(values: dict[str, Any]) -> dict[str, Any]:
    return {key: round(value, 5) if isinstance(value, float) else value for key, value in values.items()}
