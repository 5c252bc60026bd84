"""A benchmark as a picture: how long each candidate takes, and how good its masks are."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from qtseg_edge.benchmark.limits import Limit
from qtseg_edge.benchmark.results import Benchmark, Result

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_LEAST_SPAN = 1.0  # of the vertical axis, in points
_MARKERS = "osD^vP*X"
_COLOURS = ("#33658a", "#d1495b", "#2a9d6f", "#edae49", "#7d5ba6", "#4a4a4a", "#86bbd8", "#9a6324")


def plot(done: Benchmark) -> bytes:
    """PNG: each candidate's median per image (device only) against Dice or, without labels, against the agreement with FP32.

    The bar to the left of a point begins at its limit. Needs matplotlib. Candidates without figures are not in it.
    """
    from matplotlib.figure import Figure  # no pyplot: nothing global, no window system
    from matplotlib.ticker import LogLocator, NullFormatter

    figure = Figure(figsize=(10, 5.5), layout="constrained")
    axes = figure.subplots()
    by_dice = any(result.dice is not None for result in done.results)
    for number, result in enumerate(done.results):
        _point(axes, done, number, result, result.dice if by_dice else result.mask_iou)
    axes.set_xlabel("milliseconds per image, device only: p50, and the limit where the bar begins")
    axes.set_ylabel("Dice" if by_dice else "mask IoU with FP32, x 100")
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.margins(0.12)
    if axes.has_data():
        axes.set_ylim(*vertical_limits(*axes.dataLim.intervaly))
    axes.grid(which="both", alpha=0.25)
    axes.set_axisbelow(True)
    axes.set_title(done.machine.line(), fontsize=8)
    if axes.get_legend_handles_labels()[0]:
        figure.legend(loc="outside lower center", ncols=2, fontsize=8, frameon=False)
    picture = io.BytesIO()
    figure.savefig(picture, dpi=120, format="png")
    return picture.getvalue()


def vertical_limits(lowest: float, highest: float) -> tuple[float, float]:
    """With room for the numbers. What is equal but for noise is to look equal."""
    middle, half = (lowest + highest) / 2, max(_LEAST_SPAN, 1.5 * (highest - lowest)) / 2
    return middle - half, middle + half


def _point(axes: Axes, done: Benchmark, number: int, result: Result, quality: float | None) -> None:
    figures, limit, candidate = result.figures("device_only"), result.limit(done.rates), result.candidate
    if figures is None or quality is None:
        return
    colour, marker = _COLOURS[number % len(_COLOURS)], _MARKERS[number % len(_MARKERS)]
    per_image, height = figures.p50 / candidate.batch, 100 * quality
    if isinstance(limit, Limit):
        axes.plot([limit.ms / candidate.batch, per_image], [height, height], "-", color=colour, alpha=0.4, linewidth=2)
        axes.plot([limit.ms / candidate.batch], [height], "|", color=colour, markersize=12)
    axes.plot([per_image], [height], marker, color=colour, markersize=8, label=f"{number + 1} {candidate.label}")
    above = 8 + 11 * (number % 3)  # points that lie close together have their numbers one above the other
    place = (per_image, height)
    axes.annotate(str(number + 1), place, (0, above), textcoords="offset points", ha="center", fontsize=9, color=colour)
