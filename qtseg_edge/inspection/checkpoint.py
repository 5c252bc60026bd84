"""What a checkpoint is. Needs torch."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtseg_edge.inspection.texts import Line, card_lines, file_lines, titled
from qtseg_edge.report import Table
from qtseg_edge.spec import ModelCard

if TYPE_CHECKING:
    from qtseg_edge.model.network import NetworkConfig, QTSeg


@dataclass(frozen=True)
class CheckpointInspection:
    """parameters: by part and in total. macs: for each size (height, width), multiply-accumulates of one image, likewise.

    layers: how many modules of each type have parameters. They compute in float32, whatever the file stores.
    """

    path: Path
    bytes: int
    sha256: str
    card: ModelCard
    network: NetworkConfig
    parameters: dict[str, int]
    macs: dict[tuple[int, int], dict[str, int]]
    layers: dict[str, int]

    def document(self) -> dict[str, Any]:
        return {
            "file": str(self.path),
            "bytes": self.bytes,
            "sha256": self.sha256,
            "kind": "checkpoint",
            "network": {**asdict(self.network), "encoder_config": _encoder_config(self.network)},
            "parameters": self.parameters,
            "macs": [{"size_hw": size_hw, **counts} for size_hw, counts in self.macs.items()],
            "layers": {"FP32": self.layers},
            "card": asdict(self.card),
        }

    def table(self) -> Table:
        columns = ["", "parameters", *(f"GMAC at {h}x{w}" for h, w in self.macs)]
        rows = [
            [part, f"{count / 1e6:.3f} M", *(f"{counts[part] / 1e9:.3f}" for counts in self.macs.values())]
            for part, count in self.parameters.items()
        ]
        file = file_lines(self.path, self.bytes, self.sha256)
        layers = ", ".join(f"{count} {name}" for name, count in self.layers.items())
        lines = [("model", self.card.name), *file, *_network_lines(self.network), ("FP32", layers), *card_lines(self.card)]
        return columns, rows, titled(lines)


def inspect_checkpoint(path: Path, imgsz: int | None) -> CheckpointInspection:
    """imgsz: a side to count at besides the card's size. Raises UsageError (no such file), IncompatibleError (not a checkpoint)."""
    from qtseg_edge.model.checkpoint import load_checkpoint
    from qtseg_edge.model.complexity import multiply_accumulates, parameter_counts

    loaded = load_checkpoint(path)
    sizes = [loaded.card.size_hw, *([(imgsz, imgsz)] if imgsz else [])]
    macs = {size_hw: multiply_accumulates(loaded.config, size_hw) for size_hw in sizes}
    network = loaded.network
    layers = _layer_counts(network)
    return CheckpointInspection(
        path, path.stat().st_size, loaded.sha256, loaded.card, loaded.config, parameter_counts(network), macs, layers
    )


def _layer_counts(network: QTSeg) -> dict[str, int]:
    with_parameters = (module for module in network.modules() if next(module.parameters(recurse=False), None) is not None)
    return dict(sorted(Counter(type(module).__name__ for module in with_parameters).items()))


def _network_lines(network: NetworkConfig) -> list[Line]:
    described = f"width {network.width}, decoder blocks {network.depths}, {network.heads} heads, MLP of {network.mlp_width}"
    parameters = ", ".join(f"{name} {value}" for name, value in _encoder_config(network).get("parameters", {}).items())
    return [("network", described), ("encoder", f"{network.encoder} {parameters}".rstrip())]


def _encoder_config(network: NetworkConfig) -> dict[str, Any]:
    return json.loads(network.encoder_config) if network.encoder_config else {}
