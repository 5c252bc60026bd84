"""Layers by precision from what TensorRT's engine inspector says, in the words of 10.x and of 11.x and TensorRT-RTX."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from typing import Any

_COMPUTING = ("INT8", "FP16", "BF16", "FP32")
# What the formats say, in the order of asking: "uint8" holds "int8" and "bfloat16" holds "float16".
_WORDS = (
    ("other", ("uint8", "fp8", "float8", "fp4", "float4")),
    ("BF16", ("bf16", "bfloat16")),
    ("INT8", ("int8",)),
    ("FP16", ("fp16", "half", "float16")),
    ("FP32", ("fp32", "float")),
)
_MOVES_DATA = frozenset({"Reformat", "NoOp", "Constant", "Shuffle", "Signal", "Wait"})


def layers_from_inspector(text: str) -> dict[str, int] | None:
    """How many layers of an engine compute in each precision, such as {"INT8": 61, "FP16": 40}.

    text: `get_engine_information` as JSON, of an engine that was built with detailed verbosity. A layer has the type of its weights,
    or else of the first of its inputs and outputs that has a floating-point type or int8; "other" where there is none. Layers that only
    move data are not counted. None where the text names no type at all, and so proves nothing.
    """
    try:
        layers = json.loads(text)["Layers"]
        counts = Counter(_precision(layer) for layer in layers if layer.get("LayerType") not in _MOVES_DATA)
    except (ValueError, KeyError, TypeError, AttributeError):  # AttributeError: names alone, of an engine without details
        return None
    if not any(counts[precision] for precision in _COMPUTING):
        return None
    return {precision: counts[precision] for precision in (*_COMPUTING, "other") if counts[precision]}


def _precision(layer: dict[str, Any]) -> str:
    found = (_named(text) for text in _types(layer))
    return next((precision for precision in found if precision in _COMPUTING), "other")


def _types(layer: dict[str, Any]) -> Iterator[str]:
    weights = layer.get("Weights")
    if isinstance(weights, dict):
        yield str(weights.get("Type", ""))
    for tensor in (*layer.get("Inputs", ()), *layer.get("Outputs", ())):
        # 10.x: one text such as "Row major linear FP16 format"; 11.x: the type by itself, and the format.
        if isinstance(tensor, dict):
            yield str(next((tensor[key] for key in ("DataType", "Datatype", "Format/Datatype", "Format") if key in tensor), ""))


def _named(text: str) -> str:
    lowered = text.lower()
    return next((precision for precision, words in _WORDS if any(word in lowered for word in words)), "other")
