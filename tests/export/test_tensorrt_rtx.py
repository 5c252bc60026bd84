"""The real NVIDIA builder, which needs no GPU. Running an engine does."""

from __future__ import annotations

from pathlib import Path

import tensorrt_rtx as trt

from qtseg_edge.export import ExportReport, example_frames, export_checkpoint
from qtseg_edge.runtime.devices import default_model


class _Logger(trt.ILogger):
    """TensorRT keeps the first logger of a process for good: one, at module level, never freed."""

    def __init__(self) -> None:
        trt.ILogger.__init__(self)
        self.lines: list[str] = []

    def log(self, severity: trt.ILogger.Severity, message: str) -> None:
        if severity <= trt.ILogger.ERROR:
            self.lines.append(message)


LOGGER = _Logger()


def build(path: Path, batches: tuple[int, int, int] | None = None) -> bytes:
    LOGGER.lines.clear()
    builder = trt.Builder(LOGGER)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, LOGGER)
    assert parser.parse(path.read_bytes()), [parser.get_error(i).desc() for i in range(parser.num_errors)]
    assert [network.get_input(i).name for i in range(network.num_inputs)] == ["image"]
    assert [(network.get_output(i).name, network.get_output(i).dtype) for i in range(2)] == [("mask", trt.uint8), ("confidence", trt.uint8)]
    config = builder.create_builder_config()
    if batches:
        profile = builder.create_optimization_profile()
        _, height, width, channels = network.get_input(0).shape
        profile.set_shape("image", *((n, height, width, channels) for n in batches))
        config.add_optimization_profile(profile)
    plan = builder.build_serialized_network(network, config)
    assert plan is not None, LOGGER.lines
    return bytes(plan)


def test_the_built_in_model_builds() -> None:
    plan = build(default_model())
    assert plan[:4] == b"vtrt"
    assert len(plan) > 9e6 * 2  # its weights are in there


def test_a_static_graph_builds(exported: ExportReport) -> None:
    assert build(exported.onnx)[:4] == b"vtrt"


def test_a_dynamic_batch_builds_with_a_profile(dynamic: ExportReport) -> None:
    assert build(dynamic.onnx, (1, 2, 4))[:4] == b"vtrt"


def test_the_default_network_with_min_max_normalisation_builds(reference: Path, tmp_path: Path) -> None:
    report = export_checkpoint(reference / "weight_best_dice.pt", tmp_path / "authors.onnx", example_frames(), size_hw=(256, 256))
    assert len(build(report.onnx)) > 9e6 * 2
