"""What an engine is, by the file beside it: nothing is deserialised, and TensorRT is not needed."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from qtseg_edge.inspection.texts import Line, card_lines, file_lines, interface_lines, titled, told
from qtseg_edge.report import Table
from qtseg_edge.runtime.engine_file import EngineSidecar, read_sidecar

_VERIFIED = {"graph": "counted in the graph that was built", "inspector": "read from the engine by TensorRT's inspector"}


@dataclass(frozen=True)
class EngineInspection:
    """bytes, sha256: of the plan as it is now. signed_here: this user built it on this machine, and the sidecar was not changed."""

    path: Path
    bytes: int
    sha256: str
    sidecar: EngineSidecar
    signed_here: bool

    @property
    def unaltered(self) -> bool:
        """The plan is the one that the sidecar describes."""
        return (self.bytes, self.sha256) == (self.sidecar.plan_bytes, self.sidecar.plan_sha256)

    def document(self) -> dict[str, Any]:
        fields = asdict(self.sidecar)
        for hidden in ("spec", "signature"):
            del fields[hidden]
        return {
            "file": str(self.path),
            "bytes": self.bytes,
            "sha256": self.sha256,
            "kind": "engine",
            "unaltered": self.unaltered,
            "signed_here": self.signed_here,
            **fields,
            "size_hw": self.sidecar.spec.size_hw,
            "checkpoint_sha256": self.sidecar.spec.checkpoint_sha256,
            "card": asdict(self.sidecar.spec.card),
        }

    def table(self) -> Table:
        sidecar = self.sidecar
        smallest, best, largest = sidecar.batches
        batches = str(best) if smallest == largest else f"{smallest} to {largest} (best {best})"
        lines = [
            ("model", sidecar.spec.card.name),
            *file_lines(self.path, self.bytes, self.sha256),
            *self._trust_lines(),
            ("onnx", sidecar.onnx_sha256),
            ("built from", sidecar.model_sha256),
            ("checkpoint", sidecar.spec.checkpoint_sha256 or "not stated"),
            *_target_lines(sidecar),
            *interface_lines(batches, sidecar.spec.size_hw),
            ("precision", f"{sidecar.precision} asked; layers {_VERIFIED[sidecar.verified]}"),
            *_told_lines({"calibration": sidecar.calibration, "gate": sidecar.gate, "build": sidecar.build}),
            *card_lines(sidecar.spec.card),
        ]
        rows = [*([precision, str(count)] for precision, count in sidecar.layers.items()), ["total", str(sum(sidecar.layers.values()))]]
        return ["precision", "layers"], rows, titled(lines)

    def _trust_lines(self) -> list[Line]:
        altered = "ALTERED: its bytes are not those its sidecar describes, and run refuses it"
        foreign = "not by this user on this machine, or its sidecar was changed; run refuses it without --trust"
        return [
            ("plan", "as its sidecar describes it" if self.unaltered else altered),
            ("signed", "by this user on this machine" if self.signed_here else foreign),
        ]


def inspect_engine(path: Path) -> EngineInspection:
    """Raises UsageError (no such engine), IncompatibleError (no sidecar beside it, or not a whole one)."""
    sidecar = read_sidecar(path)
    plan = path.read_bytes()
    return EngineInspection(path, len(plan), hashlib.sha256(plan).hexdigest(), sidecar, _is_signed_here(sidecar))


def _is_signed_here(sidecar: EngineSidecar) -> bool:
    try:
        return sidecar.is_signed_here()
    except OSError:  # the key of this user cannot be read, so it has not signed
        return False


def _target_lines(sidecar: EngineSidecar) -> list[Line]:
    capabilities = ", ".join(sidecar.compute_capabilities) or sidecar.gpu_compute_capability or "all that it supports"
    gpu = f"{sidecar.gpu or 'none was asked'}, compute capability {capabilities}"
    needs = [f"{sidecar.flavour} {sidecar.tensorrt}", sidecar.platform]
    needs += [f"CUDA {sidecar.cuda}"] if sidecar.cuda else []
    needs += [f"L4T {sidecar.l4t}"] if sidecar.l4t else []
    return [("built with", ", ".join(needs)), ("GPU", gpu)]


def _told_lines(steps: dict[str, dict[str, Any]]) -> list[Line]:
    return [(name, told(facts)) for name, facts in steps.items() if facts]
