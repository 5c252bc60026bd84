from __future__ import annotations

import hashlib
from pathlib import Path

import cv2
import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from qtseg_edge.errors import GateError, IncompatibleError, QtsegError, UsageError
from qtseg_edge.export import example_frames, export_checkpoint
from qtseg_edge.model.checkpoint import load_checkpoint
from qtseg_edge.model.deployed import FrameToMask
from qtseg_edge.runtime.onnx_metadata import spec_from_onnx
from tests.small_models import write_checkpoint


def run(path: Path, image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    mask, confidence = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"]).run(
        ["mask", "confidence"], {"image": image}
    )
    return mask, confidence


def a_frame(height: int, width: int, batch: int = 1) -> np.ndarray:
    picture = cv2.imread(str(sorted(example_frames().glob("*.jpg"))[1]))
    return np.stack([np.ascontiguousarray(np.roll(cv2.resize(picture, (width, height)), 7 * n, axis=1)[..., ::-1]) for n in range(batch)])


def test_the_graph_takes_a_frame_and_gives_a_mask(exported: Path) -> None:
    mask, confidence = run(exported, a_frame(64, 96))
    assert (mask.dtype, mask.shape, confidence.dtype, confidence.shape) == (np.uint8, (1, 64, 96), np.uint8, (1, 64, 96))
    assert set(np.unique(mask)) == {0, 1}
    assert confidence.min() >= 128


def test_the_graph_equals_torch_on_images_it_was_not_compared_on(exported: Path, small_checkpoint: Path) -> None:
    noise = np.random.default_rng(1).integers(0, 256, (1, 64, 96, 3), dtype=np.uint8)
    module = FrameToMask(load_checkpoint(small_checkpoint).network, 2, "scale").eval()
    with torch.inference_mode():
        mask, confidence = (tensor.numpy() for tensor in module(torch.from_numpy(noise)))
    onnx_mask, onnx_confidence = run(exported, noise)
    assert np.mean(mask == onnx_mask) >= 0.9999
    assert np.abs(confidence.astype(int) - onnx_confidence.astype(int)).max() <= 1


def test_the_file_describes_itself(exported: Path, small_checkpoint: Path) -> None:
    spec = spec_from_onnx(exported)
    assert spec.card.classes == ("background", "polyp")
    assert spec.checkpoint_sha256 == hashlib.sha256(small_checkpoint.read_bytes()).hexdigest()


def test_every_node_is_named_after_its_module_and_carries_no_trace_of_this_machine(exported: Path) -> None:
    graph = onnx.load(exported).graph
    names = [node.name for node in graph.node]
    assert all(names) and len(set(names)) == len(names)
    assert sum(name.startswith(("encoder.", "distribution.", "decoder.")) for name in names) > 0.8 * len(names)
    assert b"site-packages" not in exported.read_bytes()
    assert str(Path(__file__).parents[2]).encode() not in exported.read_bytes()


def test_uint8_reaches_a_cast_first_and_leaves_one_last(exported: Path) -> None:
    graph = onnx.load(exported).graph
    assert [node.op_type for node in graph.node if "image" in node.input] == ["Cast"]
    assert {node.op_type for node in graph.node if set(node.output) & {"mask", "confidence"}} == {"Cast"}
    assert not [node.name for node in graph.node if node.op_type in ("ArgMax", "Loop", "Scan", "If", "NonZero", "Shape")]


def test_dynamic_batch_takes_any_and_gives_each_image_its_own_mask(small_onnx: Path) -> None:
    frames = a_frame(64, 96, batch=3)
    together = run(small_onnx, frames)[0]
    alone = np.concatenate([run(small_onnx, frame[None])[0] for frame in frames])
    assert np.mean(together == alone) >= 0.9999
    assert np.mean(together[0] == together[2]) < 0.9999


def test_batch_size_and_classes_are_in_the_graph(tmp_path: Path) -> None:
    path = write_checkpoint(tmp_path / "three.safetensors", classes=3, size_hw=(64, 64))
    report = export_checkpoint(path, tmp_path / "wide.onnx", example_frames(), size_hw=(64, 128), batch=2)
    shape = [dim.dim_value for dim in onnx.load(report.onnx).graph.input[0].type.tensor_type.shape.dim]
    assert shape == [2, 64, 128, 3] and report.spec == spec_from_onnx(report.onnx)
    mask, confidence = run(report.onnx, a_frame(64, 128, batch=2))
    assert mask.shape == (2, 64, 128)
    assert mask.max() <= 2 and len(np.unique(mask)) > 1
    assert confidence.min() >= 85  # the largest of three probabilities


def test_half_weights_are_exact_and_flat_frames_finite_where_the_extremes_are_stretched(exported: Path, tmp_path: Path) -> None:
    path = write_checkpoint(tmp_path / "half.safetensors", normalisation="minmax", size_hw=(64, 96), dtype=torch.float16)
    report = export_checkpoint(path, tmp_path / "half.onnx", example_frames(), half_weights=True)
    assert report.bytes < 0.8 * exported.stat().st_size
    stored = [t for t in onnx.load(report.onnx).graph.initializer if t.data_type == onnx.TensorProto.FLOAT16]
    assert len(stored) > 100
    weights = load_checkpoint(path).network.encoder.stem[1].conv.weight.detach().numpy()  # type: ignore[union-attr, index]
    assert any(np.array_equal(onnx.numpy_helper.to_array(t).astype(np.float32), weights) for t in stored)
    for level in (0, 1, 128, 255):
        mask, confidence = run(report.onnx, np.full((1, 64, 96, 3), level, np.uint8))
        assert mask.max() <= 1
        assert confidence.min() >= 128, "a NaN would have become 0"


def test_a_graph_that_disagrees_with_torch_leaves_no_file(exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As another network's graph does."""
    path = write_checkpoint(tmp_path / "other.safetensors", size_hw=(64, 96), seed=8)
    monkeypatch.setattr("qtseg_edge.export.checkpoint_export.graph_from_checkpoint", lambda *given: onnx.load(exported))
    target = tmp_path / "out" / "model.onnx"
    target.parent.mkdir()
    target.write_bytes(b"what was there before")
    with pytest.raises(GateError, match=r"disagree on 6 images: mask agreement .* nothing was written"):
        export_checkpoint(path, target, example_frames())
    assert target.read_bytes() == b"what was there before"
    assert list(target.parent.iterdir()) == [target]


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ({"size_hw": (350, 352)}, UsageError, r"multiples of 32, got 350x352; try 352x352"),
        ({"size_hw": (0, 352)}, UsageError, r"multiples of 32"),
        ({"opset": 13}, UsageError, r"--opset: wanted 18 to 20, got 13"),
    ],
)
def test_impossible_arguments_are_refused(
    small_checkpoint: Path, tmp_path: Path, arguments: dict[str, object], error: type[QtsegError], text: str
) -> None:
    with pytest.raises(error, match=text):
        export_checkpoint(small_checkpoint, tmp_path / "never.onnx", example_frames(), **arguments)  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


def test_what_is_no_checkpoint_leaves_no_file(tmp_path: Path) -> None:
    (tmp_path / "broken.safetensors").write_bytes(b"not one")
    with pytest.raises(IncompatibleError, match="not a safetensors checkpoint"):
        export_checkpoint(tmp_path / "broken.safetensors", tmp_path / "never.onnx", example_frames())
    with pytest.raises(UsageError, match="mkdir -p"):
        export_checkpoint(tmp_path / "broken.safetensors", tmp_path / "absent" / "never.onnx", example_frames())
    assert not (tmp_path / "never.onnx").exists()
