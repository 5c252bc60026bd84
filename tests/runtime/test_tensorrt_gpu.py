"""A real engine on a real GPU: `pytest -m gpu tests/runtime`. Built there, compared with ONNX Runtime, through each CUDA package."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from qtseg_edge.cli import app
from qtseg_edge.data import image_files, read_image
from qtseg_edge.errors import IncompatibleError, UsageError
from qtseg_edge.runtime import Masks, open_backend
from qtseg_edge.runtime.engine_file import read_sidecar, write_sidecar
from qtseg_edge.runtime.tensorrt import TensorRtBackend
from qtseg_edge.transforms import Letterbox

pytestmark = [pytest.mark.gpu, pytest.mark.timeout(600)]
FRAMES = Path(__file__).parents[2] / "qtseg_edge" / "assets" / "frames"
SIZE_HW = (64, 96)
MODULES = {"cuda-bindings": "cuda.bindings", "pycuda": "pycuda"}


@pytest.fixture(scope="module")
def engine(small_onnx: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("engine") / "small.engine"
    built = CliRunner().invoke(app, ["build-engine", str(small_onnx), "-o", str(path), "--precision", "fp32", "--batch", "1:2:5"])
    assert built.exit_code == 0, built.output
    return path


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    pictures = [read_image(path) for path in image_files(FRAMES)]
    return np.stack([Letterbox((picture.shape[0], picture.shape[1]), SIZE_HW).frame(picture) for picture in pictures])


@pytest.fixture(scope="module")
def expected(small_onnx: Path, images: np.ndarray) -> Masks:
    with open_backend(small_onnx, "onnxruntime") as backend:
        return Masks(*(values.copy() for values in backend.infer(images)))


@pytest.fixture(params=MODULES)
def backend(request: pytest.FixtureRequest, engine: Path) -> Iterator[TensorRtBackend]:
    pytest.importorskip(MODULES[request.param])
    with TensorRtBackend(engine, cuda_driver=request.param) as opened:
        yield opened


def agree(masks: Masks, expected: Masks, part: slice) -> bool:
    confident = np.abs(expected.confidence[part].astype(np.int16) - 128) > 8  # TF32 moves pixels that are undecided
    return bool(np.mean(masks.mask[confident] == expected.mask[part][confident]) > 0.999)


def test_every_frame_agrees_with_onnx_runtime_before_and_after_recording(
    backend: TensorRtBackend, images: np.ndarray, expected: Masks
) -> None:
    for _ in range(3):
        for index in range(len(images)):
            part = slice(index, index + 1)
            assert agree(backend.infer(images[part]), expected, part)


@pytest.mark.parametrize("batch", [1, 2, 3, 5])
def test_every_batch_agrees_with_onnx_runtime(backend: TensorRtBackend, images: np.ndarray, expected: Masks, batch: int) -> None:
    for _ in range(3):
        assert agree(backend.infer(images[:batch]), expected, slice(0, batch))
    with pytest.raises(UsageError, match="takes 1 to 5 images at once, got 6"):
        backend.infer(images)


def test_two_in_flight_agree_with_onnx_runtime(backend: TensorRtBackend, images: np.ndarray, expected: Masks) -> None:
    for _ in range(5):
        for index in range(0, len(images) - 1, 2):
            tickets = [backend.submit(images[number : number + 1]) for number in (index, index + 1)]
            for number, ticket in zip((index, index + 1), tickets, strict=True):
                assert agree(backend.result(ticket), expected, slice(number, number + 1))


def test_the_work_was_recorded(engine: Path, images: np.ndarray) -> None:
    if read_sidecar(engine).flavour == "tensorrt-rtx":
        pytest.skip("TensorRT-RTX records by itself")
    with TensorRtBackend(engine) as backend:
        for _ in range(3):
            backend.infer(images[:1])
        assert backend._idle[0]._graph is not None


def test_an_engine_that_says_another_gpu_is_refused_before_it_is_opened(engine: Path, tmp_path: Path) -> None:
    sidecar = read_sidecar(engine)
    copy = tmp_path / "other.engine"
    copy.write_bytes(engine.read_bytes())
    write_sidecar(copy, replace(sidecar, gpu="Other GPU", compute_capabilities=("7.5",)).signed())
    with pytest.raises(IncompatibleError, match="was built for"):
        TensorRtBackend(copy)
