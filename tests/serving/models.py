"""A graph with the interface of a deployed network, small enough to be made anew for every test."""

from __future__ import annotations

from pathlib import Path

import pytest

from qtseg_edge.spec import SPEC_KEY, ModelCard, ModelSpec

SIZE_HW = (64, 96)
CARD = ModelCard("bright", ("background", 'ünïcode "quoted"\\'), ((0, 0, 0), (0, 200, 120)), SIZE_HW, "scale")


def write_graph(path: Path, batch: int | None = None, card: ModelCard = CARD, cut: float = 127.0) -> Path:
    """Marks pixels whose largest colour exceeds `cut`; the confidence is that colour, or 255 less it."""
    onnx = pytest.importorskip("onnx", reason="a graph is made with onnx")
    from onnx import TensorProto, helper

    def value(name: str, *last: int) -> object:
        return helper.make_tensor_value_info(name, TensorProto.UINT8, [batch or "N", *SIZE_HW, *last])

    def constant(name: str, number: float) -> object:
        return helper.make_tensor(name, TensorProto.FLOAT, [], [number])

    nodes = [
        helper.make_node("Cast", ["image"], ["pixels"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMax", ["pixels", "last"], ["level"], keepdims=0),
        helper.make_node("Greater", ["level", "cut"], ["is_bright"]),
        helper.make_node("Cast", ["is_bright"], ["mask"], to=TensorProto.UINT8),
        helper.make_node("Sub", ["white", "level"], ["darkness"]),
        helper.make_node("Where", ["is_bright", "level", "darkness"], ["certainty"]),
        helper.make_node("Cast", ["certainty"], ["confidence"], to=TensorProto.UINT8),
    ]
    constants = [constant("cut", cut), constant("white", 255.0), helper.make_tensor("last", TensorProto.INT64, [1], [-1])]
    graph = helper.make_graph(nodes, "bright", [value("image", 3)], [value("mask"), value("confidence")], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=10)
    model.metadata_props.add(key=SPEC_KEY, value=ModelSpec(card, SIZE_HW, batch).to_json())
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)
    return path
