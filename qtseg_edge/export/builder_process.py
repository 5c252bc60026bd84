"""The process in which a plan is built: python -m qtseg_edge.export.builder_process, started by `builder.build_plan`.

One job as a line of JSON on standard input, which stays open as long as the parent lives; events as lines of JSON on standard output:
{"progress": [done, total, note]}, and last {"built": what `BuiltPlan` holds} or {"failed": [class of the error, its text]}.
"""

from __future__ import annotations

import contextlib
import os
import queue
import re
import time
from pathlib import Path
from typing import Any

from qtseg_edge.child_process import Report, each_question, own_output
from qtseg_edge.errors import IncompatibleError, MissingError, QtsegError, UsageError
from qtseg_edge.export.builder import BuildOptions
from qtseg_edge.export.gpu_probe import probe_gpu
from qtseg_edge.export.inspector import layers_from_inspector
from qtseg_edge.files import replacing
from qtseg_edge.runtime.backend import INPUT, OUTPUTS, require_interface
from qtseg_edge.runtime.cuda.contract import CudaError, Gpu
from qtseg_edge.runtime.tensorrt_library import TensorRt, load_tensorrt

_GIB = 1 << 30
_NOT_THE_GRAPH = ("OutOfMemory", "workspace", "Cuda Runtime", "Cuda Driver")


def main() -> None:
    report = own_output()
    jobs: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
    each_question(jobs.put)
    job = jobs.get()
    try:
        built = _build(Path(job["onnx"]), Path(job["plan"]), _options(job["options"]), report)
        report({"built": built})
    except QtsegError as error:
        report({"failed": [type(error).__name__, str(error)]})
    except OSError as error:
        report({"failed": [QtsegError.__name__, f"{error.filename or job['plan']}: {error.strerror or error}"]})
    os._exit(0)  # TensorRT's own end has nothing to add, and can crash


def _options(fields: dict[str, Any]) -> BuildOptions:
    known = dict(fields)
    known["timing_cache"] = Path(fields["timing_cache"]) if fields["timing_cache"] else None
    known["batches"] = tuple(fields["batches"]) if fields["batches"] else None
    known["compute_capabilities"] = tuple(fields["compute_capabilities"])
    return BuildOptions(**known)


def _build(onnx_path: Path, plan_path: Path, options: BuildOptions, report: Report) -> dict[str, Any]:
    gpu = _gpu(options)
    library = load_tensorrt(options.flavour)
    started = time.perf_counter()
    plan = _plan(onnx_path, library, gpu, options, report)
    seconds = time.perf_counter() - started
    plan_path.write_bytes(plan)
    tuned_for = None if library.is_rtx else gpu
    return {
        "seconds": seconds,
        "tensorrt": library.version,
        "gpu": tuned_for.name if tuned_for else "",
        "gpu_compute_capability": tuned_for.compute_capability if tuned_for else "",
        "cuda": tuned_for.driver if tuned_for else "",
        "inspected": _inspected(library, plan, options) if gpu else None,
    }


def _gpu(options: BuildOptions) -> Gpu | None:
    """Asked before TensorRT is loaded: full TensorRT without a GPU can end the process."""
    try:
        return probe_gpu()
    except CudaError as error:
        if options.flavour == "tensorrt-rtx":
            return None
        raise MissingError(
            f"TensorRT builds on the GPU that will run the engine, and no NVIDIA GPU answers here ({error}); check that `nvidia-smi` "
            "shows one, or build for RTX cards, which needs none: --flavour tensorrt-rtx"
        ) from error


def _plan(onnx_path: Path, library: TensorRt, gpu: Gpu | None, options: BuildOptions, report: Report) -> bytes:
    trt = library.module
    library.messages.clear()
    try:
        builder = trt.Builder(library.logger)
    except TypeError as error:  # its way of saying that it found no GPU
        raise MissingError(f"{_called(library)} does not start on this GPU ({_reason(library)}); is its driver too old?") from error
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    _parse(onnx_path, library, network)
    config = _config(library, builder, options)
    monitor = _monitor(library, report)
    config.progress_monitor = monitor
    if options.batches is not None:
        _add_profile(onnx_path, library, builder, network, config, options.batches)
    cache = None if gpu is None or library.is_rtx else options.timing_cache or _default_timing_cache(library.version, gpu)
    if cache is not None:
        _load_timing_cache(config, cache)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise _refusal(onnx_path, library, options)
    if cache is not None:
        _save_timing_cache(config, cache)
    return bytes(plan)


def _parse(onnx_path: Path, library: TensorRt, network: Any) -> None:
    parser = library.module.OnnxParser(network, library.logger)
    if not parser.parse(onnx_path.read_bytes()):
        raise IncompatibleError(f"{onnx_path}: {_called(library)} cannot read {_unread(parser) or _reason(library)}")
    inputs = [network.get_input(index) for index in range(network.num_inputs)]
    outputs = [network.get_output(index) for index in range(network.num_outputs)]
    types = {tensor.name: tensor.dtype for tensor in (*inputs, *outputs)}
    require_interface(onnx_path, types)  # an empty graph parses without an error
    if others := [f"{name} {kind.name}" for name, kind in types.items() if kind != library.module.DataType.UINT8]:
        raise IncompatibleError(
            f"{onnx_path}: wanted {INPUT} and {', '.join(OUTPUTS)} of uint8, got {', '.join(others)}; "
            "export it with: qtseg-edge export CHECKPOINT -o MODEL.onnx"
        )


def _unread(parser: Any) -> str:
    """The first node that the parser refuses, and why."""
    if not parser.num_errors:
        return ""
    error = parser.get_error(0)
    node = f"{error.node_operator()} {error.node_name()!r}" if error.node_operator() else "it"
    return f"{node} ({_one_line(error.desc())})"


def _config(library: TensorRt, builder: Any, options: BuildOptions) -> Any:
    trt = library.module
    config = builder.create_builder_config()
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, int(options.workspace_gib * _GIB))
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    if options.optimization_level is not None:
        config.builder_optimization_level = options.optimization_level
    if options.compute_capabilities:
        targets = _targets(library, options.compute_capabilities)
        config.num_compute_capabilities = len(targets)  # trt: rtx
        for index, target in enumerate(targets):
            config.set_compute_capability(target, index)  # trt: rtx
    return config


def _targets(library: TensorRt, wanted: tuple[str, ...]) -> list[Any]:
    """Members of TensorRT-RTX's ComputeCapability, without repeats. Raises UsageError for one that it does not have."""
    members = library.module.ComputeCapability.__members__  # trt: rtx
    known = {f"{name[2:-1]}.{name[-1]}": member for name, member in members.items() if re.fullmatch(r"SM\d\d+", name)}
    if unknown := [capability for capability in wanted if capability not in known]:
        raise UsageError(
            f"--compute-capability: {_called(library)} builds for {', '.join(known)}, got {', '.join(unknown)}; Jetson (Orin 8.7, "
            "Thor 11.0) and data-centre GPUs such as Hopper (9.0) run full TensorRT only: build on that machine, with --flavour tensorrt"
        )
    return [known[capability] for capability in dict.fromkeys(wanted)]


def _add_profile(onnx_path: Path, library: TensorRt, builder: Any, network: Any, config: Any, batches: tuple[int, int, int]) -> None:
    image = next(tensor for tensor in map(network.get_input, range(network.num_inputs)) if tensor.name == INPUT)
    _, *sides = image.shape
    profile = builder.create_optimization_profile()
    profile.set_shape(INPUT, *((batch, *sides) for batch in batches))
    if config.add_optimization_profile(profile) < 0:
        raise IncompatibleError(f"{onnx_path}: {_called(library)} refuses batches of {batches} ({_reason(library)})")


def _monitor(library: TensorRt, report: Report) -> Any:
    """TensorRT swallows what a callback raises, and stops for one that returns False."""
    phases = Phases()
    base = library.module.IProgressMonitor

    class Monitor(base):  # type: ignore[misc, valid-type]
        def __init__(self) -> None:
            base.__init__(self)

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            phases.start(phase_name, num_steps)
            report({"progress": phases.progress()})

        def step_complete(self, phase_name: str, step: int) -> bool:
            phases.step(phase_name, step)
            report({"progress": phases.progress()})
            return True

        def phase_finish(self, phase_name: str) -> None:
            phases.finish(phase_name)

    return Monitor()


class Phases:
    """The phases that are under way, outermost first."""

    def __init__(self) -> None:
        self._open: dict[str, tuple[int, int]] = {}

    def start(self, name: str, steps: int) -> None:
        self._open[name] = (0, steps)

    def step(self, name: str, step: int) -> None:
        """step: counted from 0."""
        if name in self._open:
            self._open[name] = (step + 1, self._open[name][1])

    def finish(self, name: str) -> None:
        self._open.pop(name, None)

    def progress(self) -> tuple[int, int, str]:
        """Steps done and to do of the outermost phase, and where the innermost is."""
        under_way = list(self._open.items())
        _, (done, total) = under_way[0]
        name, (inner_done, inner_total) = under_way[-1]
        return done, total, f"{name} {inner_done}/{inner_total}"


def _refusal(onnx_path: Path, library: TensorRt, options: BuildOptions) -> QtsegError:
    reason = _reason(library)
    if any(word in reason for word in _NOT_THE_GRAPH):
        cure = f"it had --workspace {options.workspace_gib:g}; give it more, or close what else uses the memory"
        return QtsegError(f"{onnx_path}: {_called(library)} cannot build it ({reason}); {cure}")
    cure = "; leave out --compute-capability 7.5: such GPUs want full TensorRT (--flavour tensorrt)" if "SM75" in reason else ""
    return IncompatibleError(f"{onnx_path}: {_called(library)} cannot build it ({reason}){cure}")


def _default_timing_cache(version: str, gpu: Gpu) -> Path:
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    name = re.sub(r"[^\w.]+", "-", f"{version}-{gpu.name}-{gpu.compute_capability}")
    return base / "qtseg-edge" / "tensorrt" / f"{name}.timing"


def _load_timing_cache(config: Any, path: Path) -> None:
    """One that does not fit, or is damaged, gives way to an empty one."""
    content = b""
    with contextlib.suppress(OSError):
        content = path.read_bytes()
    cache = config.create_timing_cache(content)
    if cache is None or not config.set_timing_cache(cache, ignore_mismatch=False):
        config.set_timing_cache(config.create_timing_cache(b""), ignore_mismatch=False)


def _save_timing_cache(config: Any, path: Path) -> None:
    """A folder that cannot be written costs time at the next build, nothing else, so it is no error."""
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as temporary:
            temporary.write_bytes(bytes(config.get_timing_cache().serialize()))


def _inspected(library: TensorRt, plan: bytes, options: BuildOptions) -> dict[str, int] | None:
    trt = library.module
    library.messages.clear()
    runtime = trt.Runtime(library.logger)
    engine = runtime.deserialize_cuda_engine(plan)
    if engine is None and library.is_rtx:
        return None  # it is for other GPUs than this one
    if engine is None:
        raise QtsegError(f"{_called(library)} built an engine that it does not load ({_reason(library)})")
    inspector = engine.create_engine_inspector()
    if options.batches is not None:  # without a shape the inspector knows no formats
        context = engine.create_execution_context()
        context.set_input_shape(INPUT, (options.batches[1], *tuple(engine.get_tensor_shape(INPUT))[1:]))
        inspector.execution_context = context
    return layers_from_inspector(inspector.get_engine_information(trt.LayerInformationFormat.JSON))


def _called(library: TensorRt) -> str:
    return f"{'TensorRT-RTX' if library.is_rtx else 'TensorRT'} {library.version}"


def _reason(library: TensorRt) -> str:
    """The last error it logged, without the names of its own functions and files."""
    messages = [message for message in library.messages if "Error Code" in message] or library.messages
    text = re.sub(r"^\S+: Error Code \d+: ", "", messages[-1]) if messages else "it does not say why"
    return _one_line(re.sub(r" In \w+ at \S+?:\d+", "", text))


def _one_line(text: str) -> str:
    return " ".join(text.split())[:300]


if __name__ == "__main__":
    main()
