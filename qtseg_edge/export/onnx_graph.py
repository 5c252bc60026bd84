"""The frame-in, mask-out graph as ONNX: traced from a checkpoint, simplified, named, and carrying its own description."""

from __future__ import annotations

import ast
import logging
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import onnx
import onnxsim
import torch
from onnx import ModelProto, TensorProto, helper, numpy_helper

from qtseg_edge import __version__
from qtseg_edge.errors import QtsegError
from qtseg_edge.model.checkpoint import Checkpoint
from qtseg_edge.model.deployed import FrameToMask
from qtseg_edge.model.rewritten.decoder import rewritten
from qtseg_edge.spec import SPEC_KEY, ModelSpec

DEFAULT_OPSET = 19  # float16 scales of quantised graphs need 19; JetPack 6 (TensorRT 10.3) reads it
_ROOT = "graph"  # the operations around the network
_SCOPES = "pkg.torch.onnx.name_scopes"
_HALF_FROM_ELEMENTS = 256
_ONLY_FOR_ONNX_RUNTIME = ["fuse_attention"]  # makes com.microsoft.Attention of a ViT's attention, which TensorRT does not read


def graph_from_checkpoint(checkpoint: Checkpoint, spec: ModelSpec, opset: int = DEFAULT_OPSET) -> ModelProto:
    """Trace, simplify and check the deployed graph of `spec`. Raises QtsegError where a step refuses."""
    model = _simplified(_traced(checkpoint, spec, opset))
    _name_nodes(model)
    for node in model.graph.node:
        del node.metadata_props[:]
        node.doc_string = ""
    model.producer_name, model.producer_version = "qtseg-edge", __version__
    model.graph.name = checkpoint.card.name
    del model.graph.value_info[:]
    del model.metadata_props[:]
    helper.set_model_props(model, {SPEC_KEY: spec.to_json(), "notice": checkpoint.card.notice})
    onnx.checker.check_model(model, full_check=True)
    _check_interface(model, spec)
    return model


def store_weights_half(model: ModelProto) -> None:
    """Halve the file: large float32 weights become float16 with a Cast after them. Computation stays float32."""
    stored, casts = [], []
    for tensor in model.graph.initializer:
        weights = numpy_helper.to_array(tensor)
        # A bias may be the sum of several: half of it would be rounded where each of them was exact.
        if tensor.data_type != TensorProto.FLOAT or weights.size < _HALF_FROM_ELEMENTS or weights.ndim < 2:
            stored.append(tensor)
            continue
        half = f"{tensor.name}.half"
        stored.append(numpy_helper.from_array(weights.astype("float16"), half))
        casts.append(helper.make_node("Cast", [half], [tensor.name], name=f"{tensor.name}/Cast", to=TensorProto.FLOAT))
    nodes = [*casts, *model.graph.node]
    del model.graph.initializer[:], model.graph.node[:]
    model.graph.initializer.extend(stored)
    model.graph.node.extend(nodes)


def _traced(checkpoint: Checkpoint, spec: ModelSpec, opset: int) -> ModelProto:
    module = FrameToMask(rewritten(checkpoint.network), spec.classes, checkpoint.card.normalisation).eval()
    example = torch.zeros(spec.batch or 2, *spec.size_hw, 3, dtype=torch.uint8)
    with torch.no_grad():
        module(example)  # positional encodings are computed here, so that the trace finds constants
    dynamic = None if spec.batch else {"image": {0: torch.export.Dim("batch", min=1, max=64)}}
    with _quiet():
        program = torch.onnx.export(
            module,
            (example,),
            dynamo=True,
            opset_version=opset,
            input_names=["image"],
            output_names=["mask", "confidence"],
            dynamic_shapes=dynamic,
            external_data=False,
            verbose=False,
        )
    if program is None:
        raise QtsegError("export: torch returned no graph; wanted torch >= 2.6: pip install -U 'qtseg-edge[export]'")
    model = program.model_proto
    _name_from_scopes(model)
    return model


@contextmanager
def _quiet() -> Iterator[None]:
    """The exporter talks about itself (missing torchvision, its own deprecations); none of it is for the user."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def _simplified(model: ModelProto) -> ModelProto:
    # Its own check is off: the comparison with torch judges the finished file.
    simplified, _ = onnxsim.simplify(model, skipped_optimizers=_ONLY_FOR_ONNX_RUNTIME)
    return simplified  # type: ignore[no-any-return]


def _name_from_scopes(model: ModelProto) -> None:
    """Node names after the module they come from, `encoder.stem.0.conv/Conv`: what exclusion patterns are written for."""
    for node in model.graph.node:
        scopes = next((prop.value for prop in node.metadata_props if prop.key == _SCOPES), None)
        if scopes is None:
            node.name = ""
            continue
        modules = [scope for scope in ast.literal_eval(scopes)[:-1] if scope]
        path = modules[-1].removeprefix("network.") if modules else _ROOT
        node.name = f"{path}/{node.op_type}"


def _name_nodes(model: ModelProto) -> None:
    """Make every name present and unique. A node without a module of its own takes that of its weights, or of what it reads."""
    seen: Counter[str] = Counter()
    weights = {tensor.name for tensor in model.graph.initializer if tensor.name.startswith("network.")}
    path_of: dict[str, str] = {}
    for node in model.graph.node:
        own = [node.name.rsplit("/", 1)[0]] if "/" in node.name else []
        of_weights = [name.removeprefix("network.").rsplit(".", 1)[0] for name in node.input if name in weights]
        of_inputs = [path_of[name] for name in node.input if name in path_of]
        path = [*own, *of_weights, *of_inputs, _ROOT][0]
        path_of.update(dict.fromkeys(node.output, path))
        base = f"{path}/{node.op_type}"
        node.name = f"{base}_{seen[base]}" if seen[base] else base
        seen[base] += 1


def _check_interface(model: ModelProto, spec: ModelSpec) -> None:
    """What TensorRT needs of uint8 inputs and outputs, and what every backend relies on."""
    tensors = [*model.graph.input, *model.graph.output]
    found = [(t.name, t.type.tensor_type.elem_type) for t in tensors]
    if found != [("image", TensorProto.UINT8), ("mask", TensorProto.UINT8), ("confidence", TensorProto.UINT8)]:
        raise QtsegError(f"export: wanted uint8 image, mask and confidence, got {found}")
    if own := sorted({f"{node.domain}.{node.op_type}" for node in model.graph.node if node.domain}):
        raise QtsegError(f"export: wanted ONNX operations alone, got {', '.join(own)}, which TensorRT does not read")
    produced = {name: node for node in model.graph.node for name in node.output}
    if any(node.op_type != "Cast" for node in model.graph.node if "image" in node.input):
        raise QtsegError("export: the first operation on the uint8 image must be Cast")
    types = {info.name: info.type.tensor_type.elem_type for info in onnx.shape_inference.infer_shapes(model).graph.value_info}
    for name in ("mask", "confidence"):
        cast = produced[name]
        if cast.op_type != "Cast" or types.get(cast.input[0]) != TensorProto.FLOAT:
            raise QtsegError(f"export: {name} must come from a cast of float32 to uint8, got {cast.op_type}")
    if spec.classes == 2 and any(node.op_type == "ArgMax" for node in model.graph.node):
        raise QtsegError("export: a two-class graph must not use ArgMax")
