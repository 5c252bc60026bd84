"""ONNX to a TensorRT plan, built in a process of its own: whatever happens to the builder there, it is an error here."""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import json
import os
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from qtseg_edge.child_process import how_it_ended, last_lines, started
from qtseg_edge.errors import IncompatibleError, MissingError, QtsegError, UsageError
from qtseg_edge.export.gpu_probe import l4t_version
from qtseg_edge.export.zero_points import require_int8
from qtseg_edge.files import replacing
from qtseg_edge.runtime.engine_file import this_platform
from qtseg_edge.runtime.onnx_metadata import spec_from_onnx
from qtseg_edge.runtime.tensorrt_library import Flavour

if TYPE_CHECKING:
    from qtseg_edge.console import OnProgress

_PROCESS = "qtseg_edge.export.builder_process"
_OPTIMIZATION_LEVELS = range(6)
_READ_PERSONALITY, _ADDR_NO_RANDOMIZE = 0xFFFFFFFF, 0x0040000  # of Linux's <sys/personality.h>
_ERRORS: dict[str, type[QtsegError]] = {kind.__name__: kind for kind in (UsageError, MissingError, IncompatibleError)}


@dataclass(frozen=True)
class BuildOptions:
    """workspace_gib: memory that a layer may use for itself, at most. optimization_level: 0 to 5, the library's own when None.

    timing_cache: of full TensorRT; a file per (TensorRT, GPU) in the user's cache folder when None. batches: smallest, best and largest
    of a graph of dynamic batch. compute_capabilities: such as "8.6"; TensorRT-RTX builds for all it knows but 7.5 when there are none.
    """

    flavour: Flavour
    workspace_gib: float = 1.0
    optimization_level: int | None = None
    timing_cache: Path | None = None
    batches: tuple[int, int, int] | None = None
    compute_capabilities: tuple[str, ...] = ()


@dataclass(frozen=True)
class BuiltPlan:
    """bytes, sha256: of the file. seconds: reading the graph and building, without starting the process.

    gpu, gpu_compute_capability, cuda (the newest that its driver speaks): of the GPU that full TensorRT has tuned for; "" for TensorRT-RTX,
    whose plans belong to compute capabilities. l4t: of a Jetson, else "". inspected: layers by precision as the engine's inspector
    counts them; None where no GPU could load the engine, or where the inspector names no types.
    """

    bytes: int
    sha256: str
    seconds: float
    tensorrt: str
    platform: str
    gpu: str
    gpu_compute_capability: str
    cuda: str
    l4t: str
    inspected: dict[str, int] | None


def build_plan(onnx_path: Path, plan_path: Path, options: BuildOptions, on_progress: OnProgress) -> BuiltPlan:
    """Write `plan_path`, a raw plan, or nothing at all.

    on_progress: called with the steps of the outermost phase and the name of the innermost. Raises UsageError (options that do not fit),
    MissingError (no TensorRT, or full TensorRT without a GPU), IncompatibleError (the graph), QtsegError (the builder failed or crashed).
    KeyboardInterrupt ends the builder at once.
    """
    require_fitting(onnx_path, options)
    require_int8(onnx_path)
    with replacing(plan_path) as temporary:
        _require_writable(temporary, plan_path)
        job = {"onnx": str(onnx_path), "plan": str(temporary), "options": asdict(options)}
        built = _built_by_child(job, on_progress)
        plan = temporary.read_bytes()
    sha256 = hashlib.sha256(plan).hexdigest()
    return BuiltPlan(len(plan), sha256, platform=this_platform(), l4t=l4t_version(), **built)


def require_fitting(onnx_path: Path, options: BuildOptions) -> None:
    """Raises UsageError for options that cannot work with this graph, and as `spec_from_onnx` does for a file that is not one of ours."""
    _require_options(options)
    _require_batches(onnx_path, options.batches)


def _require_options(options: BuildOptions) -> None:
    if options.compute_capabilities and options.flavour == "tensorrt":
        raise UsageError(
            "--compute-capability: full TensorRT builds for the GPU of this machine; leave it out, or add --flavour tensorrt-rtx"
        )
    if options.timing_cache and options.flavour == "tensorrt-rtx":
        raise UsageError("--timing-cache: TensorRT-RTX times nothing while it builds; leave it out, or add --flavour tensorrt")
    if options.timing_cache and not os.access(options.timing_cache.parent, os.W_OK):
        raise UsageError(f"--timing-cache {options.timing_cache}: its folder is not there or cannot be written")
    if not options.workspace_gib > 0:
        raise UsageError(f"--workspace: wanted a size in GiB above 0, got {options.workspace_gib:g}")
    if options.optimization_level is not None and options.optimization_level not in _OPTIMIZATION_LEVELS:
        raise UsageError(f"--optimization-level: wanted 0 to {_OPTIMIZATION_LEVELS.stop - 1}, got {options.optimization_level}")


def _require_batches(onnx_path: Path, batches: tuple[int, int, int] | None) -> None:
    fixed = spec_from_onnx(onnx_path).batch
    if batches is None:
        if fixed is None:
            raise UsageError(f"{onnx_path}: takes any batch; say which to build for, as smallest, best and largest: --batch 1:1:8")
        return
    if fixed is not None:
        raise UsageError(f"--batch: {onnx_path} has a batch of {fixed}; leave it out, or export it again with --batch dynamic")
    if not 1 <= batches[0] <= batches[1] <= batches[2]:
        raise UsageError(f"--batch: wanted smallest, best and largest in this order such as 1:1:8, got {':'.join(map(str, batches))}")


def _require_writable(temporary: Path, plan_path: Path) -> None:
    """Now, and not after minutes of building."""
    try:
        temporary.touch()
    except OSError as error:
        raise QtsegError(f"{plan_path}: cannot be written ({error.strerror})") from error


def _built_by_child(job: dict[str, Any], on_progress: OnProgress) -> dict[str, Any]:
    """What the child says of the plan it has written. Raises as `build_plan` does."""
    built: dict[str, Any] | None = None
    with tempfile.TemporaryFile() as said, _child(said) as child:
        assert child.stdin is not None and child.stdout is not None
        with contextlib.suppress(BrokenPipeError):  # it died already; what it said on the way tells why
            child.stdin.writelines([json.dumps(job, default=str).encode() + b"\n"])
        for line in child.stdout:
            event = json.loads(line)
            if "progress" in event:
                on_progress(*event["progress"])
            elif "failed" in event:
                kind, text = event["failed"]
                raise _ERRORS.get(kind, QtsegError)(text)
            else:
                built = event["built"]
        if built is None:
            raise QtsegError(f"the builder {_end(child.wait())}: {last_lines(said)}")
    return built


@contextlib.contextmanager
def _child(said: IO[bytes]) -> Iterator[subprocess.Popen[bytes]]:
    """A builder that waits for its job. It is gone when the block ends, and when this process does: then its standard input closes."""
    with _fixed_addresses():
        process = started(_PROCESS, said)
    with process:
        try:
            yield process
        finally:
            process.kill()


@contextlib.contextmanager
def _fixed_addresses() -> Iterator[None]:
    """Processes that this thread starts in the block have no random addresses, where the system allows that.

    TensorRT-RTX goes through some tables of a dynamic graph in the order of addresses, so that each build would number its tensors anew:
    the same input is to give the same bytes.
    """
    libc = ctypes.CDLL(None)
    before = libc.personality(_READ_PERSONALITY)
    libc.personality(before | _ADDR_NO_RANDOMIZE)
    try:
        yield
    finally:
        libc.personality(before)


def _end(code: int) -> str:
    if code == -signal.SIGKILL:
        return f"{how_it_ended(code)}; close other programs or make --workspace smaller"
    return how_it_ended(code) + (" and without a plan" if code >= 0 else "")
