"""When there was a lesion and what was shown, as a picture."""

from __future__ import annotations

import io
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from qtseg_edge.sequences.evaluation import VARIANTS, SequenceEvaluation
from qtseg_edge.sequences.measures import first_hit, measures

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_TRUTH, _RIGHT, _FALSE = "#4a4a4a", "#2a9d6f", "#d1495b"
_HEIGHT, _HALF = 0.7, 0.35


def timeline_picture(evaluation: SequenceEvaluation) -> bytes:
    """PNG: a row for the lesions and, for each variant, one for what was shown, over seconds. Needs matplotlib."""
    from matplotlib.figure import Figure  # no pyplot: nothing global, no window system
    from matplotlib.patches import Patch

    figure = Figure(figsize=(min(40.0, max(10.0, evaluation.seconds / 6)), 2.8), layout="constrained")
    axes = figure.subplots()
    for lesion in evaluation.lesions:
        _bars(axes, 2, _HEIGHT, lesion.indices, evaluation, _TRUTH)
        axes.text(lesion.times[0], 2, f" {lesion.number}", color="white", va="center", fontsize=8)
    for row, name in ((1, VARIANTS[0]), (0, VARIANTS[1])):
        for event in evaluation.shown[name].events.values():
            place = row + (_HALF / 2 if event.is_true else -_HALF / 2)  # one above the other, as both may be there at once
            _bars(axes, place, _HALF, event.indices, evaluation, _RIGHT if event.is_true else _FALSE)
        for lesion in evaluation.lesions:
            delay = first_hit(lesion, evaluation.shown[name])
            if delay is not None:
                axes.plot(lesion.times[0] + delay.seconds, row + _HEIGHT / 2 + 0.08, "v", color=_TRUTH, markersize=5)
    axes.set_yticks([2, 1, 0], ["lesions", *VARIANTS])
    axes.set_ylim(-0.5, 2.5)
    axes.set_xlim(evaluation.times[0], evaluation.times[0] + evaluation.seconds)
    axes.set_xlabel("seconds")
    axes.grid(axis="x", alpha=0.3)
    axes.set_axisbelow(True)  # a grid line through a bar would look like a gap
    axes.set_title(_title(evaluation), fontsize=9)
    patches = [
        Patch(color=_TRUTH, label="labelled"),
        Patch(color=_RIGHT, label="event on a lesion"),
        Patch(color=_FALSE, label="false event"),
    ]
    figure.legend(handles=patches, loc="outside lower center", ncols=3, fontsize=8, frameon=False)
    picture = io.BytesIO()
    figure.savefig(picture, dpi=120, format="png")
    return picture.getvalue()


def _bars(axes: Axes, middle: float, height: float, indices: list[int], evaluation: SequenceEvaluation, colour: str) -> None:
    """One bar per run of frames without a gap."""
    runs = [[indices[0]]]
    for before, after in pairwise(indices):
        if after > before + 1:
            runs.append([])
        runs[-1].append(after)
    spans = [(evaluation.times[run[0]], evaluation.times[run[-1]] - evaluation.times[run[0]] + evaluation.interval) for run in runs]
    axes.broken_barh(spans, (middle - height / 2, height), facecolors=colour, edgecolors="white", linewidth=0.4)


def _title(evaluation: SequenceEvaluation) -> str:
    false = [f"{measures(evaluation, name).false_events_per_minute:.1f} {name}" for name in VARIANTS]
    return f"{Path(evaluation.name).name}: {evaluation.spec.card.name} on {evaluation.backend}; false events per minute: {', '.join(false)}"
