"""What is changed in a graph before OpenVINO compiles it: the same masks, and no INT8 that overflows."""

from __future__ import annotations

import platform
from itertools import pairwise
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qtseg_edge.errors import MissingError
from qtseg_edge.runtime.devices import default_model

pytest.importorskip("openvino", reason="its graphs are rewritten")

from qtseg_edge.runtime import openvino_graph
from qtseg_edge.runtime.openvino_graph import require_exact_int8, rewrite
from qtseg_edge.runtime.openvino_library import openvino

ops: Any = openvino.opset13
f32, i64 = np.float32, np.int64


def head(
    generator: np.random.Generator, rows: int, widths: list[int], classes: int, half: bool = False, other: dict[str, Any] | None = None
) -> openvino.Model:
    """As the exporter writes it, with random numbers: rows (R, C), tokens (1, C', K) -> (1, R * 4^n, K). other: what differs."""
    way: dict[str, Any] = {"axes": [-1], "by variance": True, "eps mode": "INSIDE_SQRT", "erf of x by": np.sqrt(2), "plus": 1, "times": 0.5}
    way |= other or {}

    def drawn(*shape: int) -> Any:
        numbers = generator.standard_normal(shape).astype(f32)
        return ops.convert(ops.constant(numbers.astype(np.float16)), "f32") if half else ops.constant(numbers)

    start = ops.parameter([rows, widths[0]], f32, name="rows")
    tokens = ops.parameter([1, widths[-1], classes], f32, name="tokens")
    value, count = start, rows
    for index, (channels, wider) in enumerate(pairwise(widths)):
        if index:
            value = ops.reshape(value, ops.constant(np.array([count, channels], i64)), False)
        count *= 4
        product = ops.multiply(ops.matmul(value, drawn(channels, 4 * wider), False, False), ops.constant(f32(1)))
        value = ops.reshape(ops.add(product, drawn(4 * wider)), ops.constant(np.array([1, count, wider], i64)), False)
        normal = ops.mvn(value, ops.constant(np.array(way["axes"], i64)), way["by variance"], 1e-6, way["eps mode"])
        x = ops.add(ops.multiply(normal, drawn(wider)), drawn(wider))
        erf = ops.erf(ops.divide(x, ops.constant(f32(way["erf of x by"]))))
        value = ops.multiply(ops.multiply(x, ops.add(erf, ops.constant(f32(way["plus"])))), ops.constant(f32(way["times"])))
    return openvino.Model([ops.matmul(value, tokens, False, False)], [start, tokens], "head")


def results(model: openvino.Model, *inputs: np.ndarray) -> list[np.ndarray]:
    compiled = openvino.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return [np.array(value) for value in compiled(list(inputs)).values()]


def kinds(model: openvino.Model) -> list[str]:
    return [node.get_type_name() for node in model.get_ops()]


@given(
    seed=st.integers(0, 999),
    rows=st.integers(1, 40),
    widths=st.lists(st.sampled_from([4, 8, 12]), min_size=2, max_size=3),
    classes=st.integers(1, 4),
    half=st.booleans(),
    piece=st.integers(1, 20_000),
)
@settings(max_examples=25)
def test_a_head_in_pieces_is_the_same_head(seed: int, rows: int, widths: list[int], classes: int, half: bool, piece: int) -> None:
    generator = np.random.default_rng(seed)
    model = head(generator, rows, widths, classes, half)
    inputs = generator.standard_normal((rows, widths[0])).astype(f32), generator.standard_normal((1, widths[-1], classes)).astype(f32)
    wanted = results(model, *inputs)[0]
    assert "MVN" in kinds(model)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(openvino_graph, "_PIECE_BYTES", piece)
        rewrite(model)
    assert "MVN" not in kinds(model) and "VariadicSplit" in kinds(model)
    np.testing.assert_allclose(results(model, *inputs)[0], wanted, atol=2e-4, rtol=2e-4)


@pytest.mark.parametrize(
    "other",
    [
        *({"axes": axes} for axes in ([1], [1, 2])),
        {"by variance": False},
        {"eps mode": "OUTSIDE_SQRT"},
        {"erf of x by": 1.7},
        {"plus": 2},
        {"times": 1},
    ],
    ids=str,
)
def test_a_head_that_computes_something_else_stays_as_it_is(other: dict[str, Any]) -> None:
    model = head(np.random.default_rng(0), 5, [8, 8], 2, other=other)
    before = kinds(model)
    rewrite(model)
    assert kinds(model) == before


def test_the_built_in_models_head_is_found_and_gives_the_same_masks(frames: np.ndarray) -> None:
    model = openvino.Core().read_model(str(default_model()))
    norms = kinds(model).count("MVN")
    wanted = [results(model, frame[None]) for frame in frames]
    rewrite(model)
    assert norms - kinds(model).count("MVN") == 2
    assert kinds(model).count("VariadicSplit") == 1
    for frame, (mask, confidence) in zip(frames, wanted, strict=True):
        new_mask, new_confidence = results(model, frame[None])
        assert np.mean(new_mask == mask) > 0.9999
        assert np.abs(new_confidence.astype(int) - confidence).max() <= 1


@pytest.fixture
def frames() -> np.ndarray:
    """Two of the sample video, letterboxed; uint8 (2, 352, 352, 3) RGB."""
    capture = cv2.VideoCapture("samples/colonoscopy.mp4")
    pictures = []
    for _ in range(2):
        for _ in range(40):
            read, picture = capture.read()
            assert read
        pictures.append(cv2.resize(picture[:, :, ::-1], (352, 352)))
    return np.stack(pictures)


def test_a_graph_without_our_head_stays_as_it_is() -> None:
    x = ops.parameter([1, 6, 8], f32, name="x")
    norm = ops.mvn(x, ops.constant(np.array([-1], i64)), True, 1e-6, "INSIDE_SQRT")
    model = openvino.Model([ops.matmul(norm, ops.constant(np.ones((8, 3), f32)), False, False)], [x], "other")
    before = kinds(model)
    rewrite(model)
    assert kinds(model) == before


@pytest.mark.parametrize("axis", [-1, 2])
def test_a_graph_of_any_number_of_dimensions_stays_as_it_is(axis: int) -> None:
    x, weights = (ops.parameter(openvino.PartialShape.dynamic(), f32, name=name) for name in ("x", "weights"))
    norm = ops.add(ops.multiply(ops.mvn(x, ops.constant(np.array([axis], i64)), True, 1e-6, "INSIDE_SQRT"), f32(2)), f32(1))
    gelu = ops.multiply(ops.multiply(norm, ops.add(ops.erf(ops.divide(norm, f32(np.sqrt(2)))), f32(1))), f32(0.5))
    model = openvino.Model([ops.matmul(gelu, weights, False, False)], [x, weights], "other")
    before = kinds(model)
    rewrite(model)
    assert kinds(model) == before


def quantised() -> openvino.Model:
    x = ops.parameter([1, 4], f32, name="x")
    low, high = ops.constant(f32(-1)), ops.constant(f32(1))
    return openvino.Model([ops.fake_quantize(x, low, high, low, high, 256)], [x], "quantised")


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="Arm's 8-bit products add up in 32 bits")
@pytest.mark.parametrize("flags", ["flags : fpu avx avx2 fma", "flags : avx512f avx512bw", ""])
def test_int8_is_refused_where_its_sums_overflow(flags: str, tmp_path: Path) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    if flags:
        cpuinfo.write_text(f"processor : 0\n{flags}\n")
    with pytest.raises(MissingError, match=r"model\.onnx: is INT8, and this CPU has no VNNI.*--device onnxruntime"):
        require_exact_int8(quantised(), Path("model.onnx"), cpuinfo)
    plain = openvino.Core().read_model(str(default_model()))
    require_exact_int8(plain, Path("model.onnx"), cpuinfo)


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="Arm's 8-bit products add up in 32 bits")
@pytest.mark.parametrize("variable", ["ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA"])
def test_int8_is_refused_where_onednn_may_not_use_vnni(variable: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text("flags : avx2 avx512_vnni\n")
    monkeypatch.setenv(variable, "AVX2")
    with pytest.raises(MissingError, match=rf"model\.onnx: is INT8, and {variable}=AVX2 .* unset {variable}"):
        require_exact_int8(quantised(), Path("model.onnx"), cpuinfo)
    monkeypatch.setenv(variable, "default")
    require_exact_int8(quantised(), Path("model.onnx"), cpuinfo)


@pytest.mark.parametrize("flag", ["avx_vnni", "avx512_vnni", "amx_int8"])
def test_int8_is_allowed_where_they_do_not(flag: str, tmp_path: Path) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text(f"flags : avx2 {flag}\n")
    require_exact_int8(quantised(), Path("model.onnx"), cpuinfo)
