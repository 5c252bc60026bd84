"""`config.pbtxt`: how Triton Inference Server loads a deployed graph, batches its requests and warms it up.

The format is `ModelConfig` in protobuf text form: Triton User Guide, "Model Configuration" (maximum batch size, inputs and outputs,
version policy, instance groups, dynamic batcher, model warmup, parameters) and model_config.proto of triton-inference-server/common.
The tests parse what is written here with Triton's own protobuf, and serve it.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Literal

from qtseg_edge.errors import UsageError
from qtseg_edge.runtime.backend import INPUT, OUTPUTS
from qtseg_edge.serving.servable import ServableModel

TritonBackend = Literal["tensorrt", "onnxruntime", "python"]
InstanceKind = Literal["auto", "gpu", "cpu"]
_KINDS = {"auto": "KIND_AUTO", "gpu": "KIND_GPU", "cpu": "KIND_CPU"}
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}")
LETTERBOX = "scaled to fit, area averaged, placed at the top left, padded with 0 at the bottom and right; RGB"


@dataclass(frozen=True)
class TritonOptions:
    """name: of the model, and of its folder. largest_batch: at most that of the model; its own when None. 1: nothing is batched.

    preferred_batches: what the batcher waits for; an engine's best one when empty. max_queue_delay_ms: how long a request may wait for
    others. instances: how many run side by side on each GPU, or on the CPU. device: which engine the Python backend opens.
    """

    name: str
    backend: TritonBackend
    largest_batch: int | None = None
    preferred_batches: tuple[int, ...] = ()
    max_queue_delay_ms: float = 2.0
    instances: int = 1
    kind: InstanceKind = "auto"
    device: str = "auto"

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise UsageError(f"--name: wanted letters, digits, '_', '-' and '.', at most 100 of them, got {self.name!r}")


def max_batch_size(model: ServableModel, options: TritonOptions) -> int:
    """Triton's `max_batch_size`: 0 where the graph's first dimension is fixed, which its back ends then want to see in `dims`.

    Raises UsageError for a batch that the model does not take.
    """
    if model.batches is None:
        if options.largest_batch not in (None, model.images):
            raise UsageError(
                f"--max-batch: {model.path} takes {model.images} at once, got {options.largest_batch}; "
                "for more: qtseg-edge export CHECKPOINT --batch dynamic, qtseg-edge build-engine MODEL --batch 1:4:8"
            )
        return 0
    largest = model.batches[2] if options.largest_batch is None else options.largest_batch
    if model.sidecar is not None and largest > model.batches[2]:
        raise UsageError(f"--max-batch: {model.path} takes 1 to {model.batches[2]} images at once, got {largest}")
    return largest


def interface(model: ServableModel, options: TritonOptions) -> dict[str, object]:
    """What every version of a model has in common, because they share one config.pbtxt. JSON values only."""
    card = model.spec.card
    return {
        "backend": options.backend,
        "size_hw": list(model.spec.size_hw),
        "batch": model.images or max_batch_size(model, options),
        "is_batched": model.images is None,
        "classes": list(card.classes),
        "threshold": card.threshold,
    }


def config_text(model: ServableModel, options: TritonOptions) -> str:
    largest = max_batch_size(model, options)
    lines = [
        "# Written by qtseg-edge export-triton. Shared by all versions of this model; change what you like but inputs and outputs.",
        f"name: {quoted(options.name)}",
        f"backend: {quoted(options.backend)}",
        f"max_batch_size: {largest}",
        *_tensors(model),
        f"instance_group [ {{ kind: {_KINDS[options.kind]} count: {options.instances} }} ]",
        *_batcher(model, options, largest),
        *_warmup(model, largest),
        "version_policy { latest { num_versions: 1 } }",
        *_parameters(model, options),
    ]
    return "\n".join(lines) + "\n"


def _dims(model: ServableModel, *last: int) -> str:
    first = [] if model.images is None else [model.images]
    return ", ".join(str(side) for side in [*first, *model.spec.size_hw, *last])


def _tensors(model: ServableModel) -> list[str]:
    outputs = ", ".join(f"{{ name: {quoted(name)} data_type: TYPE_UINT8 dims: [ {_dims(model)} ] }}" for name in OUTPUTS)
    return [f"input [ {{ name: {quoted(INPUT)} data_type: TYPE_UINT8 dims: [ {_dims(model, 3)} ] }} ]", f"output [ {outputs} ]"]


def _batcher(model: ServableModel, options: TritonOptions, largest: int) -> list[str]:
    """Preferred sizes only where they mean something: the one that an engine was tuned for, or as asked.

    "For most models, preferred_batch_size should not be specified" but where another size is much slower, as for a TensorRT engine of
    several profiles: Triton User Guide, "Dynamic Batcher".
    """
    if largest <= 1 or options.backend == "python":  # which answers each request by itself: a queue would only delay it
        if options.preferred_batches:
            raise UsageError(f"--preferred-batch: {model.path} is served one request at a time, so nothing is batched")
        return []
    preferred = options.preferred_batches
    if not preferred and model.sidecar is not None and model.batches is not None and 1 < model.batches[1] <= largest:
        preferred = (model.batches[1],)
    if any(not 1 <= size <= largest for size in preferred):
        raise UsageError(f"--preferred-batch: wanted sizes from 1 to {largest}, got {', '.join(map(str, preferred))}")
    sizes = f"preferred_batch_size: [ {', '.join(map(str, preferred))} ] " if preferred else ""
    return [f"dynamic_batching {{ {sizes}max_queue_delay_microseconds: {round(options.max_queue_delay_ms * 1000)} }}"]


def _warmup(model: ServableModel, largest: int) -> list[str]:
    """One run of the smallest and one of the largest batch before the model is ready: the first request must not pay for either.

    Random pixels: of a picture in one colour a graph of `minmax` normalisation computes something else.
    """
    sizes = [1] if largest <= 1 else [1, largest]
    value = f"{{ data_type: TYPE_UINT8 dims: [ {_dims(model, 3)} ] random_data: true }}"
    return [
        f'model_warmup [ {{ name: "batch {size}" batch_size: {size} inputs {{ key: {quoted(INPUT)} value: {value} }} }} ]' for size in sizes
    ]


def _parameters(model: ServableModel, options: TritonOptions) -> list[str]:
    """What a client must know, answered by `GET v2/models/NAME/config`. Of the interface, so true for every version."""
    card = model.spec.card
    values = {
        "qtseg_edge.classes": json.dumps(card.classes),
        "qtseg_edge.colours_rgb": json.dumps(card.colours_rgb),
        "qtseg_edge.threshold": str(card.threshold),
        "qtseg_edge.input": LETTERBOX,
        "qtseg_edge.notice": card.notice,
        **({"qtseg_edge.device": options.device} if options.backend == "python" else {}),
    }
    return [f"parameters {{ key: {quoted(key)} value {{ string_value: {quoted(value)} }} }}" for key, value in values.items()]


def quoted(text: str) -> str:
    """A string literal of the protobuf text format. Everything but printable ASCII as octal bytes of its UTF-8."""
    printable = {byte: chr(byte) for byte in range(0x20, 0x7F)} | {ord('"'): '\\"', ord("\\"): "\\\\"}
    return '"' + "".join(printable.get(byte, f"\\{byte:03o}") for byte in text.encode()) + '"'
