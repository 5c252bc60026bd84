"""Sequences as a document for machines and as tables for people."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from qtseg_edge import __version__
from qtseg_edge.files import replacing
from qtseg_edge.report import Table
from qtseg_edge.runtime.temporal.tracker import CONFIRM, WINDOW
from qtseg_edge.sequences.evaluation import HIT_IOU, VARIANTS, SequenceEvaluation, Variant
from qtseg_edge.sequences.lesions import Lesion
from qtseg_edge.sequences.measures import Measures, Span, first_hit, mean, measures, pooled


def sequence_document(evaluations: list[SequenceEvaluation]) -> dict[str, Any]:
    """JSON values only: shares 0..1, times in seconds, null where undefined."""
    first = evaluations[0]
    return {
        "version": __version__,
        "model": {
            "name": first.spec.card.name,
            "device": first.backend,
            "checkpoint_sha256": first.spec.checkpoint_sha256,
            "classes": list(first.spec.card.classes),
            "threshold": first.threshold if first.spec.classes == 2 else None,
        },
        "filter": {"confirm": CONFIRM, "window": WINDOW},
        "hit_iou": HIT_IOU,
        "total": _variants(_total(evaluations)),
        "sequences": [_one_document(evaluation) for evaluation in evaluations],
    }


def sequence_tables(evaluations: list[SequenceEvaluation]) -> list[Table]:
    """Per sequence its measures and its lesions; with several of them, the measures of all together at the end."""
    first = evaluations[0]
    model = f"{first.spec.card.name} on {first.backend}"
    tables: list[Table] = []
    for evaluation in evaluations:
        each = {name: measures(evaluation, name) for name in VARIANTS}
        tables.append(_measures_table(each, f"{evaluation.name}: {len(evaluation.times)} frames, {evaluation.seconds:.1f} s; {model}"))
        if evaluation.lesions:
            tables.append(_lesions_table(evaluation))
    if len(evaluations) > 1:
        total = _total(evaluations)
        tables.append(_measures_table(total, f"all {len(evaluations)} sequences, {total[VARIANTS[0]].seconds:.1f} s"))
    return tables


def write_sequences(evaluations: list[SequenceEvaluation], folder: Path) -> None:
    """report.json and timeline-1.png, timeline-2.png... in the order of the sequences, each of them whole or not at all."""
    from qtseg_edge.sequences.timeline import timeline_picture

    contents = {"report.json": json.dumps(sequence_document(evaluations), indent=1, allow_nan=False).encode()}
    contents |= {f"timeline-{number}.png": timeline_picture(evaluation) for number, evaluation in enumerate(evaluations, 1)}
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in contents.items():
        with replacing(folder / name) as path:
            path.write_bytes(content)


def _total(evaluations: list[SequenceEvaluation]) -> dict[Variant, Measures]:
    return {name: pooled(measures(evaluation, name) for evaluation in evaluations) for name in VARIANTS}


def _one_document(evaluation: SequenceEvaluation) -> dict[str, Any]:
    return {
        "sequence": evaluation.name,
        "frames": len(evaluation.times),
        **_variants({name: measures(evaluation, name) for name in VARIANTS}),
        "lesions": [_lesion_document(evaluation, lesion) for lesion in evaluation.lesions],
        "events": {
            name.replace(" ", "_"): [
                {
                    "class": evaluation.spec.card.classes[event.class_index],
                    "started_s": round(event.times[0], 6),
                    "ended_s": round(event.times[-1], 6),
                    "frames": len(event.indices),
                    "on_a_lesion": event.is_true,
                }
                for event in evaluation.shown[name].events.values()
            ]
            for name in VARIANTS
        },
    }


def _lesion_document(evaluation: SequenceEvaluation, lesion: Lesion) -> dict[str, Any]:
    delays = {name: first_hit(lesion, evaluation.shown[name]) for name in VARIANTS}
    return {
        "lesion": lesion.number,
        "class": evaluation.spec.card.classes[lesion.class_index],
        "first_frame": lesion.indices[0],
        "frames": len(lesion.indices),
        "started_s": round(lesion.times[0], 6),
        "ended_s": round(lesion.times[-1], 6),
        "to_detection": {name.replace(" ", "_"): None if delay is None else _rounded(asdict(delay)) for name, delay in delays.items()},
    }


def _variants(each: dict[Variant, Measures]) -> dict[str, Any]:
    return {name.replace(" ", "_"): _measures_document(found) for name, found in each.items()}


def _measures_document(found: Measures) -> dict[str, Any]:
    return _rounded(
        {
            "seconds": found.seconds,
            "lesions": found.lesions,
            "lesions_detected": found.detected,
            "lesion_sensitivity": _share(found.detected, found.lesions),
            "to_detection_median_s": _median(found.to_detection, "seconds"),
            "to_detection_median_frames": _median(found.to_detection, "frames"),
            "to_detection_max_s": _longest(found.to_detection, "seconds"),
            "to_detection_max_frames": _longest(found.to_detection, "frames"),
            "lesion_frames": found.lesion_frames,
            "lesion_frames_hit": found.hit_frames,
            "flicker": _share(found.flips, found.pairs),
            "flips": found.flips,
            "flip_chances": found.pairs,
            "events": found.events,
            "false_events": len(found.false_events),
            "false_events_per_minute": found.false_events_per_minute,
            "false_event_median_s": _median(found.false_events, "seconds"),
            "false_event_max_s": _longest(found.false_events, "seconds"),
            "mask_change_where_steady": mean(found.mask_changes),
            "label_change_where_steady": mean(found.label_changes),
            "steady_frames": len(found.mask_changes),
            "dice": mean(found.dices),
            "labelled_frames": len(found.dices),
            "labelled_frames_touched": found.touched_frames,
            "empty_frames": found.empty_frames,
            "empty_frames_marked": found.marked_empty_frames,
        }
    )


def _measures_table(each: dict[Variant, Measures], title: str) -> Table:
    rows = [[name, *(text(found) for found in each.values())] for name, text in _ROWS]
    return ["", *each], rows, title


_ROWS: tuple[tuple[str, Callable[[Measures], str]], ...] = (
    ("lesions detected", lambda found: _of(found.detected, found.lesions)),
    ("time to first detection, median", lambda found: _span(found.to_detection, _median)),
    ("  longest", lambda found: _span(found.to_detection, _longest)),
    ("lesion frames detected", lambda found: _of(found.hit_frames, found.lesion_frames)),
    ("flicker: between detected and not", lambda found: _of(found.flips, found.pairs)),
    ("mask change where the label is steady", lambda found: f"{_number(mean(found.mask_changes), 4)} (n {len(found.mask_changes)})"),
    ("  of the label itself", lambda found: _number(mean(found.label_changes), 4)),
    ("false-positive events per minute", lambda found: f"{found.false_events_per_minute:.1f}"),
    ("  of all events", lambda found: _of(len(found.false_events), found.events)),
    ("  duration, median", lambda found: _span(found.false_events, _median)),
    ("  longest", lambda found: _span(found.false_events, _longest)),
    ("mean Dice, frames with a lesion", lambda found: f"{_number(mean(found.dices), 4)} (n {len(found.dices)})"),
    ("  touched", lambda found: _of(found.touched_frames, len(found.dices))),
    ("frames without one, marked", lambda found: _of(found.marked_empty_frames, found.empty_frames)),
)


def _lesions_table(evaluation: SequenceEvaluation) -> Table:
    rows = []
    for lesion in evaluation.lesions:
        delays = [first_hit(lesion, evaluation.shown[name]) for name in VARIANTS]
        cells = ["never" if delay is None else _text(delay.seconds, delay.frames) for delay in delays]
        name = f"{lesion.number} {evaluation.spec.card.classes[lesion.class_index]}"
        rows.append([name, f"{lesion.times[0]:.2f} s", str(len(lesion.indices)), *cells])
    return ["lesion", "from", "frames", *(f"detected after, {name}" for name in VARIANTS)], rows, ""


def _of(part: int, whole: int) -> str:
    return f"{part} of {whole} ({100 * part / whole:.1f} %)" if whole else "-"


def _span(spans: tuple[Span, ...], of: Callable[[tuple[Span, ...], str], float]) -> str:
    return _text(of(spans, "seconds"), of(spans, "frames")) if spans else "-"


def _text(seconds: float, frames: float) -> str:
    return f"{seconds:.2f} s, {frames:g} frame{'' if frames == 1 else 's'}"


def _number(value: float, digits: int) -> str:
    return "-" if math.isnan(value) else f"{value:.{digits}f}"


def _median(spans: tuple[Span, ...], of: str) -> float:
    return float(np.median([getattr(span, of) for span in spans])) if spans else float("nan")


def _longest(spans: tuple[Span, ...], of: str) -> float:
    return max((getattr(span, of) for span in spans), default=float("nan"))


def _share(part: int, whole: int) -> float:
    return part / whole if whole else float("nan")


def _rounded(values: dict[str, Any]) -> dict[str, Any]:
    """JSON knows no nan."""
    return {name: (None if math.isnan(value) else round(value, 6)) if isinstance(value, float) else value for name, value in values.items()}
