"""From an ONNX file to what OpenVINO runs on this CPU, compiled once: the next start takes it from the cache.

OpenVINO's own `CACHE_DIR` is not used: it knows a model by its path, size and time alone, so that another one of the same name and time
gives the first one's masks, and it does not notice a damaged file (docs/decisions/0030-start-up.md).
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import platform
from collections.abc import Mapping
from pathlib import Path

from qtseg_edge import __version__
from qtseg_edge.runtime.compiled_cache import entry_path, read_entry, write_entry
from qtseg_edge.runtime.openvino_graph import instruction_limit, require_exact_int8, rewrite
from qtseg_edge.runtime.openvino_library import openvino

Properties = Mapping[str, str]
_CPU = "CPU"
_EXTERNAL = b"\x0a\x08location"  # the key of a tensor's data in another file (onnx.proto: TensorProto.external_data), as protobuf writes it


def compiled_model(core: openvino.Core, model: Path, properties: Properties) -> openvino.CompiledModel:
    """Raises RuntimeError, as OpenVINO does, MissingError for INT8 that this CPU gets wrong, and OSError."""
    content = model.read_bytes()
    if _EXTERNAL in content:
        return _compile(core, model, properties)
    entry = _entry(core, content, properties)
    return _imported(core, entry, properties) or _compiled_and_kept(core, model, properties, entry, content)


def _compile(core: openvino.Core, path: Path, properties: Properties) -> openvino.CompiledModel:
    model = core.read_model(str(path))
    require_exact_int8(model, path)
    if properties["INFERENCE_PRECISION_HINT"] == "f32":  # its masks have been compared in f32 alone
        rewrite(model)
    return core.compile_model(model, _CPU, dict(properties))


def _compiled_and_kept(core: openvino.Core, model: Path, properties: Properties, entry: Path, content: bytes) -> openvino.CompiledModel:
    compiled = _compile(core, model, properties)
    with contextlib.suppress(OSError, RuntimeError):  # the file is gone, or OpenVINO cannot: the next start takes as long
        if model.read_bytes() == content:  # OpenVINO has read it by itself, and later
            write_entry(entry, compiled.export_model().getbuffer())
    return compiled


def _imported(core: openvino.Core, entry: Path, properties: Properties) -> openvino.CompiledModel | None:
    """None where nothing was kept, or OpenVINO does not take it."""
    tensors: list[openvino.Tensor] = []

    def room(size: int) -> object:
        """OpenVINO's own memory: the weights stay in it, and it lives as long as they are used."""
        tensors.append(openvino.Tensor(openvino.Type.u8, [size]))
        return tensors[0].data

    if read_entry(entry, room) is None:
        return None
    try:
        return core.import_model(tensors[0], _CPU, dict(properties))
    except RuntimeError:
        return None


def _entry(core: openvino.Core, content: bytes, properties: Properties) -> Path:
    """By everything that what is compiled depends on: the model, how it is compiled and by what, and the CPU."""
    return entry_path(
        "openvino",
        hashlib.sha256(content).hexdigest(),
        json.dumps(dict(properties), sort_keys=True),
        __version__,
        _own_code(),
        str(openvino.get_version()),
        str(core.get_property(_CPU, "FULL_DEVICE_NAME")),
        ",".join(sorted(core.get_property(_CPU, "OPTIMIZATION_CAPABILITIES"))),
        platform.machine(),
        _cpu_flags(),
        instruction_limit(),
        str(_threads()),
    )


def _own_code() -> str:
    """Of this package's OpenVINO files, which rewrite the graph: a change of one must not be forgotten here."""
    files = sorted(Path(__file__).parent.glob("openvino*.py"))
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()


def _cpu_flags() -> str:
    """Instruction sets, as Linux names them (`flags` of x86, `Features` of Arm); empty elsewhere."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    return next((line for line in lines if line.startswith(("flags", "Features"))), "")


def _threads() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
