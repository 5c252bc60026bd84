"""What an .onnx file is: its description and provenance without the onnx package, its layers and cost with it. No torch."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from qtseg_edge.errors import IncompatibleError
from qtseg_edge.inspection.texts import Line, card_lines, file_lines, interface_lines, layer_table, titled, told
from qtseg_edge.report import Table
from qtseg_edge.runtime.onnx_metadata import read_metadata, spec_from_onnx
from qtseg_edge.spec import SPEC_KEY, ModelSpec

_OWN_PREFIX = "qtseg_edge."
_ABSENT = "not read: pip install 'qtseg-edge[export]'"


@dataclass(frozen=True)
class GraphFacts:
    """macs: multiply-accumulates of one image at the graph's size; None where its shapes cannot be inferred.

    layers: by precision and type of node.
    """

    opset: int
    nodes: int
    parameters: int
    macs: int | None
    layers: dict[str, dict[str, int]]


@dataclass(frozen=True)
class OnnxInspection:
    """metadata: every other entry of the file than the spec, JSON texts parsed. graph: None where the onnx package is not installed."""

    path: Path
    bytes: int
    sha256: str
    spec: ModelSpec
    metadata: dict[str, Any]
    graph: GraphFacts | None

    def document(self) -> dict[str, Any]:
        spec, graph = self.spec, self.graph
        macs = graph and graph.macs
        return {
            "file": str(self.path),
            "bytes": self.bytes,
            "sha256": self.sha256,
            "kind": "onnx",
            "opset": graph and graph.opset,
            "nodes": graph and graph.nodes,
            "batch": spec.batch or "dynamic",
            "size_hw": spec.size_hw,
            "parameters": graph and {"total": graph.parameters},
            "macs": None if macs is None else [{"size_hw": spec.size_hw, "total": macs}],
            "layers": graph and graph.layers,
            "checkpoint_sha256": spec.checkpoint_sha256,
            "metadata": self.metadata,
            "card": asdict(spec.card),
        }

    def table(self) -> Table:
        spec = self.spec
        lines = [
            ("model", spec.card.name),
            *file_lines(self.path, self.bytes, self.sha256),
            ("checkpoint", spec.checkpoint_sha256 or "not stated"),
            *_metadata_lines(self.metadata),
            *interface_lines(str(spec.batch or "any"), spec.size_hw),
            *_graph_lines(self.graph, spec.size_hw),
            *card_lines(spec.card),
        ]
        if self.graph is None:
            return ["layers"], [[_ABSENT]], titled(lines)
        return layer_table(self.graph.layers, titled(lines))


def inspect_onnx(path: Path) -> OnnxInspection:
    """Raises UsageError (no such file), IncompatibleError (not one of ours, or damaged)."""
    spec = spec_from_onnx(path)
    metadata = {key: _parsed(text) for key, text in read_metadata(path).items() if key != SPEC_KEY}
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return OnnxInspection(path, path.stat().st_size, digest, spec, metadata, _graph_facts(path))


def _graph_facts(path: Path) -> GraphFacts | None:
    try:
        import onnx

        from qtseg_edge.onnx_layers import layers_by_precision, multiply_accumulates, parameter_count
    except ModuleNotFoundError:
        return None
    try:
        model = onnx.load(path, load_external_data=False)
        opset = next(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx"))
        macs, layers = multiply_accumulates(model), layers_by_precision(model)
    except Exception as error:  # protobuf's own errors, those of shape inference, or a model without its opset
        raise IncompatibleError(f"{path}: not a whole ONNX file ({type(error).__name__})") from error
    return GraphFacts(opset, len(model.graph.node), parameter_count(model), macs, layers)


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _metadata_lines(metadata: dict[str, Any]) -> list[Line]:
    """What the other steps wrote, without knowing them. The notice is the card's."""
    lines: list[Line] = []
    for key, value in metadata.items():
        if isinstance(value, dict) and key.startswith(_OWN_PREFIX):
            lines += [(name, told(entry)) for name, entry in value.items()]
        elif key != "notice":
            lines.append((key.removeprefix(_OWN_PREFIX), told(value)))
    return lines


def _graph_lines(graph: GraphFacts | None, size_hw: tuple[int, int]) -> list[Line]:
    if graph is None:
        return [("graph", _ABSENT)]
    macs = "not known: a shape in the graph cannot be inferred" if graph.macs is None else f"{graph.macs / 1e9:.3f}"
    return [
        ("graph", f"opset {graph.opset}, {graph.nodes} nodes"),
        ("parameters", f"{graph.parameters / 1e6:.3f} M"),
        ("GMAC", f"{macs} at {size_hw[0]}x{size_hw[1]}"),
    ]
