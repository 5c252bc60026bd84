"""What every backend must do. A new one joins ENGINES and has to pass without a change here."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from qtseg_edge.data import image_files, read_image
from qtseg_edge.errors import IncompatibleError, MissingError, QtsegError, UsageError
from qtseg_edge.runtime import Backend, Masks, open_backend
from qtseg_edge.runtime.onnx_metadata import spec_from_onnx
from qtseg_edge.spec import SPEC_KEY
from qtseg_edge.transforms import Letterbox

Uint8 = NDArray[np.uint8]
ENGINES = ("openvino:f32", "openvino:bf16", "onnxruntime", "torch", "fake")
ONNX_ENGINES = ("openvino:f32", "onnxruntime", "fake")
FRAMES = Path(__file__).parents[2] / "qtseg_edge" / "assets" / "frames"
SIZE_HW = (64, 96)
Opener = Callable[[str], Backend]


@pytest.fixture(scope="module")
def open_engine(small_onnx: Path, small_checkpoint: Path) -> Opener:
    def opened(engine: str) -> Backend:
        try:
            return open_backend(small_checkpoint if engine == "torch" else small_onnx, engine)
        except MissingError as error:
            pytest.skip(str(error))

    return opened


@pytest.fixture(scope="module")
def engines(open_engine: Opener) -> Iterator[Opener]:
    """Each opened once for the module: compiling takes longer than any test."""
    opened: dict[str, Backend] = {}
    with ExitStack() as stack:

        def engine(name: str) -> Backend:
            if name not in opened:
                opened[name] = stack.enter_context(open_engine(name))
            return opened[name]

        yield engine


@pytest.fixture(params=ENGINES)
def backend(request: pytest.FixtureRequest, engines: Opener) -> Backend:
    return engines(request.param)


@pytest.fixture(scope="module")
def inputs() -> Uint8:
    """(6, H, W, 3): real frames."""
    images = [read_image(path) for path in image_files(FRAMES)]
    return np.stack([Letterbox((image.shape[0], image.shape[1]), SIZE_HW).frame(image) for image in images])


def result_of(backend: Backend, images: Uint8) -> Masks:
    """A copy, since the next call may overwrite what the engine gave."""
    return Masks(*(values.copy() for values in backend.infer(np.ascontiguousarray(images))))


def one_by_one(backend: Backend, images: Uint8) -> Masks:
    results = [result_of(backend, image[None]) for image in images]
    return Masks(np.concatenate([result.mask for result in results]), np.concatenate([result.confidence for result in results]))


def foreground(masks: Masks) -> NDArray[np.int16]:
    """Foreground probability in levels, comparable where the classes differ."""
    return np.where(masks.mask > 0, masks.confidence, 255 - masks.confidence.astype(np.int16)).astype(np.int16)


@pytest.mark.parametrize("batch", [1, 3])
def test_mask_and_confidence_are_uint8_at_the_size_of_the_input(backend: Backend, inputs: Uint8, batch: int) -> None:
    result = result_of(backend, inputs[:batch])
    assert result.mask.shape == result.confidence.shape == (batch, *SIZE_HW)
    assert result.mask.dtype == result.confidence.dtype == np.uint8
    assert set(np.unique(result.mask)) == {0, 1}
    assert result.confidence.min() >= 127  # the probability of the likelier of two classes


def test_a_batch_gives_what_its_images_give_alone(backend: Backend, inputs: Uint8) -> None:
    together, alone = result_of(backend, inputs[:3]), one_by_one(backend, inputs[:3])
    assert np.mean(together.mask == alone.mask) >= 0.999
    assert np.abs(foreground(together) - foreground(alone)).max() <= (12 if backend.name == "openvino bf16" else 2)


def test_the_description_is_that_of_the_file(backend: Backend, small_onnx: Path) -> None:
    spec = spec_from_onnx(small_onnx)
    assert backend.spec == spec
    assert (spec.size_hw, spec.batch, spec.card.classes) == (SIZE_HW, None, ("background", "polyp"))
    assert backend.name


@pytest.mark.parametrize(
    "wrong",
    [
        np.zeros((1, 96, 64, 3), np.uint8),
        np.zeros((1, 3, 64, 96), np.uint8),
        np.zeros((64, 96, 3), np.uint8),
        np.zeros((1, 64, 96, 4), np.uint8),
        np.zeros((1, 64, 96, 3), np.float32),
        np.zeros((1, 64, 96, 3), np.int8),
        np.zeros((1, 64, 192, 3), np.uint8)[:, :, ::2],
        np.zeros((1, 64, 96, 3), np.uint8)[..., ::-1],
    ],
    ids=lambda image: f"{image.dtype}{image.shape}{'' if image.flags.c_contiguous else 'view'}",
)
def test_another_shape_type_or_layout_is_refused(backend: Backend, wrong: Uint8) -> None:
    with pytest.raises(UsageError, match=r"wanted a contiguous uint8 image of shape \(1, 64, 96, 3\), got|of shape \(64, 64, 96, 3\)"):
        backend.infer(wrong)


def test_no_answer_is_that_of_an_earlier_image(backend: Backend, inputs: Uint8) -> None:
    first, second, again = (result_of(backend, inputs[n : n + 1]) for n in (1, 3, 1))
    assert np.mean(first.mask != second.mask) > 0.01
    assert np.array_equal(first.mask, again.mask)
    assert np.array_equal(first.confidence, again.confidence)


def test_a_refused_image_leaves_the_backend_usable(backend: Backend, inputs: Uint8) -> None:
    before = result_of(backend, inputs[:1])
    with pytest.raises(UsageError, match="wanted a contiguous uint8 image"):
        backend.infer(np.zeros((1, 8, 8, 3), np.uint8))
    assert np.array_equal(result_of(backend, inputs[:1]).mask, before.mask)


def test_the_image_is_not_changed(backend: Backend, inputs: Uint8) -> None:
    image = inputs[:1].copy()
    backend.infer(image)
    assert np.array_equal(image, inputs[:1])


@pytest.mark.parametrize("value", [0, 1, 128, 255])
def test_a_picture_of_one_value_gives_a_valid_answer(backend: Backend, value: int) -> None:
    result = result_of(backend, np.full((1, *SIZE_HW, 3), value, np.uint8))
    assert result.mask.max() <= 1
    assert result.confidence.min() >= 127


AGREEMENT = {"openvino:f32": (0.999, 2), "onnxruntime": (0.999, 2), "openvino:bf16": (0.95, 255)}


@pytest.mark.parametrize("engine", AGREEMENT)
def test_the_answer_is_that_of_torch(engines: Opener, inputs: Uint8, engine: str) -> None:
    """On a network of random weights, whose undecided pixels half precision moves more than those of a trained one."""
    least_agreement, most_levels = AGREEMENT[engine]
    wanted, got = one_by_one(engines("torch"), inputs), one_by_one(engines(engine), inputs)
    assert 0.1 < wanted.mask.mean() < 0.9
    assert np.mean(got.mask == wanted.mask) >= least_agreement
    assert np.abs(foreground(got) - foreground(wanted)).max() <= most_levels
    assert np.abs(foreground(got) - foreground(wanted)).mean() < (8 if engine == "openvino:bf16" else 0.2)


def test_half_precision_is_not_single_precision_by_another_name(engines: Opener, inputs: Uint8) -> None:
    half, single = one_by_one(engines("openvino:bf16"), inputs), one_by_one(engines("openvino:f32"), inputs)
    assert np.abs(foreground(half) - foreground(single)).max() > 2


def test_it_works_in_another_thread_than_the_one_that_opened_it(backend: Backend, inputs: Uint8) -> None:
    here, there = result_of(backend, inputs[:1]), []
    thread = threading.Thread(target=lambda: there.append(result_of(backend, inputs[:1])))
    thread.start()
    thread.join(20)
    assert np.array_equal(there[0].mask, here.mask)


@pytest.mark.parametrize("engine", ["openvino:f32", "onnxruntime", "torch", "fake"])
def test_leaving_the_with_block_closes_it_and_closing_twice_is_allowed(open_engine: Opener, inputs: Uint8, engine: str) -> None:
    with open_engine(engine) as backend:
        backend.infer(inputs[:1])
    with pytest.raises(QtsegError, match="the backend is closed"):
        backend.infer(inputs[:1])
    backend.close()


@pytest.mark.parametrize("engine", ONNX_ENGINES)
@pytest.mark.parametrize(
    "content", [b"", b"not a model at all", b"\x00" * 4096, b"\x7fELF" * 100], ids=["empty", "text", "zeros", "program"]
)
def test_a_file_that_is_no_model_is_refused(tmp_path: Path, engine: str, content: bytes) -> None:
    if engine != "fake":
        pytest.importorskip(engine.split(":")[0], reason="the engine must be there to refuse a file")
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    with pytest.raises(IncompatibleError, match=r"model\.onnx: (not a whole ONNX file|no qtseg_edge\.spec)"):
        open_backend(path, engine)


@pytest.mark.parametrize("engine", ONNX_ENGINES)
@pytest.mark.parametrize("share", [0.1, 0.5, 0.99])
def test_a_truncated_model_is_refused(tmp_path: Path, small_onnx: Path, engine: str, share: float) -> None:
    path = tmp_path / "model.onnx"
    content = small_onnx.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(IncompatibleError, match=r"model\.onnx: not a whole ONNX file"):
        open_backend(path, engine)


@pytest.mark.parametrize("engine", ONNX_ENGINES)
def test_a_model_that_does_not_describe_itself_is_refused(tmp_path: Path, small_onnx: Path, engine: str) -> None:
    import onnx

    model = onnx.load(small_onnx)
    del model.metadata_props[:]
    onnx.save(model, tmp_path / "model.onnx")
    with pytest.raises(IncompatibleError, match=r"no qtseg_edge\.spec in its metadata.*qtseg-edge export"):
        open_backend(tmp_path / "model.onnx", engine)


@pytest.mark.parametrize("engine", ["openvino:f32", "onnxruntime"])
def test_a_description_without_a_graph_is_refused(tmp_path: Path, small_onnx: Path, engine: str) -> None:
    import onnx

    model = onnx.ModelProto(ir_version=10)
    onnx.helper.set_model_props(model, {SPEC_KEY: spec_from_onnx(small_onnx).to_json()})
    (tmp_path / "model.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(IncompatibleError, match=r"model\.onnx: (OpenVINO|ONNX Runtime) \S+ cannot (compile|load) it"):
        open_backend(tmp_path / "model.onnx", engine)


@pytest.mark.parametrize("engine", ["openvino:f32", "onnxruntime"])
def test_a_graph_with_other_outputs_than_described_is_refused(tmp_path: Path, small_onnx: Path, engine: str) -> None:
    import onnx

    model = onnx.load(small_onnx)
    renamed = model.graph.output[1].name
    for node in model.graph.node:
        node.output[:] = ["certainty" if name == renamed else name for name in node.output]
        node.input[:] = ["certainty" if name == renamed else name for name in node.input]
    model.graph.output[1].name = "certainty"
    onnx.save(model, tmp_path / "model.onnx")
    with pytest.raises(IncompatibleError, match=r"model\.onnx: its graph has no confidence; export it with: qtseg-edge export"):
        open_backend(tmp_path / "model.onnx", engine)


@pytest.mark.parametrize("engine", ["openvino:f32", "onnxruntime"])
def test_a_graph_of_another_size_than_described_fails_instead_of_answering(tmp_path: Path, small_onnx: Path, engine: str) -> None:
    import onnx

    model = onnx.load(small_onnx)
    described = spec_from_onnx(small_onnx).to_json().replace("[64, 96]", "[96, 64]")
    onnx.helper.set_model_props(model, {SPEC_KEY: described})
    onnx.save(model, tmp_path / "model.onnx")
    with open_backend(tmp_path / "model.onnx", engine) as backend, pytest.raises(QtsegError, match="inference failed"):
        backend.infer(np.zeros((1, 96, 64, 3), np.uint8))


@pytest.mark.parametrize("content", [b"", b"garbage", b"\x08" + b"\x00" * 7 + b"{}"], ids=["empty", "text", "header"])
def test_a_file_that_is_no_checkpoint_is_refused(tmp_path: Path, content: bytes) -> None:
    pytest.importorskip("torch")
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    with pytest.raises(IncompatibleError, match=r"model\.safetensors: not a safetensors checkpoint"):
        open_backend(path, "torch")
