"""`build-engine --if-needed` with engines that NVIDIA's builder has really built: left alone, or built again and why."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from qtseg_edge.cli import app
from qtseg_edge.errors import IncompatibleError, UsageError
from qtseg_edge.export import reuse
from qtseg_edge.export.builder import BuildOptions
from qtseg_edge.export.engine import EngineReport, EngineRequest, build_engine
from qtseg_edge.export.reuse import reusable_engine
from qtseg_edge.runtime.cuda.contract import Gpu
from qtseg_edge.runtime.engine_file import read_sidecar, sidecar_path, write_sidecar
from tests.export.builds import written
from tests.export.graphs import residual
from tests.export.test_build_engine import silent

RTX = BuildOptions("tensorrt-rtx")


@pytest.fixture(autouse=True)
def _own_folders(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path_factory.getbasetemp() / "home"
    monkeypatch.setenv("XDG_CACHE_HOME", str(home / "cache"))
    monkeypatch.setenv("XDG_DATA_HOME", str(home / "data"))


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> EngineRequest:
    """FP32, which wants no images."""
    with pytest.MonkeyPatch.context() as patch:
        home = tmp_path_factory.getbasetemp() / "home"
        patch.setenv("XDG_CACHE_HOME", str(home / "cache"))
        patch.setenv("XDG_DATA_HOME", str(home / "data"))
        folder = tmp_path_factory.mktemp("built")
        request = EngineRequest(written(folder / "small.onnx", residual(size=64)), folder / "small.engine", "fp32", RTX)
        build_engine(request, silent)
    return request


@pytest.fixture
def request_of(built: EngineRequest, tmp_path: Path) -> EngineRequest:
    """A copy of its own for each test; the model too."""
    model = Path(shutil.copy(built.model, tmp_path / "small.onnx"))
    for path in (built.output, sidecar_path(built.output)):
        shutil.copy(path, tmp_path)
    return replace(built, model=model, output=tmp_path / built.output.name)


def resigned(engine: Path, **changes: Any) -> None:
    """As another build would have left it."""
    write_sidecar(engine, replace(read_sidecar(engine), **changes).signed())


def command(request: EngineRequest, *more: str) -> tuple[int, str, str]:
    arguments = [str(request.model), "-o", str(request.output), "--precision", request.precision, "--flavour", "tensorrt-rtx", *more]
    result = CliRunner().invoke(app, ["build-engine", "--if-needed", *arguments])
    return result.exit_code, result.stdout, result.stderr


def test_what_is_as_it_would_be_built_is_left_alone(request_of: EngineRequest) -> None:
    before = request_of.output.stat()
    code, out, err = command(request_of, "--json")
    assert code == 0, err
    assert "nothing to build" in err and "building again" not in err
    assert json.loads(out)["output"] == str(request_of.output) and json.loads(out)["build"] is None
    after = request_of.output.stat()
    assert (after.st_mtime_ns, after.st_ino) == (before.st_mtime_ns, before.st_ino)


def test_of_another_tensorrt_it_is_built_again_and_told_why(request_of: EngineRequest) -> None:
    resigned(request_of.output, tensorrt="1.0.0.1")
    code, _, err = command(request_of)
    assert code == 0, err
    assert "building again: " in err and "was built with tensorrt-rtx 1.0.0.1, installed is " in err
    assert read_sidecar(request_of.output).tensorrt != "1.0.0.1"
    assert reusable_engine(request_of).output == request_of.output


Change = Callable[[EngineRequest], EngineRequest]


def asked(**changes: Any) -> Change:
    return lambda request: replace(request, **changes)


def sidecar(**changes: Any) -> Change:
    def change(request: EngineRequest) -> EngineRequest:
        resigned(request.output, **changes)
        return request

    return change


def other_model(request: EngineRequest) -> EngineRequest:
    request.model.write_bytes(request.model.read_bytes() + b"\x00")
    return request


def damaged(request: EngineRequest) -> EngineRequest:
    request.output.write_bytes(request.output.read_bytes()[:-1])
    return request


def unsigned(request: EngineRequest) -> EngineRequest:
    write_sidecar(request.output, replace(read_sidecar(request.output), signature="0" * 64))
    return request


def without_sidecar(request: EngineRequest) -> EngineRequest:
    sidecar_path(request.output).unlink()
    return request


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (asked(precision="fp16"), r"another precision: fp32, wanted is fp16"),
        (asked(build=replace(RTX, compute_capabilities=("8.6",))), r"choice of GPU generations: \(\), wanted is \('8\.6',\)"),
        (asked(build=replace(RTX, optimization_level=2)), r"optimisation level: None, wanted is 2"),
        (asked(build=replace(RTX, batches=(1, 2, 4))), r"range of batches: \(1, 1, 1\), wanted is \(1, 2, 4\)"),
        (asked(exclude=("a.*",)), r"choice of excluded nodes"),
        (sidecar(flavour="tensorrt"), r"another builder: tensorrt, wanted is tensorrt-rtx"),
        (sidecar(platform="linux-aarch64"), r"was built on linux-aarch64, this is linux-"),
        (sidecar(build={"qtseg_edge": "0.0.1"}), r"another version of this software: 0\.0\.1"),
        (other_model, r"was not built from .*small\.onnx, as that file is now"),
        (damaged, r"its bytes are not those its sidecar describes"),
        (unsigned, r"was not built by this user on this machine"),
        (without_sidecar, r"small\.engine\.json is not beside it"),
    ],
)
def test_what_is_not_as_asked_has_to_be_built_again(request_of: EngineRequest, change: Change, why: str) -> None:
    with pytest.raises(IncompatibleError, match=why):
        reusable_engine(change(request_of))


def test_on_another_gpu_it_has_to_be_built_again(request_of: EngineRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """This machine has none; the driver's answer is stood in for."""
    resigned(request_of.output, compute_capabilities=("8.6",))
    request = replace(request_of, build=replace(RTX, compute_capabilities=("8.6",)))
    monkeypatch.setattr(reuse, "probe_gpu", lambda: Gpu("RTX 3090", "8.6", False, "13.0"))
    assert isinstance(reusable_engine(request), EngineReport)
    monkeypatch.setattr(reuse, "probe_gpu", lambda: Gpu("RTX 4090", "8.9", False, "13.0"))
    with pytest.raises(IncompatibleError, match=r"was built for compute capability 8\.6, this is RTX 4090"):
        reusable_engine(request)


def test_a_graph_that_has_its_precision_in_it_is_known_by_itself(request_of: EngineRequest, tmp_path: Path) -> None:
    graph = tmp_path / "graph.onnx"
    build_engine(replace(request_of, output=graph), silent)
    assert reusable_engine(replace(request_of, model=graph)).output == request_of.output


def test_the_calibration_images_count_where_they_are_named(request_of: EngineRequest) -> None:
    from qtseg_edge.calibration import default_calibration_set, load_calibration_set

    folder = default_calibration_set()
    assert folder is not None
    known = {"manifest_sha256": load_calibration_set(folder).manifest_sha256, "method": "entropy", "images": 48}
    request = replace(request_of, precision="int8", calibration=folder, method="entropy")
    resigned(request.output, precision="int8", calibration=known)
    reusable_engine(request)
    with pytest.raises(IncompatibleError, match=r"--method entropy, wanted is minmax"):
        reusable_engine(replace(request, method="minmax"))
    resigned(request.output, calibration=known | {"manifest_sha256": "0" * 64})
    with pytest.raises(IncompatibleError, match=r"other calibration images than those of "):
        reusable_engine(request)


def test_what_is_no_longer_asked_for_counts_too(request_of: EngineRequest) -> None:
    """An option that is taken out of a service's file, as well as one that is put in."""
    exclude = read_sidecar(request_of.output).build | {"exclude": ["decoder.*"]}
    resigned(request_of.output, build=exclude)
    with pytest.raises(IncompatibleError, match=r"choice of excluded nodes: \['decoder\.\*'\], wanted is \[\]"):
        reusable_engine(request_of)
    resigned(request_of.output, build=exclude | {"exclude": []}, batches=(1, 2, 8))
    with pytest.raises(IncompatibleError, match=r"range of batches: \(1, 2, 8\), wanted is None"):
        reusable_engine(request_of)


def test_the_method_counts_without_calibration_images_too(request_of: EngineRequest) -> None:
    request = replace(request_of, precision="int8")
    resigned(request.output, precision="int8", calibration={"manifest_sha256": "0" * 64, "method": "percentile", "images": 48})
    reusable_engine(request)
    with pytest.raises(IncompatibleError, match=r"--method percentile, wanted is minmax"):
        reusable_engine(replace(request, method="minmax"))


def test_the_built_in_model_wants_its_own_images_where_none_are_named(request_of: EngineRequest) -> None:
    from qtseg_edge.calibration import default_calibration_set, load_calibration_set
    from qtseg_edge.runtime.devices import default_model
    from qtseg_edge.runtime.onnx_metadata import spec_from_onnx

    folder = default_calibration_set()
    assert folder is not None
    known = {"manifest_sha256": load_calibration_set(folder).manifest_sha256, "method": "percentile", "images": 48}
    request = replace(request_of, precision="int8")
    resigned(request.output, precision="int8", calibration=known, spec=spec_from_onnx(default_model()))
    reusable_engine(request)
    resigned(request.output, calibration=known | {"manifest_sha256": "0" * 64})
    with pytest.raises(IncompatibleError, match=r"other calibration images than those of "):
        reusable_engine(request)


@pytest.mark.parametrize(
    ("data", "gate", "limit", "is_kept"),
    [
        (None, {"measure": "mask_iou", "limit": 0.93, "mask_iou": 0.95}, 0.93, True),
        (None, {"measure": "mask_iou", "limit": 0.93, "mask_iou": 0.95}, 0.96, False),
        (Path("data"), {"measure": "dice", "limit": 0.5, "dice": 0.85, "reference_dice": 0.853}, 0.5, True),
        (Path("data"), {"measure": "dice", "limit": 0.5, "dice": 0.85, "reference_dice": 0.853}, 0.2, False),
        (Path("data"), {"measure": "mask_iou", "limit": 0.93, "mask_iou": 0.95}, 0.5, False),
        (None, {"measure": "dice", "limit": 0.5, "dice": 0.85, "reference_dice": 0.853}, 0.93, False),
    ],
)
def test_what_is_less_accurate_than_is_wanted_now_has_to_be_built_again(
    request_of: EngineRequest, data: Path | None, gate: dict[str, Any], limit: float, is_kept: bool
) -> None:
    calibration = {"manifest_sha256": "0" * 64, "method": "percentile", "images": 48}
    resigned(request_of.output, precision="int8", calibration=calibration, gate=gate | {"passed": True})
    request = replace(request_of, precision="int8", data=data, limit=limit)
    if is_kept:
        reusable_engine(request)
    else:
        with pytest.raises(IncompatibleError, match=r"comparison with FP32"):
            reusable_engine(request)


def test_a_graph_of_its_own_precision_has_its_choices_in_it(request_of: EngineRequest, tmp_path: Path) -> None:
    graph = tmp_path / "graph.onnx"
    build_engine(replace(request_of, output=graph), silent)
    calibration = {"manifest_sha256": "0" * 64, "method": "entropy", "images": 48}
    resigned(
        request_of.output,
        precision="int8",
        calibration=calibration,
        build=read_sidecar(request_of.output).build | {"exclude": ["a.*"]},
        gate={"measure": "mask_iou", "limit": 0.5, "mask_iou": 0.5, "passed": True},
    )
    reusable_engine(replace(request_of, model=graph, precision="int8", limit=0.93))


def test_a_model_that_is_gone_is_told(request_of: EngineRequest) -> None:
    request_of.model.unlink()
    code, _, err = command(request_of)
    assert code == 2 and "no such model" in err
    with pytest.raises(UsageError, match="no such model"):
        reusable_engine(request_of)


def test_a_build_that_fails_leaves_the_old_engine(request_of: EngineRequest) -> None:
    before = request_of.output.read_bytes()
    request_of.model.write_bytes(b"not ONNX")
    code, _, err = command(request_of)
    assert code == 4, err
    assert "building again" in err and request_of.output.read_bytes() == before
    assert sorted(path.name for path in request_of.output.parent.iterdir()) == ["small.engine", "small.engine.json", "small.onnx"]


def test_a_graph_is_no_engine(request_of: EngineRequest, tmp_path: Path) -> None:
    code, _, err = command(replace(request_of, output=tmp_path / "graph.onnx"))
    assert code == 2 and "--if-needed: is for engines, got graph.onnx" in err
