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
import platform
import secrets
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from qtseg_edge.errors import IncompatibleError, QtsegError, UsageError
from qtseg_edge.files import replacing
from qtseg_edge.runtime.cuda.contract import Gpu
from qtseg_edge.runtime.tensorrt_library import FLAVOURS, RTX_COMPUTE_CAPABILITIES, RTX_DEFAULT_COMPUTE_CAPABILITIES, Flavour
from qtseg_edge.spec import ModelSpec

ENGINE_SUFFIX = ".engine"
Precision = Literal["fp32", "fp16", "int8"]
PRECISIONS: tuple[Precision, ...] = ("fp32", "fp16", "int8")
_VERSION = 1
_KEY_BYTES = 32
_TEXTS = ("plan_sha256", "onnx_sha256", "model_sha256", "tensorrt", "platform", "gpu", "gpu_compute_capability", "signature")


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
        if not all(isinstance(fields[name], str) for name in _TEXTS):
            raise ValueError(f"{', '.join(_TEXTS)} are texts")
        smallest, best, largest = (int(batch) for batch in fields["batches"])
        if not 1 <= smallest <= best <= largest:
            raise ValueError(f"batches {smallest}, {best}, {largest} are no range")
        fields["batches"] = (smallest, best, largest)
        fields["compute_capabilities"] = tuple(str(capability) for capability in fields["compute_capabilities"])
        fields["spec"] = ModelSpec.from_json(json.dumps(fields["spec"]))
        return cls(**fields)

    def signed(self) -> EngineSidecar:
        """With this user's signature. Makes the key when there is none."""
        return replace(self, signature=self._signature(_made_key()))

    def is_signed_here(self) -> bool:
        """False where this user has no key yet."""
        key = _read_key(_key_path())
        return key is not None and hmac.compare_digest(self.signature.encode(errors="replace"), self._signature(key).encode())

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
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError, IncompatibleError) as error:
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


def this_platform() -> str:
    """Such as linux-x86_64."""
    return f"{platform.system().lower()}-{platform.machine()}"


def require_platform(engine: Path, sidecar: EngineSidecar) -> None:
    if sidecar.platform != this_platform():
        raise IncompatibleError(f"{engine}: was built on {sidecar.platform}, this is {this_platform()}; {rebuild_command(engine)}")


def require_library(engine: Path, sidecar: EngineSidecar, version: str) -> None:
    """version: of the TensorRT that is installed, of the sidecar's flavour. An engine belongs to one, to the last digit."""
    if sidecar.tensorrt != version:
        raise IncompatibleError(
            f"{engine}: was built with {sidecar.flavour} {sidecar.tensorrt}, installed is {version}; {rebuild_command(engine)}"
        )


def require_gpu(engine: Path, sidecar: EngineSidecar, gpu: Gpu) -> None:
    """Full TensorRT tunes for one model of GPU; TensorRT-RTX builds for compute capabilities."""
    here = f"{gpu.name} with compute capability {gpu.compute_capability}"
    if sidecar.flavour == "tensorrt":
        if (sidecar.gpu, sidecar.gpu_compute_capability) != (gpu.name, gpu.compute_capability):
            built_for = f"{sidecar.gpu or 'an unknown GPU'} with compute capability {sidecar.gpu_compute_capability or 'unknown'}"
            raise IncompatibleError(f"{engine}: was built for {built_for}, this is {here}; {rebuild_command(engine)}")
        return
    if gpu.compute_capability not in RTX_COMPUTE_CAPABILITIES:
        raise IncompatibleError(
            f"{engine}: TensorRT-RTX runs on compute capability {', '.join(RTX_COMPUTE_CAPABILITIES)}, this is {here}; "
            f"install full TensorRT (pip install 'qtseg-edge[tensorrt]') and {rebuild_command(engine)} --flavour tensorrt"
        )
    built = sidecar.compute_capabilities or RTX_DEFAULT_COMPUTE_CAPABILITIES
    if gpu.compute_capability not in built:
        command = f"{rebuild_command(engine)} --compute-capability {gpu.compute_capability}"
        raise IncompatibleError(f"{engine}: was built for compute capability {', '.join(built)}, this is {here}; {command}")


def require_key() -> None:
    """Makes the key that engines are signed with where there is none. Raises QtsegError where that cannot be."""
    try:
        _made_key()
    except OSError as error:
        raise QtsegError(
            f"{_key_path()}: the key that engines are signed with cannot be kept there ({error.strerror}); "
            "name a folder of your own with the environment variable XDG_DATA_HOME"
        ) from error


def _key_path() -> Path:
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share") / "qtseg-edge" / "engine.key"


def _read_key(path: Path) -> bytes | None:
    """None where there is none, or one cut short, with which anybody could sign."""
    try:
        key = path.read_bytes()
    except FileNotFoundError:
        return None
    return key if len(key) == _KEY_BYTES else None


def _made_key() -> bytes:
    """32 bytes that only this user can read, made where there are none; the same for every process, whoever made them."""
    path = _key_path()
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        pending = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
        descriptor = os.open(pending, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(secrets.token_bytes(_KEY_BYTES))
        try:
            os.link(pending, path)  # whole or not at all, and never over the key of a process that was quicker
        except FileExistsError:
            pass
        finally:
            pending.unlink()
    key = _read_key(path)
    if key is None:
        raise QtsegError(f"{path}: wanted a key of {_KEY_BYTES} bytes; delete it, and build the engines again that it signed")
    return key
