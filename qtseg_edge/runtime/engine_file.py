"""The file beside an engine, NAME.engine.json: what the plan is, what it was made of, and who may open it.

An engine is code: deserialising one from an untrusted source is running it. So the plan's SHA-256 must be the sidecar's, and the
sidecar must be signed with the key of this user on this machine, which `build-engine` does. `--trust` takes the place of the signature,
never of the other checks. docs/decisions/0014-engine-sidecar.md.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import secrets
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from qtseg_edge.errors import IncompatibleError, QtsegError, UsageError
from qtseg_edge.files import replacing
from qtseg_edge.runtime.tensorrt_library import FLAVOURS, Flavour
from qtseg_edge.spec import ModelSpec

ENGINE_SUFFIX = ".engine"
Precision = Literal["fp32", "fp16", "int8"]
PRECISIONS: tuple[Precision, ...] = ("fp32", "fp16", "int8")
_VERSION = 1


@dataclass(frozen=True)
class EngineSidecar:
    """spec: the interface, as in the ONNX file; its `batch` is None where `batches` is a range.

    plan_sha256, plan_bytes: the engine file. onnx_sha256: the graph that was built, precision included; model_sha256: the file that
    `build-engine` was given. platform: such as linux-x86_64. gpu: name and compute capability of the GPU it was built for, "" where
    none was asked (TensorRT-RTX builds for all it supports, or for `compute_capabilities`). l4t: of a Jetson, else "".
    batches: smallest, best and largest. precision: what was asked; layers: how many layers of each precision were found (INT8, FP16,
    FP32, other), `verified` by the engine's inspector or, without a GPU, from the graph. calibration: {"manifest_sha256", "method",
    "images"} of INT8, else empty. gate: what the comparison with FP32 gave, empty for fp32. build: options, seconds and versions.
    """

    spec: ModelSpec
    plan_sha256: str
    plan_bytes: int
    onnx_sha256: str
    model_sha256: str
    flavour: Flavour
    tensorrt: str
    platform: str
    precision: Precision
    layers: dict[str, int]
    verified: Literal["graph", "inspector"]
    batches: tuple[int, int, int] = (1, 1, 1)
    gpu: str = ""
    gpu_compute_capability: str = ""
    compute_capabilities: tuple[str, ...] = ()
    cuda: str = ""
    l4t: str = ""
    calibration: dict[str, Any] = field(default_factory=dict)
    gate: dict[str, Any] = field(default_factory=dict)
    build: dict[str, Any] = field(default_factory=dict)
    signature: str = ""

    def to_json(self) -> str:
        fields = {"version": _VERSION, **asdict(self), "spec": json.loads(self.spec.to_json())}
        return json.dumps(fields, indent=1, sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> EngineSidecar:
        """Raises ValueError, KeyError, TypeError or IncompatibleError for anything that `to_json` did not write."""
        fields: dict[str, Any] = json.loads(text)
        if fields.pop("version") != _VERSION:
            raise ValueError(f"version {_VERSION} wanted")
        if fields["flavour"] not in FLAVOURS:
            raise ValueError(f"flavour {fields['flavour']!r} is not known")
        if fields["precision"] not in PRECISIONS or fields["verified"] not in ("graph", "inspector"):
            raise ValueError("precision is not known")
        smallest, best, largest = (int(batch) for batch in fields["batches"])
        fields["batches"] = (smallest, best, largest)
        fields["compute_capabilities"] = tuple(str(capability) for capability in fields["compute_capabilities"])
        fields["spec"] = ModelSpec.from_json(json.dumps(fields["spec"]))
        return cls(**fields)

    def signed(self) -> EngineSidecar:
        """With this user's signature. Makes the key when there is none."""
        return replace(self, signature=self._signature(_key()))

    def is_signed_here(self) -> bool:
        return hmac.compare_digest(self.signature, self._signature(_key()))

    def _signature(self, key: bytes) -> str:
        return hmac.new(key, replace(self, signature="").to_json().encode(), hashlib.sha256).hexdigest()


def sidecar_path(engine: Path) -> Path:
    return engine.with_name(engine.name + ".json")


def rebuild_command(engine: Path) -> str:
    """What every refusal ends with."""
    return f"build it on this machine: qtseg-edge build-engine MODEL -o {engine}"


def write_sidecar(engine: Path, sidecar: EngineSidecar) -> None:
    with replacing(sidecar_path(engine)) as temporary:
        temporary.write_text(sidecar.to_json() + "\n", encoding="utf-8")


def read_sidecar(engine: Path) -> EngineSidecar:
    """Raises UsageError (no engine), IncompatibleError (no sidecar, or not a whole one). The plan is not read."""
    if not engine.is_file():
        raise UsageError(f"{engine}: no such engine; {rebuild_command(engine)}")
    path = sidecar_path(engine)
    try:
        return EngineSidecar.from_json(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise IncompatibleError(f"{engine}: {path.name} is not beside it, so nothing is known of it; {rebuild_command(engine)}") from error
    except OSError as error:
        raise QtsegError(f"{path}: cannot be read ({error.strerror})") from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, IncompatibleError) as error:
        reason = f"{type(error).__name__}: {error}"[:150]
        raise IncompatibleError(f"{path}: not a sidecar of this version ({reason}); {rebuild_command(engine)}") from error


def read_plan(engine: Path, sidecar: EngineSidecar, trust: bool = False) -> bytes:
    """The plan's bytes, if they are what the sidecar says and this user built them, or `trust` says so. IncompatibleError otherwise."""
    if not trust and not sidecar.is_signed_here():
        raise IncompatibleError(
            f"{engine}: was not built by this user on this machine, or its sidecar was changed, and an engine is code; "
            f"{rebuild_command(engine)}, or open it with --trust if you know where it comes from"
        )
    try:
        plan = engine.read_bytes()
    except OSError as error:
        raise QtsegError(f"{engine}: cannot be read ({error.strerror})") from error
    digest = hashlib.sha256(plan).hexdigest()
    if len(plan) != sidecar.plan_bytes or digest != sidecar.plan_sha256:
        raise IncompatibleError(f"{engine}: its bytes are not those its sidecar describes; {rebuild_command(engine)}")
    return plan


def _key() -> bytes:
    """32 bytes that only this user can read."""
    base = Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share")
    path = base / "qtseg-edge" / "engine.key"
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        pending = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
        descriptor = os.open(pending, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(secrets.token_bytes(32))
        try:
            os.link(pending, path)  # whole or not at all, and never over the key of a process that was quicker
        except FileExistsError:
            pass
        finally:
            pending.unlink()
    return path.read_bytes()
