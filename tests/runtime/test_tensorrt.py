"""Opening and closing an engine, on stand-ins for TensorRT and the GPU behind the wrappers of both CUDA packages."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from qtseg_edge.cli import app
from qtseg_edge.errors import IncompatibleError, MissingError, QtsegError
from qtseg_edge.runtime import Segmenter, open_backend
from qtseg_edge.runtime.tensorrt import TensorRtBackend
from tests.labelled import box, marked_split
from tests.runtime.engines import SIZE_HW, write_engine
from tests.runtime.tensorrt_stand_in import plan_bytes
from tests.runtime.tensorrt_world import DYNAMIC, World, frames, is_right


def test_several_engines_run_beside_each_other(world: World, tmp_path: Path) -> None:
    world.install()
    (tmp_path / "other").mkdir()
    one, other = world.open(write_engine(tmp_path)), world.open(write_engine(tmp_path / "other", batches=DYNAMIC))
    for image, batch in zip(frames(4), frames(4, 3), strict=True):
        assert is_right(one.infer(image), image)
        assert is_right(other.infer(batch), batch)
    one.close()
    image = frames(1, 2)[0]
    assert is_right(other.infer(image), image)


@pytest.mark.parametrize("flavour", ["tensorrt", "tensorrt-rtx"])
@pytest.mark.parametrize("integrated", [False, True])
def test_closing_frees_everything_and_the_runtime_last_of_tensorrt(world: World, package: str, flavour: str, integrated: bool) -> None:
    backend = world.opened(flavour, package, integrated=integrated)
    images = frames(4)
    for image in images:
        backend.infer(image)
    backend.submit(images[0])
    backend.submit(images[1])  # still in flight
    backend.close()
    objects = [what for what in world.machine.log if what in ("Context", "Engine", "Runtime")]
    assert objects == ["Context", "Context", "Engine", "Runtime"]
    assert not world.machine.queues and not world.machine.graphs and not world.machine.blocks and not world.machine.pinned
    backend.close()
    with pytest.raises(QtsegError, match=f"{flavour} fp16: the backend is closed"):
        backend.infer(images[0])
    with pytest.raises(QtsegError, match="the backend is closed"):
        backend.submit(images[0])


def test_a_result_can_be_read_after_closing(world: World, package: str) -> None:
    image = frames(1)[0]
    backend = world.opened(package=package)
    masks = backend.infer(image)
    backend.close()
    assert is_right(masks, image)


def test_a_gpu_that_is_gone_does_not_keep_it_from_closing(world: World) -> None:
    backend = world.opened()
    backend.infer(frames(1)[0])
    world.machine.failing["cudaStreamSynchronize"] = 700
    backend.close()
    assert "Runtime" in world.machine.log and not world.machine.blocks and not world.machine.pinned


def test_tensorrt_is_not_touched_before_a_gpu_has_answered(world: World, package: str, tmp_path: Path) -> None:
    world.install(package=package, devices=0)
    with pytest.raises(MissingError, match=rf"^no NVIDIA GPU answers \({package}: ") as raised:
        TensorRtBackend(write_engine(tmp_path), cuda_driver=package)
    assert raised.value.exit_code == 3
    assert world.behaviour.seen == []


def test_a_driver_that_is_too_old_for_tensorrt_is_no_crash(world: World, tmp_path: Path) -> None:
    world.install()
    world.behaviour.initialises = False
    with pytest.raises(
        MissingError, match=r"tensorrt 10\.3\.0 cannot use this GPU \(createInferRuntime.*35\.\)\); update the NVIDIA driver"
    ):
        TensorRtBackend(write_engine(tmp_path))


def test_a_plan_that_tensorrt_refuses_is_incompatible_in_one_line(world: World, tmp_path: Path) -> None:
    world.install()
    world.behaviour.deserialises = False
    with pytest.raises(IncompatibleError, match=r"model\.engine: tensorrt 10\.3\.0 refuses it \(.*Serialization \(assertion.*build-engine"):
        TensorRtBackend(write_engine(tmp_path))


@pytest.mark.parametrize(
    "plan",
    [
        plan_bytes((64, 64)),
        plan_bytes(SIZE_HW, dtypes={"mask": "float32"}),
        plan_bytes(SIZE_HW, shapes={"confidence": (1, 16, 64)}),
        plan_bytes(SIZE_HW, shapes={"more": (1,)}),
    ],
    ids=["size", "type", "output", "tensor"],
)
def test_an_engine_of_another_interface_than_its_sidecars_is_refused(world: World, tmp_path: Path, plan: bytes) -> None:
    world.install()
    with pytest.raises(IncompatibleError, match=r"model\.engine: wanted uint8 tensors .*, the engine has .*build-engine"):
        TensorRtBackend(write_engine(tmp_path, plan=plan))


def test_a_gpu_without_room_is_an_error_that_frees_what_was_taken(world: World, tmp_path: Path) -> None:
    world.install(capacity=1000)
    with pytest.raises(QtsegError, match=r"the GPU has no room for it \(cudaHostAlloc: out of memory\)"):
        TensorRtBackend(write_engine(tmp_path))
    assert not world.machine.queues and not world.machine.blocks
    world.install()
    world.behaviour.has_context = False
    with pytest.raises(QtsegError, match=r"no execution context \(Error Code 2: OutOfMemory\)"):
        TensorRtBackend(write_engine(tmp_path))


def test_the_segmenter_and_the_device_option_take_an_engine(world: World, tmp_path: Path) -> None:
    world.install()
    path = write_engine(tmp_path)
    for device in ("auto", "tensorrt"):
        with open_backend(path, device, cuda_driver="cuda-bindings") as backend:
            segmentation = Segmenter(backend).segment(frames(1)[0][0])
            assert segmentation.mask.shape == SIZE_HW


@pytest.mark.parametrize("trust", [False, True])
def test_the_commands_open_an_engine_of_another_user_only_with_trust(world: World, package: str, tmp_path: Path, trust: bool) -> None:
    world.install(package=package)
    write_engine(tmp_path)
    (tmp_path / "data" / "qtseg-edge" / "engine.key").write_bytes(bytes(32))
    marked = box(5, 5, 20, 40, size_hw=(40, 60))
    data = marked_split(tmp_path / "split", {"one": (marked, marked)})
    options = ["--cuda-driver", package, *(["--trust"] if trust else [])]
    run = ["run", "--source", str(data / "images"), "--model", str(tmp_path / "model.engine"), "--output", f"{tmp_path}/masks/", *options]
    evaluate = ["evaluate", str(tmp_path / "model.engine"), "--data", str(data), *options]
    for command in (run, evaluate):
        done = CliRunner().invoke(app, command)
        assert done.exit_code == (0 if trust else 4), done.output
        assert ("open it with --trust" in done.output) is not trust
    assert (tmp_path / "masks").exists() is trust


def test_compiled_kernels_are_kept_for_the_next_start(world: World, tmp_path: Path) -> None:
    world.opened("tensorrt-rtx").close()
    files = list((tmp_path / "cache").rglob("*.cache"))
    assert len(files) == 1 and world.behaviour.compiled == 1
    written = files[0].stat().st_mtime_ns
    world.opened("tensorrt-rtx").close()
    assert world.behaviour.compiled == 0
    assert files[0].stat().st_mtime_ns == written  # nothing new to keep


@pytest.mark.parametrize("content", [b"", b"short", b"x" * 100, None], ids=["empty", "short", "other", "flipped"])
def test_a_damaged_cache_is_ignored_and_replaced(world: World, tmp_path: Path, content: bytes | None) -> None:
    world.opened("tensorrt-rtx").close()
    (file,) = (tmp_path / "cache").rglob("*.cache")
    whole = file.read_bytes()
    file.write_bytes(whole[:-1] + b"?" if content is None else content)
    backend = world.opened("tensorrt-rtx")
    image = frames(1)[0]
    assert is_right(backend.infer(image), image)
    backend.close()
    assert world.behaviour.compiled == 1
    assert file.read_bytes() == whole


def test_another_gpu_has_a_cache_of_its_own(world: World, tmp_path: Path) -> None:
    world.opened("tensorrt-rtx").close()
    world.install("tensorrt-rtx")
    world.machine.name = "Another GPU"
    world.open(tmp_path / "model.engine").close()
    assert world.behaviour.compiled == 1
    assert len(list((tmp_path / "cache").rglob("*.cache"))) == 2


def test_a_cache_folder_that_cannot_be_made_is_no_error(world: World, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file is in the way")
    backend = world.opened("tensorrt-rtx")
    image = frames(1)[0]
    assert is_right(backend.infer(image), image)
    backend.close()


def test_full_tensorrt_keeps_no_cache(world: World, tmp_path: Path) -> None:
    world.opened().close()
    assert not (tmp_path / "cache").exists()
