"""`build-engine --if-needed`: whether the engine that is there is the one that the command would give, and this machine opens it.

So whatever starts with a board (a service, a container) may ask at every start, and waits for a build where something has changed: the
model, the options, this software, TensorRT, the GPU, or the key that engines are signed with.
"""

from __future__ import annotations

import hashlib

from qtseg_edge import __version__
from qtseg_edge.calibration import load_calibration_set
from qtseg_edge.errors import IncompatibleError, UsageError
from qtseg_edge.export.engine import EngineReport, EngineRequest
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
    for what, wanted, found in _differences(request, sidecar):
        if wanted != found:
            raise IncompatibleError(f"{request.output}: was built with another {what}: {found}, wanted is {wanted}")
    _require_model(request, sidecar)
    _require_calibration(request, sidecar)


def _differences(request: EngineRequest, sidecar: EngineSidecar) -> list[tuple[str, object, object]]:
    """What, as it is asked for, as it is. Memory and data of the comparison are left out: the engine does not show them."""
    options = request.build
    differences: list[tuple[str, object, object]] = [
        ("version of this software", __version__, sidecar.build.get("qtseg_edge")),
        ("builder", options.flavour, sidecar.flavour),
        ("precision", request.precision, sidecar.precision),
        ("choice of GPU generations", options.compute_capabilities, sidecar.compute_capabilities),
        ("optimisation level", options.optimization_level, sidecar.build.get("optimization_level")),
    ]
    if options.batches is not None:
        differences.append(("range of batches", options.batches, sidecar.batches))
    if request.exclude:
        differences.append(("choice of excluded nodes", list(request.exclude), sidecar.build.get("exclude")))
    return differences


def _require_model(request: EngineRequest, sidecar: EngineSidecar) -> None:
    """A model that has its precision in it already is the graph itself; its sidecar names what that was made from, too."""
    try:
        digest = hashlib.sha256(request.model.read_bytes()).hexdigest()
    except OSError as error:
        raise UsageError(f"{request.model}: no such model ({error.strerror})") from error
    if digest not in (sidecar.model_sha256, sidecar.onnx_sha256):
        raise IncompatibleError(f"{request.output}: was not built from {request.model}, as that file is now")


def _require_calibration(request: EngineRequest, sidecar: EngineSidecar) -> None:
    """Without --calibration it is the set that belongs to the model, or what the graph was made with."""
    if request.precision == "fp32" or request.calibration is None or not sidecar.calibration:
        return
    wanted = load_calibration_set(request.calibration).manifest_sha256
    if sidecar.calibration.get("manifest_sha256") != wanted:
        raise IncompatibleError(f"{request.output}: was built with other calibration images than those of {request.calibration}")
    method = sidecar.calibration.get("method")
    if request.precision == "int8" and method != request.method:
        raise IncompatibleError(f"{request.output}: was built with --method {method}, wanted is {request.method}")
