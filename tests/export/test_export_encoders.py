"""Every encoder goes the whole way: exported, compared with torch on real frames, built by TensorRT-RTX."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch.optim.swa_utils import update_bn

from qtseg_edge.errors import QtsegError
from qtseg_edge.export import ExportReport, example_frames, export_checkpoint, onnx_graph
from qtseg_edge.export.precision.emulation import emulated
from qtseg_edge.export.precision.graph import as_float32
from qtseg_edge.export.precision.int8 import quantisable_nodes
from qtseg_edge.export.precision.lower import lowered
from qtseg_edge.export.precision.ranges import activation_ranges, int8_ranges, largest_magnitudes
from qtseg_edge.model.backbone import BackboneConfig
from qtseg_edge.model.checkpoint import load_checkpoint, save_checkpoint
from qtseg_edge.model.network import NetworkConfig, build_network
from qtseg_edge.runtime.engine_file import PRECISIONS, Precision
from qtseg_edge.runtime.onnx_metadata import spec_from_onnx
from qtseg_edge.spec import ModelCard, ModelSpec
from tests.export.builds import RTX, built
from tests.export.test_export import a_frame, run
from tests.model.backbones import tiny_pvt, with_backbone
from tests.small_models import COLOURS, _balance, _inputs

NETWORK = NetworkConfig(width=8, depths=(1, 1, 1), heads=4, mlp_width=32)


def write_checkpoint(path: Path, config: NetworkConfig) -> Path:
    """A network whose masks depend on the picture, as small_models makes it of the small CNN."""
    torch.manual_seed(7)
    network = build_network(config)
    with torch.no_grad():
        for name, tensor in network.named_parameters():
            if name.endswith("gamma"):
                tensor.fill_(0.3)
            elif "stage0.token_mlp.weights.2" in name:
                tensor.mul_(20)
            elif name.startswith("encoder.backbone.") and tensor.dim() > 1:
                tensor.mul_(4)  # transformers draws them so small that attention is all but even
        update_bn([_inputs()], network)
        _balance(network.eval(), _inputs())
    names = ("background", "polyp", "instrument")[: config.classes]
    save_checkpoint(path, network, config, ModelCard("encoders", names, COLOURS[: config.classes], (96, 96), "scale"))
    return path


@pytest.fixture(scope="module")
def vit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("vit") / "vit.safetensors", with_backbone(tiny_pvt(), NETWORK))


@pytest.fixture(scope="module")
def vit_static(vit: Path) -> ExportReport:
    return export_checkpoint(vit, vit.with_name("static.onnx"), example_frames(), size_hw=(96, 128))


@pytest.fixture(scope="module")
def vit_dynamic(vit: Path) -> ExportReport:
    return export_checkpoint(vit, vit.with_name("dynamic.onnx"), example_frames(), batch=None)


def test_a_vit_gives_masks_that_depend_on_the_picture(vit_static: ExportReport) -> None:
    masks = run(vit_static.onnx, a_frame(96, 128))[0]
    assert set(np.unique(masks)) == {0, 1}
    assert 0.02 < masks.mean() < 0.98
    assert spec_from_onnx(vit_static.onnx) == vit_static.spec


@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_vit_builds_in_every_precision_and_keeps_its_mask(vit_static: ExportReport, tmp_path: Path, precision: Precision) -> None:
    model = as_float32(onnx.load(vit_static.onnx))
    frames = [a_frame(96, 128)]
    scales = int8_ranges(model, frames, quantisable_nodes(model), "percentile")
    low = lowered(model, precision, largest_magnitudes(activation_ranges(model, frames)), scales)
    onnx.save(emulated(low), tmp_path / "emulated.onnx")
    onnx.save(low, tmp_path / "low.onnx")
    agreement = np.mean(run(tmp_path / "emulated.onnx", frames[0])[0] == run(vit_static.onnx, frames[0])[0])
    assert agreement >= {"fp32": 1.0, "fp16": 0.995, "int8": 0.9}[precision]
    assert built(tmp_path / "low.onnx", tmp_path)[1][:4] == b"vtrt"


@pytest.mark.slow  # the export alone takes half a minute
def test_a_vit_of_any_batch_gives_each_image_its_own_mask(vit_dynamic: ExportReport) -> None:
    frames = a_frame(96, 96, batch=3)
    together = run(vit_dynamic.onnx, frames)[0]
    alone = np.concatenate([run(vit_dynamic.onnx, frame[None])[0] for frame in frames])
    assert np.mean(together == alone) >= 0.9999
    assert np.mean(together[0] == together[2]) < 0.9999


@pytest.mark.slow  # the export alone takes half a minute
def test_a_vit_of_any_batch_builds_with_a_profile(vit_dynamic: ExportReport, tmp_path: Path) -> None:
    assert built(vit_dynamic.onnx, tmp_path, replace(RTX, batches=(1, 2, 4)))[1][:4] == b"vtrt"


def test_nodes_of_a_vit_are_named_after_their_modules(vit_static: ExportReport) -> None:
    names = [node.name for node in onnx.load(vit_static.onnx).graph.node]
    assert len(set(names)) == len(names)
    assert sum(name.startswith("encoder.backbone.encoder.layers.") for name in names) > 50


def test_only_operations_of_the_standard_are_in_a_graph(vit: Path, vit_static: ExportReport, monkeypatch: pytest.MonkeyPatch) -> None:
    """onnxsim makes com.microsoft.Attention of the attention of a ViT's last stage, unless it is told not to."""
    assert {node.domain for node in onnx.load(vit_static.onnx).graph.node} == {""}
    checkpoint = load_checkpoint(vit)
    spec = ModelSpec(checkpoint.card, checkpoint.card.size_hw)
    fused = onnx.load(vit_static.onnx)
    fused.graph.node[5].domain = "com.microsoft"
    with pytest.raises(QtsegError, match=r"wanted ONNX operations alone, got com\.microsoft\."):
        onnx_graph._check_interface(fused, spec)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_wide_cnn_of_three_classes_goes_the_whole_way(tmp_path: Path) -> None:
    """Twice the paper's width, heads that divide it. Narrow ones of two and three classes are exported in test_export.py."""
    config = NetworkConfig(width=32, classes=3, depths=(1, 1, 1), heads=16, mlp_width=64)
    report = export_checkpoint(write_checkpoint(tmp_path / "wide.safetensors", config), tmp_path / "wide.onnx", example_frames())
    mask, confidence = run(report.onnx, a_frame(96, 96))
    assert set(np.unique(mask)) == {0, 1, 2}
    assert confidence.min() >= 85  # the largest of three probabilities
    assert built(report.onnx, tmp_path)[1][:4] == b"vtrt"


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize(("batch", "profile"), [(1, None), (None, (1, 2, 4))], ids=["static", "dynamic"])
def test_pvt_v2_b0_goes_the_whole_way(tmp_path: Path, batch: int | None, profile: tuple[int, int, int] | None) -> None:
    path = write_checkpoint(tmp_path / "b0.safetensors", with_backbone(BackboneConfig.pvt_v2_b0(), NetworkConfig()))
    report = export_checkpoint(path, tmp_path / "b0.onnx", example_frames(), size_hw=(352, 352), batch=batch)
    assert 0.02 < run(report.onnx, a_frame(352, 352))[0].mean() < 0.98
    options = replace(RTX, batches=profile)
    assert len(built(report.onnx, tmp_path, options)[1]) > 10e6 * 2  # its weights are in there
