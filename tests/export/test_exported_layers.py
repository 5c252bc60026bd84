"""What is counted on graphs that the exporter makes."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from qtseg_edge.export.onnx_graph import store_weights_half
from qtseg_edge.model.checkpoint import load_checkpoint
from qtseg_edge.model.complexity import multiply_accumulates as of_the_network
from qtseg_edge.model.complexity import parameter_counts
from qtseg_edge.model.rewritten.decoder import rewritten
from qtseg_edge.onnx_layers import layers_by_precision, multiply_accumulates, parameter_count


def test_an_exported_graph_costs_what_its_network_costs_once_it_is_rewritten(exported: Path, small_checkpoint: Path) -> None:
    loaded = load_checkpoint(small_checkpoint)
    network = rewritten(loaded.network).requires_grad_(False)
    with FlopCounterMode(display=False) as counter:
        network(torch.zeros(1, 3, 64, 96))
    cost = multiply_accumulates(onnx.load(exported))
    assert cost == pytest.approx(counter.get_total_flops() // 2, rel=0.01)
    assert cost < of_the_network(loaded.config, (64, 96))["total"]


def test_one_image_costs_the_same_where_the_batch_is_open(exported: Path, small_onnx: Path) -> None:
    assert multiply_accumulates(onnx.load(small_onnx)) == multiply_accumulates(onnx.load(exported))


def test_an_exported_graph_stores_what_its_network_has_learned(exported: Path, small_checkpoint: Path) -> None:
    learned = parameter_counts(load_checkpoint(small_checkpoint).network)["total"]
    model = onnx.load(exported)
    stored = parameter_count(model)
    assert stored == pytest.approx(learned, rel=0.1)
    store_weights_half(model)
    assert parameter_count(model) == stored


def test_an_exported_graph_is_float32_and_keeps_every_convolution(exported: Path) -> None:
    model = onnx.load(exported)
    layers = layers_by_precision(model)
    assert set(layers) == {"FP32"}
    assert layers["FP32"]["Conv"] == sum(node.op_type == "Conv" for node in model.graph.node) > 50
