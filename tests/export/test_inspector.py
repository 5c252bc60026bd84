"""Precision from the words of the engine inspector. The samples have the two schemas that NVIDIA documents, for 10.x and for 11.x."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qtseg_edge.export.inspector import layers_from_inspector

TEN = {
    "Layers": [
        {
            "Name": "stem/Conv",
            "LayerType": "CaskConvolution",
            "Inputs": [
                {"Name": "a", "Dimensions": [1, 16, 8, 8], "Format/Datatype": "Thirty-two wide channel vectorized row major Int8 format."}
            ],
            "Outputs": [{"Name": "b", "Format/Datatype": "Row major linear FP16 format"}],
            "ParameterType": "Convolution",
            "Weights": {"Type": "Int8", "Count": 131072},
            "Bias": {"Type": "Float", "Count": 256},
        },
        {
            "Name": "Reformatting CopyNode for Input Tensor 0",
            "LayerType": "Reformat",
            "Inputs": [{"Format/Datatype": "Row major linear FP32"}],
            "Outputs": [{"Format/Datatype": "Row major linear FP16 format"}],
        },
        {"Name": "norm", "LayerType": "kgen", "Inputs": [{"Format/Datatype": "Row major linear FP16 format"}], "Outputs": []},
        {"Name": "softmax", "LayerType": "kgen", "Inputs": [{"Format/Datatype": "Float"}], "Outputs": [{"Format/Datatype": "Half"}]},
        {"Name": "count", "LayerType": "kgen", "Inputs": [{"Format/Datatype": "Row major Int32 format"}], "Outputs": []},
    ],
    "Bindings": ["image", "mask", "confidence"],
}
ELEVEN = {
    "Layers": [
        {
            "Name": "stem/Conv",
            "LayerType": "CaskConvolution",
            "Inputs": [{"Name": "a", "DataType": "Int8", "Format": "Row major linear INT8 format (kLINEAR)", "Dimensions": [1, 16, 8, 8]}],
            "Outputs": [{"Name": "b", "DataType": "Half", "Format": "Row major linear FP16 format (kLINEAR)"}],
            "Weights": {"Type": "Int8", "Count": 131072},
        },
        {"Name": "first", "LayerType": "kgen", "Inputs": [{"DataType": "UInt8"}], "Outputs": [{"DataType": "Half"}]},
        {"Name": "norm", "LayerType": "kgen", "Inputs": [{"DataType": "Half"}, {"DataType": "Float"}], "Outputs": []},
        {"Name": "softmax", "LayerType": "kgen", "Inputs": [{"DataType": "Float"}], "Outputs": []},
    ],
    "I/O Tensors": [{"Name": "image", "IOMode": "Input", "DataType": "UInt8", "Dimensions": [1, 64, 64, 3]}],
}


def one(text: str, key: str = "Format/Datatype") -> dict[str, int] | None:
    """Of an engine of that layer and one of FP32."""
    layers = [{"LayerType": "kgen", "Inputs": [{key: name}]} for name in (text, "Float")]
    return layers_from_inspector(json.dumps({"Layers": layers}))


def test_the_schema_of_ten_is_counted() -> None:
    assert layers_from_inspector(json.dumps(TEN)) == {"INT8": 1, "FP16": 1, "FP32": 1, "other": 1}


def test_the_schema_of_eleven_is_counted() -> None:
    assert layers_from_inspector(json.dumps(ELEVEN)) == {"INT8": 1, "FP16": 2, "FP32": 1}


@pytest.mark.parametrize(
    ("text", "precision"),
    [
        ("Row major UInt8 format", "other"),
        ("Row major Int8 format", "INT8"),
        ("Channel major FP16 format where channel % 4 == 0", "FP16"),
        ("Half", "FP16"),
        ("Row major linear BF16 format", "BF16"),
        ("BFloat16", "BF16"),
        ("FP8", "other"),
        ("Row major Int64 format", "other"),
        ("N/A due to dynamic shapes", "other"),
    ],
)
def test_each_type_is_told_from_those_whose_names_it_holds(text: str, precision: str) -> None:
    assert one(text) == {precision: 1, "FP32": 1}
    assert one(text, "DataType") == {precision: 1, "FP32": 1}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "not JSON",
        "[]",
        '{"Layers": null}',
        '{"Bindings": []}',
        '{"Layers": ["stem/Conv", "norm"]}',
        '{"Layers": []}',
        '{"Layers": [{"Name": "all", "LayerType": "Myelin", "Inputs": [{"Format/Datatype": "N/A due to dynamic shapes"}]}]}',
    ],
)
def test_a_text_that_names_no_types_proves_nothing(text: str) -> None:
    assert layers_from_inspector(text) is None


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=4) | st.sampled_from(["Half", "Reformat"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["Layers", "LayerType", "Inputs", "Outputs", "Weights", "Type", "DataType"]), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(VALUES)
def test_no_document_is_too_odd(document: Any) -> None:
    for text in (json.dumps(document), json.dumps({"Layers": document}), json.dumps({"Layers": [document]})):
        counts = layers_from_inspector(text)
        assert counts is None or all(counts.values())
