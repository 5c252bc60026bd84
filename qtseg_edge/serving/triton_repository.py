"""A model of a Triton model repository: NAME/config.pbtxt, and NAME/N/ for each version N.

Layout: Triton User Guide, "Model Repository". Triton ignores other files, and folders whose names are no numbers. A version is added by
one rename and never touched again; config.pbtxt is written with the first and belongs to the user from then on.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from qtseg_edge.errors import IncompatibleError, UsageError
from qtseg_edge.runtime.engine_file import rebuild_command, sidecar_path
from qtseg_edge.serving.servable import ServableModel
from qtseg_edge.serving.staging import new_folder, write_whole
from qtseg_edge.serving.triton_config import TritonOptions, config_text, interface

CONFIG, INTERFACE = "config.pbtxt", "qtseg-edge.json"
_MODEL_FILES = {"tensorrt": "model.plan", "onnxruntime": "model.onnx", "python": "model.onnx"}


@dataclass(frozen=True)
class ServedVersion:
    """folder: of the model. is_new: False where this very file is the newest version already, and nothing was written."""

    folder: Path
    version: int
    model_file: Path
    is_new: bool


def add_version(repository: Path, model: ServableModel, options: TritonOptions) -> ServedVersion:
    """Write the model as its next version. Raises UsageError, IncompatibleError (an engine that Triton cannot open), QtsegError."""
    _require_served_kind(model, options)
    folder = repository / options.name
    described = interface(model, options)
    if not folder.exists():
        with new_folder(folder) as pending:
            write_whole(pending / CONFIG, config_text(model, options).encode())
            write_whole(pending / INTERFACE, (json.dumps(described, indent=1) + "\n").encode())
            (pending / "1").mkdir()
            _write_model(pending / "1", model, options)
        return ServedVersion(folder, 1, folder / "1" / _MODEL_FILES[options.backend], True)
    _require_same_interface(folder, described)
    newest = max(versions(folder), default=0)
    file = folder / str(newest) / _MODEL_FILES[options.backend]
    if file.is_file() and hashlib.sha256(file.read_bytes()).hexdigest() == model.sha256:
        return ServedVersion(folder, newest, file, False)
    with new_folder(folder / str(newest + 1)) as pending:
        _write_model(pending, model, options)
    return ServedVersion(folder, newest + 1, folder / str(newest + 1) / _MODEL_FILES[options.backend], True)


def versions(folder: Path) -> list[int]:
    """Ascending. Numbers that begin with 0 are none of Triton's."""
    return sorted(int(path.name) for path in folder.iterdir() if path.is_dir() and path.name.isdecimal() and path.name[0] != "0")


def _require_served_kind(model: ServableModel, options: TritonOptions) -> None:
    if (model.sidecar is not None) != (options.backend == "tensorrt"):
        wanted = "an engine (.engine)" if options.backend == "tensorrt" else "an .onnx file"
        raise UsageError(f"--backend {options.backend} serves {wanted}, got {model.path}")
    if model.sidecar is not None and model.sidecar.flavour != "tensorrt":
        raise IncompatibleError(
            f"{model.path}: Triton opens engines of full TensorRT, this is one of {model.sidecar.flavour}; "
            f"{rebuild_command(model.path)} --flavour tensorrt"
        )


def _require_same_interface(folder: Path, described: dict[str, object]) -> None:
    try:
        found = json.loads((folder / INTERFACE).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UsageError(f"{folder}: was not written by qtseg-edge export-triton; choose another --name") from error
    except (OSError, ValueError, RecursionError) as error:
        raise UsageError(f"{folder / INTERFACE}: not readable; choose another --name, or remove {folder}") from error
    if found != described:
        changed = [key for key in described if not isinstance(found, dict) or found.get(key) != described[key]]
        raise UsageError(f"{folder}: its versions have another {', '.join(changed)}, and one config.pbtxt; choose another --name")


def _write_model(folder: Path, model: ServableModel, options: TritonOptions) -> None:
    file = folder / _MODEL_FILES[options.backend]
    write_whole(file, model.content)
    if model.sidecar is not None:  # kept along: what this plan is, and who may open it
        write_whole(sidecar_path(file), sidecar_path(model.path).read_bytes())
    if options.backend == "python":
        source = resources.files("qtseg_edge") / "serving" / "triton_python_model.py"
        write_whole(folder / "model.py", source.read_bytes())
