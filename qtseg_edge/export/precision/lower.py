"""From a float32 graph to one whose precision is in the graph, described in its own metadata."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import onnx
from onnx import ModelProto, helper

from qtseg_edge.export.precision.graph import as_float32
from qtseg_edge.export.precision.half import half_precision
from qtseg_edge.export.precision.int8 import quantisable_nodes, quantised
from qtseg_edge.export.precision.islands import float32_nodes, matching_nodes
from qtseg_edge.export.precision.ranges import Ranges
from qtseg_edge.export.precision_note import PRECISION_KEY, PrecisionNote
from qtseg_edge.onnx_layers import layers_by_precision, multiply_accumulates, parameter_count
from qtseg_edge.runtime.engine_file import Precision


def lowered(
    model: ModelProto, precision: Precision, largest: dict[str, float], scales: Ranges, exclude: tuple[str, ...] = ()
) -> ModelProto:
    """A copy of `model` in `precision`, checked.

    largest: magnitudes of activations, for fp16 and int8. scales: ranges of what convolutions read, for int8.
    exclude: patterns of node names that stay one step higher: FP32 of fp16, FP16 of int8.
    """
    plain = as_float32(model)
    kept = matching_nodes(plain, exclude)
    if precision == "fp32":
        return plain
    islands = float32_nodes(plain, largest)
    if precision == "int8":
        convolutions = quantisable_nodes(plain)
        nodes = tuple(name for name in convolutions if name not in kept | islands)
        result = half_precision(quantised(plain, scales, nodes), islands | kept.difference(convolutions))
    else:
        result = half_precision(plain, islands | kept)
    onnx.checker.check_model(result, full_check=True)
    return result


def with_note(model: ModelProto, precision: Precision, model_sha256: str, **more: Any) -> tuple[ModelProto, PrecisionNote]:
    """A copy that carries its note beside the interface it had."""
    copy = ModelProto()
    copy.CopyFrom(model)
    facts = layers_by_precision(model), parameter_count(model), multiply_accumulates(model)
    note = replace(PrecisionNote(precision, model_sha256, *facts), **more)
    entries = {entry.key: entry.value for entry in model.metadata_props} | {PRECISION_KEY: note.to_json()}
    del copy.metadata_props[:]
    helper.set_model_props(copy, entries)
    return copy, note
