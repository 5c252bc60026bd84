from __future__ import annotations

import json

import pytest
from onnx import ModelProto, helper

from qtseg_edge.errors import UsageError
from qtseg_edge.export.precision.lower import lowered, with_note
from qtseg_edge.export.precision.ranges import Ranges, int8_ranges
from qtseg_edge.export.precision_note import PRECISION_KEY, PrecisionNote
from qtseg_edge.export.sensitivity import layer_costs
from qtseg_edge.onnx_layers import layers_by_precision
from tests.export.graphs import frames, residual

MODEL = residual()
BLOCK = ("block.first/Conv", "block.second/Conv")


@pytest.fixture(scope="module")
def scales() -> Ranges:
    return int8_ranges(MODEL, frames(4), BLOCK, "minmax")


def layers(model: ModelProto, operation: str) -> dict[str, int]:
    return {precision: counts[operation] for precision, counts in layers_by_precision(model).items() if counts.get(operation)}


def test_each_precision_is_in_the_graph(scales: Ranges) -> None:
    assert layers(lowered(MODEL, "fp32", {}, {}), "Conv") == {"FP32": 4}
    assert layers(lowered(MODEL, "fp16", {}, {}), "Conv") == {"FP16": 4}
    assert layers(lowered(MODEL, "int8", {}, scales), "Conv") == {"INT8": 2, "FP16": 2}


def test_what_is_excluded_stays_one_step_higher(scales: Ranges) -> None:
    assert layers(lowered(MODEL, "fp16", {}, {}, ("block.*",)), "Conv") == {"FP16": 2, "FP32": 2}
    int8 = lowered(MODEL, "int8", {}, scales, ("block.first/*", "block/Add"))
    assert layers(int8, "Conv") == {"INT8": 1, "FP16": 3}
    assert layers(int8, "Add") == {"FP32": 1}


def test_a_convolution_of_large_numbers_is_neither_int8_nor_fp16(scales: Ranges) -> None:
    assert layers(lowered(MODEL, "int8", {"block.first.out": 50_000.0}, scales), "Conv") == {"INT8": 1, "FP16": 2, "FP32": 1}


def test_exclusions_are_checked_in_every_precision() -> None:
    with pytest.raises(UsageError, match=r"--exclude nothing\*"):
        lowered(MODEL, "fp32", {}, {}, ("nothing*",))


def test_the_note_travels_in_the_graph_beside_what_was_there(scales: Ranges) -> None:
    described = residual()
    helper.set_model_props(described, {"notice": "Research use only."})
    model, note = with_note(lowered(described, "int8", {}, scales), "int8", "abc", exclude=("x",), calibration={"images": 3})
    entries = {entry.key: entry.value for entry in model.metadata_props}
    assert entries["notice"] == "Research use only."
    assert PrecisionNote.from_json(entries[PRECISION_KEY]) == note
    assert json.loads(entries[PRECISION_KEY])["layers"]["INT8"] == {"Conv": 2}
    again, _ = with_note(model, "int8", "abc", gate={"passed": True})
    assert [entry.key for entry in again.metadata_props].count(PRECISION_KEY) == 1


def test_every_quantised_layer_has_a_cost_and_the_dearest_comes_first(scales: Ranges) -> None:
    told: list[tuple[int, int]] = []
    narrow = {**scales, "stem.act.silu": (-1e-3, 1e-3)}  # what the first convolution reads is clipped to next to nothing
    costs = layer_costs(MODEL, narrow, frames(2), on_layer=lambda done, total: told.append((done, total)))
    assert [cost.node for cost in costs] == ["block.first/Conv", "block.second/Conv"]
    assert costs[0].confidence > 10 * costs[1].confidence > 0
    assert told == [(1, 2), (2, 2)]
    assert layer_costs(MODEL, narrow, frames(2), exclude=("block.first/*",)) == costs[1:]
