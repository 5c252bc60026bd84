"""What is done to a graph before OpenVINO compiles it for a CPU: the mask head in pieces, and no INT8 where this CPU gets it wrong.

The mask head upsamples every pixel of the finest level twice and multiplies what comes out with the tokens
(`model/rewritten/upsampling.py`):

    rows -> W x + b -> LayerNorm -> GELU -> W x + b -> LayerNorm -> GELU -> . tokens

Two things are changed in it (docs/decisions/0022-cpu.md), both exact:

- LayerNorm takes away the mean over the channels of W x + b. That is linear in x: with the mean over the channels taken from the
  columns of W and from b beforehand, the product has none, and what is left is y / sqrt(mean(y^2) + eps), which OpenVINO has as one
  operation (RMSNorm).
- Every row is computed by itself, so the rows go through the chain in pieces whose largest tensor stays in the cache of a core.

Found by the shape of the graph: where it has another one, such as one of a foreign exporter, nothing is changed.
"""

from __future__ import annotations

import math
import os
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from qtseg_edge.errors import MissingError
from qtseg_edge.runtime.openvino_library import openvino

Array = NDArray[np.float32]
_PIECE_BYTES = 1 << 20
_LENGTHS = 4  # rows that come of one row, per upsampling
# Linux names of instructions that add products of 8-bit numbers up in 32 bits. Older ones add pairs of them in 16, and saturate.
_INT8_DOT_PRODUCTS = {"avx_vnni", "avx512_vnni", "amx_int8"}
_LIMITS = ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA")  # oneDNN Developer Guide, "CPU Dispatcher Control"; OpenVINO computes with oneDNN
_ops: Any = openvino.opset13


class Upsampling(NamedTuple):
    """weight (C, 4 C'), bias (4 C',), gamma and beta (C',): as the exporter's graph has them."""

    weight: Array
    bias: Array
    gamma: Array
    beta: Array
    eps: float


def require_exact_int8(model: openvino.Model, path: Path, cpuinfo: Path = Path("/proc/cpuinfo")) -> None:
    """Raises MissingError for a quantised graph on an x86 CPU whose 8-bit sums saturate: its masks would be wrong, not slow."""
    if platform.machine().lower() not in ("x86_64", "amd64") or not any(node.get_type_name() == "FakeQuantize" for node in model.get_ops()):
        return
    if limit := instruction_limit():
        raise MissingError(
            f"{path}: is INT8, and {limit} may keep OpenVINO from VNNI, without which 8-bit sums overflow; unset {limit.split('=')[0]}"
        )
    text = cpuinfo.read_text(encoding="utf-8", errors="replace") if cpuinfo.is_file() else ""
    if not _INT8_DOT_PRODUCTS & set(text.split()):
        raise MissingError(
            f"{path}: is INT8, and this CPU has no VNNI, without which OpenVINO's 8-bit sums overflow; take the FP32 model it was made "
            "from, or --device onnxruntime, which is exact and slower"
        )


def instruction_limit() -> str:
    """Such as "ONEDNN_MAX_CPU_ISA=AVX2" where the user keeps OpenVINO from some of the CPU's instructions; "" where not."""
    given = [f"{name}={value}" for name in _LIMITS if (value := os.environ.get(name, "")).lower() not in ("", "default", "all")]
    return given[0] if given else ""


def rewrite(model: openvino.Model) -> None:
    """Change the mask head of `model`, in place, where it is ours and for one image."""
    for product in model.get_ops():
        if product.get_type_name() != "MatMul" or (head := _head(product)) is None:
            continue
        rows, ups = head
        sides = rows.get_partial_shape()
        if sides.is_static and product.get_output_partial_shape(0)[0] == 1:
            _replace(product, _in_pieces(rows, ups, product.input_value(1)))
    model.validate_nodes_and_infer_types()


def _in_pieces(rows: Any, ups: Sequence[Upsampling], tokens: Any) -> Any:
    count, channels = rows.get_shape()[0], max(len(up.gamma) for up in ups)
    widest = count * _LENGTHS ** len(ups) * channels * 4
    pieces = min(count, -(-widest // _PIECE_BYTES))
    lengths = [len(part) for part in np.array_split(np.empty(count, bool), pieces)]
    split = _ops.variadic_split(rows, _ops.constant(np.int64(0)), _ops.constant(np.array(lengths, np.int64)))
    done = [_ops.matmul(_upsampled(split.output(index), ups), tokens, False, False) for index in range(pieces)]
    return _ops.concat(done, 1)


def _upsampled(rows: Any, ups: Sequence[Upsampling]) -> Any:
    """(R, C) -> (1, R * 4^len(ups), C')."""
    for up in ups:
        channels = len(up.gamma)
        weight, bias = _centred(up.weight, channels), _centred(up.bias[None], channels)[0]
        y = _ops.add(_ops.matmul(rows, _ops.constant(weight), False, False), _ops.constant(bias))
        y = _ops.reshape(y, _ops.constant(np.array([-1, channels], np.int64)), False)
        mean = _ops.reduce_mean(_ops.power(y, _ops.constant(np.float32(2))), _ops.constant(np.array([-1], np.int64)), True)
        scale = _ops.divide(_ops.constant(np.float32(1)), _ops.sqrt(_ops.add(mean, _ops.constant(np.float32(up.eps)))))
        normal = _ops.multiply(_ops.multiply(y, scale), _ops.constant(up.gamma))
        rows = _ops.gelu(_ops.add(normal, _ops.constant(up.beta)), "erf")
    return _ops.unsqueeze(rows, _ops.constant(np.int64(0)))


def _centred(weight: Array, channels: int) -> Array:
    """(C, 4 C') less its mean over each C'."""
    parts = weight.astype(np.float64).reshape(len(weight), -1, channels)
    centred: Array = (parts - parts.mean(axis=2, keepdims=True)).reshape(weight.shape).astype(np.float32)
    return centred


def _replace(node: Any, by: Any) -> None:
    for reader in list(node.output(0).get_target_inputs()):
        reader.replace_source_output(by.output(0))


def _head(product: Any) -> tuple[Any, list[Upsampling]] | None:
    """What goes into the chain (an output of shape (R, C)) and its upsamplings; None where this is no head: not a product with tokens."""
    if product.get_attributes() != {"transpose_a": False, "transpose_b": False} or _constant(product.input_value(1)) is not None:
        return None
    ups: list[Upsampling] = []
    value = product.input_value(0)
    while (found := _upsampling(_through(value, "Reshape"))) is not None:
        up, value = found
        ups.insert(0, up)
    return (value, ups) if ups else None


def _upsampling(value: Any) -> tuple[Upsampling, Any] | None:
    """The upsampling that gives `value`, and what it reads."""
    norm = _gelu_input(value)
    shifted = _with_constant(norm, "Add") if norm else None
    scaled = _with_constant(shifted[0], "Multiply") if shifted else None
    if shifted is None or scaled is None or not _is_layer_norm(scaled[0].get_node()):
        return None
    mvn = scaled[0].get_node()
    biased = _with_constant(_through(mvn.input_value(0), "Reshape"), "Add")
    product = biased and _without_factor(biased[0]).get_node()
    if not (biased and product and product.get_type_name() == "MatMul") or (weight := _constant(product.input_value(1))) is None:
        return None
    weight = weight.T if product.get_attributes()["transpose_b"] else weight
    gamma, beta, bias = (each.reshape(-1) for each in (scaled[1], shifted[1], biased[1]))
    if product.get_attributes()["transpose_a"] or weight.shape[1:] != bias.shape or len(bias) != _LENGTHS * len(gamma):
        return None
    return Upsampling(weight, bias, gamma, beta, mvn.get_attributes()["eps"]), product.input_value(0)


def _is_layer_norm(node: Any) -> bool:
    """Over the last axis, which ONNX's LayerNormalization gives as a range, and before the scale and the shift."""
    if node.get_type_name() != "MVN":
        return False
    how, axes = node.get_attributes(), node.input_value(1).get_node()
    parts = axes.input_values() if axes.get_type_name() == "Range" else [node.input_value(1)]
    numbers = [number for part in parts if (number := _constant(part)) is not None]
    if len(numbers) < len(parts) or not how["normalize_variance"] or how["eps_mode"] != "INSIDE_SQRT":
        return False
    over = np.ravel(numbers[0] if len(numbers) == 1 else np.arange(*(number.item() for number in numbers)))
    rank = node.get_output_partial_shape(0).rank
    return bool(over.tolist() == [-1] or (rank.is_static and over.tolist() == [rank.get_length() - 1]))


def _gelu_input(value: Any) -> Any:
    """x of x (erf(x / sqrt 2) + 1) / 2, written in this order (`model/rewritten/gelu.py`)."""
    halved = _with_constant(value, "Multiply", 0.5)
    product = halved and halved[0].get_node()
    if not (product and product.get_type_name() == "Multiply"):
        return None
    for x, other in (product.input_values(), reversed(product.input_values())):
        plus = _with_constant(other, "Add", 1)
        erf = plus and plus[0].get_node()
        if not (erf and erf.get_type_name() == "Erf"):
            continue
        scaled = _with_constant(erf.input_value(0), "Divide", math.sqrt(2)) or _with_constant(
            erf.input_value(0), "Multiply", math.sqrt(0.5)
        )
        if scaled and scaled[0] == x:
            return x
    return None


def _with_constant(value: Any, kind: str, number: float | None = None) -> tuple[Any, Array] | None:
    """The other input and the constant of a node of two inputs; number: that it has to be, as far as halves can tell."""
    node = value.get_node()
    if node.get_type_name() != kind:
        return None
    ways = (node.input_values(),) if kind == "Divide" else (node.input_values(), reversed(node.input_values()))
    for first, second in ways:
        if (constant := _constant(second)) is not None and _constant(first) is None:
            is_it = number is None or (constant.size == 1 and math.isclose(constant.item(), number, rel_tol=1e-3))
            return (first, constant) if is_it else None
    return None


def _constant(value: Any) -> Array | None:
    """The numbers of a constant, of one stored as half, and of one that ONNX's Gemm multiplies by its factor."""
    node = value.get_node()
    if node.get_type_name() == "Convert":
        node = node.input_value(0).get_node()
    if node.get_type_name() == "Multiply":
        first, second = (_constant(part) for part in node.input_values())
        return None if first is None or second is None else first * second
    return node.data.astype(np.float32) if node.get_type_name() == "Constant" else None


def _without_factor(value: Any) -> Any:
    """Past the multiplication by 1 that ONNX's Gemm stands for."""
    found = _with_constant(value, "Multiply")
    return found[0] if found and found[1].size == 1 and found[1].item() == 1 else value


def _through(value: Any, kind: str) -> Any:
    return value.get_node().input_value(0) if value.get_node().get_type_name() == kind else value
