"""Engine files with their sidecars, for stand-ins of TensorRT."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

from qtseg_edge.runtime.engine_file import EngineSidecar, this_platform, write_sidecar
from qtseg_edge.runtime.fake import FAKE_CARD
from qtseg_edge.spec import ModelSpec
from tests.runtime.tensorrt_stand_in import PROFILE, plan_bytes

SIZE_HW = (32, 64)
VERSIONS = {"tensorrt": "10.3.0", "tensorrt-rtx": "1.7.1.116"}


def engine_sidecar(plan: bytes, flavour: str = "tensorrt", batches: tuple[int, int, int] = PROFILE) -> EngineSidecar:
    """Unsigned, for the GPU of a `Machine`."""
    return EngineSidecar(
        spec=ModelSpec(FAKE_CARD, SIZE_HW, batches[0] if len(set(batches)) == 1 else None),
        plan_sha256=hashlib.sha256(plan).hexdigest(),
        plan_bytes=len(plan),
        onnx_sha256="1" * 64,
        model_sha256="2" * 64,
        flavour=flavour,  # type: ignore[arg-type]
        tensorrt=VERSIONS[flavour],
        platform=this_platform(),
        precision="fp16",
        layers={"FP16": 10},
        verified="inspector",
        batches=batches,
        gpu="Stand-in GPU" if flavour == "tensorrt" else "",
        gpu_compute_capability="8.6" if flavour == "tensorrt" else "",
    )


def write_engine(
    folder: Path, flavour: str = "tensorrt", batches: tuple[int, int, int] = PROFILE, plan: bytes | None = None, **changed: Any
) -> Path:
    """changed: fields of the sidecar that are not true, signed all the same."""
    path = folder / "model.engine"
    content = plan_bytes(SIZE_HW, batches) if plan is None else plan
    path.write_bytes(content)
    write_sidecar(path, replace(engine_sidecar(content, flavour, batches), **changed).signed())
    return path
