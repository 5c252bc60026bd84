"""DeepStream's files hold what NVIDIA documents, and the program beside them reads masks out of metadata of its layout."""

from __future__ import annotations

import ctypes
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from qtseg_edge.cli import app
from qtseg_edge.errors import IncompatibleError, UsageError
from qtseg_edge.runtime.devices import default_model
from qtseg_edge.runtime.engine_file import read_plan, read_sidecar
from qtseg_edge.serving.deepstream import DeepStreamOptions, deepstream_files, write_deepstream
from qtseg_edge.serving.deepstream_masks import masks_by_frame, pipeline_text
from qtseg_edge.serving.servable import ServableModel, read_servable
from qtseg_edge.serving.triton_config import TritonOptions
from qtseg_edge.serving.triton_repository import add_version
from qtseg_edge.transforms import Letterbox
from tests.runtime.engines import write_engine
from tests.serving.deepstream_keys import NVDSPREPROCESS, NVDSPREPROCESS_REQUIRED, NVINFER, read_key_file, read_nvinferserver
from tests.serving.models import CARD, write_graph

FRAME_HW = (1080, 1920)


@pytest.fixture
def served(tmp_path: Path) -> ServableModel:
    return read_servable(write_graph(tmp_path / "bright.onnx"))


def texts(model: ServableModel, options: DeepStreamOptions) -> dict[str, str]:
    return {name: content.decode() for name, content in deepstream_files(model, options).items() if name.endswith(".txt")}


def test_nvdspreprocess_makes_the_tensor_that_the_graph_eats(engine: Path) -> None:
    found = read_key_file(texts(read_servable(engine), DeepStreamOptions(3, FRAME_HW))["nvdspreprocess.txt"], NVDSPREPROCESS)
    properties = found["property"]
    assert set(properties) >= NVDSPREPROCESS_REQUIRED
    assert properties["network-input-order"] == "1" and properties["tensor-data-type"] == "1"  # NHWC, UINT8
    assert properties["network-color-format"] == "0"
    assert properties["network-input-shape"] == "3;32;64;3"
    assert (properties["processing-width"], properties["processing-height"]) == ("64", "32"), "the plugin wants them to be the network's"
    assert properties["tensor-name"] == "image" and properties["symmetric-padding"] == "0"
    assert found["group-0"]["src-ids"] == "0;1;2"
    assert found["user-configs"]["pixel-normalization-factor"] == "1;1;1" and found["user-configs"]["offsets"] == "0;0;0"


@pytest.mark.parametrize("frame_hw", [(1080, 1920), (512, 640), (1000, 300), (32, 64)])
def test_the_affine_matrix_is_our_letterbox(engine: Path, frame_hw: tuple[int, int]) -> None:
    text = texts(read_servable(engine), DeepStreamOptions(1, frame_hw))["nvdspreprocess.txt"]
    matrix = read_key_file(text, NVDSPREPROCESS)["user-configs"]["affine-matrix"]
    mapped = np.array([float(value) for value in matrix.split(";")]).reshape(2, 3) @ np.array([frame_hw[1], frame_hw[0], 1.0])
    content_h, content_w = Letterbox(frame_hw, (32, 64)).content_hw
    assert mapped == pytest.approx([content_w, content_h], abs=1e-4), "the frame's bottom right corner is that of the content"
    assert content_h == 32 or content_w == 64


def test_nvinfer_takes_that_tensor_and_parses_nothing(engine: Path) -> None:
    files = texts(read_servable(engine), DeepStreamOptions(4, FRAME_HW))
    properties = read_key_file(files["nvinfer.txt"], NVINFER)["property"]
    assert properties["network-type"] == "100"
    assert properties["input-tensor-from-meta"] == properties["output-tensor-meta"] == "1"
    assert properties["infer-dims"] == "3;32;64" and properties["batch-size"] == "4"
    assert properties["network-mode"] == "2", "the engine of this test is FP16"
    assert properties["output-blob-names"] == "mask;confidence"
    assert properties["labelfile-path"] in files
    preprocessing = read_key_file(files["nvdspreprocess.txt"], NVDSPREPROCESS)["property"]
    assert preprocessing["target-unique-ids"] == properties["gie-unique-id"], "else nvinfer does not find its tensor"


def test_nvinferserver_asks_a_triton_elsewhere(served: ServableModel) -> None:
    pytest.importorskip("google.protobuf")
    found = read_nvinferserver(texts(served, DeepStreamOptions(2, FRAME_HW, "gpu.ward3:8001", "polyp"))["nvinferserver.txt"])
    config = found.infer_config
    assert config.backend.triton.grpc.url == "gpu.ward3:8001" and config.backend.triton.model_name == "polyp"
    assert config.backend.triton.version == -1 and config.max_batch_size == 2
    assert [(layer.name, list(layer.dims)) for layer in config.backend.inputs] == [("image", [64, 96, 3])]
    assert [layer.name for layer in config.backend.outputs] == ["mask", "confidence"]
    assert (config.preprocess.network_format, config.preprocess.tensor_order) == (1, 2)  # RGB, NHWC
    assert config.preprocess.maintain_aspect_ratio == 1 and config.preprocess.symmetric_padding == 0
    assert config.preprocess.normalize.scale_factor == 1.0
    assert config.postprocess.HasField("other") and found.output_control.output_tensor_meta


def test_nvinferserver_opens_a_repository_of_its_own(served: ServableModel, tmp_path: Path) -> None:
    pytest.importorskip("google.protobuf")
    repository = tmp_path / "a:b" / "models"
    add_version(repository, served, TritonOptions("polyp", "onnxruntime"))
    found = read_nvinferserver(texts(served, DeepStreamOptions(1, FRAME_HW, str(repository), "polyp"))["nvinferserver.txt"])
    assert list(found.infer_config.backend.triton.model_repo.root) == [str(repository)]
    assert not found.infer_config.backend.triton.HasField("grpc")
    for where, name in (
        (str(repository), "another"),
        ("gpu.ward3", "polyp"),
        ("gpu.ward3:", "polyp"),
        (":8001", "polyp"),
        ("h:80x", "polyp"),
    ):
        with pytest.raises(UsageError, match=rf"--triton: wanted HOST:PORT or a model repository with {name}, got"):
            texts(served, DeepStreamOptions(1, FRAME_HW, where, name))


def test_more_streams_than_the_repository_takes_at_once_are_refused(served: ServableModel, tmp_path: Path) -> None:
    add_version(tmp_path / "models", served, TritonOptions("polyp", "onnxruntime", largest_batch=2))
    texts(served, DeepStreamOptions(2, FRAME_HW, str(tmp_path / "models"), "polyp"))
    with pytest.raises(UsageError, match=r"--streams: .*config\.pbtxt takes up to 2 images at once, got 3; .*--max-batch 3"):
        texts(served, DeepStreamOptions(3, FRAME_HW, str(tmp_path / "models"), "polyp"))


def test_the_tables_of_this_test_refuse_what_deepstream_has_not() -> None:
    from google.protobuf.text_format import ParseError

    for text in ("[property]\ntensor-format=1\n", "[property]\ntensor-data-type=9\n", "[property]\nunique-id=5   # five\n"):
        with pytest.raises(AssertionError, match=r"is no (key|value)"):
            read_key_file(text, NVDSPREPROCESS)
    for text in ("infer_config { batch: 1 }", "infer_config { preprocess { tensor_order: NHWC } }"):
        with pytest.raises(ParseError):
            read_nvinferserver(text)


def test_labels_are_one_class_a_line(served: ServableModel) -> None:
    options = DeepStreamOptions(1, FRAME_HW, "h:1", "x")
    assert texts(served, options)["labels.txt"].splitlines() == list(CARD.classes)
    broken = replace(served, spec=replace(served.spec, card=replace(CARD, classes=("background", "two\nlines"))))
    with pytest.raises(IncompatibleError, match=r"a class name is empty or of several lines"):
        texts(broken, options)


def test_the_engine_is_kept_with_its_sidecar(engine: Path, tmp_path: Path) -> None:
    names = write_deepstream(tmp_path / "ds", read_servable(engine), DeepStreamOptions())
    assert sorted(names) == sorted(path.name for path in (tmp_path / "ds").iterdir())
    copied = tmp_path / "ds" / "model.engine"
    assert read_plan(copied, read_sidecar(copied)) == engine.read_bytes()


def test_a_folder_that_is_there_is_left_alone(served: ServableModel, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"exists already"):
        write_deepstream(tmp_path, served, DeepStreamOptions(triton="h:1"))
    assert [path.name for path in tmp_path.iterdir()] == ["bright.onnx"]


def test_what_cannot_work_is_refused_with_the_command_that_can(served: ServableModel, engine: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"wanted an engine: qtseg-edge build-engine .*bright\.onnx"):
        deepstream_files(served, DeepStreamOptions())
    with pytest.raises(UsageError, match=r"--streams: .* takes up to 4 at once, got 5; qtseg-edge build-engine MODEL --batch 1:5:5"):
        deepstream_files(read_servable(engine), DeepStreamOptions(streams=5))
    with pytest.raises(UsageError, match=r"--streams: .* takes up to 4 images at once, got 5"):
        deepstream_files(read_servable(engine), DeepStreamOptions(streams=5, triton="h:1"))
    with pytest.raises(UsageError, match=r"nvinferserver wants a batch it can fill: qtseg-edge export CHECKPOINT --batch dynamic"):
        deepstream_files(read_servable(default_model()), DeepStreamOptions(triton="h:1"))
    with pytest.raises(IncompatibleError, match=r"DeepStream opens engines of full TensorRT"):
        deepstream_files(read_servable(write_engine(tmp_path, "tensorrt-rtx")), DeepStreamOptions())


def test_the_command(engine: Path, tmp_path: Path) -> None:
    def call(*arguments: str) -> Any:
        return CliRunner().invoke(app, ["export-deepstream", str(engine), "-o", str(tmp_path / "ds"), *arguments], env={"COLUMNS": "200"})

    for wrong in ("1920", "1920x", "0x0", "1e3x9", "1920x1080x3"):
        assert call("--frame", wrong).exit_code == 2
    shown = call("--frame", "640x512")
    assert shown.exit_code == 0, shown.output
    assert f"start       python3 {tmp_path}/ds/masks.py file:///" in shown.stdout and "--frame 640x512" in shown.stdout
    assert "unverified" in shown.stdout and "DeepStream 8.0 or newer" in shown.stdout
    assert call().exit_code == 2, "the folder is there now"


class Node:
    """A GList as pyds shows it, with an end that raises."""

    def __init__(self, items: list[Any]) -> None:
        self.data, self._rest = items[0], items[1:]

    @property
    def next(self) -> Node | None:
        if not self._rest:
            raise StopIteration
        return Node(self._rest)


def stand_in_pyds() -> Any:
    """The names of pyds that masks.py uses: DeepStream Python API Reference."""
    cast = SimpleNamespace(cast=lambda data: data)
    return SimpleNamespace(
        NvDsFrameMeta=cast,
        NvDsUserMeta=cast,
        NvDsInferTensorMeta=cast,
        NvDsMetaType=SimpleNamespace(NVDSINFER_TENSOR_OUTPUT_META=12),
        get_nvds_LayerInfo=lambda tensors, index: tensors.layers[index],
        get_ptr=lambda buffer: buffer,
    )


def layer(name: str, values: Any) -> Any:
    """NvDsInferLayerInfo: dimensions in an array of eight, and the address of the host buffer."""
    dims = SimpleNamespace(numDims=values.ndim, d=[*values.shape, *[0] * (8 - values.ndim)], numElements=values.size)
    return SimpleNamespace(layerName=name, dataType=2, inferDims=dims, buffer=values.ctypes.data_as(ctypes.c_void_p).value)


def test_masks_are_read_from_the_tensor_meta_and_are_copies() -> None:
    values = np.arange(2 * 24, dtype=np.uint8).reshape(2, 4, 6) + 200  # beyond 127: unsigned
    tensors = SimpleNamespace(num_output_layers=2, layers=[layer("mask", values[0]), layer("confidence", values[1])])
    output = SimpleNamespace(base_meta=SimpleNamespace(meta_type=12), user_meta_data=tensors)
    other = SimpleNamespace(base_meta=SimpleNamespace(meta_type=3), user_meta_data=None)
    frames = [SimpleNamespace(frame_num=7, frame_user_meta_list=Node([other, output])), SimpleNamespace(frame_user_meta_list=None)]
    found = list(masks_by_frame(stand_in_pyds(), SimpleNamespace(frame_meta_list=Node(frames))))
    expected = values.copy()
    values[:] = 0  # DeepStream reuses the buffer
    assert [frame.frame_num for frame, _ in found] == [7]
    assert np.array_equal(found[0][1]["mask"], expected[0]) and np.array_equal(found[0][1]["confidence"], expected[1])


def test_a_tensor_that_stayed_on_the_gpu_is_an_error() -> None:
    empty = layer("mask", np.zeros((2, 2), np.uint8))
    empty.buffer = 0
    output = SimpleNamespace(base_meta=SimpleNamespace(meta_type=12), user_meta_data=SimpleNamespace(num_output_layers=1, layers=[empty]))
    batch = SimpleNamespace(frame_meta_list=Node([SimpleNamespace(frame_user_meta_list=Node([output]))]))
    with pytest.raises(RuntimeError, match=r"mask: no host buffer; wanted output_mem_type"):
        list(masks_by_frame(stand_in_pyds(), batch))


def test_the_program_takes_the_elements_of_its_own_folder(tmp_path: Path) -> None:
    assert "nvdspreprocess config-file=" in pipeline_text(tmp_path, "file:///a.mp4", 1920, 1080)
    (tmp_path / "nvinferserver.txt").touch()
    text = pipeline_text(tmp_path, "file:///a.mp4", 1920, 1080)
    assert f'nvinferserver config-file-path="{tmp_path}/nvinferserver.txt" ! fakesink' in text and "width=1920 height=1080" in text


@pytest.mark.parametrize("odd", ['file:///a" ! filesink location="/tmp/b', "file:///a\\", 'file:///"'])
def test_what_stands_in_an_address_or_a_folders_name_adds_no_element(odd: str) -> None:
    quoted = r'"((?:\\.|[^"\\])*)"'  # as GStreamer's parser takes it: a backslash before what is meant as it is
    text = pipeline_text(Path("/") / odd, odd, 1920, 1080)
    found = [re.sub(r"\\(.)", r"\1", value) for value in re.findall(quoted, text)]
    assert found == [str(Path("/") / odd / "nvdspreprocess.txt"), str(Path("/") / odd / "nvinfer.txt"), odd]
    assert re.sub(quoted, "", text).count("!") == pipeline_text(Path("/a"), "file:///a", 1920, 1080).count("!")


def test_the_program_needs_nothing_of_this_package(engine: Path, tmp_path: Path) -> None:
    write_deepstream(tmp_path / "ds", read_servable(engine), DeepStreamOptions())
    code = "import sys; sys.modules['qtseg_edge'] = None; sys.path.insert(0, '.'); import masks; masks.pipeline_text"
    result = subprocess.run([sys.executable, "-c", code], cwd=tmp_path / "ds", capture_output=True, text=True, timeout=60)
    assert result.returncode == 0, result.stderr
