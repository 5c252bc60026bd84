"""The real NVIDIA builder, which needs no GPU for RTX cards. Running an engine does."""

from __future__ import annotations

import hashlib
import math
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import tensorrt_rtx
from onnx import TensorProto, helper

from qtseg_edge.errors import IncompatibleError, MissingError, QtsegError, UsageError
from qtseg_edge.export import example_frames, export_checkpoint
from qtseg_edge.export.builder import BuildOptions, BuiltPlan, build_plan
from qtseg_edge.export.gpu_probe import probe_gpu
from qtseg_edge.runtime.cuda.contract import CudaError
from qtseg_edge.runtime.devices import default_model
from tests.export.builds import RTX, builders_of, built, silent, written
from tests.export.graphs import model_of, residual
from tests.media import require_forbidden

Built = tuple[BuiltPlan, bytes]
MAGIC = b"vtrt"
FULL = BuildOptions("tensorrt")
ADDR_NO_RANDOMIZE = 0x0040000
pytestmark = pytest.mark.timeout(300)
MATMUL = [
    helper.make_node("Conv", ["pixels", "grey"], ["plane"], name="net/Conv"),
    helper.make_node("MatMul", ["plane", "weight"], ["logits"], name="net/MatMul"),
]
MATMUL_WEIGHTS = {"grey": np.ones((1, 3, 1, 1), np.float32), "weight": np.eye(64, dtype=np.float32)}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Convolutions alone, for 64x64."""
    return written(tmp_path_factory.mktemp("tiny") / "tiny.onnx", residual(size=64))


@pytest.fixture(scope="module")
def tiny_of_any_batch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    model = residual(size=64)
    for tensor in (*model.graph.input, *model.graph.output):
        tensor.type.tensor_type.shape.dim[0].dim_param = "batch"
    return written(tmp_path_factory.mktemp("tiny") / "any.onnx", model, batch=None)


@pytest.fixture(scope="module")
def plan(exported: Path, tmp_path_factory: pytest.TempPathFactory) -> Built:
    """Of a small QTSeg."""
    return built(exported, tmp_path_factory.mktemp("plan"))


def has_gpu() -> bool:
    try:
        probe_gpu()
    except CudaError:
        return False
    return True


def test_a_plan_is_described_as_it_is(plan: Built) -> None:
    report, content = plan
    assert content[:4] == MAGIC
    assert (report.bytes, report.sha256) == (len(content), hashlib.sha256(content).hexdigest())
    assert report.tensorrt == tensorrt_rtx.__version__
    assert report.seconds > 0
    assert report.platform.startswith("linux-")
    assert (report.gpu, report.gpu_compute_capability, report.cuda) == ("", "", "")
    assert report.inspected is None or has_gpu()


def test_two_builds_at_once_give_the_bytes_of_the_first(exported: Path, plan: Built, tmp_path: Path) -> None:
    folders = [tmp_path / "one", tmp_path / "two"]
    for folder in folders:
        folder.mkdir()
    with ThreadPoolExecutor() as pool:
        plans = [content for _, content in pool.map(lambda folder: built(exported, folder), folders)]
    assert plans == [plan[1], plan[1]]


def test_a_range_of_batches_builds_with_a_profile(tiny_of_any_batch: Path, tmp_path: Path) -> None:
    plans = [built(tiny_of_any_batch, tmp_path, replace(RTX, batches=batches))[1] for batches in ((1, 2, 4), (1, 2, 8))]
    assert all(content[:4] == MAGIC for content in plans)
    assert plans[0] != plans[1]


def test_a_range_of_batches_gives_the_same_bytes_again(tiny_of_any_batch: Path, tmp_path: Path) -> None:
    """With random addresses one build in three numbers its tensors in another way."""
    personalities: list[int] = []

    def looked(done: int, total: int | None = None, note: str = "") -> None:
        if not personalities:
            (builder,) = builders_of(os.getpid())
            personalities.append(int(Path(f"/proc/{builder}/personality").read_text(), 16))

    own = Path("/proc/thread-self/personality").read_text()
    options = replace(RTX, batches=(1, 2, 4))
    first = build_plan(tiny_of_any_batch, tmp_path / "a.engine", options, looked).sha256
    assert Path("/proc/thread-self/personality").read_text() == own
    if not personalities[0] & ADDR_NO_RANDOMIZE:
        pytest.skip("this system does not let a process have fixed addresses")
    assert {built(tiny_of_any_batch, tmp_path, options)[0].sha256 for _ in range(5)} == {first}


@pytest.mark.slow
def test_a_range_of_batches_builds_of_a_small_qtseg(small_onnx: Path, tmp_path: Path) -> None:
    assert built(small_onnx, tmp_path, replace(RTX, batches=(1, 2, 4)))[1][:4] == MAGIC


def test_the_built_in_model_builds(tmp_path: Path) -> None:
    report, content = built(default_model(), tmp_path)
    assert content[:4] == MAGIC
    assert report.bytes > 9e6 * 2  # its weights are in there


@pytest.mark.slow
def test_the_default_network_with_min_max_normalisation_builds(reference: Path, tmp_path: Path) -> None:
    report = export_checkpoint(reference / "weight_best_dice.pt", tmp_path / "authors.onnx", example_frames(), size_hw=(256, 256))
    assert built(report.onnx, tmp_path)[0].bytes > 9e6 * 2


def test_each_compute_capability_gives_a_plan(tiny: Path, tmp_path: Path) -> None:
    capabilities = ("7.5", "8.0", "8.6", "8.9", "12.0", "12.1")
    plans = {wanted: built(tiny, tmp_path, replace(RTX, compute_capabilities=(wanted,)))[1] for wanted in capabilities}
    assert all(content[:4] == MAGIC for content in plans.values())
    assert plans["7.5"] != plans["12.0"]


@pytest.mark.slow
@pytest.mark.parametrize("wanted", ["8.0", "8.6", "8.9", "12.0", "12.1"])
def test_each_compute_capability_gives_a_plan_of_a_small_qtseg(exported: Path, tmp_path: Path, wanted: str) -> None:
    assert built(exported, tmp_path, replace(RTX, compute_capabilities=(wanted,)))[1][:4] == MAGIC


def test_a_capability_asked_for_twice_counts_once_and_several_make_one_plan(tiny: Path, tmp_path: Path) -> None:
    once = built(tiny, tmp_path, replace(RTX, compute_capabilities=("8.6",)))[1]
    assert built(tiny, tmp_path, replace(RTX, compute_capabilities=("8.6", "8.6")))[1] == once
    assert built(tiny, tmp_path, replace(RTX, compute_capabilities=("8.0", "8.6")))[1] != once


def test_turing_without_fp32_matrix_products_is_named_as_the_reason(tmp_path: Path) -> None:
    graph = written(tmp_path / "matmul.onnx", model_of(MATMUL, MATMUL_WEIGHTS, size=64))
    with pytest.raises(IncompatibleError, match=r"net/MatMul.*Turing.*FP32 GEMM is not supported.*leave out --compute-capability 7\.5"):
        built(graph, tmp_path, replace(RTX, compute_capabilities=("7.5",)))
    assert sorted(tmp_path.iterdir()) == [graph]


def test_progress_counts_the_steps_of_the_whole_and_names_the_phase(tiny: Path, tmp_path: Path) -> None:
    calls: list[tuple[int, int | None, str]] = []
    build_plan(tiny, tmp_path / "a.engine", RTX, lambda done, total=None, note="": calls.append((done, total, note)))
    assert [done for done, _, _ in calls] == sorted(done for done, _, _ in calls)
    totals = {total for _, total, _ in calls}
    assert len(totals) == 1
    assert calls[-1][0] >= 1
    assert any("Optimizing graph" in note for _, _, note in calls)


# Refused before anything is built


def require_refused(onnx_path: Path, folder: Path, kind: type[QtsegError], match: str, options: BuildOptions = RTX) -> None:
    """One line, and nothing written."""
    before = sorted(folder.iterdir())
    with pytest.raises(kind, match=match) as caught:
        build_plan(onnx_path, folder / "a.engine", options, silent)
    assert type(caught.value) is kind
    assert "\n" not in str(caught.value)
    assert sorted(folder.iterdir()) == before


@pytest.mark.parametrize("wanted", ["8.7", "9.0", "11.0", "86", "", "current"])
def test_a_compute_capability_that_rtx_does_not_have_is_refused_with_those_it_has(tiny: Path, tmp_path: Path, wanted: str) -> None:
    match = rf"builds for 7\.5, 8\.0, 8\.6, 8\.9, 12\.0, 12\.1, got {wanted}; Jetson .* full TensorRT"
    require_refused(tiny, tmp_path, UsageError, match, replace(RTX, compute_capabilities=("8.6", wanted)))


@pytest.mark.parametrize(
    ("options", "match"),
    [
        (replace(FULL, compute_capabilities=("8.6",)), "--compute-capability: full TensorRT builds for the GPU of this machine"),
        (replace(RTX, timing_cache=Path("a.cache")), "--timing-cache: TensorRT-RTX times nothing"),
        (replace(FULL, timing_cache=Path("nowhere/a.cache")), "--timing-cache nowhere/a.cache: its folder"),
        (replace(RTX, workspace_gib=0.0), "--workspace: wanted a size in GiB above 0, got 0"),
        (replace(RTX, workspace_gib=math.nan), "--workspace: .* got nan"),
        (replace(RTX, optimization_level=6), "--optimization-level: wanted 0 to 5, got 6"),
        (replace(RTX, optimization_level=-1), "--optimization-level: wanted 0 to 5, got -1"),
        (replace(RTX, batches=(1, 1, 2)), "--batch: .*tiny.onnx has a batch of 1; leave it out"),
    ],
)
def test_options_that_do_not_fit_are_refused(tiny: Path, tmp_path: Path, options: BuildOptions, match: str) -> None:
    require_refused(tiny, tmp_path, UsageError, match, options)


@pytest.mark.parametrize(
    ("batches", "match"),
    [(None, "takes any batch; .*--batch 1:1:8"), ((4, 2, 8), "in this order .* got 4:2:8"), ((0, 1, 2), "in this order .* got 0:1:2")],
)
def test_a_dynamic_batch_wants_a_range_in_order(
    tiny_of_any_batch: Path, tmp_path: Path, batches: tuple[int, int, int] | None, match: str
) -> None:
    require_refused(tiny_of_any_batch, tmp_path, UsageError, match, replace(RTX, batches=batches))


@pytest.mark.skipif(has_gpu(), reason="there is a GPU")
def test_full_tensorrt_without_a_gpu_is_one_line(tiny: Path, tmp_path: Path) -> None:
    require_refused(tiny, tmp_path, MissingError, "no NVIDIA GPU answers here .* --flavour tensorrt-rtx", FULL)


# Graphs that are none


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty.onnx").write_bytes(b"")
    require_refused(tmp_path / "empty.onnx", tmp_path, IncompatibleError, r"empty\.onnx: not a whole ONNX file \(empty\)")


@pytest.mark.parametrize("share", [0.1, 0.5, 0.99])
def test_a_truncated_file_is_refused(tiny: Path, tmp_path: Path, share: float) -> None:
    content = tiny.read_bytes()
    (tmp_path / "cut.onnx").write_bytes(content[: int(len(content) * share)])
    require_refused(tmp_path / "cut.onnx", tmp_path, IncompatibleError, r"cut\.onnx: not a whole ONNX file")


def test_a_file_of_somebody_else_is_refused(tmp_path: Path) -> None:
    onnx.save(residual(size=64), tmp_path / "theirs.onnx")
    require_refused(tmp_path / "theirs.onnx", tmp_path, IncompatibleError, "no qtseg_edge.spec in its metadata")


def test_no_file_is_refused(tmp_path: Path) -> None:
    require_refused(tmp_path / "none.onnx", tmp_path, UsageError, "none.onnx: no such model")


def test_an_operation_that_tensorrt_does_not_know_is_named(tmp_path: Path) -> None:
    model = residual(size=64)
    node = next(node for node in model.graph.node if node.name == "block/Add")
    node.op_type, node.domain = "Blend", "elsewhere"
    graph = written(tmp_path / "unknown.onnx", model)
    require_refused(
        graph, tmp_path, IncompatibleError, r"unknown\.onnx: TensorRT-RTX [\d.]+ cannot read Blend 'block/Add' \(.*Plugin not found"
    )


def test_a_graph_without_nodes_is_refused(tmp_path: Path) -> None:
    graph = written(tmp_path / "hollow.onnx", helper.make_model(helper.make_graph([], "hollow", [], [])))
    require_refused(graph, tmp_path, IncompatibleError, "its graph has no confidence, image, mask")


def test_a_mask_that_is_not_uint8_is_refused(tmp_path: Path) -> None:
    model = residual(size=64)
    cast = next(node for node in model.graph.node if node.output[0] == "mask")
    cast.attribute[0].i = TensorProto.INT32
    model.graph.output[0].type.tensor_type.elem_type = TensorProto.INT32
    match = r"int32\.onnx: wanted image and mask, confidence of uint8, got mask INT32; export it with"
    require_refused(written(tmp_path / "int32.onnx", model), tmp_path, IncompatibleError, match)


def test_weights_that_are_not_there_are_refused(tmp_path: Path) -> None:
    model = residual(size=64)
    for tensor in model.graph.initializer:
        if tensor.name == "head.weight":
            tensor.raw_data = tensor.raw_data[:-8]
    require_refused(written(tmp_path / "short.onnx", model), tmp_path, IncompatibleError, r"short\.onnx: TensorRT-RTX [\d.]+ cannot read")


def test_quantisation_to_uint8_is_refused(tmp_path: Path) -> None:
    model = residual(size=64)
    first = next(node for node in model.graph.node if node.name == "stem/Conv")
    first.input[0] = "again"
    model.graph.initializer.append(helper.make_tensor("scale", TensorProto.FLOAT, [], [0.01]))
    model.graph.initializer.append(helper.make_tensor("zero_point", TensorProto.UINT8, [], [0]))
    quantise = helper.make_node("QuantizeLinear", ["pixels", "scale", "zero_point"], ["steps"], name="stem/QuantizeLinear")
    back = helper.make_node("DequantizeLinear", ["steps", "scale", "zero_point"], ["again"], name="stem/DequantizeLinear")
    model.graph.node.insert(3, quantise)
    model.graph.node.insert(4, back)
    onnx.checker.check_model(model)
    match = "QuantizeLinear 'stem/QuantizeLinear' is of uint8, which TensorRT reads as int8"
    require_refused(written(tmp_path / "uint8.onnx", model), tmp_path, IncompatibleError, match)


# What cannot be done


def test_too_little_workspace_is_a_failure_of_the_build_and_not_of_the_graph(exported: Path, tmp_path: Path) -> None:
    require_refused(exported, tmp_path, QtsegError, "workspace limit.*--workspace 1e-06; give it more", replace(RTX, workspace_gib=1e-6))


def test_a_folder_that_takes_no_files_is_one_line(tiny: Path) -> None:
    with pytest.raises(QtsegError, match=r"^/proc/a\.engine: cannot be written \(.*\)$"):
        build_plan(tiny, Path("/proc/a.engine"), RTX, silent)


def test_a_folder_that_is_read_only_is_one_line(tiny: Path, tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    try:
        require_forbidden(tmp_path, os.W_OK)
        require_refused(tiny, tmp_path, QtsegError, r"a\.engine: cannot be written \(Permission denied\)")
    finally:
        tmp_path.chmod(0o700)


def test_neither_side_needs_torch_or_onnx() -> None:
    heavy = ("torch", "onnx", "onnxsim", "onnxscript", "onnxruntime", "openvino", "rich", "tensorrt_rtx")
    code = f"import sys; sys.modules.update(dict.fromkeys({heavy!r})); import qtseg_edge.export.builder_process"
    outcome = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, cwd=Path(__file__).parents[2])
    assert outcome.returncode == 0, outcome.stderr
