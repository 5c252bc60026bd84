"""`build-engine --if-needed`: whether the engine that is there is the one that the command would give, and this machine opens it.

So whatever starts with a board (a service, a container) may ask at every start, and waits for a build where something has changed: the
model, the options, this software, TensorRT, the GPU, or the key that engines are signed with.
"""

from __future__ import annotations

import hashlib

from qtseg_edge import __version__
from qtseg_edge.calibration import load_calibration_set
from qtseg_edge.errors import IncompatibleError, UsageError
from qtseg_edge.export.engine import EngineReport, EngineRequest, calibration_of
from qtseg_edge.export.gpu_probe import probe_gpu
from qtseg_edge.runtime.cuda.contract import CudaError, Gpu
from qtseg_edge.runtime.engine_file import EngineSidecar, read_plan, read_sidecar, require_gpu, require_library, require_platform
from qtseg_edge.runtime.tensorrt_library import load_tensorrt


def reusable_engine(request: EngineRequest) -> EngineReport:
    """What `build_engine` would report of the engine that is there. The engine is not opened, its bytes are hashed.

    Raises UsageError (there is none, or the model is not there), IncompatibleError (there is one, and it has to be built again: the text
    says why), MissingError (no TensorRT).
    """
    engine = request.output
    sidecar = read_sidecar(engine)
    require_platform(engine, sidecar)
    read_plan(engine, sidecar)
    _require_as_asked(request, sidecar)
    gpu = _gpu()
    if gpu is not None:
        require_gpu(engine, sidecar, gpu)
    require_library(engine, sidecar, load_tensorrt(sidecar.flavour).version)
    return EngineReport(engine, sidecar.plan_bytes, sidecar.precision, sidecar.layers, sidecar.verified, None, (), None)


def _gpu() -> Gpu | None:
    """None where none answers: TensorRT-RTX builds without one."""
    try:
        return probe_gpu()
    except CudaError:
        return None


def _require_as_asked(request: EngineRequest, sidecar: EngineSidecar) -> None:
    is_source = _is_source(request, sidecar)
    for what, wanted, found in _differences(request, sidecar, is_source):
        if wanted != found:
            raise IncompatibleError(f"{request.output}: was built with another {what}: {found}, wanted is {wanted}")
    if is_source:
        _require_calibration(request, sidecar)
        _require_accuracy(request, sidecar)


def _differences(request: EngineRequest, sidecar: EngineSidecar, is_source: bool) -> list[tuple[str, object, object]]:
    """What, as it is asked for, as it is. Memory and data of the comparison are left out: the engine does not show them."""
    options = request.build
    differences: list[tuple[str, object, object]] = [
        ("version of this software", __version__, sidecar.build.get("qtseg_edge")),
        ("builder", options.flavour, sidecar.flavour),
        ("precision", request.precision, sidecar.precision),
        ("choice of GPU generations", options.compute_capabilities, sidecar.compute_capabilities),
        ("optimisation level", options.optimization_level, sidecar.build.get("optimization_level")),
    ]
    if options.batches is not None or len(set(sidecar.batches)) > 1:  # a model of one batch size need not be told which
        differences.append(("range of batches", options.batches, sidecar.batches))
    if is_source or request.exclude:
        differences.append(("choice of excluded nodes", list(request.exclude), sidecar.build.get("exclude", [])))
    return differences


def _is_source(request: EngineRequest, sidecar: EngineSidecar) -> bool:
    """False for the graph itself, which has its precision and its choices in it. IncompatibleError for another model."""
    try:
        digest = hashlib.sha256(request.model.read_bytes()).hexdigest()
    except OSError as error:
        raise UsageError(f"{request.model}: no such model ({error.strerror})") from error
    if digest not in (sidecar.model_sha256, sidecar.onnx_sha256):
        raise IncompatibleError(f"{request.output}: was not built from {request.model}, as that file is now")
    return digest == sidecar.model_sha256


def _require_calibration(request: EngineRequest, sidecar: EngineSidecar) -> None:
    if request.precision == "fp32" or not sidecar.calibration:
        return
    folder = request.calibration or calibration_of(sidecar.spec)
    if folder is not None and sidecar.calibration.get("manifest_sha256") != load_calibration_set(folder).manifest_sha256:
        raise IncompatibleError(f"{request.output}: was built with other calibration images than those of {folder}")
    method = sidecar.calibration.get("method")
    if request.precision == "int8" and method != request.method:
        raise IncompatibleError(f"{request.output}: was built with --method {method}, wanted is {request.method}")


def _require_accuracy(request: EngineRequest, sidecar: EngineSidecar) -> None:
    """Only a limit that is stricter than the one it has passed is held against its figures, which are rounded."""
    gate, limit = sidecar.gate, request.limit
    if not gate or limit is None:
        return
    if request.data is None:
        is_enough = gate["measure"] == "mask_iou" and (limit <= gate["limit"] or gate["mask_iou"] >= limit)
    else:
        is_enough = gate["measure"] == "dice" and (limit >= gate["limit"] or 100 * (gate["reference_dice"] - gate["dice"]) <= limit)
    if not is_enough:
        raise IncompatibleError(f"{request.output}: its comparison with FP32 is not the one that is wanted, or was less strict: {limit:g}")
