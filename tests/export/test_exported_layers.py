"""What is counted on graphs that the exporter makes."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest

from qtseg_edge.export import ExportReport
from qtseg_edge.export.onnx_graph import store_weights_half
from qtseg_edge.model.checkpoint import load_checkpoint
from qtseg_edge.model.complexity import multiply_accumulates as of_the_network
from qtseg_edge.model.complexity import parameter_counts
from qtseg_edge.onnx_layers import layers_by_precision, multiply_accumulates, parameter_count


def test_an_exported_graph_costs_what_its_network_costs(exported: ExportReport, checkpoint: Path) -> None:
    network = of_the_network(load_checkpoint(checkpoint).config, (96, 96))["total"]
    assert multiply_accumulates(onnx.load(exported.onnx)) == pytest.approx(network, rel=0.01)


def test_one_image_costs_the_same_where_the_batch_is_open(exported: ExportReport, dynamic: ExportReport) -> None:
    assert multiply_accumulates(onnx.load(dynamic.onnx)) == multiply_accumulates(onnx.load(exported.onnx))


def test_an_exported_graph_stores_what_its_network_has_learned(exported: ExportReport, checkpoint: Path) -> None:
    learned = parameter_counts(load_checkpoint(checkpoint).network)["total"]
    model = onnx.load(exported.onnx)
    stored = parameter_count(model)
    assert stored == pytest.approx(learned, rel=0.1)
    store_weights_half(model)
    assert parameter_count(model) == stored


def test_an_exported_graph_is_float32_and_keeps_every_convolution(exported: ExportReport) -> None:
    model = onnx.load(exported.onnx)
    layers = layers_by_precision(model)
    assert set(layers) == {"FP32"}
    assert layers["FP32"]["Conv"] == sum(node.op_type == "Conv" for node in model.graph.node) > 50
