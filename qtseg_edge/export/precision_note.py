"""What a graph says of its own precision, in its metadata. Read without the onnx package, as a board may have TensorRT alone."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import Any

from qtseg_edge.runtime.engine_file import PRECISIONS, Precision

PRECISION_KEY = "qtseg_edge.precision"


@dataclass(frozen=True)
class PrecisionNote:
    """What a graph says of its precision, under `PRECISION_KEY`.

    model_sha256: the file it was made from. layers: nodes by precision and operation. parameters: stored numbers. macs:
    multiply-accumulates of one image, None where a shape is open. calibration, gate: as in the engine's sidecar.
    """

    precision: Precision
    model_sha256: str
    layers: dict[str, dict[str, int]]
    parameters: int
    macs: int | None
    exclude: tuple[str, ...] = ()
    calibration: dict[str, Any] = field(default_factory=dict)
    gate: dict[str, Any] = field(default_factory=dict)

    @property
    def totals(self) -> dict[str, int]:
        """Layers of each precision."""
        return {precision: sum(counts.values()) for precision, counts in self.layers.items()}

    def to_json(self) -> str:
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> PrecisionNote:
        """Raises ValueError, KeyError, TypeError or AttributeError for anything that `to_json` did not write."""
        fields = json.loads(text)
        note = cls(**{**fields, "exclude": tuple(fields["exclude"])})
        if note.precision not in PRECISIONS or not all(isinstance(facts, dict) for facts in (note.layers, note.calibration, note.gate)):
            raise ValueError("not a note of this version")
        sum(note.totals.values())
        return note
