"""Small graphs written by hand, named as the exporter names its nodes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, helper, numpy_helper

Array = NDArray[np.float32]


def model_of(nodes: list[onnx.NodeProto], weights: Mapping[str, Any], opset: int = 19, size: int = 8) -> ModelProto:
    """image uint8 (1, size, size, 3) -> mask and confidence uint8; `nodes` make `logits` (1, 1, size, size) from `pixels` (1, 3, ..)."""
    before = [
        helper.make_node("Cast", ["image"], ["whole"], name="graph/Cast", to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["whole"], ["planes"], name="graph/Transpose", perm=[0, 3, 1, 2]),
        helper.make_node("Mul", ["planes", "by255"], ["pixels"], name="graph/Mul"),
    ]
    after = [
        helper.make_node("Squeeze", ["logits", "axis"], ["flat"], name="graph/Squeeze"),
        helper.make_node("Greater", ["flat", "zero"], ["on"], name="graph/Greater"),
        helper.make_node("Cast", ["on"], ["on_float"], name="graph/Cast_1", to=TensorProto.FLOAT),
        helper.make_node("Cast", ["on_float"], ["mask"], name="graph/Cast_2", to=TensorProto.UINT8),
        helper.make_node("Sigmoid", ["flat"], ["probability"], name="graph/Sigmoid"),
        helper.make_node("Mul", ["probability", "of255"], ["level"], name="graph/Mul_1"),
        helper.make_node("Cast", ["level"], ["confidence"], name="graph/Cast_3", to=TensorProto.UINT8),
    ]
    constants = {"by255": np.float32(1 / 255), "of255": np.float32(255), "zero": np.float32(0)}
    tensors = [numpy_helper.from_array(np.asarray(values), name) for name, values in {**constants, **weights}.items()]
    tensors.append(numpy_helper.from_array(np.array([1], np.int64), "axis"))
    graph = helper.make_graph(
        [*before, *nodes, *after],
        "hand-made",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, [1, size, size, 3])],
        [helper.make_tensor_value_info(name, TensorProto.UINT8, [1, size, size]) for name in ("mask", "confidence")],
        tensors,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9)
    onnx.checker.check_model(model, full_check=True)
    return model


def scaled(*factors: float) -> ModelProto:
    """The mean of the three planes, times each factor in a node of its own: `net.0/Mul`, `net.1/Mul`..., then minus 0.5."""
    nodes = [helper.make_node("ReduceMean", ["pixels", "axes"], ["x0"], name="net/ReduceMean")]
    nodes += [helper.make_node("Mul", [f"x{n}", f"by{n}"], [f"x{n + 1}"], name=f"net.{n}/Mul") for n in range(len(factors))]
    nodes.append(helper.make_node("Sub", [f"x{len(factors)}", "half"], ["logits"], name="net/Sub"))
    factors_of = {f"by{n}": np.float32(factor) for n, factor in enumerate(factors)}
    return model_of(nodes, {"half": np.float32(0.5), "axes": np.array([1], np.int64), **factors_of})


def residual(channels: int = 16, seed: int = 0, spread: float = 1.0, size: int = 8) -> ModelProto:
    """A stem that reads the image, a residual block with SiLU, and a head of one channel; every convolution with a bias.

    spread: how much larger the weights of the last output channel of each convolution are than those of the first.
    """
    rng = np.random.default_rng(seed)
    weights: dict[str, Array] = {}
    nodes: list[onnx.NodeProto] = []

    def convolution(name: str, source: str, inputs: int, outputs: int) -> str:
        growth = np.geomspace(1, spread, outputs).reshape(-1, 1, 1, 1)
        weights[f"{name}.weight"] = (rng.normal(0, 1 / np.sqrt(9 * inputs), (outputs, inputs, 3, 3)) * growth).astype(np.float32)
        weights[f"{name}.bias"] = rng.normal(0, 0.1, outputs).astype(np.float32)
        inputs_of = [source, f"{name}.weight", f"{name}.bias"]
        nodes.append(helper.make_node("Conv", inputs_of, [f"{name}.out"], name=f"{name}/Conv", pads=[1, 1, 1, 1]))
        return f"{name}.out"

    def silu(name: str, source: str) -> str:
        nodes.append(helper.make_node("Sigmoid", [source], [f"{name}.gate"], name=f"{name}/Sigmoid"))
        nodes.append(helper.make_node("Mul", [source, f"{name}.gate"], [f"{name}.silu"], name=f"{name}/Mul"))
        return f"{name}.silu"

    stem = silu("stem.act", convolution("stem", "pixels", 3, channels))
    inner = silu("block.first.act", convolution("block.first", stem, channels, channels))
    inner = silu("block.second.act", convolution("block.second", inner, channels, channels))
    nodes.append(helper.make_node("Add", [stem, inner], ["block.sum"], name="block/Add"))
    convolution("head", "block.sum", channels, 1)
    nodes[-1].output[0] = "logits"
    return model_of(nodes, weights, size=size)


def frames(count: int, size: int = 8, seed: int = 1) -> list[NDArray[np.uint8]]:
    """uint8 (1, size, size, 3): gradients with a little noise, each of its own brightness."""
    rng = np.random.default_rng(seed)
    ramp = np.linspace(0, 200, size)[:, None, None]
    return [np.clip(ramp + rng.integers(0, 56, (size, size, 3)), 0, 255).astype(np.uint8)[None] for _ in range(count)]


def run(model: ModelProto, frame: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """mask and confidence (1, size, size)."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    mask, confidence = session.run(["mask", "confidence"], {"image": frame})
    return mask, confidence
