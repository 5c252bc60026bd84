"""A model repository served by the real Triton, and its masks compared bit for bit with those of our own backend."""

from __future__ import annotations

import json
import re
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from qtseg_edge.runtime import open_backend
from qtseg_edge.runtime.backend import Masks
from qtseg_edge.runtime.devices import default_model
from qtseg_edge.serving.servable import read_servable
from qtseg_edge.serving.triton_config import TritonOptions
from qtseg_edge.serving.triton_repository import add_version
from qtseg_edge.transforms import Letterbox
from tests.serving.models import SIZE_HW, write_graph
from tests.serving.triton_server import require_triton, triton

ROOT = Path(__file__).parents[2]
BRIGHT = TritonOptions("bright", "python", kind="cpu", device="openvino:f32")
GUIDE = (ROOT / "docs" / "guides" / "serving.md").read_text(encoding="utf-8")
FRAMES = sorted((ROOT / "qtseg_edge" / "assets" / "frames").glob("*.jpg"))


def letterboxed(path: Path, size_hw: tuple[int, int]) -> Any:
    frame = cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)
    return Letterbox((frame.shape[0], frame.shape[1]), size_hw).frame(frame)[None]


def sample_frame() -> Any:
    """One of the sample video that shows a polyp."""
    video = cv2.VideoCapture(str(ROOT / "samples" / "colonoscopy.mp4"))
    video.set(cv2.CAP_PROP_POS_FRAMES, 90)
    whole, frame = video.read()
    assert whole
    return Letterbox((frame.shape[0], frame.shape[1]), (352, 352)).frame(cv2.cvtColor(frame, cv2.COLOR_BGR2RGB))[None]


def asked(client: Any, name: str, images: Any, version: str = "") -> Masks:
    import tritonclient.grpc as grpc

    image = grpc.InferInput("image", images.shape, "UINT8").set_data_from_numpy(images)
    answer = client.infer(name, [image], version)
    return Masks(answer.as_numpy("mask"), answer.as_numpy("confidence"))


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    require_triton()
    folder = tmp_path_factory.mktemp("triton") / "repository"
    add_version(folder, read_servable(default_model()), TritonOptions("polyp", "python", kind="cpu", device="onnxruntime"))
    add_version(folder, read_servable(write_graph(folder.parent / "bright.onnx")), BRIGHT)
    return folder


@pytest.fixture(scope="module")
def client(repository: Path) -> Iterator[Any]:
    """Of a server that is closed as the guide closes it."""
    options = tuple(option.replace("SECRET", "sesame") for option in re.findall(r"--(?:http|grpc)-restricted-[^`\s]+SECRET", GUIDE))
    assert len(options) == 2
    with triton(repository, repository.parent, "polyp", "bright", options=options) as asking:
        yield asking


def test_a_mask_of_a_real_picture_is_bit_for_bit_our_own(client: Any) -> None:
    with open_backend(None, "onnxruntime") as backend:
        for image in (sample_frame(), letterboxed(FRAMES[2], backend.spec.size_hw)):
            own, served = backend.infer(image), asked(client, "polyp", image)
            assert served.mask.shape == (1, 352, 352) and served.mask.dtype == np.uint8
            assert np.array_equal(served.mask, own.mask) and np.array_equal(served.confidence, own.confidence)
            assert served.mask.any(), "an empty mask compares nothing"


def test_a_batch_gives_each_image_its_own_mask(client: Any, repository: Path) -> None:
    images = np.concatenate([letterboxed(frame, SIZE_HW) for frame in FRAMES[:3]])
    with open_backend(repository.parent / "bright.onnx", "openvino:f32") as backend:
        own, served = backend.infer(images), asked(client, "bright", images)
        assert np.array_equal(served.mask, own.mask) and np.array_equal(served.confidence, own.confidence)
    assert len({image.tobytes() for image in served.confidence}) == 3


def test_the_config_tells_a_client_what_it_must_know(client: Any) -> None:
    parameters = client.get_model_config("polyp").config.parameters
    assert json.loads(parameters["qtseg_edge.classes"].string_value) == ["background", "polyp"]
    assert float(parameters["qtseg_edge.threshold"].string_value) == 0.5
    assert "Not a medical device" in parameters["qtseg_edge.notice"].string_value


@pytest.mark.parametrize(("shape", "kind"), [((1, 351, 352, 3), np.uint8), ((352, 352, 3), np.uint8), ((2, 352, 352, 3), np.uint8)])
def test_a_wrong_image_is_refused_and_the_server_goes_on(client: Any, shape: tuple[int, ...], kind: Any) -> None:
    from tritonclient.utils import InferenceServerException

    with pytest.raises(InferenceServerException, match="shape"):
        asked(client, "polyp", np.zeros(shape, kind))
    assert asked(client, "polyp", np.zeros((1, 352, 352, 3), np.uint8)).mask.shape == (1, 352, 352)


def test_more_images_than_max_batch_size_are_refused(client: Any) -> None:
    from tritonclient.utils import InferenceServerException

    with pytest.raises(InferenceServerException, match="batch-size must be <= 8"):
        asked(client, "bright", np.zeros((9, *SIZE_HW, 3), np.uint8))


def test_a_new_version_is_loaded_while_the_server_runs(client: Any, repository: Path, tmp_path: Path) -> None:
    image = letterboxed(FRAMES[0], SIZE_HW)
    assert asked(client, "bright", image, "1").mask.any()
    dimmer = write_graph(tmp_path / "dimmer.onnx", cut=254.5)
    assert add_version(repository, read_servable(dimmer), BRIGHT).version == 2
    client.load_model("bright", headers={"triton-grpc-protocol-admin": "sesame"})
    assert client.is_model_ready("bright", "2") and not client.is_model_ready("bright", "1")
    assert asked(client, "bright", image, "2").mask.sum() < asked_locally(repository.parent / "bright.onnx", image).mask.sum()


def test_the_guides_client_gets_a_mask_of_its_frame(client: Any, tmp_path: Path) -> None:
    program = next(block for block in re.findall(r"```python\n(.*?)```", GUIDE, re.DOTALL) if "InferenceServerClient" in block)
    for written, here in (("127.0.0.1:8001", client.address), ("frame.jpg", str(FRAMES[2])), ("client_timeout=0.2", "client_timeout=30")):
        assert written in program
        program = program.replace(written, here)
    names: dict[str, Any] = {}
    exec(program, names)
    assert names["mask"].shape == names["frame"].shape[:2] and names["mask"].any()


def post(address: str, **headers: str) -> int:
    try:
        with urllib.request.urlopen(urllib.request.Request(address, b"{}", headers), timeout=30) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code


def test_what_the_guide_closes_is_closed_and_masks_are_still_given(client: Any) -> None:
    from tritonclient.utils import InferenceServerException

    load = f"{client.http}/v2/repository/models/polyp/load"
    assert post(load) == 403 and post(load, admin="guess") == 403 and post(load, admin="sesame") == 200
    for refused in (lambda: client.unload_model("polyp"), client.get_system_shared_memory_status):
        with pytest.raises(InferenceServerException, match="restricted"):
            refused()
    assert asked(client, "polyp", sample_frame()).mask.any()


def test_the_model_prints_no_traceback_for_a_mask(client: Any, repository: Path) -> None:
    for _ in range(3):
        asked(client, "bright", letterboxed(FRAMES[0], SIZE_HW))
    assert "Traceback" not in (repository.parent / "triton.log").read_text()


def asked_locally(model: Path, image: Any) -> Masks:
    with open_backend(model, "onnxruntime") as backend:
        return Masks(*map(np.copy, backend.infer(image)))
