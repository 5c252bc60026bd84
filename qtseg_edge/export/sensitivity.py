"""What each layer costs by itself: one convolution in INT8 at a time, everything else FP32."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from onnx import ModelProto

from qtseg_edge.export.precision.graph import as_float32
from qtseg_edge.export.precision.int8 import quantisable_nodes, quantised
from qtseg_edge.export.precision.islands import matching_nodes
from qtseg_edge.export.precision.ranges import Ranges
from qtseg_edge.runtime.backend import INPUT, OUTPUTS

Uint8 = NDArray[np.uint8]


@dataclass(frozen=True)
class LayerCost:
    """pixels: share of the pixels whose class changes. confidence: mean change of the foreground's probability, 0..1."""

    node: str
    pixels: float
    confidence: float


def layer_costs(
    model: ModelProto,
    scales: Ranges,
    frames: Sequence[Uint8],
    exclude: tuple[str, ...] = (),
    on_layer: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[LayerCost, ...]:
    """The most expensive first. frames: uint8 (N, H, W, 3), letterboxed, as the graph takes them. exclude: patterns of nodes left out."""
    plain = as_float32(model)
    excluded = matching_nodes(plain, exclude)
    nodes = [name for name in quantisable_nodes(plain) if name not in excluded]
    wanted = _results(plain, frames)
    costs = []
    for done, node in enumerate(nodes, 1):
        costs.append(_cost(node, wanted, _results(quantised(plain, scales, (node,)), frames)))
        on_layer(done, len(nodes))
    return tuple(sorted(costs, key=lambda cost: (cost.confidence, cost.pixels), reverse=True))


def _results(model: ModelProto, frames: Sequence[Uint8]) -> list[tuple[Uint8, Uint8]]:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return [tuple(session.run(OUTPUTS, {INPUT: frame})) for frame in frames]


def _cost(node: str, wanted: list[tuple[Uint8, Uint8]], found: list[tuple[Uint8, Uint8]]) -> LayerCost:
    pixels = [float(np.mean(first[0] != second[0])) for first, second in zip(wanted, found, strict=True)]
    confidence = [float(np.abs(_foreground(*a) - _foreground(*b)).mean()) / 255 for a, b in zip(wanted, found, strict=True)]
    return LayerCost(node, float(np.mean(pixels)), float(np.mean(confidence)))


def _foreground(mask: Uint8, confidence: Uint8) -> NDArray[np.int16]:
    levels = confidence.astype(np.int16)
    return np.where(mask > 0, levels, 255 - levels)
